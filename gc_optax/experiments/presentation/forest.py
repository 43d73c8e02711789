"""The plot of the differences from the baseline, of all runs of a report."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gc_optax.experiments.presentation.plots import PANELS, cell_name, finish, new_figure, style
from gc_optax.experiments.runs import analysis, statistics
from gc_optax.experiments.runs.measurements import Cell
from gc_optax.experiments.runs.reader import Run
from gc_optax.experiments.training.optimizers import BASELINE


def forest(runs: Sequence[tuple[str, Run]], path: Path, *, headline: bool = False):
    """The difference of each arm from the baseline at the end, with its interval.

    The headline has one learning rate of each run, at which the baseline does best.
    """
    rows: list[tuple[Run, Cell]] = []
    heights: list[float] = []
    names: list[tuple[float, str]] = []
    y = 0.0
    for name, run in runs:
        rates = (
            [analysis.best_rate(run.measurements, BASELINE)] if headline else run.measurements.rates
        )
        cells = [
            Cell(arm, rate) for rate in rates if rate is not None for arm in run.measurements.arms
        ]
        there = [cell for cell in cells if _difference(run, cell, "test_loss")]
        if there:
            names.append((y, name if run.complete else f"{name} (incomplete)"))
            rows += [(run, cell) for cell in there]
            heights += [y + 0.9 + position for position in range(len(there))]
            y = heights[-1] + 1.1
    percent = f"{100 * statistics.CONFIDENCE:g}%"
    where = f", at the learning rate at which {BASELINE} does best" if headline else ""
    figure = new_figure(
        f"difference from {BASELINE}{where}, paired by seed, with {percent} interval",
        0.27 * y + 1.3,
    )
    grid = figure.subplots(1, 2, squeeze=False, sharey=True)
    for axes, (metric, scale) in zip(grid[0], PANELS, strict=True):
        _differences(axes, rows, heights, metric, scale)
    for height, name in names:
        # Over both panels, so the second must not cover it.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        edge = grid[0, 0].get_yaxis_transform()
        grid[0, 0].text(0.01, height, name, va="center", fontsize="small", weight="bold",
                        transform=edge, bbox=box)  # fmt: skip
    grid[0, 0].set_zorder(1)
    grid[0, 0].patch.set_visible(False)
    grid[0, 0].set_yticks(heights, [cell_name(run.measurements, cell) for run, cell in rows])
    grid[0, 0].set_ylim(y - 0.4, -0.6)
    grid[0, 0].set_xlabel("test accuracy [percentage points]")
    grid[0, 1].set_xlabel("test loss [nats]")
    finish(figure, grid, path, legend=False)


def _difference(run: Run, cell: Cell, metric: str) -> statistics.Interval | None:
    epoch = analysis.compared_epoch(run.measurements, cell.learning_rate)
    found = analysis.difference(run.measurements, cell, metric, epoch)
    return found.interval if found else None


def _differences(
    axes: Axes,
    rows: Sequence[tuple[Run, Cell]],
    heights: Sequence[float],
    metric: str,
    scale: float,
):
    axes.axvline(0, color="#555555", linewidth=1, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    intervals = [
        tuple(scale * value for value in _difference(run, cell, metric) or ()) for run, cell in rows
    ]
    limit = _limit(rows, intervals)
    for y, (run, cell), (center, low, high) in zip(heights, rows, intervals, strict=True):
        look = style(run.measurements, cell.arm) | {"linestyle": "none", "markersize": 5}
        if not math.isfinite(center):
            axes.text(limit, y, "not finite", va="center", ha="right", fontsize="small")
        elif abs(center) > limit:
            right = center > 0
            text = f"{center:+.3g} →" if right else f"← {center:+.3g}"
            axes.text(math.copysign(limit, center), y, text, va="center",
                      ha="right" if right else "left", color=look["color"])  # fmt: skip
        else:
            axes.plot([low, high], [y, y], color=look["color"], linewidth=1.8)
            axes.plot([center], [y], **look)
    axes.set_xlim(-limit * 1.05, limit * 1.05)


def _limit(rows: Sequence[tuple[Run, Cell]], intervals: Sequence[Sequence[float]]) -> float:
    """Half the width: that of all intervals, but for those that diverged seeds make huge."""
    widths = [
        max(abs(value) for value in interval if math.isfinite(value))
        for (run, cell), interval in zip(rows, intervals, strict=True)
        if math.isfinite(interval[0])
        and not analysis.diverged(run.measurements, cell)
        and not analysis.diverged(run.measurements, Cell(BASELINE, cell.learning_rate))
    ]
    return max(widths, default=0.0) or 1.0
