"""`gc-optax compare`: trains every arm at every learning rate, and writes what came out.

The unit of work is a group of seeds of one arm at one learning rate. Metrics are written
every few seconds, and the state of the group now and then, so that a run that is killed goes on
where it was.
"""

import contextlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from gc_optax.experiments import data
from gc_optax.experiments.commands.training_run import AGAIN, carry_out, name_of, say
from gc_optax.experiments.data import Dataset
from gc_optax.experiments.errors import CannotReadError, DataError
from gc_optax.experiments.execution import distributed
from gc_optax.experiments.execution import record as _record
from gc_optax.experiments.execution.run import RunInProgress
from gc_optax.experiments.execution.trainer import Trainer
from gc_optax.experiments.presentation import console
from gc_optax.experiments.runs import folder as run_folder
from gc_optax.experiments.runs.folder import RunFolder, default_path
from gc_optax.experiments.runs.measurements import Design, Measurements
from gc_optax.experiments.runs.reader import NEWEST_FORMAT as FORMAT
from gc_optax.experiments.runs.reader import (
    read_digests,
    read_measurements,
    read_record,
    whole_epochs,
)
from gc_optax.experiments.settings.config import Config


def compare(
    config: Config,
    output: Path | None,
    out: Console,
    err: Console,
    *,
    data_dir: Path | None = None,
    command: Sequence[str] = (),
) -> int:
    """Runs the comparison and returns the exit code.

    Args:
        config: The settings.
        output: The run folder; by default a new one under `runs/`.
        out: Where the tables go.
        err: Where progress goes.
        data_dir: Where the data set is.
        command: The arguments of the command, for the record.

    Raises:
        InvalidSettingError: The batch is larger than the training set, the network does not fit the
            data, or `output` cannot be used.
        DataError: The data cannot be used.
        CannotWriteError: A file could not be written.
    """
    now = datetime.now().astimezone()
    if output is not None and distributed.is_primary():
        RunFolder.check(output)  # before a data set is loaded
    dataset = _loaded(config, data_dir)
    config.check_batch_size(len(dataset.train.labels))
    trainer = Trainer(config, dataset)
    path = output or default_path(config, now)
    folder = RunFolder.claim(path) if distributed.is_primary() else RunFolder(path)
    known = {
        "format": FORMAT,
        "command": ["gc-optax", *command],
        "started": now.isoformat(timespec="seconds"),
        **_record.configuration(config, dataset, trainer),
    }
    run = RunInProgress(folder, trainer, Measurements(Design.of(vars(config))), known)
    run.data_dir = data_dir
    with _alone(folder):
        run.write()
        _introduce(run, dataset, out)
        return carry_out(run, out, err)


def resume(path: Path, out: Console, err: Console, *, data_dir: Path | None = None) -> int:
    """Resumes the run in the folder `path`, and returns the exit code.

    The numbers are those of a run that was not interrupted, to the last bit on the same machine.

    Raises:
        CannotReadError: There is nothing to resume, or its data are not the same.
        DataError, CannotWriteError: As `compare`.
    """
    folder = RunFolder.open(path)
    with _alone(folder):
        record = read_record(path)
        config = _record.config(record)
        if record["format"] < FORMAT:
            raise CannotReadError(
                f"{path} is of an older version, and can be reported but not resumed."
            )
        dataset = _loaded(config, data_dir)
        try:
            run = _read_back(folder, record, config, dataset, err)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CannotReadError(
                f"{path}: the record or the metrics cannot be read: {type(error).__name__} {error}."
            ) from None
        run.data_dir = data_dir
        _introduce(run, dataset, out)
        return carry_out(run, out, err)


def _alone(folder: RunFolder) -> contextlib.AbstractContextManager[None]:
    """The lock, which the first of several processes holds for all of them."""
    return folder.locked() if distributed.is_primary() else contextlib.nullcontext()


def _loaded(config: Config, data_dir: Path | None) -> Dataset:
    """The data, which must be the same in all processes."""
    dataset = data.load(config.dataset, data_dir, config.train_examples, config.validation_examples)
    if distributed.is_distributed():
        here = int(_record.fingerprint(dataset)[:7], 16)
        if not distributed.all_agree(distributed.broadcast(here) == (here,)):
            raise DataError(f"The data of {config.dataset} are not the same on all hosts.")
    return dataset


def _read_back(
    folder: RunFolder, record: dict[str, Any], config: Config, dataset: Dataset, err: Console
) -> RunInProgress:
    """The run as far as it got."""
    if record["data"] != _record.fingerprint(dataset):
        raise CannotReadError(f"{folder.path}: the data are not those that the run began with.")
    if record["complete"] and record["metrics"] != folder.fingerprint(run_folder.METRICS):
        raise CannotReadError(
            f"{folder.path / run_folder.METRICS} is not what the run wrote when it was complete."
        )
    known = {name: record[name] for name in ("format", "command", "started")}
    known |= {name: record[name] for name in _record.CONFIGURATION}
    known["resumed"] = [*record.get("resumed", []), _now()]
    trainer = Trainer(config, dataset, seeds_at_once=int(record["seeds_at_once"]))
    _warn_of_changes(known, trainer, err)
    seconds, compiled = record["total_seconds"], record["compile_seconds"]
    design = Design.of(vars(config))
    run = RunInProgress(folder, trainer, Measurements(design), known, seconds, compiled)
    digests, found = read_digests(folder.path), read_measurements(folder.path, design)
    run.verified = digests is not None
    run.measurements, damaged = whole_epochs(found, run.groups, digests)
    for group, epoch in damaged:
        say(err, f"the metrics of {name_of(group, epoch)} are not what the run wrote: {AGAIN}")
    if not run.verified and not record["complete"]:
        say(err, "an older version wrote this run without digests: what is there is not verified")
    return run


def _introduce(run: RunInProgress, dataset: Dataset, out: Console):
    config, trainer = run.trainer.config, run.trainer
    kind = "windows of text" if dataset.is_text else "images"
    at_once = len(trainer.groups[0])
    side_by_side = "" if at_once == 1 else f", {at_once} at once"
    devices = f", on {len(trainer.devices)} devices" if len(trainer.devices) > 1 else ""
    if distributed.is_distributed():
        devices += f" of {jax.process_count()} processes"
    out.print(
        f"{config.model} ({trainer.parameters:,} parameters) on {config.dataset}: "
        f"{len(dataset.train.labels):,} training and {len(dataset.test.labels):,} "
        f"{config.judge} {kind}, batches of {config.batch_size}, "
        f"{config.seeds} seeds{side_by_side}{devices}",
        highlight=False,
        soft_wrap=True,
    )
    out.print(console.arms(config), end="\n\n")


def _warn_of_changes(known: dict[str, Any], trainer: Trainer, err: Console):
    now = {"versions": _record.versions(), "device": _record.device(trainer.devices)}
    for what, values in now.items():
        before = known.get(what, {})
        for name, value in values.items():
            if before.get(name) != value:
                say(
                    err,
                    f"{name} was {before.get(name)} when the run began and is {value} now: the "
                    "numbers may differ from those of a run that was not interrupted",
                )


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
