"""The command line: arguments to settings, and errors to one line and an exit code."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import fields

import jax
from rich.console import Console

from gc_optax.experiments.commands.arguments import parser
from gc_optax.experiments.commands.compare import compare, resume
from gc_optax.experiments.commands.inspect import inspect
from gc_optax.experiments.commands.report import report
from gc_optax.experiments.errors import (
    CannotReadError,
    CannotWriteError,
    DataError,
    InvalidSettingError,
)
from gc_optax.experiments.execution import distributed
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.settings.presets import PROTOCOLS, settings
from gc_optax.models import MODELS

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
NARROWEST = 80  # columns, in which the tables have room


def run(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    try:
        code = _run(arguments)
    except Exception:
        if not distributed.is_distributed():
            raise
        traceback.print_exc()
        code = 1
    return distributed.shutdown(code)


def _run(arguments: Sequence[str]) -> int:
    try:
        main = parser()
        options, unknown = main.parse_known_args(arguments)
        if unknown:
            see = f"{main.prog} {options.command}" if options.command else main.prog
            print(
                f"{see}: unrecognized arguments: {' '.join(unknown)}; see {see} --help",
                file=sys.stderr,
            )
            return 2
        if options.command is None:
            main.print_help()
            return 0
        if options.command == "inspect":
            return _inspect(options)
        if options.command == "report":
            return _report(options)
        return _compare(options, arguments)
    except SystemExit as exit:  # argparse's way to end, after --help or an error
        return exit.code if isinstance(exit.code, int) else 1
    except InvalidSettingError as error:
        option = "--" + error.setting.replace("_", "-")
        print(f"gc-optax: {option} {error.problem}", file=sys.stderr)
        return 2
    except (DataError, CannotReadError) as error:
        print(f"gc-optax: {error}", file=sys.stderr)
        return 2
    except CannotWriteError as error:
        print(f"gc-optax: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has enough of it. Python would complain again when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(
            "gc-optax: stopped, since what reads its output was closed; an unfinished run goes on "
            "with gc-optax compare --resume FOLDER",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        print(f"gc-optax: {error}", file=sys.stderr)
        return 1
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and OUT_OF_MEMORY not in str(error):
            if not distributed.is_distributed():
                raise
            print(
                "gc-optax: the processes of this run cannot reach each other any more, perhaps "
                f"since one has ended: {str(error).splitlines()[0][:200]}",
                file=sys.stderr,
            )
            return 1
        print(
            "gc-optax: there is not enough memory for so many seeds side by side: give a smaller "
            "--seeds-at-once, or a smaller --batch-size",
            file=sys.stderr,
        )
        return 1

    except RuntimeError as error:
        if "nitialize backend" not in str(error):
            raise
        line = str(error).partition(" (set")[0].splitlines()[0][:200]
        print(f"gc-optax: JAX has no device to train on: {line}", file=sys.stderr)
        return 1


def _compare(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    given = {
        field.name: getattr(options, field.name)
        for field in fields(Config)
        if hasattr(options, field.name)
    }
    for name, value in given.items():
        if isinstance(value, list):
            given[name] = tuple(value)
    _join(options)
    out, err = _console(), _console(stderr=True)
    if options.resume is not None:
        also = [*given, *(["output"] if options.output is not None else [])]
        if also:
            raise InvalidSettingError(
                also[0], "cannot be given with --resume, which takes the settings of the run."
            )
        return resume(options.resume, out, err, data_dir=options.data_dir)
    protocol = given.get("protocol")
    # An unknown one is an error of the settings.
    config = Config(**(settings(protocol, given) if protocol in PROTOCOLS else given))
    return compare(config, options.output, out, err, data_dir=options.data_dir, command=arguments)


def _join(options: argparse.Namespace):
    """Meets the other processes, where there are some."""
    address = ("coordinator", "process_count", "process_index")
    given = [getattr(options, name) for name in address]
    missing = [name for name, value in zip(address, given, strict=True) if value is None]
    if missing and len(missing) < len(address):
        raise InvalidSettingError(missing[0], "must be given with the others of its group.")
    if not options.distributed and missing:
        return
    if options.output is None and options.resume is None:
        raise InvalidSettingError(
            "output", "must be given on several hosts: a folder that all of them see."
        )
    distributed.join(*given)


def _inspect(options: argparse.Namespace) -> int:
    if options.model not in MODELS:
        print(
            f"gc-optax: MODEL must be one of {', '.join(MODELS)}; got {options.model}.",
            file=sys.stderr,
        )
        return 2
    print(inspect(options.model))
    return 0


def _report(options: argparse.Namespace) -> int:
    return report(options.runs, options.output, _console(), options.accuracy)


class _Console(Console):
    """Says what ends a command whose output is not read any more, which rich does not."""

    def on_broken_pipe(self):
        raise  # rich calls it where it has caught the error


def _console(*, stderr: bool = False) -> _Console:
    quiet = not distributed.is_primary()
    console = _Console(stderr=stderr, quiet=quiet)
    # A pipe has no width of its own; rich would take 80 columns and break the rows. A terminal that
    # is narrower than the tables breaks their lines itself, and not the words of their headers.
    if not console.is_terminal:
        return _Console(stderr=stderr, quiet=quiet, width=100)
    if console.width < NARROWEST and not stderr:
        return _Console(stderr=stderr, quiet=quiet, width=NARROWEST)
    return console
