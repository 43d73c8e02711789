"""A run from where it stands to its end: training, checkpoints, and what is shown of it."""

import shlex
import time

from rich.console import Console

from gc_optax.experiments.commands.progress import Reporter
from gc_optax.experiments.execution import distributed
from gc_optax.experiments.execution.run import RunInProgress
from gc_optax.experiments.presentation import console, plots
from gc_optax.experiments.runs import folder as run_folder
from gc_optax.experiments.runs.measurements import Group
from gc_optax.experiments.training.epoch import State

CHECKPOINT_SECONDS = 60.0  # at least, between two checkpoints, where it is not said in epochs


def carry_out(run: RunInProgress, out: Console, err: Console) -> int:
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


AGAIN = "it is run again from what is whole"


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
                what = name_of(group, epoch)
                say(err, f"the checkpoint of {what} is not what the run wrote: {AGAIN}")
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


def say(err: Console, what: str):
    err.print(what, highlight=False, markup=False, soft_wrap=True)


def name_of(group: Group, epoch: int) -> str:
    cell, seeds = group
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    return f"{cell.arm} at learning rate {cell.learning_rate:g}, {which}, epoch {epoch},"
