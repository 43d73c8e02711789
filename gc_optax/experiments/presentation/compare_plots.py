"""The plots of a run. Matplotlib's object interface is used, so no display is needed."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from gc_optax.experiments.data import SOURCES
from gc_optax.experiments.runs import statistics as statistics
from gc_optax.experiments.runs.measurements import Cell, Results
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.optimizers import ARMS, BASELINE

RESOLUTION = 150  # dots per inch


class Panel(NamedTuple):
    """What one axis shows."""

    metric: str
    label: str
    scale: float
    log: bool


PANELS = (
    Panel("test_accuracy", "test accuracy [%]", 100, False),
    Panel("test_loss", "test loss [nats]", 1, True),
)

# The colours are Okabe and Ito's, told apart by the colour-blind; lines and marks differ too.
STYLES: dict[str, dict[str, Any]] = {
    BASELINE: {"color": "#555555", "linestyle": "--", "marker": "s"},
    "gc": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "traced": {"color": "#CC79A7", "linestyle": "-", "marker": "v"},
    "gcc": {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    "optax": {"color": "#D55E00", "linestyle": ":", "marker": "D"},
}

LOG = "logarithmic"
SHORT = {BASELINE: "no centralization", "gcc": "convolutions only", "traced": "axes by trace"}


def curves(results: Results, path: Path):
    """Accuracy and loss over the epochs, two panels for each learning rate."""
    config = results.config
    rates = config.learning_rates
    if len(rates) == 1:
        figure, grid = _figure(results, f", learning rate {rates[0]:g}", 1, 2)
        panels = grid.T
    else:
        figure, panels = _figure(results, "", 2, len(rates), sharex=True, sharey="row")
        grid = panels
    for column, rate in enumerate(rates):
        for axes, panel in zip(panels[:, column], PANELS, strict=True):
            for arm in config.arms:
                cell = Cell(arm, rate)
                if results.epochs(cell):
                    epochs = np.arange(1, results.epochs(cell) + 1)
                    _band(axes, arm, epochs, panel.scale * results.values(cell, panel.metric))
            axes.set_gid(LOG if panel.log else None)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if column == 0:
                axes.set_ylabel(_label(panel, config))
        if len(rates) > 1:
            panels[0, column].set_title(f"learning rate {rate:g}", fontsize="medium")
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    _finish(figure, grid, path)


def learning_rates(results: Results, path: Path):
    """Accuracy and loss at the end against the learning rate; the dots are seeds."""
    config = results.config
    figure, grid = _figure(results, "; dots: seeds", 1, 2)
    rates = sorted(config.learning_rates)
    for axes, panel in zip(grid[0], PANELS, strict=True):
        for position, arm in enumerate(config.arms):
            there = [rate for rate in rates if results.is_finished(Cell(arm, rate))]
            if not there:
                continue
            values = [panel.scale * results.values(Cell(arm, r), panel.metric)[-1] for r in there]
            beside = 1.035 ** (position - (len(config.arms) - 1) / 2)
            _band(axes, arm, np.array(there), np.stack(values))
            axes.plot(
                np.array(there) * beside,
                _without_infinities(np.stack(values)),
                linestyle="none",
                marker=".",
                color=STYLES[arm]["color"],
                alpha=0.45,
                markersize=4,
            )
        axes.set_gid(LOG if panel.log else None)
        axes.set_xscale("log")
        # The rates that were run, not the powers of ten.
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("learning rate")
        axes.set_ylabel(f"{_label(panel, config)} after {config.epochs} epochs")
    _finish(figure, grid, path)


def _label(panel: Panel, config: Config) -> str:
    label = panel.label.replace("test", config.judge)
    text = SOURCES[config.dataset].kind == "text"
    return label.replace("nats", "nats per character") if text else label


def _band(axes: Axes, arm: str, x: np.ndarray, values: np.ndarray):
    """The mean over the last axis of `values`, and one standard error to each side."""
    means = [statistics.mean(row) for row in _without_infinities(values)]
    center = np.array([mean.mean for mean in means])
    error = np.array([mean.standard_error for mean in means])
    axes.plot(x, center, label=arm, markersize=4, linewidth=1.6, **STYLES[arm])
    axes.fill_between(
        x, center - error, center + error, color=STYLES[arm]["color"], alpha=0.2, linewidth=0
    )


def _without_infinities(values: np.ndarray) -> np.ndarray:
    """The loss of a diverged seed leaves a gap, whichever way it is not finite."""
    return np.where(np.isfinite(values), values, np.nan)


def _figure(
    results: Results, more: str, rows: int, columns: int, **sharing
) -> tuple[Figure, np.ndarray]:
    config = results.config
    width = 4.6 * columns if columns == 2 else 3.2 * columns
    figure = Figure(figsize=(width, 3.0 * rows + 0.8), layout="constrained")
    placed = "" if config.placement == "gradient" else " (GC on the update)"
    seeds = f"mean of {config.seeds} seeds ± standard error" if config.seeds > 1 else "one seed"
    if any(results.diverged(cell) for cell in results.cells):
        more += "\nno loss is drawn for an arm with diverged seeds"
    figure.suptitle(
        f"{config.model} on {config.dataset}, {config.optimizer}{placed}: {seeds}{more}",
        fontsize="medium",
    )
    return figure, figure.subplots(rows, columns, squeeze=False, **sharing)


def _finish(figure: Figure, grid: np.ndarray, path: Path):
    for axes in grid.flat:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat:
        if axes.get_gid() == LOG and _has_positive(axes):
            _logarithmic(axes)
    handles, arms = max(
        (axes.get_legend_handles_labels() for axes in grid.flat), key=lambda found: len(found[1])
    )
    if handles:
        labels = [f"{arm}: {SHORT.get(arm, ARMS[arm].code)}" for arm in arms]
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=RESOLUTION, format="png")


def _logarithmic(axes: Axes):
    axes.set_yscale("log", nonpositive="clip")
    low, high = axes.get_ylim()
    if high < 1000 * low:  # a few powers of ten would leave the axis with hardly a number
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())


def _has_positive(axes: Axes) -> bool:
    return any((np.asarray(line.get_ydata()) > 0).any() for line in axes.lines)
