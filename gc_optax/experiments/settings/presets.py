"""Named sets of settings: what the paper trains, and shorter runs for smaller machines."""

from typing import Any

_CIFAR100 = {
    "dataset": "cifar100",
    "model": "resnet18",
    "augmentation": "crop-flip",
    "batch_size": 128,
    "seeds": 3,
}
# The paper's experiments on CIFAR-100, and GC_code/CIFAR100/main.py of the authors' code for what
# it leaves open: Adam and AdamW at a hundredth of SGD's rate, the same weight decay for all. (There
# the last layer is left alone: that is the arm `gcc`.)
_PAPER = {**_CIFAR100, "epochs": 200, "schedule": "step", "decay_epochs": 60}
_TEXT = {
    "dataset": "shakespeare",
    "model": "gpt",
    "arms": ("none", "gc", "traced"),
    "schedule": "one-cycle",
    "optimizer": "adamw",
    "learning_rate": (2e-3,),
    "weight_decay": 1e-2,
    "batch_size": 32,
    "seeds": 3,
}


def _evidence() -> dict[str, dict[str, Any]]:
    """Runs of hours on a CPU, each after a choice of its rates on what is held out for that.

    The rate is chosen for `none` alone. Seeds are trained one by one, the arms of a seed after each
    other, so that a run that is not finished has whole pairs.
    """
    images = {
        **_CIFAR100,
        "model": "resnet8",
        "arms": ("none", "gc"),
        "epochs": 30,
        "schedule": "one-cycle",
        "weight_decay": 5e-4,
        "seeds_at_once": 1,
    }
    sgd = {"optimizer": "sgd", "learning_rate": (0.1,)}
    adamw = {"optimizer": "adamw", "learning_rate": (2e-3,)}
    choice = {"arms": ("none",), "seeds": 1, "epochs": 8, "validation_examples": 5000}
    text = {**_TEXT, "epochs": 12, "seeds_at_once": 1}
    patches = {
        "dataset": "fashion_mnist",
        "model": "vit",
        "train_examples": 10_000,
        "epochs": 10,
        "schedule": "one-cycle",
        "batch_size": 128,
        "seeds": 3,
        "seeds_at_once": 1,
    }
    # No centralization: what the traced axes are worth to Muon.
    muon = {
        "optimizer": "muon",
        "arms": ("none", "muon-traced"),
        "learning_rate": (5e-3,),
        "weight_decay": 1e-2,
    }
    muon_rates = {"learning_rate": (2e-3, 5e-3, 1e-2, 2e-2)}
    held_out_text = {"validation_examples": 1500}
    return {
        "resnet8-rates": {**images, **sgd, **choice, "learning_rate": (0.05, 0.1, 0.2, 0.4)},
        "resnet8-30": {**images, **sgd, "arms": ("none", "gc", "optax"), "seeds": 5},
        "resnet20-30": {**images, **sgd, "model": "resnet20"},
        "resnet8-adamw-rates": {
            **images,
            **adamw,
            **choice,
            "learning_rate": (1e-3, 2e-3, 5e-3, 1e-2),
        },
        "resnet8-adamw-30": {**images, **adamw},
        "resnet8-adamw-update-30": {**images, **adamw, "placement": "update"},
        "shakespeare-rates": {
            **text,
            **choice,
            **held_out_text,
            "learning_rate": (1e-3, 2e-3, 4e-3, 8e-3),
        },
        "shakespeare-12": text,
        "shakespeare-muon-rates": {**text, **muon, **choice, **held_out_text, **muon_rates},
        "shakespeare-muon": {**text, **muon},
        "vit-muon-rates": {**patches, **muon, **choice, **muon_rates, "validation_examples": 2000},
        "vit-muon": {**patches, **muon},
    }


PROTOCOLS: dict[str, dict[str, Any]] = {
    "paper-cifar100": {**_PAPER, "optimizer": "sgd", "learning_rate": (0.1,), "weight_decay": 5e-4},
    "paper-cifar100-adam": {
        **_PAPER,
        "optimizer": "adam",
        "learning_rate": (1e-3,),
        "weight_decay": 5e-4,
    },
    "paper-cifar100-adamw": {
        **_PAPER,
        "optimizer": "adamw",
        "learning_rate": (1e-3,),
        "weight_decay": 5e-4,
    },
    "paper-cifar100-adamw-update": {
        **_PAPER,
        "optimizer": "adamw",
        "placement": "update",
        "learning_rate": (1e-3,),
        "weight_decay": 5e-4,
    },
    "cifar100-30": {
        **_CIFAR100,
        "epochs": 30,
        "schedule": "one-cycle",
        "optimizer": "sgd",
        "learning_rate": (0.1,),
        "weight_decay": 5e-4,
    },
    **_evidence(),
    "fashion-quick": {
        "dataset": "fashion_mnist",
        "model": "cnn",
        "epochs": 3,
        "schedule": "one-cycle",
        "optimizer": "sgd",
        "learning_rate": (0.05,),
        "batch_size": 128,
        "seeds": 5,
    },
    "shakespeare-quick": {**_TEXT, "epochs": 2},
}
"""The presets of `--protocol`: each the settings of `Config` that it changes."""

OF_THE_OPTIMIZER = ("learning_rate", "weight_decay", "momentum", "placement")


def settings(protocol: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run: those `given`, else the protocol's.

    Where another optimizer is given than the protocol's, its rate, decay, momentum and placement do
    not apply.
    """
    preset = dict(PROTOCOLS[protocol]) if protocol is not None else {}
    if given.get("optimizer", preset.get("optimizer")) != preset.get("optimizer"):
        preset = {name: value for name, value in preset.items() if name not in OF_THE_OPTIMIZER}
    if given.get("schedule", "step") != "step":
        preset.pop("decay_epochs", None)
    return {**preset, **given}
