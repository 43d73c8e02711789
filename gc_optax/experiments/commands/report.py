"""`gc-optax report`: run folders to one page of Markdown with plots."""

import os
import re
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from gc_optax.experiments.errors import CannotReadError, CannotWriteError, InvalidSettingError
from gc_optax.experiments.presentation import forest
from gc_optax.experiments.presentation import markdown as tables
from gc_optax.experiments.presentation import plots as plots
from gc_optax.experiments.runs import analysis
from gc_optax.experiments.runs import statistics as statistics
from gc_optax.experiments.runs.folder import RECORD, RunFolder
from gc_optax.experiments.runs.measurements import Cell
from gc_optax.experiments.runs.reader import Run, read_run
from gc_optax.experiments.training.optimizers import ARMS, BASELINE

REPORT = "report.md"
FOREST = "differences.png"
HEADLINE = "headline.png"

_PERCENT = f"{100 * statistics.CONFIDENCE:g} %"
_HEAD = f"""\
# Gradient Centralization: what was measured

Each run trains one network in several arms that differ in what they centralize and in nothing else:
the arms of one seed start from the same weights and see the same batches.

- Values are mean ± standard error over seeds, after the last epoch: no epoch is picked.
- Differences from `none`, no centralization, are paired by seed, over the seeds that both arms
  have, with their [{_PERCENT} confidence interval by Student's t]. One pair has no interval.
- **Bold** is where the interval excludes 0, in either direction: for GC or against it. There is no
  correction for the number of comparisons: of 20 between equal arms, one is bold on average.
- A seed has diverged if a loss was not finite. It stays in every mean, also where it was ended
  early: as a network that gets nothing right, and whose loss is nan.
- Of a run that is **incomplete** the numbers are those that there are; at a learning rate where no
  seed got to the last epoch, those of the last one that all arms begun got to."""
_TEXT = """
- Text is predicted character by character. Its main metric is the test loss, in nats per character.
"""
_VALIDATION = """
- A run with `validation examples` among its settings was judged on training examples held out for
  that, and not on the test set, also where a table of all runs says "test".
"""
_HEADLINE = """\
## Where no centralization does best

Test accuracy after the last epoch, of each run at the learning rate at which `none` has the highest
(text: the lowest loss). The choice is made on the test set, and for `none`: what favors an arm is
that it wins at the rate that suits its opponent."""
_OPTIMISTIC = """\
The rates are chosen on the {judge} set, so these values are optimistic, for every arm, and the
intervals do not know of the choice."""
_TIMES = """\
The seeds that do not reach it are missing from the medians of those that do: compare those only
where about as many do. Seconds are the wall time of all seeds trained side by side, training and
evaluation, without compilation."""


