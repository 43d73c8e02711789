"""The command line. Options that are settings of a run are made from the fields of `Config`."""

import argparse
import dataclasses
from pathlib import Path
from typing import NoReturn

import gc_optax
from gc_optax.experiments.settings.config import (
    DEFAULT_MODELS,
    Config,
)
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
    parser = commands.add_parser(
        "compare",
        help="train a network with and without Gradient Centralization, and show the difference",
        description="Trains a network in several arms that differ only in what they centralize "
        "(with muon: in its matrices). The arms of one seed start from the same weights and see "
        "the same batches. Prints tables and writes plots (PNG), all numbers (CSV) and the record "
        "of the run (JSON).",
        allow_abbrev=False,
        # What is not given is not there, so that a protocol can say it.
        argument_default=argparse.SUPPRESS,
    )
    groups = {}
    for field in dataclasses.fields(Config):
        about = field.metadata
        if about["group"] not in groups:
            groups[about["group"]] = parser.add_argument_group(about["group"])
        groups[about["group"]].add_argument(
            "--" + field.name.replace("_", "-"),
            metavar=about["metavar"],
            type=_PARSERS[about["parse"]],
            nargs="+" if field.name in ("arms", "learning_rate") else None,
            help=about["help"].replace("%", "%%"),
        )
    add = parser.add_argument_group("where").add_argument
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
        "--resume",
        metavar="FOLDER",
        type=Path,
        default=None,
        help="resume the run in that folder, where it was interrupted or killed",
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


_PARSERS = {str: str, int: _integer, float: _number}
