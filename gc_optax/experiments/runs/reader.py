"""A run folder read back: its record, and its measurements."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gc_optax.experiments.errors import CannotReadError
from gc_optax.experiments.runs.csv_files import METRICS_READERS, TIMES_READERS, read_rows, read_text
from gc_optax.experiments.runs.folder import METRICS, RECORD, TIMES, RunFolder
from gc_optax.experiments.runs.measurements import (
    Cell,
    Design,
    Group,
    Measurements,
    Metrics,
    Seconds,
    is_lost,
    last_epoch,
)

NEWEST_FORMAT = 2
"""Grows when a reader of older records could no longer read newer ones."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes:
        path: The folder.
        record: `run.json`.
        measurements: `metrics.csv`, and `times.csv`, which format 1 does not have.
    """

    path: Path
    record: Mapping[str, Any]
    measurements: Measurements

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings."""
        return self.record["config"]

    @property
    def design(self) -> Design:
        """What the run compares."""
        return self.measurements.design

    @property
    def complete(self) -> bool:
        """Whether the run came to its end, and all that it measured is there."""
        cells = (
            self.measurements.metrics.get(Cell(arm, rate), {})
            for rate in self.design.learning_rates
            for arm in self.design.arms
        )
        return self.record.get("complete") is True and all(
            self._is_whole(seeds.get(seed)) for seeds in cells for seed in self.design.seeds
        )

    def _is_whole(self, epochs: Mapping[int, Metrics] | None) -> bool:
        if not epochs:
            return False
        last = last_epoch(epochs)
        return len(epochs) == last and (last == self.design.epochs or is_lost(epochs))

    def wall_times(self, arm: str) -> Mapping[str, float | None]:
        """What `run.json` says of the times of an arm."""
        return (self.record.get("wall_times") or {}).get(arm) or {}

    def typical_seconds(self, arm: str) -> float | None:
        """The seconds of an epoch of `arm`: all that format 1 says of its times."""
        return self.wall_times(arm).get("epoch")


def read_run(path: Path) -> Run:
    """Reads a run folder, finished or not.

    Raises:
        CannotReadError: The folder does not hold a run, or one that cannot be made sense of.
    """
    RunFolder.open(path)
    record = read_record(path)
    measurements = read_measurements(path, Design.of(record["config"]))
    if not measurements.metrics:
        raise CannotReadError(f"{path / METRICS} has no rows: no epoch is finished.")
    return Run(path, record, measurements)


def read_measurements(path: Path, design: Design) -> Measurements:
    """The measurements in a run folder, as they stand there.

    Raises:
        CannotReadError: A file is not there or damaged.
    """
    measurements = Measurements(design)
    for row in read_rows(path / METRICS, METRICS_READERS):
        seeds = measurements.metrics.setdefault(_cell(row), {})
        epochs = seeds.setdefault(row["seed"], {})
        if row["epoch"] in epochs:
            raise CannotReadError(f"{path / METRICS}, line {row['line']}: was there before.")
        epochs[row["epoch"]] = Metrics(*(row[name] for name in Metrics._fields))
    for seeds in measurements.metrics.values():
        for seed, epochs in seeds.items():
            seeds[seed] = dict(sorted(epochs.items()))
    if (path / TIMES).exists():
        for row in read_rows(path / TIMES, TIMES_READERS):
            seconds = Seconds(row["seconds"], row["training_seconds"])
            measurements.seconds.setdefault(_group(row), {})[row["epoch"]] = seconds
    return measurements


Digests = Mapping[tuple[Group, int], str]


def read_digests(path: Path) -> Digests | None:
    """The digest of each group and epoch in a run folder; `None` of an older version's."""
    header = read_text(path / TIMES).partition("\n")[0]
    if "digest" not in header.split(","):
        return None
    rows = read_rows(path / TIMES, TIMES_READERS | {"digest": str})
    return {(_group(row), row["epoch"]): row["digest"] for row in rows}


def whole_epochs(
    found: Measurements, groups: Iterable[Group], digests: Digests | None = None
) -> tuple[Measurements, list[tuple[Group, int]]]:
    """What `found` has of `groups`, up to the first epoch that lacks a seed or its time.

    Also up to the first that does not have its digest, where there are some: these are returned.
    """
    kept, damaged = Measurements(found.design), []
    for group in groups:
        of_cell, seconds = found.metrics.get(group.cell, {}), found.seconds.get(group, {})
        for epoch in range(1, found.design.epochs + 1):
            rows = [of_cell.get(seed, {}).get(epoch) for seed in group.seeds]
            if epoch not in seconds or None in rows:
                break
            if digests is not None and digests[group, epoch] != found.digest(group, epoch):
                damaged.append((group, epoch))
                break
            kept.add(group, Metrics(*zip(*rows, strict=True)), seconds[epoch])
    return kept, damaged


def read_record(path: Path) -> dict[str, Any]:
    """`run.json` of a run folder.

    Raises:
        CannotReadError: It is not there, damaged, of a newer format, or lacks a setting.
    """
    file = path / RECORD
    text = read_text(file)
    if not text.strip():
        raise CannotReadError(
            f"{file} is empty: the run was stopped before it began, and {path} can be deleted."
        )
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


def _cell(row: dict[str, Any]) -> Cell:
    return Cell(row["arm"], row["learning_rate"])


def _group(row: dict[str, Any]) -> Group:
    return Group(_cell(row), range(row["seed"], row["seed"] + row["seeds"]))


_SETTINGS = {
    "dataset": str,
    "model": str,
    "optimizer": str,
    "arms": list,
    "learning_rate": list,
    "seeds": int,
    "epochs": int,
}
