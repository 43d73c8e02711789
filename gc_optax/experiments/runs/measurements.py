"""`Results`: what has been measured so far, in memory."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gc_optax.experiments.execution.trainer import EpochResult
from gc_optax.experiments.runs import statistics as statistics
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.epoch import METRICS
from gc_optax.experiments.training.optimizers import BASELINE

COLUMNS = ("arm", "learning_rate", "seed", "epoch", *METRICS)
TIME_COLUMNS = (
    "arm",
    "learning_rate",
    "seed",
    "seeds",
    "epoch",
    "seconds",
    "training_seconds",
)


class Cell(NamedTuple):
    """One arm at one learning rate."""

    arm: str
    learning_rate: float


class Group(NamedTuple):
    """The seeds of a cell that are trained side by side."""

    cell: Cell
    seeds: range


class Results:
    """The metrics of each cell, seed by seed and epoch by epoch.

    Epochs count from 1. A group of seeds that has ended, since none of its losses was finite any
    more, counts as if it had gone on so: its later losses are NaN, and it gets nothing right.
    """

    def __init__(self, config: Config):
        self.config = config
        self.ended: dict[Group, int] = {}
        self._metrics: dict[Cell, dict[int, list[tuple[float, ...]]]] = {}
        self._seconds: dict[Group, list[tuple[float, float]]] = {}

    def add(self, group: Group, result: EpochResult):
        """Appends the next epoch of `group`."""
        of_cell = self._metrics.setdefault(group.cell, {})
        values = np.stack([result.metrics[metric] for metric in METRICS], axis=-1)
        for seed, row in zip(group.seeds, values, strict=True):
            of_cell.setdefault(seed, []).append(tuple(float(value) for value in row))
        self._seconds.setdefault(group, []).append((result.seconds, result.training_seconds))

    def end_if_nothing_is_finite(self, group: Group):
        """Ends `group` where the last epoch had no finite loss, in training or in testing."""
        of_cell = self._metrics[group.cell]
        last = np.array([of_cell[seed][-1] for seed in group.seeds])
        losses = last[:, [METRICS.index("train_loss"), METRICS.index("test_loss")]]
        if not np.isfinite(losses).any():
            self.ended[group] = len(self._seconds[group])

    def is_done(self, group: Group) -> bool:
        """Whether nothing is left to train of `group`."""
        return group in self.ended or self.measured(group) == self.config.epochs

    def measured(self, group: Group) -> int:
        """How many epochs of `group` have been run."""
        return len(self._seconds.get(group, ()))

    @property
    def epochs_measured(self) -> int:
        """The epochs of all groups together."""
        return sum(len(seconds) for seconds in self._seconds.values())

    @property
    def epochs_settled(self) -> int:
        """The epochs that were run, and those that groups that ended will not run."""
        left = sum(self.config.epochs - epoch for epoch in self.ended.values())
        return self.epochs_measured + left

    @property
    def cells(self) -> list[Cell]:
        """The cells that have at least one epoch, in the order of the run."""
        return list(self._metrics)

    def seeds(self, cell: Cell) -> list[int]:
        """The seeds of `cell` that are done; while none is, those that are being trained."""
        of_cell = self._metrics.get(cell, {})
        done = [seed for seed in of_cell if self._length(cell, seed) == self.config.epochs]
        return done or list(of_cell)

    def epochs(self, cell: Cell) -> int:
        """How many epochs of `cell` are there, of the seeds that count."""
        return min((self._length(cell, seed) for seed in self.seeds(cell)), default=0)

    def is_finished(self, cell: Cell) -> bool:
        """Whether all seeds of `cell` are done."""
        return len(self.seeds(cell)) == self.config.seeds and (
            self.epochs(cell) == self.config.epochs
        )

    def values(self, cell: Cell, metric: str, seeds: Sequence[int] | None = None) -> np.ndarray:
        """A metric of `cell`, of shape `(epochs, seeds)`, by default of the seeds that count."""
        chosen = self.seeds(cell) if seeds is None else seeds
        column, epochs = METRICS.index(metric), self.epochs(cell)
        lost = 0.0 if metric.endswith("accuracy") else np.nan
        values = np.full((epochs, len(chosen)), lost)
        for position, seed in enumerate(chosen):
            rows = [row[column] for row in self._metrics[cell][seed]][:epochs]
            values[: len(rows), position] = rows
        return values

    def means(self, cell: Cell, metric: str) -> list[statistics.Mean]:
        """The mean over seeds and its standard error, epoch by epoch."""
        return [statistics.mean(row) for row in self.values(cell, metric)]

    def differences(self, cell: Cell, metric: str) -> list[statistics.Interval | None]:
        """The paired differences from the baseline, over the seeds that both have, if any.

        One for each epoch of `cell`; `None` where the baseline has not got as far.
        """
        baseline, epochs = Cell(BASELINE, cell.learning_rate), self.epochs(cell)
        theirs = self.seeds(baseline)
        both = [seed for seed in self.seeds(cell) if seed in theirs]
        if cell == baseline or not both:
            return [None] * epochs
        pairs = zip(self.values(cell, metric, both), self.values(baseline, metric, both))  # noqa: B905
        found = [statistics.paired_difference(*pair) for pair in pairs]
        return [*found, *[None] * (epochs - len(found))]

    def mean(self, cell: Cell, metric: str, epoch: int) -> statistics.Mean:
        """The mean over seeds and its standard error after `epoch`."""
        return statistics.mean(self.values(cell, metric)[epoch - 1])

    def difference(self, cell: Cell, metric: str, epoch: int) -> statistics.Interval | None:
        """The paired difference from the baseline after `epoch`."""
        return self.differences(cell, metric)[epoch - 1]

    def accuracy(self, group: Group) -> float:
        """The mean test accuracy of `group` after its last epoch."""
        column, of_cell = METRICS.index("test_accuracy"), self._metrics[group.cell]
        return float(np.mean([of_cell[seed][-1][column] for seed in group.seeds]))

    def diverged(self, cell: Cell, seeds: Sequence[int] | None = None) -> int:
        """How many seeds had a loss that is not finite."""
        losses = [self.values(cell, metric, seeds) for metric in ("train_loss", "test_loss")]
        return int(statistics.diverged(np.concatenate(losses)).sum())

    def seconds(self, arm: str) -> np.ndarray:
        """The seconds of all epochs of `arm`: `(epochs, 3)`, with evaluation, without, seeds."""
        rows = [
            (*seconds, len(group.seeds))
            for group, epochs in self._seconds.items()
            if group.cell.arm == arm
            for seconds in epochs
        ]
        return np.array(rows, np.float64).reshape(-1, 3)

    def rows(self) -> Iterator[tuple]:
        """One row per cell, seed and epoch that was run, as `COLUMNS` says."""
        for cell, of_cell in self._metrics.items():
            for seed, epochs in of_cell.items():
                for index, values in enumerate(epochs):
                    yield (*cell, seed, index + 1, *values)

    def time_rows(self) -> Iterator[tuple]:
        """One row per group and epoch, as `TIME_COLUMNS` says."""
        for group, epochs in self._seconds.items():
            for index, seconds in enumerate(epochs):
                yield (*group.cell, group.seeds[0], len(group.seeds), index + 1, *seconds)

    def restore(self, groups: Iterable[Group], metrics: list[dict], times: list[dict]):
        """Adds what `rows` and `time_rows` gave, for the epochs that both have.

        Args:
            groups: All groups of the run, in its order.
            metrics: The rows as dictionaries of text.
            times: The same.

        Raises:
            KeyError, ValueError: A row is not what it should be.
        """
        by_epoch: dict[tuple, dict[str, Any]] = {
            (row["arm"], float(row["learning_rate"]), int(row["seed"]), int(row["epoch"])): row
            for row in metrics
        }
        by_group: dict[tuple, dict[int, dict]] = {}
        for row in times:
            key = (row["arm"], float(row["learning_rate"]), int(row["seed"]), int(row["seeds"]))
            by_group.setdefault(key, {})[int(row["epoch"])] = row
        for group in groups:
            seconds = by_group.get((*group.cell, group.seeds[0], len(group.seeds)), {})
            for epoch in range(1, self.config.epochs + 1):
                keys = [(*group.cell, seed, epoch) for seed in group.seeds]
                if epoch not in seconds or not all(key in by_epoch for key in keys):
                    break
                rows = [by_epoch[key] for key in keys]
                values = {m: np.array([float(row[m]) for row in rows]) for m in METRICS}
                taken = seconds[epoch]
                self.add(
                    group,
                    EpochResult(values, float(taken["training_seconds"]), float(taken["seconds"])),
                )
            if self.measured(group):
                self.end_if_nothing_is_finite(group)

    def cut(self, group: Group, epochs: int):
        """Forgets the epochs of `group` after the first `epochs`."""
        self.ended.pop(group, None)
        seconds = self._seconds.pop(group, [])[:epochs]
        if seconds:
            self._seconds[group] = seconds
        of_cell = self._metrics.get(group.cell, {})
        for seed in group.seeds:
            rows = of_cell.pop(seed, [])[:epochs]
            if rows:
                of_cell[seed] = rows
        if not of_cell:
            self._metrics.pop(group.cell, None)

    def _length(self, cell: Cell, seed: int) -> int:
        if any(group.cell == cell and seed in group.seeds for group in self.ended):
            return self.config.epochs
        return len(self._metrics[cell][seed])
