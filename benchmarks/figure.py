"""The figure of the README: a run where GC helps, one where it does nothing, one where it hurts.

    python benchmarks/figure.py

draws `benchmarks/results/figure.png` from the committed runs: test accuracy after each epoch, the
mean over seeds and one standard error to each side.
"""

from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gc_optax.experiments.presentation.plots import curve
from gc_optax.experiments.runs.measurements import Cell
from gc_optax.experiments.runs.reader import read_run

RESULTS = Path(__file__).parent / "results"
FIGURE = RESULTS / "figure.png"
LABELS = {
    "none": "without GC",
    "gc": "gc_optax.centralize()",
    "optax": "optax.centralize(), other axes",
}


class Panel(NamedTuple):
    """A run at one learning rate."""

    verdict: str
    title: str
    run: str
    learning_rate: float
    lowest: float  # accuracy that is shown, in percent


PANELS = (
    Panel("it helps", "CNN, CIFAR-100, SGD", "cifar100-cnn", 0.1, 0),
    Panel("it does nothing", "CNN, Fashion-MNIST, SGD", "fashion-cnn", 0.05, 80),
    Panel(
        "it hurts",
        "CNN, digits, Adam at 0.0005,\nGC on the update",
        "digits-cnn-adam-update",
        0.0005,
        0,
    ),
)


def draw() -> Figure:
    """The three panels side by side, readable at 700 pixels."""
    figure = Figure(figsize=(7.0, 2.9), layout="constrained")
    grid = figure.subplots(1, len(PANELS))
    for axes, panel in zip(grid, PANELS, strict=True):
        run = read_run(RESULTS / panel.run).measurements
        for arm in LABELS:
            curve(axes, run, Cell(arm, panel.learning_rate), "test_accuracy", 100.0)
        axes.set_title(panel.verdict, fontweight="bold", fontsize=10)
        axes.set_xlabel(f"epoch\n{panel.title}", fontsize=9)
        axes.set_ylim(bottom=panel.lowest)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.tick_params(labelsize=9)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel("test accuracy [%]", fontsize=9)
    handles, arms = grid[0].get_legend_handles_labels()
    figure.legend(
        handles,
        [LABELS[arm] for arm in arms],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    return figure


if __name__ == "__main__":
    draw().savefig(FIGURE, dpi=200, format="png")
    print(FIGURE)
