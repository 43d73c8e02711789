"""What follows from the measurements of a run: means, differences, divergence, times.

Everything that is printed, drawn or recorded of a run is computed here.
"""

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from gc_optax.experiments.runs import statistics
from gc_optax.experiments.runs.measurements import Cell, Group, Measurements, is_lost, last_epoch
from gc_optax.experiments.training.optimizers import BASELINE


class Difference(NamedTuple):
    """A paired difference, and over how many seeds."""

    interval: statistics.Interval
    pairs: int


class Reached(NamedTuple):
    """When an accuracy was reached: the epoch, and the seconds to its end (NaN: unknown)."""

    epoch: float
    seconds: float


class EpochSeconds(NamedTuple):
    """The quartiles of the wall time of an epoch, its median in the middle."""

    low: float
    median: float
    high: float


# Accuracies were float32, in which 0.96 is a little less.
_ROUNDING = 1e-6

_NEVER = Reached(math.inf, math.inf)


def values(run: Measurements, cell: Cell, metric: str, epoch: int) -> dict[int, float]:
    """A metric after `epoch`, by seed, of the seeds that got there.

    A seed that ended before since its losses were no longer finite counts as if it had gone on:
    its loss is NaN, and it gets nothing right.
    """
    found = {}
    for seed, epochs in run.metrics.get(cell, {}).items():
        if epoch in epochs:
            found[seed] = getattr(epochs[epoch], metric)
        elif last_epoch(epochs) < epoch and is_lost(epochs):
            found[seed] = 0.0 if metric.endswith("accuracy") else math.nan
    return found


def mean(run: Measurements, cell: Cell, metric: str, epoch: int) -> statistics.Mean | None:
    """The mean over those seeds and its standard error; `None` without seeds."""
    found = list(values(run, cell, metric, epoch).values())
    return statistics.mean(np.array(found)) if found else None


def difference(
    run: Measurements, cell: Cell, metric: str, epoch: int, baseline: Cell | None = None
) -> Difference | None:
    """The paired difference from the baseline, over the seeds that both have.

    `None` without such seeds, and for the baseline itself. By default the baseline is the arm
    without centralization at the same learning rate.
    """
    baseline = baseline or Cell(BASELINE, cell.learning_rate)
    these, those = values(run, cell, metric, epoch), values(run, baseline, metric, epoch)
    both = sorted(these.keys() & those.keys())
    if cell.arm == baseline.arm or not both:
        return None
    pair = [np.array([of[seed] for seed in both]) for of in (these, those)]
    return Difference(statistics.paired_difference(pair[0], pair[1]), len(both))


def has_baseline(run: Measurements) -> bool:
    """Whether anything was trained without centralization."""
    return any(cell.arm == BASELINE for cell in run.metrics)


def has_differences(run: Measurements) -> bool:
    """Whether any arm has a difference from the baseline where the arms are compared."""
    return any(
        difference(run, cell, "test_loss", compared_epoch(run, cell.learning_rate))
        for cell in run.metrics
    )


def diverged(run: Measurements, cell: Cell) -> list[int]:
    """The seeds that had a loss that is not finite."""
    return [
        seed
        for seed, epochs in run.metrics.get(cell, {}).items()
        if not all(math.isfinite(m.train_loss + m.test_loss) for m in epochs.values())
    ]


def furthest(run: Measurements, cell: Cell) -> int:
    """How far the seed of `cell` got that got the furthest; 0 if it has not begun."""
    if is_finished(run, cell):  # perhaps since all seeds ended early
        return run.design.epochs
    return max(map(last_epoch, run.metrics.get(cell, {}).values()), default=0)


def furthest_seeds(run: Measurements, cell: Cell) -> list[int]:
    """The seeds of a curve: those that got the furthest, so that it does not jump."""
    return list(values(run, cell, "test_loss", furthest(run, cell)))


def is_finished(run: Measurements, cell: Cell) -> bool:
    """Whether all seeds of `cell` are at the end."""
    done = values(run, cell, "test_loss", run.design.epochs)
    return len(done) == len(run.design.seeds)


def accuracy(run: Measurements, group: Group) -> float:
    """The mean test accuracy of `group` after its last epoch."""
    found = values(run, group.cell, "test_accuracy", run.measured(group))
    return float(np.mean([found[seed] for seed in group.seeds]))


