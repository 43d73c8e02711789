"""`Config`: every setting of a comparison, validated."""

import dataclasses
from collections.abc import Mapping

from gc_optax.experiments.data import SOURCES
from gc_optax.experiments.errors import InvalidSettingError
from gc_optax.experiments.settings.checks import check_combination, check_numbers
from gc_optax.experiments.settings.fields import (
    check_choice,
    check_count,
    check_distinct,
    count,
    setting,
)
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
# The rates of Adam and AdamW are the paper's and Adam's own. Muon's is between Adam's and the 0.02
# of its source, since it is also that of Adam, to which Muon leaves what is not a matrix.
LEARNING_RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3, "muon": 5e-3}
# What PyTorch's AdamW does where nothing is said, and Optax's Muon.
WEIGHT_DECAYS = {"sgd": 0.0, "adam": 0.0, "adamw": 1e-2, "muon": 0.0}
MOMENTUM = 0.9
LARGEST_SEED = 2**31 - 1
DEFAULT_MODELS = {"images": "cnn", "text": "gpt"}
_FROM_ZERO = ("seed", "checkpoint_every")
_WHAT, _HOW, _HERE = "what is trained", "how", "on this machine"


def _each(values: Mapping[str, float | str]) -> str:
    return ", ".join(
        f"{value if isinstance(value, str) else format(value, 'g')} for {name}"
        for name, value in values.items()
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

    protocol: str | None = setting(
        None,
        _WHAT,
        "a set of settings, which the other options change: {names}",
        choices=PROTOCOLS,
        instead="none",
    )
    dataset: str = setting("digits", _WHAT, "{names}", choices=SOURCES)
    model: str | None = setting(
        None, _WHAT, "{names}", choices=MODELS, instead=_each(DEFAULT_MODELS)
    )
    optimizer: str = setting("sgd", _HOW, "{names}", choices=OPTIMIZERS)
    placement: str = setting(
        "gradient",
        _HOW,
        "what is centralized: the gradient, before the optimizer, or its final update: {names}",
        metavar="PLACE",
        choices=PLACEMENTS,
    )
    arms: tuple[str, ...] = setting(
        ("none", "gc", "optax"),
        _WHAT,
        "; ".join(f"{name}: {arm.meaning}" for name, arm in ARMS.items()),
        metavar="ARM",
        choices=ARMS,
    )
    seeds: int = count(8, _HOW, "how many seeds")
    seed: int = setting(0, _HOW, "the first seed; the others follow it", metavar="N", parse=int)
    epochs: int = count(8, _HOW, "passes over the training examples")
    batch_size: int = count(
        64,
        _HOW,
        "examples per step; what does not fill the last batch of an epoch is left out, another "
        "part each time",
    )
    learning_rate: tuple[float, ...] | None = setting(
        None,
        _HOW,
        "one or several to compare at",
        metavar="RATE",
        parse=float,
        instead=_each(LEARNING_RATES),
    )
    schedule: str = setting(
        "constant",
        _HOW,
        "of the learning rate: {names}; step: a tenth after every --decay-epochs; one-cycle: up "
        "and down along a cosine, to that rate at 30% of the steps",
        choices=SCHEDULES,
    )
    decay_epochs: int | None = count(None, _HOW, "of the schedule step, which needs it", instead="")
    momentum: float | None = setting(
        None, _HOW, "of sgd", metavar="M", parse=float, instead=str(MOMENTUM)
    )
    weight_decay: float | None = setting(
        None,
        _HOW,
        "sgd and adam: an L2 penalty, added to the gradient before it is centralized; adamw and "
        "muon: decoupled",
        metavar="W",
        parse=float,
        instead=_each(WEIGHT_DECAYS),
    )
    augmentation: str = setting(
        "none",
        _WHAT,
        "{names}; crop-flip: crops of images padded by 4, half mirrored",
        choices=AUGMENTATIONS,
    )
    dtype: str = setting(
        "float32", _WHAT, "of the computation: {names}; parameters are float32", choices=DTYPES
    )
    train_examples: int | None = count(None, _WHAT, "train on the first N examples", instead="all")
    validation_examples: int | None = count(
        None,
        _WHAT,
        "hold N of the training examples out, the same for all seeds, and judge on them instead "
        "of the test set: to choose settings by",
        instead="none, judge on the test set",
    )
    seeds_at_once: int | None = count(
        None,
        _HERE,
        "how many seeds are trained side by side",
        instead="as many as the accelerator's memory holds; on a CPU all that its memory holds, "
        "or one, by the size of the network",
    )
    devices: int | None = count(
        None,
        _HERE,
        "over how many local devices a batch is spread, with --distributed over how many in all",
        instead="the largest number that divides it",
    )
    checkpoint_every: int | None = setting(
        None,
        _HERE,
        "epochs between two checkpoints, 0 for none",
        metavar="N",
        parse=int,
        instead="one about every minute",
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            if choices is not None:
                check_choice(field.name, value, choices)
            elif field.metadata["parse"] is int and field.name not in _FROM_ZERO:
                check_count(field.name, value)
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
        check_combination(self)
        check_numbers(self)
        check_distinct("arms", self.arms)
        check_distinct("learning_rate", self.learning_rates)

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
