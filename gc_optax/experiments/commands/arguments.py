"""The arguments of the command: every option, what it means, and its default."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import gc_optax
from gc_optax.experiments.data import SOURCES
from gc_optax.experiments.settings.config import (
    DEFAULT_MODELS,
    LEARNING_RATES,
    MOMENTUM,
    WEIGHT_DECAYS,
    Config,
)
from gc_optax.experiments.settings.presets import PROTOCOLS
from gc_optax.experiments.training.epoch import AUGMENTATIONS
from gc_optax.experiments.training.network import DTYPES
from gc_optax.experiments.training.optimizers import ARMS, OPTIMIZERS, PLACEMENTS, SCHEDULES
from gc_optax.models import MODELS


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    main = _Parser(
        prog="gc-optax", description="Experiments with Gradient Centralization.", allow_abbrev=False
    )
    main.add_argument("--version", action="version", version=f"gc-optax {gc_optax.__version__}")
    commands = main.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    _add_compare(commands)
    _add_report(commands)
    _add_inspect(commands)
    return main


def _add_compare(commands):
    default = Config()
    parser = commands.add_parser(
        "compare",
        help="train a network with and without Gradient Centralization, and show the difference",
        description="Trains a network in several arms that differ only in what they centralize: "
        "the arms of one seed start from the same weights and see the same batches. Prints tables "
        "and writes plots (PNG), all numbers (CSV) and the record of the run (JSON).",
        allow_abbrev=False,
        # What is not given is not there, so that a protocol can say it.
        argument_default=argparse.SUPPRESS,
    )
    what = parser.add_argument_group("what is trained")
    add = what.add_argument
    add(
        "--protocol",
        metavar="NAME",
        help=f"a set of settings, which the other options change: {_names(PROTOCOLS)} "
        "(default: none)",
    )
    add(
        "--dataset",
        metavar="NAME",
        help=f"{_names(SOURCES)} (default: {default.dataset})",
    )
    add(
        "--data-dir",
        metavar="PATH",
        type=Path,
        default=None,
        help="the folder of the data set's Parquet files, or of data sets by their names, or the "
        "text file of shakespeare (default: what GC_OPTAX_DATA_DIR says, else the Hugging Face "
        "hub)",
    )
    add(
        "--train-examples",
        metavar="N",
        type=_integer,
        help="train on the first N examples (default: all)",
    )
    add(
        "--validation-examples",
        metavar="N",
        type=_integer,
        help="hold N of the training examples out, the same for all seeds, and judge on them "
        "instead of the test set: to choose settings by (default: none, judge on the test set)",
    )
    add(
        "--augmentation",
        metavar="NAME",
        help=f"{_names(AUGMENTATIONS)}; crop-flip: crops of images padded by 4, half mirrored "
        f"(default: {default.augmentation})",
    )
    add(
        "--model",
        metavar="NAME",
        help=f"{_names(MODELS)} (default: {_by(DEFAULT_MODELS)})",
    )
    add(
        "--dtype",
        metavar="NAME",
        help=f"of the computation: {_names(DTYPES)}; parameters are float32 (default: "
        f"{default.dtype})",
    )
    add(
        "--arms",
        metavar="ARM",
        nargs="+",
        help="; ".join(f"{name}: {arm.meaning}" for name, arm in ARMS.items())
        + f" (default: {' '.join(default.arms)})",
    )
    add = parser.add_argument_group("how").add_argument
    add(
        "--optimizer",
        metavar="NAME",
        help=f"{_names(OPTIMIZERS)} (default: {default.optimizer})",
    )
    add(
        "--placement",
        metavar="PLACE",
        help="what is centralized: the gradient, before the optimizer, or its final update: "
        f"{_names(PLACEMENTS)} (default: {default.placement})",
    )
    add(
        "--learning-rate",
        metavar="RATE",
        nargs="+",
        type=_number,
        help=f"one or several to compare at (default: {_by(LEARNING_RATES)})",
    )
    add(
        "--schedule",
        metavar="NAME",
        help=f"of the learning rate: {_names(SCHEDULES)}; step: a tenth after every "
        "--decay-epochs; one-cycle: up and down along a cosine, to that rate at 30 %% of the steps "
        f"(default: {default.schedule})",
    )
    add("--decay-epochs", metavar="N", type=_integer, help="of the schedule step, which needs it")
    add("--momentum", metavar="M", type=_number, help=f"of sgd (default: {MOMENTUM})")
    add(
        "--weight-decay",
        metavar="W",
        type=_number,
        help="sgd and adam: an L2 penalty, added to the gradient before it is centralized; adamw: "
        f"decoupled (default: {_by(WEIGHT_DECAYS)})",
    )
    add(
        "--epochs",
        metavar="N",
        type=_integer,
        help=f"passes over the training examples (default: {default.epochs})",
    )
    add(
        "--batch-size",
        metavar="N",
        type=_integer,
        help="examples per step; what does not fill the last batch of an epoch is left out, "
        f"another part each time (default: {default.batch_size})",
    )
    add("--seeds", metavar="N", type=_integer, help=f"how many seeds (default: {default.seeds})")
    add(
        "--seed",
        metavar="N",
        type=_integer,
        help=f"the first seed; the others follow it (default: {default.seed})",
    )
    add = parser.add_argument_group("on this machine").add_argument
    add(
        "--seeds-at-once",
        metavar="N",
        type=_integer,
        help="how many seeds are trained side by side (default: as many as the accelerator's "
        "memory holds; on a CPU all or one, by the size of the network)",
    )
    add(
        "--devices",
        metavar="N",
        type=_integer,
        help="over how many local devices a batch is spread, with --distributed over how many in "
        "all (default: the largest number that divides it)",
    )
    add(
        "--checkpoint-every",
        metavar="N",
        type=_integer,
        help="epochs between two checkpoints, 0 for none (default: one about every minute)",
    )
    add(
        "--resume",
        metavar="FOLDER",
        type=Path,
        default=None,
        help="go on with the run in that folder, where it was interrupted or killed",
    )
    add(
        "--output",
        metavar="FOLDER",
        type=Path,
        default=None,
        help="where to write; must not hold a run (default: runs/ and the date, time and a short "
        "description)",
    )
    add = parser.add_argument_group("on several hosts").add_argument
    add(
        "--distributed",
        action="store_true",
        default=False,
        help="train on the devices of all processes that run this command, as a TPU pod, Slurm, "
        "Open MPI or (with jax[k8s]) Kubernetes has started them; --output or --resume must then "
        "be a folder that all of them see",
    )
    add(
        "--coordinator",
        metavar="HOST:PORT",
        default=None,
        help="the address of the first process, where no cluster says it; with the next two",
    )
    add("--process-count", metavar="N", type=_integer, default=None, help="how many there are")
    add("--process-index", metavar="I", type=_integer, default=None, help="which one this is: 0...")


def _add_report(commands):
    parser = commands.add_parser(
        "report",
        help="merge runs into one report with a table and plots",
        description="Merges the run folders of `gc-optax compare` into a report in Markdown, with "
        "plots.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run folder")
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        type=Path,
        default=Path("report"),
        help="where to write report.md and its plots (default: report/)",
    )
    parser.add_argument(
        "--accuracy",
        metavar="PERCENT",
        type=_number,
        default=None,
        help="the test accuracy to which the time is given (default: the highest that the mean "
        "without centralization reaches)",
    )


def _add_inspect(commands):
    parser = commands.add_parser(
        "inspect",
        help="show over which axes each parameter of an example network is centralized",
        description="Shows over which axes each parameter of an example network is centralized.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        default=DEFAULT_MODELS["images"],
        help=f"{_names(MODELS)} (default: %(default)s)",
    )


def _names(choices) -> str:
    return ", ".join(choices)


def _by(values: Mapping[str, float | str]) -> str:
    return ", ".join(
        f"{value if isinstance(value, str) else format(value, 'g')} for {name}"
        for name, value in values.items()
    )


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
