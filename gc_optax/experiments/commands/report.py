"""`gc-optax report`: run folders to one page of Markdown with plots."""

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from gc_optax.experiments.errors import CannotReadError, CannotWriteError, InvalidSettingError
from gc_optax.experiments.presentation import forest, page, report_tables
from gc_optax.experiments.runs import analysis, statistics
from gc_optax.experiments.runs.folder import RECORD, RunFolder
from gc_optax.experiments.runs.reader import Run, read_run
from gc_optax.experiments.training.optimizers import BASELINE

REPORT = "report.md"
FOREST = "differences.png"
HEADLINE = "headline.png"

_PERCENT = f"{100 * statistics.CONFIDENCE:g}%"
_HEAD = f"""\
# Gradient Centralization: what was measured

Each run trains one network in several arms that differ in what they centralize (or, with Muon, in
which arrays are its matrices) and in nothing else: the arms of one seed start from the same weights
and see the same batches.

- Values are mean ± standard error over seeds, after the last epoch: no epoch is picked.
- Differences from `none`, no centralization, are paired by seed, over the seeds that both arms
  have. Their {_PERCENT} confidence interval, by Student's t, is in brackets. One pair has none.
- **Bold** is where the interval excludes 0, in either direction: for GC or against it. There is no
  correction for the number of comparisons: about 1 in 20 of identical arms would be bold by chance.
- A seed has diverged if a loss was not finite. It stays in every mean, even if it was ended early:
  as a network that gets nothing right, and whose loss is nan.
- For an **incomplete** run the numbers so far are shown; at a learning rate where no seed reached
  the last epoch, those of the last epoch that all arms reached."""
_TEXT = """
- Text is predicted character by character. Its main metric is the test loss, in nats per character.
"""
_VALIDATION = """
- A run with `validation examples` among its settings was judged on training examples held out for
  that, and not on the test set, even where a table of all runs says "test".
"""
_HEADLINE = """\
## At the learning rate that is best for `none`

Test accuracy after the last epoch, at the learning rate at which `none` has the highest (for text:
the lowest loss). The rate is chosen on the test set in favor of `none`, so an arm that wins here
wins at the best rate of its opponent."""


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
    for run, name, prefix in zip(read, report_tables.names(read), _prefixes(read), strict=True):
        try:
            sections.append(page.section(run, name, prefix, folder, accuracy))
        except (AttributeError, KeyError, TypeError) as error:
            raise CannotReadError(
                f"{run.path / RECORD} is damaged: {type(error).__name__} {error}."
            ) from error
    text = _TEXT.rstrip() if any(run.design.is_text for run in read) else ""
    if any(run.design.judge == "validation" for run in read):
        text += _VALIDATION.rstrip()
    named = list(zip(report_tables.names(read), read, strict=True))
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
            report_tables.headline_table(read),
            f"![The same with the loss]({HEADLINE})",
            "## All learning rates",
        ]
    parts.append(report_tables.main_table(read))
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
