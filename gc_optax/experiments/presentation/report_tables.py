"""The tables of a report, in Markdown."""

import math
from collections.abc import Iterable, Sequence

from gc_optax.experiments.presentation import formatting
from gc_optax.experiments.presentation.formatting import ACCURACY, LOSS, TRAINING_LOSS, Shown
from gc_optax.experiments.runs import analysis
from gc_optax.experiments.runs.measurements import Cell, Measurements
from gc_optax.experiments.runs.reader import Run
from gc_optax.experiments.training.optimizers import BASELINE


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> str:
    """A table in Markdown; `align` has `l` or `r` for each column."""
    rule = ["---:" if side == "r" else "---" for side in align]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
                     for line in lines)  # fmt: skip


def names(runs: Sequence[Run]) -> list[str]:
    """A short name for each run, with the folder where two would be the same."""
    found = [_name(run) for run in runs]
    return [
        f"{name} ({run.path.resolve().name})" if found.count(name) > 1 else name
        for name, run in zip(found, runs, strict=True)
    ]


def main_table(runs: Sequence[Run]) -> str:
    """All runs, learning rates and arms in one table."""
    any_text = any(run.design.is_text for run in runs)
    rows = []
    for name, run in _marked(runs):
        measured = run.measurements
        for rate, cell, first in _cells(measured):
            epoch = analysis.compared_epoch(measured, rate)
            loss = [formatting.mean(measured, cell, LOSS, epoch)] if any_text else []
            rows.append([
                name if first and rate == measured.rates[0] else "",
                f"{rate:g}" if first else "",
                f"`{cell.arm}`",
                formatting.mean(measured, cell, ACCURACY, epoch),
                _difference(measured, cell, ACCURACY, epoch),
                *loss,
                _difference(measured, cell, LOSS, epoch),
                _epochs(measured, epoch),
                _seeds(measured, cell, epoch),
            ])  # fmt: skip
    loss = ["test loss, nats", "loss minus none"] if any_text else ["test loss minus none, nats"]
    header = ["run", "learning rate", "arm", "test accuracy, %", "accuracy minus none", *loss]
    return table([*header, "epochs", "seeds"], rows, "lrl" + "r" * (len(loss) + 4))


def headline_table(runs: Sequence[Run]) -> str:
    """One row per run: its arms at the learning rate at which the baseline does best."""
    arms = list(dict.fromkeys(arm for run in runs for arm in run.measurements.arms))
    arms = [arm for arm in arms if arm != BASELINE]
    rows = []
    for name, run in _marked(runs):
        measured = run.measurements
        rate = analysis.best_rate(measured, BASELINE)
        if rate is None:
            continue
        epoch = analysis.compared_epoch(measured, rate)
        baseline = Cell(BASELINE, rate)
        rows.append([
            name,
            f"{rate:g}",
            _epochs(measured, epoch),
            _seeds(measured, baseline, epoch),
            formatting.mean(measured, baseline, ACCURACY, epoch),
            *(_difference(measured, Cell(arm, rate), ACCURACY, epoch) for arm in arms),
        ])  # fmt: skip
    header = ["run", "learning rate", "epochs", "seeds", f"`{BASELINE}`, %"]
    header += [f"`{arm}` minus `{BASELINE}`" for arm in arms]
    return table(header, rows, "lrrrr" + "r" * len(arms))


def rates_table(run: Measurements) -> str:
    """What the main table has no room for: the first epoch, losses, and the training set."""
    design = run.design
    metrics = [LOSS, ACCURACY] if design.is_text else [ACCURACY, LOSS]
    unit = "nats per character" if design.is_text else "nats"
    title = {ACCURACY: f"{design.judge} accuracy, %", LOSS: f"{design.judge} loss, {unit}"}
    header = ["learning rate", "arm"]
    for shown in metrics:
        what = "accuracy" if shown == ACCURACY else "loss"
        header += [f"{title[shown]}: epoch 1", f"{what}: end", f"{what}: end minus none"]
    rows = []
    for rate, cell, first in _cells(run):
        end = analysis.compared_epoch(run, rate)
        row = [f"{rate:g}" if first else "", f"`{cell.arm}`"]
        for shown in metrics:
            row += [formatting.mean(run, cell, shown, epoch) for epoch in (1, end)]
            row.append(_difference(run, cell, shown, end))
        rows.append([*row, formatting.mean(run, cell, TRAINING_LOSS, end)])
    return table([*header, "training loss: end"], rows, "rl" + "r" * (len(header) - 1))


