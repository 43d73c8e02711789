"""`gc-optax compare`: trains every arm at every learning rate, and writes what came out."""

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from gc_optax.experiments import _plots, _record, _run_folder, _tables
from gc_optax.experiments._config import Config
from gc_optax.experiments._data import SOURCES
from gc_optax.experiments._progress import Reporter
from gc_optax.experiments._results import COLUMNS, Cell, Results
from gc_optax.experiments._run_folder import RunFolder, default_path
from gc_optax.experiments._training import Trainer


def compare(
    config: Config, output: Path | None, out: Console, err: Console, command: Sequence[str] = ()
) -> int:
    """Runs the comparison and returns the exit code.

    Args:
        config: The settings.
        output: The run folder; by default a new one under `runs/`.
        out: Where the tables go.
        err: Where progress goes.
        command: The arguments of the command, for the record.

    Raises:
        InvalidSettingError: The batch is larger than the training set, or `output` cannot be used.
        CannotWriteError: A file could not be written.
    """
    start, now = time.perf_counter(), datetime.now().astimezone()
    dataset = SOURCES[config.dataset].load()
    config.check_batch_size(len(dataset.train.labels))
    folder = RunFolder.claim(output or default_path(config, now))
    trainer = Trainer(config, dataset)
    known = {
        "format": _record.FORMAT,
        "command": ["gc-optax", *command],
        "started": now.isoformat(timespec="seconds"),
        **_record.configuration(config, dataset, trainer.parameters),
    }
    results = Results(config)

    def write(*, complete: bool):
        folder.write_csv(_run_folder.METRICS, COLUMNS, results.rows())
        measured = _record.measurements(results, trainer.compile_seconds)
        seconds = time.perf_counter() - start
        content = {"complete": complete, **known, "total_seconds": seconds, **measured}
        folder.write_json(_run_folder.RECORD, content)

    def draw():
        with folder.writing(_run_folder.CURVES) as path:
            _plots.curves(results, path)
        if len(config.learning_rates) > 1:
            with folder.writing(_run_folder.LEARNING_RATES) as path:
                _plots.learning_rates(results, path)

    out.print(
        f"{config.model} ({trainer.parameters:,} parameters) on {config.dataset}: "
        f"{len(dataset.train.labels):,} training and {len(dataset.test.labels):,} test images, "
        f"batches of {config.batch_size}, {config.seeds} seeds",
        highlight=False,
        soft_wrap=True,
    )
    out.print(_tables.arms(config), end="\n\n")
    write(complete=False)
    interrupted = False
    try:
        with Reporter(err, config) as reporter:
            _train(trainer, results, reporter, after_cell=lambda: write(complete=False))
            reporter.say("drawing")
            draw()
    except KeyboardInterrupt:
        interrupted = True
        # Epochs since the last finished cell, and plots of what there is.
        write(complete=False)
        if results.cells:
            draw()
    if results.cells:
        out.print(_tables.tables(results, trainer.compile_seconds, out))
    if interrupted:
        kept = sum(results.epochs(cell) for cell in results.cells)
        total = config.epochs * len(config.arms) * len(config.learning_rates)
        err.print(f"interrupted: {kept} of {total} epochs are kept", highlight=False)
    else:
        # Last, so that a record that says it is complete comes with all of its files.
        write(complete=True)
    files = ", ".join(sorted(path.name for path in folder.path.iterdir()))
    out.print(f"Run folder: {folder.path}", highlight=False, soft_wrap=True)
    out.print(f"  {files}", highlight=False, soft_wrap=True)
    return 130 if interrupted else 0


def _train(trainer: Trainer, results: Results, reporter: Reporter, after_cell):
    config = results.config
    # The arms of one rate follow each other, so that an interrupted sweep has whole comparisons.
    for rate in config.learning_rates:
        for arm in config.arms:
            cell, start = Cell(arm, rate), time.perf_counter()
            if arm not in trainer.compile_seconds:
                reporter.say(f"compiling {arm}")
                trainer.compile(arm)
            for result in trainer.run(arm, rate):
                results.add(cell, result)
                reporter.epoch(cell, results)
            after_cell()
            reporter.finished(cell, results, time.perf_counter() - start)