def compared_epoch(run: Measurements, rate: float) -> int:
    """After which epoch the arms are compared at a learning rate.

    The last one of the run; if no seed got there, the last one that all arms got to, not counting
    those that have not begun or whose losses are no longer finite.
    """
    cells = [Cell(arm, rate) for arm in run.arms if Cell(arm, rate) in run.metrics]
    reached = [
        max(map(last_epoch, going))
        for cell in cells
        if (going := [epochs for epochs in run.metrics[cell].values() if not is_lost(epochs)])
    ]
    return run.design.epochs if not reached or run.design.epochs in reached else min(reached)


def best_rate(run: Measurements, arm: str) -> float | None:
    """The learning rate of the highest mean test accuracy at the end; for text, lowest loss."""
    metric, sign = ("test_loss", -1) if run.design.is_text else ("test_accuracy", 1)
    cells = [Cell(arm, rate) for rate in run.rates]
    # Of some seeds only, a mean is not to be compared with one of all.
    means = {
        cell.learning_rate: sign * found.mean
        for cell in cells
        if is_finished(run, cell)
        and (found := mean(run, cell, metric, run.design.epochs))
        and math.isfinite(found.mean)
    }
    return max(means, key=lambda rate: means[rate], default=None)


def common_accuracy(run: Measurements) -> float | None:
    """The accuracy that times are given to: one for all arms and learning rates, as a fraction.

    It is the highest that the mean of the baseline reaches after any epoch at any learning rate,
    rounded down to a whole percent, so that the one lucky epoch matters less. Without a baseline,
    the highest that every arm reaches. `None` below 1%.
    """
    arms = [BASELINE] if has_baseline(run) else run.arms
    best = min(max(_mean_accuracies(run, arm), default=0.0) for arm in arms)
    return math.floor((best + _ROUNDING) * 100) / 100 or None


def times_to(
    run: Measurements, cell: Cell, accuracy: float, typical: float | None = None
) -> list[Reached]:
    """When each seed first reaches a test accuracy, the fastest first.

    Infinite for a seed that does not; one that is not there yet, and may still, is left out.
    `typical` is the seconds of an epoch where none are measured.
    """
    done = values(run, cell, "test_accuracy", run.design.epochs)
    found = []
    for seed, epochs in run.metrics.get(cell, {}).items():
        there = [e for e, m in epochs.items() if m.test_accuracy >= accuracy - _ROUNDING]
        if there:
            found.append(Reached(there[0], _seconds(run, cell, seed, there[0], typical)))
        elif seed in done:
            found.append(_NEVER)
    return sorted(found)


def reached(times: list[Reached]) -> list[Reached]:
    """Those that are not infinite."""
    return [time for time in times if time != _NEVER]


def medians(times: list[Reached]) -> Reached | None:
    """The median of the epochs, which may be a half, and that of the seconds."""
    return Reached(*(float(np.median(of)) for of in zip(*times, strict=True))) if times else None


def epoch_seconds(run: Measurements, arm: str) -> EpochSeconds | None:
    """The wall time of an epoch of `arm`, of all its groups; `None` where none is measured."""
    taken = [
        seconds.epoch
        for group, epochs in run.seconds.items()
        if group.cell.arm == arm
        for seconds in epochs.values()
    ]
    return EpochSeconds(*map(float, np.percentile(taken, (25, 50, 75)))) if taken else None


def takes_turns(run: Measurements) -> bool:
    """Whether the arms were trained in turns, several groups of seeds each.

    Otherwise one ran after the other, and how their times compare is as much the machine's doing.
    """
    groups = Counter(group.cell for group in run.seconds)
    return bool(groups) and min(groups.values()) > 1


def _seconds(run: Measurements, cell: Cell, seed: int, epoch: int, typical: float | None) -> float:
    """The wall time of the first `epoch` epochs of the seeds trained side by side with `seed`."""
    for group, seconds in run.seconds.items():
        if group.cell == cell and seed in group.seeds:
            return sum(seconds[e].epoch if e in seconds else math.nan for e in range(1, epoch + 1))
    return math.nan if typical is None else epoch * typical


def _mean_accuracies(run: Measurements, arm: str) -> list[float]:
    means = [
        mean(run, cell, "test_accuracy", epoch)
        for cell, seeds in run.metrics.items()
        if cell.arm == arm
        for epoch in range(1, max(map(last_epoch, seeds.values())) + 1)
    ]
    return [m.mean for m in means if m and math.isfinite(m.mean)]
