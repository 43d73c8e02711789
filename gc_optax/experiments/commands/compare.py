"""`gc-optax compare`: trains every arm at every learning rate, and writes what came out.

The unit of work is a group of seeds of one arm at one learning rate. Metrics are written
every few seconds, and the state of the group now and then, so that a run that is killed goes on
where it was.
"""

import contextlib
import shlex
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from gc_optax.experiments import data
from gc_optax.experiments.commands.progress import Reporter
from gc_optax.experiments.data import Dataset
from gc_optax.experiments.errors import CannotReadError, DataError
from gc_optax.experiments.execution import distributed
from gc_optax.experiments.execution import record as _record
from gc_optax.experiments.execution.run import RunInProgress
from gc_optax.experiments.execution.trainer import Trainer
from gc_optax.experiments.presentation import console, plots
from gc_optax.experiments.runs import folder as run_folder
from gc_optax.experiments.runs.folder import RunFolder, default_path
from gc_optax.experiments.runs.measurements import Design, Group, Measurements
from gc_optax.experiments.runs.reader import NEWEST_FORMAT as FORMAT
from gc_optax.experiments.runs.reader import (
    read_digests,
    read_measurements,
    read_record,
    whole_epochs,
)
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.epoch import State

CHECKPOINT_SECONDS = 60.0  # at least, between two checkpoints, where it is not said in epochs


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
        return _carry_out(run, out, err)


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
        return _carry_out(run, out, err)


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
        _say(err, f"the metrics of {_name(group, epoch)} are not what the run wrote: {_AGAIN}")
    if not run.verified and not record["complete"]:
        _say(err, "an older version wrote this run without digests: what is there is not verified")
    return run


def _carry_out(run: RunInProgress, out: Console, err: Console) -> int:
    results, interrupted = run.measurements, False
    try:
        begun = _begin_again(run, err)
        with Reporter(err, run.trainer.config, len(run.groups), results.epochs_settled) as reporter:
            _train(run, begun, reporter)
            reporter.say("drawing")
            _draw(run)
    except KeyboardInterrupt:
        interrupted = True
        # Epochs since the last write, and plots of what there is.
        run.write()
        if results.metrics:
            _draw(run)
    if results.metrics:
        out.print(console.tables(run.measurements, run.wall_times(), out))
    if interrupted:
        err.print(_how_to_resume(run), highlight=False, markup=False, soft_wrap=True)
    else:
        distributed.barrier("the end")  # others may still read what changes now
        # Last, so that a record that says it is complete comes with all of its files.
        run.write(complete=True)
        run.checkpoints.clear()
    files = ", ".join(sorted(path.name for path in run.folder.path.iterdir() if path.is_file()))
    where = f"Run folder: {run.folder.path}\n  {files}"
    out.print(where, highlight=False, markup=False, soft_wrap=True)
    return 130 if interrupted else 0


def _draw(run: RunInProgress):
    """Draws the plots of what there is, in the first process."""
    if not distributed.is_primary():
        return
    config = run.trainer.config
    placed = "" if config.placement == "gradient" else " (GC on the update)"
    seeds = f"mean of {config.seeds} seeds ± standard error" if config.seeds > 1 else "one seed"
    title = f"{config.model} on {config.dataset}, {config.optimizer}{placed}: {seeds}"
    with run.folder.writing(run_folder.CURVES) as path:
        plots.curves(run.measurements, title, path)
    if len(config.learning_rates) > 1:
        with run.folder.writing(run_folder.LEARNING_RATES) as path:
            plots.learning_rates(run.measurements, title, path)


_AGAIN = "it is run again from what is whole"


def _begin_again(run: RunInProgress, err: Console) -> dict[int, tuple[State, int]]:
    """The group that was under way, if it can go on: its number, state and epoch.

    What the results have beyond that is cut off, and run again.
    """
    latest, begun = run.checkpoints.latest(), {}
    latest = distributed.broadcast(*(latest or (-1, 0)))
    for number, group in enumerate(run.groups):
        if run.measurements.is_done(group):
            continue
        epoch = latest[1] if latest[0] == number else 0
        if epoch and run.measurements.measured(group) >= epoch:
            abstract = run.trainer.abstract_state(group.cell.arm, len(group.seeds))
            state = run.checkpoints.restore(number, epoch, abstract, verified=run.verified)
            if distributed.all_agree(state is not None) and state is not None:
                begun[number] = state, epoch
                run.checkpoints.write_digest(number, epoch, state)
            else:
                what = _name(group, epoch)
                _say(err, f"the checkpoint of {what} is not what the run wrote: {_AGAIN}")
        run.measurements.cut(group, begun[number][1] if number in begun else 0)
    return begun


def _train(run: RunInProgress, begun: dict[int, tuple[State, int]], reporter: Reporter):
    config, trainer, results = run.trainer.config, run.trainer, run.measurements
    saved = time.perf_counter()
    for number, group in enumerate(run.groups):
        if results.is_done(group):
            continue
        cell, seeds = group
        start = time.perf_counter()
        begin, epoch = begun.pop(number, (None, 0))
        reporter.say(f"compiling {cell.arm}")
        trainer.compile(cell.arm, len(seeds))
        for state, result in trainer.run(cell.arm, cell.learning_rate, seeds, begin, epoch):
            results.add(group, *result)
            reporter.epoch(group, results)
            if results.is_done(group):
                break
            done = results.measured(group)
            if config.checkpoint_every is None:
                (due,) = distributed.broadcast(time.perf_counter() - saved >= CHECKPOINT_SECONDS)
            else:
                due = config.checkpoint_every > 0 and done % config.checkpoint_every == 0
            if due:
                # The metrics first: what they have beyond the state is run again.
                run.write()
                run.checkpoints.save(number, done, state)
                saved = time.perf_counter()
            else:
                run.write_now_and_then()
        run.write()
        reporter.finished(group, results, time.perf_counter() - start)


def _how_to_resume(run: RunInProgress) -> str:
    """What is kept of an interrupted run, what of it is run again, and by which command."""
    results, latest = run.measurements, run.checkpoints.latest()
    again = 0
    for number, group in enumerate(run.groups):
        if not results.is_done(group):
            kept = latest[1] if latest is not None and latest[0] == number else 0
            again += max(0, results.measured(group) - kept)
    total = results.design.epochs * len(run.groups)
    command = ["gc-optax", "compare", "--resume", str(run.folder.path)]
    if run.data_dir is not None:
        command += ["--data-dir", str(run.data_dir)]
    rerun = f" ({again} of them are run again)" if again else ""
    return (
        f"interrupted: {results.epochs_measured} of {total} epochs are kept; resume{rerun} with "
        f"{shlex.join(command)}"
    )


def _introduce(run: RunInProgress, dataset: Dataset, out: Console):
    config, trainer = run.trainer.config, run.trainer
    kind = "windows of text" if dataset.mean is None else "images"
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
                _say(
                    err,
                    f"{name} was {before.get(name)} when the run began and is {value} now: the "
                    "numbers may differ from those of a run that was not interrupted",
                )


def _say(err: Console, what: str):
    err.print(what, highlight=False, markup=False, soft_wrap=True)


def _name(group: Group, epoch: int) -> str:
    cell, seeds = group
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    return f"{cell.arm} at learning rate {cell.learning_rate:g}, {which}, epoch {epoch},"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
