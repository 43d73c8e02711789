"""The plots of a report, made to be read at the width of a README."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from gc_optax.experiments.runs import analysis, statistics
from gc_optax.experiments.runs.measurements import Cell, Measurements
from gc_optax.experiments.training.optimizers import BASELINE, MATRICES

WIDTH = 9.2  # inches
RESOLUTION = 150  # dots per inch

PANELS = (("test_accuracy", 100.0), ("test_loss", 1.0))

# The colors are Okabe and Ito's, told apart by the color-blind; lines and marks differ too.
STYLES: dict[str, dict[str, Any]] = {
    BASELINE: {"color": "#555555", "linestyle": "--", "marker": "s"},
    "gc": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "traced": {"color": "#CC79A7", "linestyle": "-", "marker": "v"},
    "gcc": {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    "optax": {"color": "#D55E00", "linestyle": ":", "marker": "D"},
    MATRICES: {"color": "#E69F00", "linestyle": "-.", "marker": "P"},
}

_OPEN = {"markersize": 10, "markerfacecolor": "none", "markeredgewidth": 1.6}

# What Okabe and Ito's palette has left for arms that have no style of their own.
_FURTHER = [
    {"color": color, "linestyle": (0, (4, 1, 1, 1, 1, 1)), "marker": marker}
    for color, marker in (("#E69F00", "P"), ("#56B4E9", "X"), ("#000000", "*"))
]


def curves(run: Measurements, title: str, path: Path):
    """Test accuracy and loss over the epochs; a row for each learning rate."""
    rates = run.rates
    figure = new_figure(title, 2.7 * len(rates) + 0.9)
    grid = figure.subplots(len(rates), 2, squeeze=False, sharex=True, sharey="col")
    for rate, row in zip(rates, grid, strict=True):
        for axes, (metric, scale) in zip(row, PANELS, strict=True):
            for arm in run.arms:
                curve(axes, run, Cell(arm, rate), metric, scale)
            axes.set_ylabel(_label(run, metric))
            if len(rates) > 1:
                axes.set_title(f"learning rate {rate:g}", fontsize="medium")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    for axes in grid[:, 1]:
        _logarithmic(axes)
    finish(figure, grid, path)


def learning_rates(run: Measurements, title: str, path: Path):
    """Test accuracy and loss at the end against the learning rate; dots are seeds.

    Where seeds diverged, the accuracies of the other cells settle what is shown.
    """
    any_diverged = any(analysis.diverged(run, cell) for cell in run.metrics)
    below = "\nlines that leave the plot: to rates with diverged seeds" if any_diverged else ""
    figure = new_figure(f"{title}; dots: seeds{below}", 4.1 if any_diverged else 3.9)
    grid = figure.subplots(1, 2, squeeze=False)
    for axes, (metric, scale) in zip(grid[0], PANELS, strict=True):
        for arm in run.arms:
            _over_rates(axes, run, arm, metric, scale)
        axes.set_xscale("log")
        # The rates that were run, not the powers of ten.
        axes.set_xticks(run.rates, [f"{rate:g}" for rate in run.rates])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("learning rate")
        axes.set_ylabel(f"{_label(run, metric)}, epoch {run.design.epochs}")
    inside = [
        100 * accuracy
        for cell in run.metrics
        if not analysis.diverged(run, cell)
        for accuracy in analysis.values(run, cell, "test_accuracy", run.design.epochs).values()
    ]
    if any_diverged and inside:
        margin = 0.05 * (max(inside) - min(inside)) or 1.0
        grid[0, 0].set_ylim(min(inside) - margin, max(inside) + margin)
    _logarithmic(grid[0, 1])
    finish(figure, grid, path)


def _over_rates(axes: Axes, run: Measurements, arm: str, metric: str, scale: float):
    by_rate = {
        rate: analysis.values(run, Cell(arm, rate), metric, run.design.epochs) for rate in run.rates
    }
    points = {rate: scale * np.array(list(of.values())) for rate, of in by_rate.items() if of}
    # The arms beside each other, within the middle fifth of the gap between two rates.
    closest = min(4.0, *(b / a for a, b in itertools.pairwise(run.rates)))
    beside = closest ** (0.2 * (run.arms.index(arm) / max(1, len(run.arms) - 1) - 0.5))
    for rate, seeds in points.items():
        x, color = np.full(len(seeds), rate * beside), style(run, arm)["color"]
        axes.plot(x, _without_infinities(seeds), ".", color=color, alpha=0.45, markersize=4)
    _band(axes, run, arm, np.array(list(points)), list(points.values()))


def times(
    run: Measurements, accuracy: float, typical: Mapping[str, float | None], title: str, path: Path
):
    """Epochs and seconds to an accuracy; dots are seeds, the open mark is their median.

    `typical` is the seconds of an epoch of each arm, where they are not measured one by one.
    """
    cells = [Cell(arm, rate) for rate in run.rates for arm in run.arms]
    cells = [cell for cell in cells if cell in run.metrics]
    # A gap between one learning rate and the next.
    heights = [i + 0.4 * run.rates.index(cell.learning_rate) for i, cell in enumerate(cells)]
    figure = new_figure(title, 0.27 * heights[-1] + 1.7)
    grid = figure.subplots(1, 2, squeeze=False, sharey=True)
    for y, cell in zip(heights, cells, strict=True):
        all_seeds = analysis.times_to(run, cell, accuracy, typical.get(cell.arm))
        reached = analysis.reached(all_seeds)
        middle = analysis.medians(reached)
        look = style(run, cell.arm) | {"linestyle": "none"}
        for axes, field in zip(grid[0], analysis.Reached._fields, strict=True):
            seeds = [getattr(time, field) for time in reached]
            axes.plot(seeds, y + _beside(seeds), ".", color=look["color"], alpha=0.6, markersize=5)
            if middle:
                axes.plot([getattr(middle, field)], [y], **look, **_OPEN)
        end = grid[0, 1].get_yaxis_transform()
        note = f" {len(reached)} of {len(all_seeds)}" if all_seeds else ""
        grid[0, 1].text(1.0, y, note, va="center", fontsize="small", transform=end)
    grid[0, 0].set_yticks(heights, [cell_name(run, cell) for cell in cells])
    grid[0, 0].set_ylim(heights[-1] + 0.6, -0.6)
    for axes, label in zip(grid[0], ("epochs", "seconds"), strict=True):
        furthest = max((max(line.get_xdata(), default=0.0) for line in axes.lines), default=0.0)
        # Room for the mark at the end.
        axes.set_xlim(0, 1.06 * furthest if furthest > 0 else 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=label == "epochs", min_n_ticks=1))
        axes.set_xlabel(f"{label} to {100 * accuracy:g}%")
    finish(figure, grid, path, legend=False)


def _beside(values: Sequence[float]) -> np.ndarray:
    """Heights that keep equal values apart, around 0."""
    found, step = np.zeros(len(values)), min(0.11, 0.7 / max(1, len(values)))
    for value in set(values):
        where = np.flatnonzero(np.array(values) == value)
        found[where] = step * (np.arange(len(where)) - (len(where) - 1) / 2)
    return found


def _label(run: Measurements, metric: str) -> str:
    if metric == "test_accuracy":
        return f"{run.design.judge} accuracy [%]"
    return (
        f"{run.design.judge} loss [nats/character]"
        if run.design.is_text
        else f"{run.design.judge} loss [nats]"
    )


def cell_name(run: Measurements, cell: Cell) -> str:
    return f"{cell.arm}, {cell.learning_rate:g}" if len(run.rates) > 1 else cell.arm


def style(run: Measurements, arm: str) -> dict[str, Any]:
    unknown = [name for name in run.arms if name not in STYLES]
    return STYLES[arm] if arm in STYLES else _FURTHER[unknown.index(arm) % len(_FURTHER)]


def curve(axes: Axes, run: Measurements, cell: Cell, metric: str, scale: float):
    epochs = sorted({epoch for of in run.metrics.get(cell, {}).values() for epoch in of})
    # Of the seeds that got the furthest only, so that no curve jumps where others stop.
    seeds = analysis.values(run, cell, metric, analysis.furthest(run, cell))
    by_epoch = [analysis.values(run, cell, metric, epoch) for epoch in epochs]
    arrays = [scale * np.array([of[s] for s in seeds if s in of]) for of in by_epoch]
    _band(axes, run, cell.arm, np.array(epochs), arrays)


def _band(axes: Axes, run: Measurements, arm: str, x: np.ndarray, values: list[np.ndarray]):
    """The mean of each array of `values`, and one standard error to each side."""
    means = [statistics.mean(_without_infinities(seeds)) for seeds in values]
    center = np.array([mean.mean for mean in means])
    error = np.array([mean.standard_error for mean in means])
    look = style(run, arm)
    marks = {"markersize": 4 if len(x) < 20 else 3, "markevery": max(1, len(x) // 15)}
    axes.plot(x, center, label=arm, linewidth=1.6, **marks, **look)
    axes.fill_between(x, center - error, center + error, color=look["color"], alpha=0.2, lw=0)


def _without_infinities(values: np.ndarray) -> np.ndarray:
    """The loss of a diverged seed leaves a gap, whichever way it is not finite."""
    return np.where(np.isfinite(values), values, np.nan)


def new_figure(title: str, height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    lines = [textwrap.fill(line, 105) for line in title.splitlines()]
    figure.suptitle("\n".join(lines), fontsize="medium")
    return figure


def finish(figure: Figure, grid: np.ndarray, path: Path, *, legend: bool = True):
    for axes in grid.flat:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    if legend:
        handles, arms = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, arms, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, dpi=RESOLUTION, format="png")


def _logarithmic(axes: Axes):
    values = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axes.lines])
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size == 0:
        return
    axes.set_yscale("log", nonpositive="clip")
    ratio = positive.max() / positive.min()
    if ratio < 1000:  # powers of ten would leave hardly a number
        few = LogLocator(subs=(1, 2, 5) if ratio > 30 else (1, 1.5, 2, 3, 5, 7))
        axes.yaxis.set_major_locator(few if ratio > 3 else MaxNLocator(6))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
