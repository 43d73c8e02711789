"""`gc-optax compare`: trains every arm at every learning rate, and writes what came out.

The unit of work is a group of seeds of one arm at one learning rate. Metrics are written after
every epoch, and the state of the group every few epochs, so that a run that is killed goes on where
it was.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from gc_optax.experiments import _data, _plots, _record, _run_folder, _tables
from gc_optax.experiments._checkpoint import Checkpoints
from gc_optax.experiments._config import Config
from gc_optax.experiments._data import Dataset
from gc_optax.experiments._progress import Reporter
from gc_optax.experiments._results import COLUMNS, TIME_COLUMNS, Cell, Group, Results
from gc_optax.experiments._run_folder import CannotReadError, RunFolder, default_path
from gc_optax.experiments._training import Trainer

WRITE_SECONDS = 5.0  # at least, between two writes of the metrics, where no state is written


class Run:
    """A comparison in its folder: what is known of it, and how it is written."""

    def __init__(
        self,
        folder: RunFolder,
        trainer: Trainer,
        results: Results,
        known: dict[str, Any],
        seconds: float = 0.0,
        compile_seconds: dict[str, float] | None = None,
    ):
        self.folder = folder
        self.trainer = trainer
        self.results = results
        self.checkpoints = Checkpoints(folder.path)
        self.groups = groups(results.config, trainer.groups)
        self._known = known
        self._start = time.perf_counter() - seconds
        self._compiled_before = compile_seconds or {}
        self._written = -WRITE_SECONDS

    @property
    def compile_seconds(self) -> dict[str, float]:
        """By arm, with those of the processes before this one."""
        total = dict(self._compiled_before)
        for arm, seconds in self.trainer.compile_seconds.items():
            total[arm] = total.get(arm, 0.0) + seconds
        return total

    def write(self, *, complete: bool = False):
        """Writes the metrics, the times and the record."""
        self.folder.write_csv(_run_folder.METRICS, COLUMNS, self.results.rows())
        self.folder.write_csv(_run_folder.TIMES, TIME_COLUMNS, self.results.time_rows())
        measured = _record.measurements(self.results, self.trainer, self.compile_seconds)
        seconds = time.perf_counter() - self._start
        content = {"complete": complete, **self._known, "total_seconds": seconds, **measured}
        self.folder.write_json(_run_folder.RECORD, content)
        self._written = time.perf_counter()

    def write_now_and_then(self):
        """Writes, unless that was a moment ago."""
        if time.perf_counter() - self._written >= WRITE_SECONDS:
            self.write()

    def draw(self):
        """Draws the plots of what there is."""
        with self.folder.writing(_run_folder.CURVES) as path:
            _plots.curves(self.results, path)
        if len(self.results.config.learning_rates) > 1:
            with self.folder.writing(_run_folder.LEARNING_RATES) as path:
                _plots.learning_rates(self.results, path)

    def tables(self, out: Console):
        """Prints the tables."""
        times = _record.wall_times(
            self.results, self.trainer.examples_per_epoch, self.compile_seconds
        )
        out.print(_tables.tables(self.results, times, out))


def groups(config: Config, seeds: Sequence[range]) -> list[Group]:
    """The groups in the order in which they are trained.

    The arms of one rate and the same seeds follow each other, so that an interrupted run has whole
    comparisons.
    """
    return [
        Group(Cell(arm, rate), some)
        for rate in config.learning_rates
        for some in seeds
        for arm in config.arms
    ]


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
    dataset = _data.load(config.dataset, data_dir, config.train_examples)
    config.check_batch_size(len(dataset.train.labels))
    trainer = Trainer(config, dataset)
    folder = RunFolder.claim(output or default_path(config, now))
    known = {
        "format": _record.FORMAT,
        "command": ["gc-optax", *command],
        "started": now.isoformat(timespec="seconds"),
        **_record.configuration(config, dataset, trainer),
    }
    run = Run(folder, trainer, Results(config), known)
    run.write()
    _introduce(run, dataset, out)
    return _carry_out(run, out, err)


def resume(path: Path, out: Console, err: Console, *, data_dir: Path | None = None) -> int:
    """Goes on with the run in the folder `path`, and returns the exit code.

    The numbers are those of a run that was not interrupted, to the last bit on the same machine.

    Raises:
        CannotReadError: There is no run that could be gone on with, or its data are not the same.
        DataError, CannotWriteError: As `compare`.
    """
    folder = RunFolder.open(path)
    record = folder.read_json(_run_folder.RECORD)
    config = _record.config(record)
    dataset = _data.load(config.dataset, data_dir, config.train_examples)
    known = {
        name: record[name]
        for name in ("format", "command", "started", *_record.CONFIGURATION)
        if name in record
    }
    if known.get("data") != _record.fingerprint(dataset):
        raise CannotReadError(f"{path}: the data are not those that the run began with.")
    trainer = Trainer(config, dataset, seeds_at_once=known["seeds_at_once"])
    _warn_of_changes(known, trainer, err)
    results = Results(config)
    run = Run(
        folder,
        trainer,
        results,
        {**known, "resumed": [*record.get("resumed", []), _now()]},
        record.get("total_seconds") or 0.0,
        record.get("compile_seconds"),
    )
    try:
        results.restore(
            run.groups, folder.read_csv(_run_folder.METRICS), folder.read_csv(_run_folder.TIMES)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CannotReadError(f"{path}: the metrics cannot be read: {error!r}.") from None
    _introduce(run, dataset, out)
    return _carry_out(run, out, err)


def _carry_out(run: Run, out: Console, err: Console) -> int:
    results, interrupted = run.results, False
    try:
        with Reporter(err, results.config, len(run.groups), results.epochs_measured) as reporter:
            _train(run, reporter)
            reporter.say("drawing")
            run.draw()
    except KeyboardInterrupt:
        interrupted = True
        # Epochs since the last write, and plots of what there is.
        run.write()
        if results.cells:
            run.draw()
    if results.cells:
        run.tables(out)
    if interrupted:
        total = results.config.epochs * len(run.groups)
        err.print(
            f"interrupted: {results.epochs_measured} of {total} epochs are kept; go on with "
            f"gc-optax compare --resume {run.folder.path}",
            highlight=False,
            soft_wrap=True,
        )
    else:
        # Last, so that a record that says it is complete comes with all of its files.
        run.write(complete=True)
        run.checkpoints.clear()
    files = ", ".join(sorted(path.name for path in run.folder.path.iterdir() if path.is_file()))
    out.print(f"Run folder: {run.folder.path}", highlight=False, soft_wrap=True)
    out.print(f"  {files}", highlight=False, soft_wrap=True)
    return 130 if interrupted else 0


def _train(run: Run, reporter: Reporter):
    config, trainer, results = run.results.config, run.trainer, run.results
    begun = _begun(run)
    for number, group in enumerate(run.groups):
        if results.is_done(group):
            continue
        cell, seeds = group
        start = time.perf_counter()
        begin, epoch = begun.get(number, lambda: (None, 0))()
        results.cut(group, epoch)
        reporter.say(f"compiling {cell.arm}")
        trainer.compile(cell.arm, len(seeds))
        for state, result in trainer.run(cell.arm, cell.learning_rate, seeds, begin, epoch):
            results.add(group, result)
            results.end_if_nothing_is_finite(group)
            reporter.epoch(group, results)
            if results.is_done(group):
                break
            done = results.measured(group)
            if config.checkpoint_every and done % config.checkpoint_every == 0:
                # The metrics first: what they have beyond the state is run again.
                run.write()
                run.checkpoints.save(number, done, state)
            else:
                run.write_now_and_then()
        run.write()
        reporter.finished(group, results, time.perf_counter() - start)


def _begun(run: Run) -> dict[int, Callable]:
    """The group that a checkpoint is of, with what reads its state and epoch."""
    latest = run.checkpoints.latest()
    if latest is None or latest[0] >= len(run.groups):
        return {}
    number, epoch = latest
    group = run.groups[number]

    def read():
        abstract = run.trainer.abstract_state(group.cell.arm, len(group.seeds))
        state = run.checkpoints.restore(number, epoch, abstract)
        there = state is not None and run.results.measured(group) >= epoch
        return (state, epoch) if there else (None, 0)

    return {number: read}


def _introduce(run: Run, dataset: Dataset, out: Console):
    config, trainer = run.results.config, run.trainer
    kind = "windows of text" if dataset.mean is None else "images"
    at_once = len(trainer.groups[0])
    side_by_side = "" if at_once == 1 else f", {at_once} at once"
    devices = f", on {len(trainer.devices)} devices" if len(trainer.devices) > 1 else ""
    out.print(
        f"{config.model} ({trainer.parameters:,} parameters) on {config.dataset}: "
        f"{len(dataset.train.labels):,} training and {len(dataset.test.labels):,} test {kind}, "
        f"batches of {config.batch_size}, {config.seeds} seeds{side_by_side}{devices}",
        highlight=False,
        soft_wrap=True,
    )
    out.print(_tables.arms(config), end="\n\n")


def _warn_of_changes(known: dict[str, Any], trainer: Trainer, err: Console):
    now = {"versions": _record.versions(), "device": _record.device(trainer.devices)}
    for what, values in now.items():
        before = known.get(what, {})
        for name, value in values.items():
            if before.get(name) != value:
                err.print(
                    f"{name} was {before.get(name)} when the run began and is {value} now: the "
                    "numbers may differ from those of a run that was not interrupted",
                    highlight=False,
                    soft_wrap=True,
                )


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
