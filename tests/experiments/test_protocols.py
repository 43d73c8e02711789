import pytest

from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.settings.presets import PROTOCOLS, settings


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_settings_of_a_protocol_are_good_settings(name):
    config = Config(**settings(name, {"protocol": name}))
    assert config.protocol == name


def test_the_papers_protocol_is_that_of_the_paper():
    config = Config(**settings("paper-cifar100", {}))
    assert (config.dataset, config.model) == ("cifar100", "resnet18")
    assert (config.optimizer, config.momentum, config.weight_decay) == ("sgd", 0.9, 5e-4)
    assert (config.batch_size, config.epochs) == (128, 200)
    assert (config.learning_rates, config.schedule, config.decay_epochs) == ((0.1,), "step", 60)
    assert config.augmentation == "crop-flip"
    # L2 before GC, as in the authors' code.
    assert config.chain_code("gc") == (
        "optax.add_decayed_weights(0.0005), gc_optax.centralize(), "
        "optax.sgd(schedule, momentum=0.9)"
    )


def test_adamw_has_gc_at_the_gradient_and_at_the_update():
    gradient, update = (
        Config(**settings(name, {})).chain_code("gc")
        for name in ("paper-cifar100-adamw", "paper-cifar100-adamw-update")
    )
    adamw = "optax.adamw(schedule, weight_decay=0.0005)"
    assert gradient == f"gc_optax.centralize(), {adamw}"
    assert update == f"{adamw}, gc_optax.centralize()"


@pytest.mark.parametrize(
    ("choice", "runs"),
    [
        ("resnet8-rates", ["resnet8-30", "resnet20-30"]),
        ("resnet8-adamw-rates", ["resnet8-adamw-30", "resnet8-adamw-update-30"]),
        ("shakespeare-rates", ["shakespeare-12"]),
        ("shakespeare-muon-rates", ["shakespeare-muon"]),
        ("vit-muon-rates", ["vit-muon"]),
    ],
)
def test_a_rate_is_chosen_for_none_alone_on_what_is_held_out_and_nothing_else_is(choice, runs):
    chosen = Config(**settings(choice, {}))
    assert (chosen.arms, chosen.seeds, chosen.judge) == (("none",), 1, "validation")
    assert len(chosen.learning_rates) == 4
    for name in runs:
        run = Config(**settings(name, {}))
        assert run.judge == "test"
        assert run.seeds_at_once == 1
        assert run.epochs >= chosen.epochs
        assert run.arms[0] == "none"
        for setting in ("dataset", "optimizer", "schedule", "batch_size", "weight_decay"):
            assert getattr(run, setting) == getattr(chosen, setting)


def test_options_change_a_protocol():
    config = Config(**settings("fashion-quick", {"epochs": 1, "seeds": 2}))
    assert (config.epochs, config.seeds, config.dataset) == (1, 2, "fashion_mnist")


def test_another_schedule_has_no_decay_of_the_protocols():
    config = Config(**settings("paper-cifar100", {"schedule": "constant"}))
    assert (config.schedule, config.decay_epochs) == ("constant", None)


def test_another_optimizer_has_its_own_rate_and_decay():
    config = Config(**settings("paper-cifar100", {"optimizer": "adam"}))
    assert (config.learning_rates, config.weight_decay) == ((1e-3,), 0.0)
    config = Config(**settings("paper-cifar100", {"optimizer": "adam", "weight_decay": 0.1}))
    assert config.weight_decay == 0.1
