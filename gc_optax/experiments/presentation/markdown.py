"""The tables of a report, in Markdown."""

import math
from collections.abc import Iterable, Sequence

from gc_optax.experiments.runs import analysis as measures
from gc_optax.experiments.runs.reader import Cell, Run
from gc_optax.experiments.training.optimizers import BASELINE

ACCURACY = ("test_accuracy", 100, 2)
LOSS = ("test_loss", 1, 3)
# A metric, what it is multiplied by, and the digits after the point.
Shown = tuple[str, float, int]


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
    text = any(run.is_text for run in runs)
    rows = []
    for name, run in zip(names(runs), runs, strict=True):
        name = name if run.complete else f"{name} **(incomplete)**"
        for rate, cell, first in _cells(run):
            epoch = measures.compared_epoch(run, rate)
            loss = [_mean(run, cell, LOSS, epoch)] if text else []
            rows.append([
                name if first and rate == run.rates[0] else "",
                f"{rate:g}" if first else "",
                _epochs(run, epoch) if first else "",
                _seeds(run, cell, epoch),
                f"`{cell.arm}`",
                _mean(run, cell, ACCURACY, epoch),
                _difference(run, cell, ACCURACY, epoch),
                *loss,
                _difference(run, cell, LOSS, epoch),
            ])  # fmt: skip
    loss = ["test loss, nats", "loss minus none"] if text else ["test loss minus none, nats"]
    header = ["run", "learning rate", "epochs", "seeds", "arm", "test accuracy, %"]
    return table([*header, "accuracy minus none", *loss], rows, "lrrrl" + "r" * (2 + len(loss)))


def headline_table(runs: Sequence[Run]) -> str:
    """One row per run: its arms at the learning rate at which the baseline does best."""
    arms = list(dict.fromkeys(arm for run in runs for arm in run.arms if arm != BASELINE))
    rows = []
    for name, run in zip(names(runs), runs, strict=True):
        rate = measures.best_rate(run, BASELINE)
        if rate is None:
            continue
        epoch = measures.compared_epoch(run, rate)
        differences = [_difference(run, Cell(arm, rate), ACCURACY, epoch) for arm in arms]
        baseline = Cell(BASELINE, rate)
        rows.append([
            name if run.complete else f"{name} **(incomplete)**",
            f"{rate:g}",
            _seeds(run, baseline, epoch),
            _mean(run, baseline, ACCURACY, epoch),
            *differences,
        ])  # fmt: skip
    header = ["run", "learning rate", "seeds", f"`{BASELINE}`, %"]
    header += [f"`{arm}` minus `{BASELINE}`" for arm in arms]
    return table(header, rows, "lrrr" + "r" * len(arms))


def rates_table(run: Run) -> str:
    """What the main table has no room for: the first epoch, losses, and the training set."""
    metrics = [LOSS, ACCURACY] if run.is_text else [ACCURACY, LOSS]
    unit = "nats per character" if run.is_text else "nats"
    title = {
        "test_accuracy": f"{run.judge} accuracy, %",
        "test_loss": f"{run.judge} loss, {unit}",
    }
    header = ["learning rate", "arm"]
    for metric, *_ in metrics:
        header += [f"{title[metric]}: epoch 1", "end", "end minus none"]
    rows = []
    for rate, cell, first in _cells(run):
        end = measures.compared_epoch(run, rate)
        row = [f"{rate:g}" if first else "", f"`{cell.arm}`"]
        for shown in metrics:
            row += [_mean(run, cell, shown, 1), _mean(run, cell, shown, end)]
            row.append(_difference(run, cell, shown, end))
        rows.append([*row, _mean(run, cell, ("train_loss", 1, 3), end)])
    return table([*header, "training loss: end"], rows, "rl" + "r" * (len(header) - 1))


def best_table(run: Run) -> str:
    """Each arm at its best learning rate."""
    shown = LOSS if run.is_text else ACCURACY
    what = "loss, nats per character" if run.is_text else "accuracy, %"
    best = {arm: measures.best_rate(run, arm) for arm in run.arms}
    baseline = best.get(BASELINE)
    against = None if baseline is None else Cell(BASELINE, baseline)
    rows = [
        [
            f"`{arm}`",
            f"{rate:g}",
            _mean(run, Cell(arm, rate), shown, run.epochs),
            _difference(run, Cell(arm, rate), shown, run.epochs, against) if against else "",
        ]
        for arm, rate in best.items()
        if rate is not None
    ]
    header = ["arm", "best rate", f"{run.judge} {what}", "minus none at its best"]
    return table(header, rows, "lrrr")


