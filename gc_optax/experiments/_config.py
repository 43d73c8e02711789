"""`Config`: every setting of a comparison, validated."""

import dataclasses
import math
from collections.abc import Collection, Hashable

from gc_optax.experiments._data import SOURCES
from gc_optax.experiments._optimizers import ARMS, OPTIMIZERS, PLACEMENTS
from gc_optax.models import MODELS

# The paper trains with SGD at 0.1 for batches of 128, so this is its rate for batches of 64.
# The rates of Adam and AdamW are the paper's and Adam's own.
LEARNING_RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}
# What PyTorch's AdamW does where nothing is said.
WEIGHT_DECAYS = {"sgd": 0.0, "adam": 0.0, "adamw": 1e-2}
MOMENTUM = 0.9
LARGEST_SEED = 2**31 - 1


class InvalidSettingError(ValueError):
    """A setting that cannot be used: which one, and what is wrong with it."""

    def __init__(self, setting: str, problem: str):
        super().__init__(f"`{setting}` {problem}")
        self.setting = setting
        self.problem = problem


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of `gc-optax compare`; `None` stands for the optimizer's own default.

    Raises:
        InvalidSettingError: A setting is out of range, unknown or given twice.
    """

    dataset: str = "digits"
    model: str = "cnn"
    optimizer: str = "sgd"
    placement: str = "gradient"
    arms: tuple[str, ...] = ("none", "gc", "optax")
    seeds: int = 8
    seed: int = 0
    epochs: int = 8
    batch_size: int = 64
    learning_rate: tuple[float, ...] | None = None
    momentum: float | None = None
    weight_decay: float | None = None

    def __post_init__(self):
        for setting, choices in (
            ("dataset", SOURCES),
            ("model", MODELS),
            ("optimizer", OPTIMIZERS),
            ("placement", PLACEMENTS),
        ):
            _check_choice(setting, getattr(self, setting), choices)
        for arm in self.arms:
            _check_choice("arms", arm, ARMS)
        for setting in ("seeds", "epochs", "batch_size"):
            if getattr(self, setting) < 1:
                raise InvalidSettingError(
                    setting, f"must be a whole number of at least 1, got {getattr(self, setting)}."
                )
        if not 0 <= self.seed <= LARGEST_SEED + 1 - self.seeds:
            raise InvalidSettingError(
                "seed",
                f"must be at least 0, and the last seed at most {LARGEST_SEED}, got {self.seed} "
                f"as the first of {self.seeds}.",
            )
        if self.momentum is not None and self.optimizer != "sgd":
            raise InvalidSettingError(
                "momentum", f"belongs to the optimizer sgd; {self.optimizer} does not have it."
            )
        self._fill_in_defaults()
        self._check_numbers()
        _check_distinct("arms", self.arms)
        _check_distinct("learning_rate", self.learning_rates)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates, defaults filled in."""
        return tuple(self.learning_rate or ())

    @property
    def all_seeds(self) -> range:
        """The seeds themselves."""
        return range(self.seed, self.seed + self.seeds)

    def check_batch_size(self, images: int):
        """Raises `InvalidSettingError` where a batch needs more than the `images` there are."""
        if self.batch_size > images:
            raise InvalidSettingError(
                "batch_size",
                f"must be at most {images}, the number of training images of {self.dataset}, "
                f"got {self.batch_size}.",
            )

    def _fill_in_defaults(self):
        def fill_in(setting: str, value):
            if getattr(self, setting) is None:
                object.__setattr__(self, setting, value)

        fill_in("learning_rate", (LEARNING_RATES[self.optimizer],))
        fill_in("weight_decay", WEIGHT_DECAYS[self.optimizer])
        if self.optimizer == "sgd":
            fill_in("momentum", MOMENTUM)

    def _check_numbers(self):
        for rate in self.learning_rates:
            # It is a float32 when it is used.
            if not 1e-37 < rate < 1e38:
                raise InvalidSettingError(
                    "learning_rate", f"must be a positive number that float32 can hold, got {rate}."
                )
        if self.weight_decay is not None and not 0 <= self.weight_decay < math.inf:
            raise InvalidSettingError(
                "weight_decay", f"must be a finite number of at least 0, got {self.weight_decay}."
            )
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise InvalidSettingError(
                "momentum", f"must be at least 0 and less than 1, got {self.momentum}."
            )


def _check_choice(setting: str, value: str, choices: Collection[str]):
    if value not in choices:
        raise InvalidSettingError(setting, f"must be one of {', '.join(choices)}; got {value}.")


def _check_distinct(setting: str, values: tuple[Hashable, ...]):
    if not values:
        raise InvalidSettingError(setting, "must have at least one value.")
    for value in values:
        if values.count(value) > 1:
            raise InvalidSettingError(setting, f"has {value} more than once.")
