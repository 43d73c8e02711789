"""The numbers of a run as text: the same on the console and in a report."""

import math
from typing import NamedTuple

from gc_optax.experiments.runs import analysis
from gc_optax.experiments.runs.measurements import Cell, Measurements


class Shown(NamedTuple):
    """A metric, what it is multiplied by, and the digits after the point."""

    metric: str
    scale: float
    digits: int


ACCURACY = Shown("test_accuracy", 100, 2)
LOSS = Shown("test_loss", 1, 3)
TRAINING_LOSS = Shown("train_loss", 1, 3)


def number(value: float, digits: int, *, sign: bool = False) -> str:
    """A number as the tables write it."""
    if math.isnan(value):
        return "nan"
    # The loss of a network that diverges can be as large as a float gets.
    kind = f".{digits}f" if abs(value) < 100.5 else ".3g"
    return format(value, f"{'+' if sign else ''}z{kind}")


def mean(run: Measurements, cell: Cell, shown: Shown, epoch: int) -> str:
    """A mean and its standard error, or how far the cell got."""
    metric, scale, digits = shown
    found = analysis.mean(run, cell, metric, epoch)
    if found is None:
        last = analysis.furthest(run, cell)
        return f"at epoch {last} of {run.design.epochs}" if last else "not run"
    center, error = (number(scale * value, digits) for value in found)
    return center if math.isnan(found.standard_error) else f"{center} ± {error}"


def difference(
    run: Measurements, cell: Cell, shown: Shown, epoch: int, baseline: Cell | None = None
) -> tuple[str, str, bool]:
    """A difference with its interval, the pairs where there are fewer, and whether it is clear.

    Clear is an interval that excludes 0.
    """
    metric, scale, digits = shown
    found = analysis.difference(run, cell, metric, epoch, baseline)
    if found is None:
        return "", "", False
    interval, pairs = found
    clear = interval.low > 0 or interval.high < 0
    while clear and number(scale * min(map(abs, interval)), digits) == number(0.0, digits):
        digits += 1  # so that the interval is seen to exclude 0
    center, low, high = (number(scale * value, digits, sign=True) for value in interval)
    text = center if math.isnan(interval.low) else f"{center} [{low}, {high}]"
    fewer = pairs < len(analysis.values(run, cell, metric, epoch))
    note = f" ({pairs} {'pair' if pairs == 1 else 'pairs'})" if fewer else ""
    return text, note, clear
