"""What the report says about a run, in numbers: means, differences, and times to an accuracy."""

import math
from typing import NamedTuple

import numpy as np

from gc_optax.experiments.runs import statistics as statistics
from gc_optax.experiments.runs.reader import Cell, Metrics, Run
from gc_optax.experiments.training.optimizers import BASELINE


class Reached(NamedTuple):
    """When an accuracy was reached: the epoch, and the seconds to its end (NaN: unknown)."""

    epoch: float
    seconds: float


# Accuracies were float32, in which 0.96 is a little less.
_ROUNDING = 1e-6

_NEVER = Reached(math.inf, math.inf)


def values(run: Run, cell: Cell, metric: str, epoch: int) -> dict[int, float]:
    """A metric after `epoch`, by seed, of the seeds that got there.

    A seed that ended before since its losses were no longer finite counts as if it had gone on:
    its loss is NaN, and it gets nothing right.
    """
    found = {}
    for seed, epochs in run.metrics.get(cell, {}).items():
        if epoch in epochs:
            found[seed] = getattr(epochs[epoch], metric)
        elif max(epochs) < epoch and _is_lost(epochs[max(epochs)]):
            found[seed] = 0.0 if metric.endswith("accuracy") else math.nan
    return found


def mean(run: Run, cell: Cell, metric: str, epoch: int) -> statistics.Mean | None:
    """The mean over those seeds and its standard error; `None` without seeds."""
    found = list(values(run, cell, metric, epoch).values())
    return statistics.mean(np.array(found)) if found else None


def difference(
    run: Run, cell: Cell, metric: str, epoch: int, baseline: Cell | None = None
) -> tuple[statistics.Interval, int] | None:
    """The paired difference from the baseline, and over how many seeds: those that both have.

    `None` without such seeds, and for the baseline itself. By default the baseline is the arm
    without centralization at the same learning rate.
    """
    baseline = baseline or Cell(BASELINE, cell.learning_rate)
    these, those = values(run, cell, metric, epoch), values(run, baseline, metric, epoch)
    both = sorted(these.keys() & those.keys())
    if cell.arm == baseline.arm or not both:
        return None
    pair = [np.array([of[seed] for seed in both]) for of in (these, those)]
    return statistics.paired_difference(pair[0], pair[1]), len(both)


def has_baseline(run: Run) -> bool:
    """Whether anything was trained without centralization."""
    return any(cell.arm == BASELINE for cell in run.metrics)


def has_differences(run: Run) -> bool:
    """Whether any arm has a difference from the baseline where the arms are compared."""
    return any(
        difference(run, cell, "test_loss", compared_epoch(run, cell.learning_rate))
        for cell in run.metrics
    )


def diverged(run: Run, cell: Cell) -> int:
    """How many seeds had a loss that is not finite."""
    return sum(
        not all(math.isfinite(m.train_loss) and math.isfinite(m.test_loss) for m in of.values())
        for of in run.metrics.get(cell, {}).values()
    )


def last_epoch(run: Run, cell: Cell) -> int:
    """How far the seed of `cell` got that got the furthest; 0 if it has not begun."""
    return max((max(epochs) for epochs in run.metrics.get(cell, {}).values()), default=0)


def compared_epoch(run: Run, rate: float) -> int:
    """After which epoch the arms are compared at a learning rate.

    The last one of the run; if no seed got there, the last one that all arms got to, not counting
    those that have not begun or whose losses are no longer finite.
    """
    cells = [Cell(arm, rate) for arm in run.arms if Cell(arm, rate) in run.metrics]
    reached = [
        max(max(epochs) for epochs in going)
        for cell in cells
        if (going := [e for e in run.metrics[cell].values() if not _is_lost(e[max(e)])])
    ]
    return run.epochs if not reached or run.epochs in reached else min(reached)


def best_rate(run: Run, arm: str) -> float | None:
    """The learning rate of the highest mean test accuracy at the end; for text, lowest loss."""
    metric, sign = ("test_loss", -1) if run.is_text else ("test_accuracy", 1)
    means = {rate: mean(run, Cell(arm, rate), metric, run.epochs) for rate in run.rates}
    finite = {
        r: sign * m.mean
        for r, m in means.items()
        # Of some seeds only, a mean is not to be compared with one of all.
        if m
        and math.isfinite(m.mean)
        and len(values(run, Cell(arm, r), metric, run.epochs)) == run.config["seeds"]
    }
    return max(finite, key=lambda rate: finite[rate], default=None)


def common_accuracy(run: Run) -> float | None:
    """The accuracy that times are given to: one for all arms and learning rates, as a fraction.

    It is the highest that the mean of the baseline reaches after any epoch at any learning rate,
    rounded down to a whole percent, so that the one lucky epoch matters less. Without a baseline,
    the highest that every arm reaches. `None` below 1 %.
    """
    arms = [BASELINE] if has_baseline(run) else run.arms
    best = min(max(_mean_accuracies(run, arm), default=0.0) for arm in arms)
    return math.floor((best + _ROUNDING) * 100) / 100 or None


def times_to(run: Run, cell: Cell, accuracy: float) -> list[Reached]:
    """When each seed first reaches a test accuracy, the fastest first.

    Infinite for a seed that does not; one that is not there yet, and may still, is left out.
    """
    done = values(run, cell, "test_accuracy", run.epochs)
    found = []
    for seed, epochs in run.metrics.get(cell, {}).items():
        there = [e for e, m in epochs.items() if m.test_accuracy >= accuracy - _ROUNDING]
        if there:
            first = min(there)
            found.append(Reached(first, _seconds(run, cell, seed, first)))
        elif seed in done:
            found.append(_NEVER)
    return sorted(found)


def reached(times: list[Reached]) -> list[Reached]:
    """Those that are not infinite."""
    return [time for time in times if time != _NEVER]


def medians(times: list[Reached]) -> Reached | None:
    """The median of the epochs, which may be a half, and that of the seconds."""
    return Reached(*(float(np.median(of)) for of in zip(*times, strict=True))) if times else None


def _seconds(run: Run, cell: Cell, seed: int, epoch: int) -> float:
    """The wall time of the first `epoch` epochs of the seeds trained side by side with `seed`."""
    for group, seconds in run.seconds.get(cell, {}).items():
        if group.seed <= seed < group.seed + group.seeds:
            taken = [seconds.get(e, math.nan) for e in range(1, epoch + 1)]
            return sum(taken)
    # Format 1 has no more than the median epoch of each arm.
    typical = run.wall_times(cell.arm).get("epoch")
    return math.nan if typical is None else epoch * typical


def _mean_accuracies(run: Run, arm: str) -> list[float]:
    means = [
        mean(run, cell, "test_accuracy", epoch)
        for cell in run.metrics
        if cell.arm == arm
        for epoch in range(1, last_epoch(run, cell) + 1)
    ]
    return [m.mean for m in means if m and math.isfinite(m.mean)]


def _is_lost(metrics: Metrics) -> bool:
    return not (math.isfinite(metrics.train_loss) or math.isfinite(metrics.test_loss))