def report(runs: Sequence[Path], output: Path, out: Console, accuracy: float | None = None) -> int:
    """Writes `report.md` and its plots to `output`, and returns the exit code.

    Args:
        runs: Folders of `gc-optax compare`, finished or not.
        output: Where to write; an earlier report there is replaced.
        out: Where it says what was written.
        accuracy: The test accuracy that times are given to, in percent; by default, for each run,
            the highest whole percent that the baseline's mean reaches at any learning rate.

    Raises:
        CannotReadError: A folder does not hold a run, or is given twice.
        InvalidSettingError: `accuracy` is not a percentage.
        CannotWriteError: A file could not be written.
    """
    if accuracy is not None and not 0 < accuracy <= 100:
        raise InvalidSettingError(
            "accuracy", f"must be a percentage above 0 and up to 100, got {accuracy:g}."
        )
    _check_distinct(runs)
    read = [read_run(path) for path in runs]
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWriteError(f"{output} cannot be a folder: {error.strerror}") from None
    try:
        # Beside what is there, which is replaced when all of it is written.
        with tempfile.TemporaryDirectory(dir=output, prefix=".report-") as temporary:
            _write(read, RunFolder(Path(temporary)), accuracy)
            _move(Path(temporary), output)
    except OSError as error:
        raise CannotWriteError(f"{output} could not be written: {error.strerror}") from error
    out.print(f"Report: {output / REPORT}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _write(read: Sequence[Run], folder: RunFolder, accuracy: float | None):
    sections = []
    for run, name, prefix in zip(read, tables.names(read), _prefixes(read), strict=True):
        try:
            sections.append(_section(run, name, prefix, folder, accuracy))
        except (AttributeError, KeyError, TypeError) as error:
            raise CannotReadError(
                f"{run.path / RECORD} is damaged: {type(error).__name__} {error}."
            ) from error
    text = _TEXT.rstrip() if any(run.design.is_text for run in read) else ""
    if any(run.design.judge == "validation" for run in read):
        text += _VALIDATION.rstrip()
    named = list(zip(tables.names(read), read, strict=True))
    parts = [_HEAD + text]
    with_differences = any(analysis.has_differences(run.measurements) for run in read)
    several = any(len(run.measurements.rates) > 1 for run in read)
    if (
        with_differences
        and several
        and any(analysis.best_rate(run.measurements, BASELINE) for run in read)
    ):
        with folder.writing(HEADLINE) as path:
            forest.forest(named, path, headline=True)
        parts += [
            _HEADLINE,
            tables.headline_table(read),
            f"![The same with the loss]({HEADLINE})",
            "## All learning rates",
        ]
    parts.append(tables.main_table(read))
    if with_differences:
        with folder.writing(FOREST) as path:
            forest.forest(named, path)
        parts.append(f"![Differences from none, with intervals]({FOREST})")
    with folder.writing(REPORT) as path:
        path.write_text("\n\n".join([*parts, *sections]) + "\n", encoding="utf-8")


def _move(source: Path, target: Path):
    """Moves all files, the page last, so that it comes with all of its plots."""
    for path in sorted(source.iterdir(), key=lambda path: path.name == REPORT):
        os.replace(path, target / path.name)


def _section(run: Run, name: str, prefix: str, folder: RunFolder, percentage: float | None) -> str:
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
        tables.rates_table(measured),
    ]
    if len(measured.rates) > 1 and any(analysis.best_rate(measured, arm) for arm in measured.arms):
        with folder.writing(f"{prefix}-learning-rates.png") as path:
            plots.learning_rates(measured, f"{name}: {over}", path)
        parts += [
            "### Best learning rate",
            f"![Against the learning rate]({prefix}-learning-rates.png)",
            tables.best_table(measured),
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
            f"### Time to {100 * accuracy:g} % {judge} accuracy",
            f"![Epochs and seconds to it]({prefix}-times.png)",
            tables.times_table(run, accuracy),
            f"One accuracy for all arms{why if percentage is None else ''}.\n{_TIMES}",
        ]
    return "\n\n".join([*parts, "### Speed", tables.speed_table(run), _speed_note(run)])


def _speed_note(run: Run) -> str:
    seeds = run.record.get("seeds_at_once") or run.config["seeds"]
    without = "with" if run.record["format"] == 1 else "without"
    side = f"{seeds} seeds side by side" if seeds > 1 else "one seed"
    return (
        f"Medians. An epoch is that of {side}, with its evaluation; the examples are those of all\n"
        f"of them, per second {without} the evaluation."
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
    return tables.table(["arm", "centralizes", "`optax.chain` of"], rows, "lll")


def _ended(run: Run) -> list[str]:
    """What was ended early, if anything."""
    lines = []
    for end in run.record.get("ended_early") or []:
        seeds = ", ".join(map(str, end["seeds"]))
        where = f"`{end['arm']}` at learning rate {end['learning_rate']:g}"
        lines.append(f"- {where}, seeds {seeds}: after epoch {end['epoch']}, {end['reason']}")
    return ["\n".join(["Ended early:", "", *lines])] if lines else []


def _prefixes(runs: Sequence[Run]) -> list[str]:
    """What the plots of each run begin with: the name of its folder, with a number if taken."""
    found: list[str] = []
    for run in runs:
        name = re.sub(r"[^\w.-]+", "-", run.path.resolve().name).strip(".-") or "run"
        prefix, number = name, 2
        while prefix in found:
            prefix, number = f"{name}-{number}", number + 1
        found.append(prefix)
    return found


def _check_distinct(paths: Sequence[Path]):
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise CannotReadError(f"{path} is given twice.")
        seen.add(path.resolve())


_VERSIONS = ("python", "gc_optax", "jax", "flax", "optax")
_IN_TABLES = ("dataset", "model", "optimizer", "arms", "learning_rate", "epochs", "protocol")
