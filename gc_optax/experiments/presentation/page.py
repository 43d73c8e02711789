"""One run of a report: its section, with settings, tables and plots."""

import shlex
from typing import Any

from gc_optax.experiments.presentation import plots, report_tables
from gc_optax.experiments.runs import analysis
from gc_optax.experiments.runs.folder import RunFolder
from gc_optax.experiments.runs.measurements import Cell
from gc_optax.experiments.runs.reader import Run
from gc_optax.experiments.training.optimizers import ARMS

_OPTIMISTIC = """\
The rates are chosen on the {judge} set, so these values are optimistic, for every arm, and the
intervals do not know of the choice."""
_TIMES = """\
The seeds that do not reach it are missing from the medians of those that do: compare those only
where about as many do. Seconds are the wall time of all seeds trained side by side, training and
evaluation, without compilation."""


def section(run: Run, name: str, prefix: str, folder: RunFolder, percentage: float | None) -> str:
    name = name if run.complete else f"{name} (incomplete)"
    parts, measured, judge = [f"## {name}"], run.measurements, run.design.judge
    if not run.complete:
        parts.append(f"**This run is incomplete:** {_progress(run)}.")
    seeds = f"{run.config['seeds']} seeds" if run.complete else "the seeds that got the furthest"
    over = f"mean of {seeds} ± standard error" if run.config["seeds"] > 1 else "one seed"
    with folder.writing(f"{prefix}-curves.png") as path:
        plots.curves(measured, f"{name}: {over}", path)
    parts += [
        f"```bash\n{shlex.join(map(str, run.record.get('command') or ['unknown']))}\n```",
        _facts(run),
        _chains(run),
        *_ended(run),
        f"![{judge.capitalize()} accuracy and loss over the epochs]({prefix}-curves.png)",
        report_tables.rates_table(measured),
    ]
    if len(measured.rates) > 1 and any(analysis.best_rate(measured, arm) for arm in measured.arms):
        with folder.writing(f"{prefix}-learning-rates.png") as path:
            plots.learning_rates(measured, f"{name}: {over}", path)
        parts += [
            "### Best learning rate",
            f"![Against the learning rate]({prefix}-learning-rates.png)",
            report_tables.best_table(measured),
            _OPTIMISTIC.format(judge=judge),
        ]
    accuracy = analysis.common_accuracy(measured) if percentage is None else percentage / 100
    if accuracy is not None:
        with folder.writing(f"{prefix}-times.png") as path:
            typical = {arm: run.typical_seconds(arm) for arm in measured.arms}
            plots.times(measured, accuracy, typical, f"{name}; dots: seeds, open: median", path)
        mean = "the mean of `none`" if analysis.has_baseline(measured) else "every arm's mean"
        why = f": the highest whole percent that {mean} reaches at any rate and epoch"
        parts += [
            f"### Time to {100 * accuracy:g}% {judge} accuracy",
            f"![Epochs and seconds to it]({prefix}-times.png)",
            report_tables.times_table(run, accuracy),
            f"One accuracy for all arms{why if percentage is None else ''}.\n{_TIMES}",
        ]
    return "\n\n".join([*parts, "### Speed", report_tables.speed_table(run), _speed_note(run)])


def _speed_note(run: Run) -> str:
    seeds = run.record.get("seeds_at_once") or run.config["seeds"]
    without = "with" if run.record["format"] == 1 else "without"
    side = f"{seeds} seeds side by side" if seeds > 1 else "one seed"
    return (
        f"Medians. An epoch is that of {side}, with its evaluation; the examples are those of all\n"
        f"of them, per second {without} the evaluation. Whatever else the machine did is in the\n"
        "times: they do not say what an arm costs."
    )


def _progress(run: Run) -> str:
    """How far each arm and learning rate got that is not at the end with all of its seeds."""
    rows = []
    for rate in run.measurements.rates:
        for arm in run.measurements.arms:
            cell = Cell(arm, rate)
            done = len(analysis.values(run.measurements, cell, "test_loss", run.design.epochs))
            if done < len(run.design.seeds):
                last = analysis.furthest(run.measurements, cell)
                there = f"{done} of {len(run.design.seeds)} seeds done, "
                there += f"epoch {last} of {run.design.epochs}"
                rows.append(f"`{arm}` at {rate:g}: {there if last else 'not begun'}")
    return "; ".join(rows) or "all epochs are there, but it was not closed"


def _facts(run: Run) -> str:
    """Settings, sizes, versions and device; a setting that is not known here is shown as it is."""
    record = run.record
    examples = record.get("examples") or record.get("images") or {}
    uses = {"validation": "validate"}
    sizes = [f"{number:,} to {uses.get(use, use)}" for use, number in examples.items()]
    versions = record.get("versions") or {}
    shown = [f"{name} {versions[name]}" for name in _VERSIONS if name in versions]
    seconds = record.get("total_seconds")
    lines = {
        "settings": _listed({k: v for k, v in run.config.items() if k not in _IN_TABLES}),
        "parameters": f"{record['parameters']:,}" if "parameters" in record else "",
        "examples": ", ".join(sizes),
        "device": _listed(record.get("device") or {}),
        "versions": ", ".join(shown),
        "started": str(record.get("started") or ""),
        "took": "" if seconds is None else f"{seconds:,.0f} s with compilation",
    }
    return "\n".join(f"- {name}: {text}" for name, text in lines.items() if text)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in values.items() if value is not None
    )


def _chains(run: Run) -> str:
    chains = run.record.get("chains") or {}
    rows = [
        [f"`{arm}`", ARMS[arm].meaning if arm in ARMS else "", f"`{chains.get(arm, '')}`"]
        for arm in run.measurements.arms
    ]
    return report_tables.table(["arm", "centralizes", "`optax.chain` of"], rows, "lll")


def _ended(run: Run) -> list[str]:
    """What was ended early, if anything."""
    lines = []
    for end in run.record.get("ended_early") or []:
        seeds = ", ".join(map(str, end["seeds"]))
        where = f"`{end['arm']}` at learning rate {end['learning_rate']:g}"
        lines.append(f"- {where}, seeds {seeds}: after epoch {end['epoch']}, {end['reason']}")
    return ["\n".join(["Ended early:", "", *lines])] if lines else []


_VERSIONS = ("python", "gc_optax", "jax", "flax", "optax")
_IN_TABLES = ("dataset", "model", "optimizer", "arms", "learning_rate", "epochs")