def best_table(run: Measurements) -> str:
    """Each arm at its best learning rate."""
    shown = LOSS if run.design.is_text else ACCURACY
    what = "loss, nats per character" if run.design.is_text else "accuracy, %"
    last = run.design.epochs
    best = {arm: analysis.best_rate(run, arm) for arm in run.arms}
    baseline = best.get(BASELINE)
    against = None if baseline is None else Cell(BASELINE, baseline)
    rows = [
        [
            f"`{arm}`",
            f"{rate:g}",
            formatting.mean(run, Cell(arm, rate), shown, last),
            _difference(run, Cell(arm, rate), shown, last, against) if against else "",
        ]
        for arm, rate in best.items()
        if rate is not None
    ]
    header = ["arm", "best rate", f"{run.design.judge} {what}", "minus none at its best"]
    return table(header, rows, "lrrr")


def times_table(run: Run, accuracy: float) -> str:
    """How many seeds reach an accuracy, and the medians of their epochs and seconds."""
    rows = []
    for rate, cell, first in _cells(run.measurements):
        times = analysis.times_to(run.measurements, cell, accuracy, run.typical_seconds(cell.arm))
        reached = analysis.reached(times)
        of_these, of_all = analysis.medians(reached), analysis.medians(times)
        never = f"more than {run.design.epochs}"
        rows.append([
            f"{rate:g}" if first else "",
            f"`{cell.arm}`",
            f"{len(reached)} of {len(times)}" if times else "",
            f"{of_these.epoch:g}" if of_these else "",
            _seconds(of_these.seconds if of_these else None),
            "" if not of_all else f"{of_all.epoch:g}" if math.isfinite(of_all.epoch) else never,
        ])  # fmt: skip
    header = ["learning rate", "arm", "seeds that reach it", "their median epochs"]
    header += ["their median seconds", "median epochs of all seeds"]
    return table(header, rows, "rlrrrr")


def speed_table(run: Run) -> str:
    """Seconds per epoch and examples per second, by arm.

    The ratio to the baseline is given where the arms were trained in turns.
    """
    rows, turns = [], analysis.takes_turns(run.measurements)
    for arm in run.measurements.arms:
        recorded = run.wall_times(arm)
        epoch, ratio = recorded.get("epoch"), recorded.get("epoch_ratio_to_none")
        speed = recorded.get("examples_per_second")
        if speed is None and epoch and "images" in run.record:  # format 1: all seeds side by side
            speed = run.record["images"]["train"] * run.config["seeds"] / epoch
        measured = analysis.epoch_seconds(run.measurements, arm)
        spread = f"{_seconds(measured.low)} to {_seconds(measured.high)}" if measured else ""
        rows.append([
            f"`{arm}`",
            _seconds(epoch),
            spread,
            *([f"{ratio:.2f}" if ratio is not None else ""] if turns else []),
            "" if speed is None else f"{speed:,.0f}",
        ])  # fmt: skip
    header = ["arm", "seconds per epoch", "quartiles", *(["ratio to none"] if turns else [])]
    return table([*header, "training examples per second"], rows, "l" + "r" * len(header))


def _marked(runs: Sequence[Run]) -> Iterable[tuple[str, Run]]:
    """The runs with their names, which say where one is incomplete."""
    for name, run in zip(names(runs), runs, strict=True):
        yield name if run.complete else f"{name} **(incomplete)**", run


def _name(run: Run) -> str:
    config = run.config
    placed = ", GC on the update" if config.get("placement") == "update" else ""
    some = config.get("train_examples")
    part = f" ({some:,} examples)" if some else ""
    return f"{config['dataset']}{part}, {config['model']}, {config['optimizer']}{placed}"


def _seconds(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:,.0f}" if value > 99.5 else f"{value:.3g}"


def _cells(run: Measurements) -> Iterable[tuple[float, Cell, bool]]:
    """Each learning rate and cell, and whether it is the first of its rate."""
    for rate in run.rates:
        for arm in run.arms:
            yield rate, Cell(arm, rate), arm == run.arms[0]


def _epochs(run: Measurements, epoch: int) -> str:
    last = run.design.epochs
    return f"{epoch}" if epoch == last else f"**{epoch} of {last}**"


def _seeds(run: Measurements, cell: Cell, epoch: int) -> str:
    number, planned = len(analysis.values(run, cell, "test_loss", epoch)), len(run.design.seeds)
    diverged = len(analysis.diverged(run, cell))
    seeds = f"{number}" if number == planned else f"{number} of {planned}"
    return f"{seeds}, {diverged} diverged" if diverged else seeds


def _difference(
    run: Measurements, cell: Cell, shown: Shown, epoch: int, baseline: Cell | None = None
) -> str:
    what, pairs, clear = formatting.difference(run, cell, shown, epoch, baseline)
    return (f"**{what}**" if clear else what) + pairs
