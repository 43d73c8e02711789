"""What the README takes from the code and the committed numbers.

    python -m tests.readme

prints it; `tests/test_readme.py` looks for it there.
"""

import pathlib
from typing import NamedTuple

from benchmarks.tables import cost_of_resnet50, reliability
from gc_optax.experiments.presentation import formatting
from gc_optax.experiments.presentation.formatting import ACCURACY
from gc_optax.experiments.presentation.report_tables import table
from gc_optax.experiments.runs.measurements import Cell
from gc_optax.experiments.runs.reader import read_run
from tests.docs_tables import chain_table
from tests.test_chains import OURS, THEIRS

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"


class Shown(NamedTuple):
    """A run at one learning rate, and what a reader is told of it."""

    what: str
    folder: str
    learning_rate: float


MEASURED = (
    Shown("CNN, CIFAR-100, SGD", "cifar100-cnn", 0.1),
    Shown("CNN, digits, Adam", "digits-cnn-adam", 0.005),
    Shown("CNN, digits, AdamW, GC on the update", "digits-cnn-adamw-update", 0.005),
    Shown("CNN, Fashion-MNIST, SGD", "fashion-cnn", 0.05),
    Shown("MLP, digits, SGD", "digits-mlp-sgd", 0.1),
    Shown("CNN, digits, Adam, GC on the update", "digits-cnn-adam-update", 0.0005),
)


def chains() -> str:
    """The chains that most people want."""
    return chain_table(
        "optimizer",
        {
            "SGD, the authors' SGD_GC": THEIRS["SGD_GC"],
            "Adam, first: Adam_GC": THEIRS["Adam_GC"],
            "Adam, last: Adam_GC2": THEIRS["Adam_GC2"],
            "AdamW, first": OURS["AdamW, first"],
            "AdamW, last": OURS["AdamW, last"],
        },
    )


def measured() -> str:
    """Six runs: where it helps, where it does nothing, where it hurts."""
    rows = []
    for what, folder, rate in MEASURED:
        run = read_run(RESULTS / folder).measurements
        epochs = run.design.epochs
        cells = []
        for arm in ("gc", "optax"):
            text, _, clear = formatting.difference(run, Cell(arm, rate), ACCURACY, epochs)
            cells.append(f"**{text}**" if clear else text)
        none = formatting.mean(run, Cell("none", rate), ACCURACY, epochs)
        rows.append([what, f"{rate:g}", f"{epochs}, {len(run.design.seeds)}", none, *cells])
    header = ["network, data, optimizer", "rate", "epochs, seeds", "without GC, %"]
    return table([*header, "`gc_optax`", "`optax.centralize()`"], rows, "lrrrrr") + "\n"


PARTS = (reliability, chains, measured, cost_of_resnet50)


if __name__ == "__main__":
    print("\n".join(make() for make in PARTS))
