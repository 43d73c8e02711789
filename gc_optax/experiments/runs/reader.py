"""A run folder that was written earlier, as numbers in memory."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gc_optax.experiments.errors import CannotReadError
from gc_optax.experiments.runs.folder import METRICS, RECORD, TIMES

NEWEST_FORMAT = 2


class Cell(NamedTuple):
    """One arm at one learning rate."""

    arm: str
    learning_rate: float


class Metrics(NamedTuple):
    """What is measured after an epoch."""

    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float


class Group(NamedTuple):
    """Seeds that were trained side by side: the first, and how many."""

    seed: int
    seeds: int


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes:
        path: The folder.
        record: `run.json`.
        metrics: By cell, seed and epoch; epochs count from 1.
        seconds: The wall time of each epoch by cell and group; empty in format 1.
    """

    path: Path
    record: Mapping[str, Any]
    metrics: Mapping[Cell, Mapping[int, Mapping[int, Metrics]]]
    seconds: Mapping[Cell, Mapping[Group, Mapping[int, float]]]

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings."""
        return self.record["config"]

    @property
    def complete(self) -> bool:
        """Whether the run came to its end, and all that it measured is there."""
        return self.record.get("complete") is True and all(
            self._is_whole(seeds.get(seed)) for seeds in self._cells for seed in self._seeds
        )

    @property
    def _seeds(self) -> range:
        first = self.config.get("seed", 0)
        return range(first, first + self.config["seeds"])

    @property
    def _cells(self) -> Iterator[Mapping[int, Mapping[int, Metrics]]]:
        for rate in self.config["learning_rate"]:
            for arm in self.config["arms"]:
                yield self.metrics.get(Cell(arm, float(rate)), {})

    def _is_whole(self, epochs: Mapping[int, Metrics] | None) -> bool:
        if not epochs:
            return False
        last = epochs[max(epochs)]
        ended = not (math.isfinite(last.train_loss) or math.isfinite(last.test_loss))
        return len(epochs) == max(epochs) and (max(epochs) == self.epochs or ended)

    @property
    def epochs(self) -> int:
        """How many epochs the run was to have."""
        return self.config["epochs"]

    @property
    def judge(self) -> str:
        """What its metrics of testing are of: the test set, or what was held out for validation."""
        return "validation" if self.config.get("validation_examples") else "test"

    @property
    def arms(self) -> list[str]:
        """The arms in the order of the settings."""
        return list(dict.fromkeys([*self.config["arms"], *(cell.arm for cell in self.metrics)]))

    @property
    def rates(self) -> list[float]:
        """The learning rates, rising."""
        given = map(float, self.config["learning_rate"])
        return sorted({*given, *(cell.learning_rate for cell in self.metrics)})

    def wall_times(self, arm: str) -> Mapping[str, float | None]:
        """What `run.json` says of the times of an arm."""
        return (self.record.get("wall_times") or {}).get(arm) or {}

    @property
    def is_text(self) -> bool:
        """Whether the run predicts characters, so that its losses are per character."""
        return self.config["dataset"] == "shakespeare" or self.config["model"] == "gpt"


def read_run(path: Path) -> Run:
    """Reads a run folder, finished or not.

    Raises:
        CannotReadError: The folder does not hold a run, or one that cannot be made sense of.
    """
    try:
        there = path.is_dir()
    except OSError as error:
        raise CannotReadError(f"{path} could not be read: {error.strerror}.") from None
    if not there:
        raise CannotReadError(f"{path} is not a folder.")
    record = _record(path)
    metrics: dict[Cell, dict[int, dict[int, Metrics]]] = {}
    for row in _rows(path / METRICS, _METRICS):
        seeds = metrics.setdefault(_cell(row), {})
        epochs = seeds.setdefault(row["seed"], {})
        if row["epoch"] in epochs:
            raise CannotReadError(f"{path / METRICS}, line {row['line']}: was there before.")
        epochs[row["epoch"]] = Metrics(*(row[name] for name in Metrics._fields))
    if not metrics:
        raise CannotReadError(f"{path / METRICS} has no rows: no epoch is finished.")
    seconds: dict[Cell, dict[Group, dict[int, float]]] = {}
    if (path / TIMES).exists():
        for row in _rows(path / TIMES, _TIMES):
            groups = seconds.setdefault(_cell(row), {})
            group = groups.setdefault(Group(row["seed"], row["seeds"]), {})
            group[row["epoch"]] = row["seconds"]
    return Run(path, record, metrics, seconds)


def _record(path: Path) -> dict[str, Any]:
    file = path / RECORD
    text = _text(file)
    try:
        record = json.loads(text)
    except ValueError as error:
        raise CannotReadError(f"{file} is not JSON, or was cut off: {error}.") from None
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise CannotReadError(f"{file} is not the record of a run: it has no `format`.")
    if record["format"] > NEWEST_FORMAT:
        raise CannotReadError(
            f"{file} has the format {record['format']}, and this version of gc-optax reads up to "
            f"{NEWEST_FORMAT}: install a newer one."
        )
    config = record.get("config")
    for name, kind in _SETTINGS.items():
        if not isinstance(config, dict) or not isinstance(config.get(name), kind):
            raise CannotReadError(f"{file} is not the record of a run: no `config.{name}`.")
    if not all(isinstance(rate, int | float) for rate in record["config"]["learning_rate"]):
        raise CannotReadError(f"{file}: `config.learning_rate` must be a list of numbers.")
    return record


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CannotReadError(f"{file.parent} is not a run folder: no {file.name}.") from None
    except UnicodeDecodeError:
        raise CannotReadError(f"{file} is not text in UTF-8.") from None
    except OSError as error:
        raise CannotReadError(f"{file} could not be read: {error.strerror}.") from None


def _rows(file: Path, readers: dict[str, Callable[[str], Any]]) -> Iterator[dict[str, Any]]:
    """The rows of a CSV file, each field read, with its `line`; other columns are left out."""
    text = _text(file)
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


def _cell(row: dict[str, Any]) -> Cell:
    return Cell(row["arm"], row["learning_rate"])


def _name(text: str) -> str:
    if not text:
        raise ValueError("no arm")
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


_SETTINGS = {
    "dataset": str,
    "model": str,
    "optimizer": str,
    "arms": list,
    "learning_rate": list,
    "seeds": int,
    "epochs": int,
}
_KEYS = {"arm": _name, "learning_rate": _rate, "seed": _whole, "epoch": _counting}
_METRICS = _KEYS | dict.fromkeys(Metrics._fields, _number)
_TIMES = _KEYS | {"seeds": _counting, "seconds": _number}
