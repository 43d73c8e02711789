"""What a run has measured so far, in memory: filled by the trainer, or read from its folder."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from gc_optax.experiments.data import SOURCES
from gc_optax.experiments.settings.checks import TEXT_MODELS
from gc_optax.experiments.training.epoch import Metrics

COLUMNS = ("arm", "learning_rate", "seed", "epoch", *Metrics._fields)
TIME_COLUMNS = (
    "arm",
    "learning_rate",
    "seed",
    "seeds",
    "epoch",
    "seconds",
    "training_seconds",
    "digest",
)


class Cell(NamedTuple):
    """One arm at one learning rate."""

    arm: str
    learning_rate: float


class Group(NamedTuple):
    """The seeds of a cell that are trained side by side."""

    cell: Cell
    seeds: range


class Seconds(NamedTuple):
    """The wall time of one epoch of a group: with its evaluation, and of training alone."""

    epoch: float
    training: float


class Design(NamedTuple):
    """What a run compares: its arms, learning rates in their order, seeds and epochs.

    `judge` is what its test metrics are of: the test set, or what was held out for validation.
    `is_text` says that it predicts characters, so that its losses are per character.
    """

    arms: tuple[str, ...]
    learning_rates: tuple[float, ...]
    seeds: range
    epochs: int
    judge: str
    is_text: bool

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Design":
        """That of the settings of a `Config`, also of one that another version wrote."""
        first, source = settings.get("seed", 0), SOURCES.get(settings["dataset"])
        return cls(
            tuple(settings["arms"]),
            tuple(map(float, settings["learning_rate"])),
            range(first, first + settings["seeds"]),
            settings["epochs"],
            "validation" if settings.get("validation_examples") else "test",
            settings["model"] in TEXT_MODELS if source is None else source.kind == "text",
        )


class Measurements:
    """The metrics of each cell, seed by seed and epoch by epoch, and the seconds of each group.

    Epochs count from 1 and rise.

    Attributes:
        design: What the run compares.
        metrics: By cell, seed and epoch.
        seconds: By group and epoch.
    """

    def __init__(self, design: Design):
        self.design = design
        self.metrics: dict[Cell, dict[int, dict[int, Metrics]]] = {}
        self.seconds: dict[Group, dict[int, Seconds]] = {}

    @property
    def arms(self) -> list[str]:
        """The arms in the order of the settings, and any others."""
        return list(dict.fromkeys([*self.design.arms, *(cell.arm for cell in self.metrics)]))

    @property
    def rates(self) -> list[float]:
        """The learning rates, rising."""
        return sorted({*self.design.learning_rates, *(cell.learning_rate for cell in self.metrics)})

    def add(self, group: Group, metrics: Metrics, seconds: Seconds):
        """Appends the next epoch of `group`; each metric has one value per seed."""
        of_cell = self.metrics.setdefault(group.cell, {})
        epoch = self.measured(group) + 1
        for seed, values in zip(group.seeds, np.stack(metrics, axis=-1), strict=True):
            of_cell.setdefault(seed, {})[epoch] = Metrics(*map(float, values))
        self.seconds.setdefault(group, {})[epoch] = seconds

    def cut(self, group: Group, epochs: int):
        """Forgets the epochs of `group` after the first `epochs`."""
        of_cell = self.metrics.get(group.cell, {})
        _cut(self.seconds, group, epochs)
        for seed in group.seeds:
            _cut(of_cell, seed, epochs)
        if not of_cell:
            self.metrics.pop(group.cell, None)

    def measured(self, group: Group) -> int:
        """How many epochs of `group` have been run."""
        return len(self.seconds.get(group, ()))

    def has_ended(self, group: Group) -> bool:
        """Whether the last epoch of `group` had no finite loss, in training or in testing."""
        of_cell = self.metrics.get(group.cell, {})
        return all(seed in of_cell and is_lost(of_cell[seed]) for seed in group.seeds)

    def is_done(self, group: Group) -> bool:
        """Whether nothing is left to train of `group`."""
        return self.measured(group) == self.design.epochs or self.has_ended(group)

    @property
    def ended(self) -> dict[Group, int]:
        """The groups that have ended since no loss was finite any more, and after which epoch."""
        return {group: len(s) for group, s in self.seconds.items() if self.has_ended(group)}

    @property
    def epochs_measured(self) -> int:
        """The epochs of all groups together."""
        return sum(map(len, self.seconds.values()))

    @property
    def epochs_settled(self) -> int:
        """The epochs that were run, and those that groups that ended will not run."""
        left = sum(self.design.epochs - epoch for epoch in self.ended.values())
        return self.epochs_measured + left

    def rows(self) -> Iterator[tuple]:
        """One row per cell, seed and epoch that was run, as `COLUMNS` says."""
        for cell, of_cell in self.metrics.items():
            for seed, epochs in of_cell.items():
                for epoch, values in epochs.items():
                    yield (*cell, seed, epoch, *values)

    def time_rows(self) -> Iterator[tuple]:
        """One row per group and epoch, as `TIME_COLUMNS` says."""
        for group, epochs in self.seconds.items():
            for epoch, seconds in epochs.items():
                where = (*group.cell, group.seeds[0], len(group.seeds), epoch)
                yield (*where, *seconds, self.digest(group, epoch))

    def digest(self, group: Group, epoch: int) -> str:
        """Of all that was measured in an epoch of `group`, so that an edit is noticed."""
        of_cell = self.metrics[group.cell]
        rows = [of_cell[seed][epoch] for seed in group.seeds]
        content = (*group.cell, *group.seeds, epoch, *rows, self.seconds[group][epoch])
        return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def _cut(series: dict[Any, dict[int, Any]], key: Any, epochs: int):
    kept = {epoch: value for epoch, value in series.pop(key, {}).items() if epoch <= epochs}
    if kept:
        series[key] = kept


def last_epoch(epochs: Mapping[int, Metrics]) -> int:
    """The last epoch of a seed; they rise."""
    return next(reversed(epochs)) if epochs else 0  # type: ignore[call-overload]


def is_lost(epochs: Mapping[int, Metrics]) -> bool:
    """Whether the last epoch of a seed had no finite loss, after which nothing can be learned."""
    last = epochs[last_epoch(epochs)]
    return not (math.isfinite(last.train_loss) or math.isfinite(last.test_loss))
