"""Which settings of a `Config` go together, and the bounds of its numbers."""

import math
from typing import TYPE_CHECKING

from gc_optax.experiments.data import SOURCES
from gc_optax.experiments.errors import InvalidSettingError
from gc_optax.experiments.training.optimizers import MATRICES
from gc_optax.models import MODELS

if TYPE_CHECKING:
    from gc_optax.experiments.settings.config import Config

TEXT_MODELS = ("gpt",)


def check_combination(config: "Config"):
    """Raises `InvalidSettingError` where two settings do not go together."""
    kind = SOURCES[config.dataset].kind
    if (config.model in TEXT_MODELS) != (kind == "text"):
        fitting = [m for m in MODELS if (m in TEXT_MODELS) == (kind == "text")]
        raise InvalidSettingError(
            "model",
            f"must be one of {', '.join(fitting)} for {config.dataset}, which is {kind}; got "
            f"{config.model}.",
        )
    if kind == "text" and config.augmentation != "none":
        raise InvalidSettingError(
            "augmentation",
            f"is for images, and {config.dataset} is text; got {config.augmentation}.",
        )
    if config.momentum is not None and config.optimizer != "sgd":
        raise InvalidSettingError(
            "momentum", f"belongs to the optimizer sgd; {config.optimizer} does not have it."
        )
    if MATRICES in config.arms and config.optimizer != "muon":
        raise InvalidSettingError(
            "arms", f"{MATRICES} belongs to the optimizer muon; got {config.optimizer}."
        )
    if (config.decay_epochs is not None) != (config.schedule == "step"):
        raise InvalidSettingError(
            "decay_epochs",
            "must be given with the schedule step."
            if config.schedule == "step"
            else f"belongs to the schedule step; {config.schedule} does not have it.",
        )


def check_numbers(config: "Config"):
    """Raises `InvalidSettingError` where a number is out of range."""
    for rate in config.learning_rates:
        # It is a float32 when it is used.
        if not 1e-37 < rate < 1e38:
            raise InvalidSettingError(
                "learning_rate", f"must be a positive number that float32 can hold, got {rate}."
            )
    if config.weight_decay is not None and not 0 <= config.weight_decay < math.inf:
        raise InvalidSettingError(
            "weight_decay", f"must be a finite number of at least 0, got {config.weight_decay}."
        )
    if config.momentum is not None and not 0 <= config.momentum < 1:
        raise InvalidSettingError(
            "momentum", f"must be at least 0 and less than 1, got {config.momentum}."
        )
