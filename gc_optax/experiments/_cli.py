"""The command line: arguments to settings, and errors to one line and an exit code."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from rich.console import Console

import gc_optax
from gc_optax.experiments._compare import compare
from gc_optax.experiments._config import (
    LEARNING_RATES,
    MOMENTUM,
    WEIGHT_DECAYS,
    Config,
    InvalidSettingError,
)
from gc_optax.experiments._data import SOURCES
from gc_optax.experiments._inspect import inspect
from gc_optax.experiments._optimizers import ARMS, OPTIMIZERS, PLACEMENTS
from gc_optax.experiments._run_folder import CannotWriteError
from gc_optax.models import MODELS


def run(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    try:
        parser = _parser()
        options = parser.parse_args(arguments)
        if options.command is None:
            parser.print_help()
            return 0
        return _inspect(options) if options.command == "inspect" else _compare(options, arguments)
    except SystemExit as exit:  # argparse's way to end, after --help or an error
        return exit.code if isinstance(exit.code, int) else 1
    except InvalidSettingError as error:
        option = "--" + error.setting.replace("_", "-")
        print(f"gc-optax: {option} {error.problem}", file=sys.stderr)
        return 2
    except CannotWriteError as error:
        print(f"gc-optax: {error}", file=sys.stderr)
        return 1


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _compare(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    settings = {field.name: getattr(options, field.name) for field in fields(Config)}
    for name, value in settings.items():
        if isinstance(value, list):
            settings[name] = tuple(value)
    config = Config(**settings)
    return compare(config, options.output, _console(), _console(stderr=True), arguments)


def _inspect(options: argparse.Namespace) -> int:
    if options.model not in MODELS:
        print(
            f"gc-optax: MODEL must be one of {', '.join(MODELS)}; got {options.model}.",
            file=sys.stderr,
        )
        return 2
    print(inspect(options.model, options.dataset))
    return 0


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr)
    # A pipe has no width of its own; rich would take 80 columns and break the rows.
    return console if console.is_terminal else Console(stderr=stderr, width=100)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gc-optax", description="Experiments with Gradient Centralization.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"gc-optax {gc_optax.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    _add_compare(commands)
    _add_inspect(commands)
    return parser


def _add_compare(commands):
    default = Config()
    parser = commands.add_parser(
        "compare",
        help="train a network with and without Gradient Centralization, and show the difference",
        description="Trains a network in several arms that differ only in what they centralize: "
        "the arms of one seed start from the same weights and see the same batches. Prints tables "
        "and writes plots (PNG), all numbers (CSV) and the record of the run (JSON).",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--dataset",
        metavar="NAME",
        default=default.dataset,
        help=f"{_names(SOURCES)} (default: %(default)s)",
    )
    add(
        "--model",
        metavar="NAME",
        default=default.model,
        help=f"{_names(MODELS)} (default: %(default)s)",
    )
    add(
        "--optimizer",
        metavar="NAME",
        default=default.optimizer,
        help=f"{_names(OPTIMIZERS)} (default: %(default)s)",
    )
    add(
        "--placement",
        metavar="PLACE",
        default=default.placement,
        help="what is centralized: the gradient, before the optimizer, or its final update: "
        f"{_names(PLACEMENTS)} (default: %(default)s)",
    )
    add(
        "--arms",
        metavar="ARM",
        nargs="+",
        default=default.arms,
        help="; ".join(f"{name}: {arm.meaning}" for name, arm in ARMS.items())
        + f" (default: {' '.join(default.arms)})",
    )
    add(
        "--seeds",
        metavar="N",
        type=_integer,
        default=default.seeds,
        help="how many seeds, trained side by side (default: %(default)s)",
    )
    add(
        "--seed",
        metavar="N",
        type=_integer,
        default=default.seed,
        help="the first seed; the others follow it (default: %(default)s)",
    )
    add(
        "--epochs",
        metavar="N",
        type=_integer,
        default=default.epochs,
        help="passes over the training images (default: %(default)s)",
    )
    add(
        "--batch-size",
        metavar="N",
        type=_integer,
        default=default.batch_size,
        help="images per step; what does not fill the last batch of an epoch is left out, another "
        "part each time (default: %(default)s)",
    )
    add(
        "--learning-rate",
        metavar="RATE",
        nargs="+",
        type=_number,
        help=f"one or several to compare at (default: {_by_optimizer(LEARNING_RATES)})",
    )
    add(
        "--momentum",
        metavar="M",
        type=_number,
        help=f"of sgd (default: {MOMENTUM})",
    )
    add(
        "--weight-decay",
        metavar="W",
        type=_number,
        help="sgd and adam: an L2 penalty, added to the gradient before it is centralized; adamw: "
        f"decoupled (default: {_by_optimizer(WEIGHT_DECAYS)})",
    )
    add(
        "--output",
        metavar="FOLDER",
        type=Path,
        help="where to write; must not hold a run (default: runs/ and the date, time and a short "
        "description)",
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
        default=Config.model,
        help=f"{_names(MODELS)} (default: %(default)s)",
    )
    parser.set_defaults(dataset=Config.dataset)


def _names(choices) -> str:
    return ", ".join(choices)


def _by_optimizer(values: dict[str, float]) -> str:
    return ", ".join(f"{value:g} for {name}" for name, value in values.items())


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
