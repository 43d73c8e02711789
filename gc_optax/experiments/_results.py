"""`Results`: what has been measured so far, in memory."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gc_optax.experiments import _statistics as statistics
from gc_optax.experiments._config import Config
from gc_optax.experiments._optimizers import BASELINE
from gc_optax.experiments._training import METRICS, EpochResult

COLUMNS = ("arm", "learning_rate", "seed", "epoch", *METRICS)


class Cell(NamedTuple):
    """One arm at one learning rate."""

    arm: str
    learning_rate: float


class Results:
    """The metrics of each cell, epoch by epoch.

    Epochs count from 1. A cell that was interrupted has fewer of them than the others.
    """

    def __init__(self, config: Config):
        self.config = config
        self._epochs: dict[Cell, list[EpochResult]] = {}

    def add(self, cell: Cell, result: EpochResult):
        """Appends the next epoch of `cell`."""
        self._epochs.setdefault(cell, []).append(result)

    @property
    def cells(self) -> list[Cell]:
        """The cells that have at least one epoch, in the order of the run."""
        return list(self._epochs)

    def epochs(self, cell: Cell) -> int:
        """How many epochs of `cell` are there."""
        return len(self._epochs.get(cell, ()))

    def is_finished(self, cell: Cell) -> bool:
        """Whether `cell` has all of its epochs."""
        return self.epochs(cell) == self.config.epochs

    def values(self, cell: Cell, metric: str) -> np.ndarray:
        """A metric of `cell`, of shape `(epochs, seeds)`."""
        return np.stack([result.metrics[metric] for result in self._epochs[cell]])

    def mean(self, cell: Cell, metric: str, epoch: int) -> statistics.Mean:
        """The mean over seeds and its standard error after `epoch`."""
        return statistics.mean(self.values(cell, metric)[epoch - 1])

    def difference(self, cell: Cell, metric: str, epoch: int) -> statistics.Interval | None:
        """The paired difference from the baseline, if there is one that got as far."""
        baseline = Cell(BASELINE, cell.learning_rate)
        if cell == baseline or self.epochs(baseline) < epoch:
            return None
        return statistics.paired_difference(
            self.values(cell, metric)[epoch - 1], self.values(baseline, metric)[epoch - 1]
        )

    def diverged(self, cell: Cell) -> int:
        """How many seeds had a loss that is not finite."""
        losses = np.concatenate([self.values(cell, m) for m in ("train_loss", "test_loss")])
        return int(statistics.diverged(losses).sum())

    def seconds(self, arm: str) -> np.ndarray:
        """The seconds of all epochs of `arm`, at all learning rates."""
        return np.array([r.seconds for c in self.cells if c.arm == arm for r in self._epochs[c]])

    def rows(self) -> Iterator[tuple]:
        """One row per cell, seed and epoch, as `COLUMNS` says."""
        for cell in self.cells:
            metrics = [self.values(cell, metric) for metric in METRICS]
            for column, seed in enumerate(self.config.all_seeds):
                for row in range(self.epochs(cell)):
                    numbers = (float(values[row, column]) for values in metrics)
                    yield (*cell, seed, row + 1, *numbers)
