"""`Config`: every setting of a comparison, validated."""

import dataclasses
import math
from collections.abc import Collection, Hashable

from gc_optax.experiments.data import SOURCES
from gc_optax.experiments.errors import InvalidSettingError
from gc_optax.experiments.settings.presets import PROTOCOLS
from gc_optax.experiments.training.epoch import AUGMENTATIONS
from gc_optax.experiments.training.network import DTYPES
from gc_optax.experiments.training.optimizers import (
    ARMS,
    OPTIMIZERS,
    PLACEMENTS,
    SCHEDULES,
    links,
    written,
)
from gc_optax.models import MODELS

# The paper trains with SGD at 0.1 for batches of 128, so this is its rate for batches of 64.
# The rates of Adam and AdamW are the paper's and Adam's own.
LEARNING_RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}
# What PyTorch's AdamW does where nothing is said.
WEIGHT_DECAYS = {"sgd": 0.0, "adam": 0.0, "adamw": 1e-2}
MOMENTUM = 0.9
LARGEST_SEED = 2**31 - 1
LARGEST_COUNT = 2**31 - 1
DEFAULT_MODELS = {"images": "cnn", "text": "gpt"}
TEXT_MODELS = ("gpt",)
# Settings that count something: at least 1, where they are not `None`.
COUNTS = (
    "seeds",
    "epochs",
    "batch_size",
    "decay_epochs",
    "train_examples",
    "validation_examples",
    "seeds_at_once",
    "devices",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of `gc-optax compare`.

    `None` stands for the default of the data set (`model`), of the optimizer (`learning_rate`,
    `momentum`, `weight_decay`), of the machine (`seeds_at_once`, `devices`), for all
    (`train_examples`), for none (`validation_examples`), or for about once a minute
    (`checkpoint_every`). `protocol` is a name for
    the record; its settings are the others.

    Raises:
        InvalidSettingError: A setting is out of range, unknown, given twice, or does not go with
            another.
    """

    protocol: str | None = None
    dataset: str = "digits"
    model: str | None = None
    optimizer: str = "sgd"
    placement: str = "gradient"
    arms: tuple[str, ...] = ("none", "gc", "optax")
    seeds: int = 8
    seed: int = 0
    epochs: int = 8
    batch_size: int = 64
    learning_rate: tuple[float, ...] | None = None
    schedule: str = "constant"
    decay_epochs: int | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    augmentation: str = "none"
    dtype: str = "float32"
    train_examples: int | None = None
    validation_examples: int | None = None
    seeds_at_once: int | None = None
    devices: int | None = None
    checkpoint_every: int | None = None

    def __post_init__(self):
        for setting, choices in (
            ("dataset", SOURCES),
            ("model", (None, *MODELS)),
            ("optimizer", OPTIMIZERS),
            ("placement", PLACEMENTS),
            ("schedule", SCHEDULES),
            ("augmentation", AUGMENTATIONS),
            ("dtype", DTYPES),
            ("protocol", (None, *PROTOCOLS)),
        ):
            _check_choice(setting, getattr(self, setting), choices)
        for arm in self.arms:
            _check_choice("arms", arm, ARMS)
        for setting in COUNTS:
            _check_count(setting, getattr(self, setting))
        if self.checkpoint_every is not None and self.checkpoint_every < 0:
            raise InvalidSettingError(
                "checkpoint_every",
                f"must be a whole number of epochs, or 0 for never, got {self.checkpoint_every}.",
            )
        if not 0 <= self.seed <= LARGEST_SEED + 1 - self.seeds:
            raise InvalidSettingError(
                "seed",
                f"must be at least 0, and the last seed at most {LARGEST_SEED}, got {self.seed} "
                f"as the first of {self.seeds}.",
            )
        self._fill_in_defaults()
        self._check_what_goes_together()
        self._check_numbers()
        _check_distinct("arms", self.arms)
        _check_distinct("learning_rate", self.learning_rates)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates, defaults filled in."""
        return tuple(self.learning_rate or ())

    @property
    def judge(self) -> str:
        """What accuracy and loss are of: the test set, or a validation set that is held out."""
        return "test" if self.validation_examples is None else "validation"

    @property
    def all_seeds(self) -> range:
        """The seeds themselves."""
        return range(self.seed, self.seed + self.seeds)

    @property
    def network(self) -> str:
        """The name of the model, default filled in."""
        assert self.model is not None
        return self.model

    def chain_code(self, arm: str) -> str:
        """The chain of `arm`, as people write it."""
        chain = links(
            arm,
            self.optimizer,
            self.placement,
            0.0,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        return written(chain, self.schedule)

    def check_batch_size(self, examples: int):
        """Raises `InvalidSettingError` where a batch needs more than the `examples` there are."""
        if self.batch_size > examples:
            raise InvalidSettingError(
                "batch_size",
                f"must be at most {examples}, the number of training examples of {self.dataset}, "
                f"got {self.batch_size}.",
            )

    def _fill_in_defaults(self):
        def fill_in(setting: str, value):
            if getattr(self, setting) is None:
                object.__setattr__(self, setting, value)

        fill_in("model", DEFAULT_MODELS[SOURCES[self.dataset].kind])
        fill_in("learning_rate", (LEARNING_RATES[self.optimizer],))
        fill_in("weight_decay", WEIGHT_DECAYS[self.optimizer])
        if self.optimizer == "sgd":
            fill_in("momentum", MOMENTUM)

    def _check_what_goes_together(self):
        kind = SOURCES[self.dataset].kind
        if (self.model in TEXT_MODELS) != (kind == "text"):
            fitting = [m for m in MODELS if (m in TEXT_MODELS) == (kind == "text")]
            raise InvalidSettingError(
                "model",
                f"must be one of {', '.join(fitting)} for {self.dataset}, which is {kind}; got "
                f"{self.model}.",
            )
        if kind == "text" and self.augmentation != "none":
            raise InvalidSettingError(
                "augmentation",
                f"is for images, and {self.dataset} is text; got {self.augmentation}.",
            )
        if self.momentum is not None and self.optimizer != "sgd":
            raise InvalidSettingError(
                "momentum", f"belongs to the optimizer sgd; {self.optimizer} does not have it."
            )
        if (self.decay_epochs is not None) != (self.schedule == "step"):
            raise InvalidSettingError(
                "decay_epochs",
                "must be given with the schedule step."
                if self.schedule == "step"
                else f"belongs to the schedule step; {self.schedule} does not have it.",
            )

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


def _check_choice(setting: str, value: str | None, choices: Collection[str | None]):
    if value not in choices:
        names = ", ".join(choice for choice in choices if choice is not None)
        raise InvalidSettingError(setting, f"must be one of {names}; got {value}.")


def _check_count(setting: str, value: int | None):
    if value is not None and not (isinstance(value, int) and value >= 1):
        raise InvalidSettingError(setting, f"must be a whole number of at least 1, got {value}.")
    if value is not None and value > LARGEST_COUNT:
        raise InvalidSettingError(setting, f"must be at most {LARGEST_COUNT}, got {value}.")


def _check_distinct(setting: str, values: tuple[Hashable, ...]):
    if not values:
        raise InvalidSettingError(setting, "must have at least one value.")
    for value in values:
        if values.count(value) > 1:
            raise InvalidSettingError(setting, f"has {value} more than once.")
