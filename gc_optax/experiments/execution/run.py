"""`RunInProgress`: a comparison in its folder, what is known of it, and how it is written."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gc_optax.experiments.execution import distributed
from gc_optax.experiments.execution import record as _record
from gc_optax.experiments.execution.checkpoint import Checkpoints
from gc_optax.experiments.execution.trainer import Trainer
from gc_optax.experiments.runs import folder as _run_folder
from gc_optax.experiments.runs.folder import RunFolder
from gc_optax.experiments.runs.measurements import COLUMNS, TIME_COLUMNS, Cell, Group, Measurements
from gc_optax.experiments.settings.config import Config

WRITE_SECONDS = 5.0  # at least, between two writes of the metrics, where no state is written


class RunInProgress:
    """A comparison that is under way.

    Attributes:
        folder: Where it is written.
        trainer: What trains it.
        measurements: What has been measured.
        verified: Whether what was read back had digests, which an older version did not write.
        checkpoints: The state of the group that is being trained.
        groups: All groups, in the order in which they are trained.
        data_dir: Where its data were said to be.
    """

    def __init__(
        self,
        folder: RunFolder,
        trainer: Trainer,
        measurements: Measurements,
        known: dict[str, Any],
        seconds: float = 0.0,
        compile_seconds: dict[str, float] | None = None,
    ):
        self.folder = folder
        self.trainer = trainer
        self.measurements = measurements
        self.checkpoints = Checkpoints(folder.path)
        self.groups = groups(trainer.config, trainer.groups)
        self.data_dir: Path | None = None
        self.verified = True
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
        """Writes the metrics, the times and the record, in the first process."""
        if not distributed.is_primary():
            return
        self.folder.write_csv(_run_folder.METRICS, COLUMNS, self.measurements.rows())
        self.folder.write_csv(_run_folder.TIMES, TIME_COLUMNS, self.measurements.time_rows())
        measured = _record.measurements(self.measurements, self.trainer, self.compile_seconds)
        seconds = time.perf_counter() - self._start
        content = {
            "complete": complete,
            **self._known,
            "total_seconds": seconds,
            "metrics": self.folder.fingerprint(_run_folder.METRICS),
            **measured,
        }
        self.folder.write_json(_run_folder.RECORD, content)
        self._written = time.perf_counter()

    def write_now_and_then(self):
        """Writes, unless that was a moment ago."""
        if time.perf_counter() - self._written >= WRITE_SECONDS:
            self.write()

    def wall_times(self) -> dict[str, dict]:
        """Seconds by arm."""
        return _record.wall_times(
            self.measurements, self.trainer.examples_per_epoch, self.compile_seconds
        )


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