def times_table(run: Run, accuracy: float) -> str:
    """How many seeds reach an accuracy, and the medians of their epochs and seconds."""
    rows = []
    for rate, cell, first in _cells(run):
        times = measures.times_to(run, cell, accuracy)
        reached = measures.reached(times)
        of_these, of_all = measures.medians(reached), measures.medians(times)
        never = f"more than {run.epochs}"
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
    """Seconds per epoch and examples per second, by arm."""
    rows = []
    for arm in run.arms:
        said = run.wall_times(arm)
        epoch, ratio = said.get("epoch"), said.get("epoch_ratio_to_none")
        speed = said.get("examples_per_second")
        if speed is None and epoch and "images" in run.record:  # format 1: all seeds side by side
            speed = run.record["images"]["train"] * run.config["seeds"] / epoch
        rows.append([
            f"`{arm}`",
            _seconds(epoch),
            "" if ratio is None else f"{ratio:.2f}",
            "" if speed is None else f"{speed:,.0f}",
        ])  # fmt: skip
    header = ["arm", "seconds per epoch", "ratio to none", "training examples per second"]
    return table(header, rows, "lrrr")


def _name(run: Run) -> str:
    config = run.config
    placed = ", GC on the update" if config.get("placement") == "update" else ""
    protocol = config.get("protocol")
    kind = f", protocol {protocol}" if protocol else ""
    return f"{config['dataset']}, {config['model']}, {config['optimizer']}{placed}{kind}"


def _seconds(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:,.0f}" if value > 99.5 else f"{value:.3g}"


def _cells(run: Run) -> Iterable[tuple[float, Cell, bool]]:
    """Each learning rate and cell, and whether it is the first of its rate."""
    for rate in run.rates:
        for arm in run.arms:
            yield rate, Cell(arm, rate), arm == run.arms[0]


def _epochs(run: Run, epoch: int) -> str:
    return f"{epoch}" if epoch == run.epochs else f"**{epoch} of {run.epochs}**"


def _seeds(run: Run, cell: Cell, epoch: int) -> str:
    number, lost = len(measures.values(run, cell, "test_loss", epoch)), measures.diverged(run, cell)
    text = f"{number}" if number == run.config["seeds"] else f"{number} of {run.config['seeds']}"
    return f"{text}, {lost} diverged" if lost else text


def _mean(run: Run, cell: Cell, shown: Shown, epoch: int) -> str:
    metric, scale, digits = shown
    found = measures.mean(run, cell, metric, epoch)
    if found is None:
        last = measures.last_epoch(run, cell)
        return f"at epoch {last} of {run.epochs}" if last else "not run"
    center, error = number(scale * found.mean, digits), number(scale * found.standard_error, digits)
    return center if math.isnan(found.standard_error) else f"{center} ± {error}"


def _difference(
    run: Run, cell: Cell, shown: Shown, epoch: int, baseline: Cell | None = None
) -> str:
    metric, scale, digits = shown
    found = measures.difference(run, cell, metric, epoch, baseline)
    if found is None:
        return ""
    interval, pairs = found
    center, low, high = (number(scale * value, digits, sign=True) for value in interval)
    text = center if math.isnan(interval.low) else f"{center} [{low}, {high}]"
    if interval.low > 0 or interval.high < 0:
        text = f"**{text}**"
    fewer = pairs < len(measures.values(run, cell, metric, epoch))
    return f"{text} ({pairs} {'pair' if pairs == 1 else 'pairs'})" if fewer else text


def number(value: float, digits: int, *, sign: bool = False) -> str:
    """A number as the tables write it."""
    if math.isnan(value):
        return "nan"
    # The loss of a network that diverges can be as large as a float gets.
    kind = f".{digits}f" if abs(value) < 100.5 else ".3g"
    return format(value, f"{'+' if sign else ''}z{kind}")
