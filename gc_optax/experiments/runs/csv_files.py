"""The tables of a run folder, `metrics.csv` and `times.csv`, row by row."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gc_optax.experiments.errors import CannotReadError
from gc_optax.experiments.runs.measurements import (
    Metrics,
)


def read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CannotReadError(f"{file.parent} is not a run folder: no {file.name}.") from None
    except UnicodeDecodeError:
        raise CannotReadError(f"{file} is not text in UTF-8.") from None
    except OSError as error:
        raise CannotReadError(f"{file} could not be read: {error.strerror}.") from None


def read_rows(file: Path, readers: Mapping[str, Callable[[str], Any]]) -> Iterator[dict[str, Any]]:
    """The rows of a CSV file, each field read, with its `line`; other columns are left out."""
    text = read_text(file)
    if text and not text.endswith("\n"):
        raise CannotReadError(f"{file} was cut off: its last line has no end.")
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines, [])
        lacks = [name for name in readers if name not in header]
        if lacks:
            raise CannotReadError(f"{file} lacks the columns {', '.join(lacks)}.")
        for row in lines:
            if len(row) != len(header):
                raise ValueError(f"{len(row)} fields, not {len(header)}")
            fields = dict(zip(header, row, strict=True))
            yield {name: read(fields[name]) for name, read in readers.items()} | {
                "line": lines.line_num
            }
    except (ValueError, csv.Error) as error:
        raise CannotReadError(f"{file}, line {lines.line_num}: {error}.") from None


def _name(text: str) -> str:
    if not text.isprintable() or not text:
        raise ValueError(f"{text!r} is not an arm")
    return text


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _counting(text: str) -> int:
    number = _whole(text)
    if number < 1:
        raise ValueError(f"{number} is less than 1")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _rate(text: str) -> float:
    number = _number(text)
    if not 0 < number < math.inf:
        raise ValueError(f"{text!r} is not a learning rate")
    return number


_KEYS = {"arm": _name, "learning_rate": _rate, "seed": _whole, "epoch": _counting}
METRICS_READERS = _KEYS | dict.fromkeys(Metrics._fields, _number)
TIMES_READERS = (
    _KEYS | dict.fromkeys(("seconds", "training_seconds"), _number) | {"seeds": _counting}
)
