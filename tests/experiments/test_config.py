import math

import pytest

from gc_optax.experiments.errors import InvalidSettingError
from gc_optax.experiments.settings.config import Config


def test_each_optimizer_has_its_own_defaults():
    settings = {
        name: (c.learning_rates, c.momentum, c.weight_decay)
        for name in ("sgd", "adam", "adamw")
        for c in [Config(optimizer=name)]
    }
    assert settings == {
        "sgd": ((0.05,), 0.9, 0.0),
        "adam": ((0.001,), None, 0.0),
        "adamw": ((0.001,), None, 0.01),
    }


def test_seeds_are_counted_from_the_first():
    assert list(Config(seed=5, seeds=3).all_seeds) == [5, 6, 7]


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("dataset", "mnist", "`dataset` must be one of digits, fashion_mnist, cifar10, cifar100, "),
        ("model", "resnet", "`model` must be one of mlp, cnn, resnet8, "),
        ("optimizer", "lion", "`optimizer` must be one of sgd, adam, adamw, muon; got lion."),
        ("placement", "loss", "`placement` must be one of gradient, update; got loss."),
        ("arms", ("none", "cg"), "`arms` must be one of none, gc, traced, gcc, optax, "),
        ("arms", ("gc", "gc"), "`arms` has gc more than once."),
        ("arms", (), "`arms` must have at least one value."),
        ("seeds", 0, "`seeds` must be a whole number of at least 1, got 0."),
        (
            "validation_examples",
            0,
            "`validation_examples` must be a whole number of at least 1, got 0.",
        ),
        ("epochs", -1, "`epochs` must be a whole number of at least 1, got -1."),
        ("batch_size", 0, "`batch_size` must be a whole number of at least 1, got 0."),
        ("seed", -1, "`seed` must be at least 0"),
        ("seed", 2**31 - 1, "the last seed at most 2147483647, got 2147483647 as the first of 8."),
        ("learning_rate", (), "`learning_rate` must have at least one value."),
        ("learning_rate", (0.1, 0.1), "`learning_rate` has 0.1 more than once."),
        ("learning_rate", (0.0,), "`learning_rate` must be a positive number"),
        ("learning_rate", (math.nan,), "`learning_rate` must be a positive number"),
        ("learning_rate", (1e39,), "`learning_rate` must be a positive number that float32 can"),
        ("momentum", 1.0, "`momentum` must be at least 0 and less than 1, got 1.0."),
        ("weight_decay", -0.1, "`weight_decay` must be a finite number of at least 0, got -0.1."),
        ("weight_decay", math.inf, "`weight_decay` must be a finite number of at least 0, got inf"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_what_is_wrong(setting, value, message):
    with pytest.raises(InvalidSettingError) as error:
        Config(**{setting: value})
    assert message in str(error.value)
    assert error.value.setting == setting


def test_momentum_is_refused_for_an_optimizer_without_it():
    with pytest.raises(InvalidSettingError, match="belongs to the optimizer sgd; adam does not"):
        Config(optimizer="adam", momentum=0.9)


def test_muon_by_traced_axes_is_refused_for_another_optimizer():
    assert Config(optimizer="muon", arms=("none", "muon-traced")).weight_decay == 0
    with pytest.raises(InvalidSettingError, match="belongs to the optimizer muon; got adamw"):
        Config(optimizer="adamw", arms=("none", "muon-traced"))


def test_a_batch_may_be_the_whole_training_set_and_no_more():
    Config(batch_size=10).check_batch_size(10)
    with pytest.raises(InvalidSettingError, match="at most 9, the number of training examples of"):
        Config(batch_size=10).check_batch_size(9)


def test_what_judges_is_the_test_set_or_what_is_held_out():
    assert (Config().judge, Config(validation_examples=5).judge) == ("test", "validation")


def test_the_default_network_is_that_of_the_data():
    assert Config().network == "cnn"
    assert Config(dataset="shakespeare").network == "gpt"
