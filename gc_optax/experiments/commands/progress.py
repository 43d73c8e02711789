"""Progress while a comparison runs: a bar on a terminal, a line per finished group anywhere."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gc_optax.experiments.runs import analysis
from gc_optax.experiments.runs.measurements import Group, Measurements
from gc_optax.experiments.settings.config import Config


class Reporter:
    """Says on `console` what is being trained and what has been."""

    def __init__(self, console: Console, config: Config, groups: int, epochs_done: int = 0):
        self._console = console
        self._grouped = groups > len(config.learning_rates) * len(config.arms)
        self._several = len(config.learning_rates) > 1
        self._width = max(map(len, config.arms))
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            # Without a terminal a bar would be printed once, at the end.
            disable=not console.is_terminal,
        )
        total = groups * config.epochs
        self._task = self._bar.add_task("starting", total=total, completed=epochs_done)

    def __enter__(self) -> "Reporter":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ):
        self._bar.stop()

    def say(self, what: str):
        """What is going on now."""
        self._bar.update(self._task, description=what)

    def epoch(self, group: Group, results: Measurements):
        """One more epoch of `group` is there."""
        accuracy = analysis.accuracy(results, group)
        self._bar.update(
            self._task, advance=1, description=f"{self._name(group)}  {accuracy:6.2%} right"
        )

    def finished(self, group: Group, results: Measurements, seconds: float):
        """Nothing is left to train of `group`."""
        epochs, ended = results.measured(group), results.has_ended(group)
        diverged = len({*analysis.diverged(results, group.cell)} & {*group.seeds})
        accuracy = analysis.accuracy(results, group)
        # An ended group leaves epochs that will not be run.
        self._bar.update(self._task, advance=results.design.epochs - epochs)
        self._console.print(
            f"{self._name(group)}  {results.design.judge} accuracy {accuracy:6.2%} "
            f"after {epochs} epochs, {seconds:.1f} s"
            + (f", {diverged} {'seed' if diverged == 1 else 'seeds'} diverged" if diverged else "")
            + (": ended, no loss was finite any more" if ended else ""),
            highlight=False,
            soft_wrap=True,
        )

    def _name(self, group: Group) -> str:
        cell, seeds = group
        rate = f"learning rate {cell.learning_rate:<6g}  " if self._several else ""
        last = f" to {seeds[-1]}" if len(seeds) > 1 else ""
        which = f"  seed {seeds[0]}{last}" if self._grouped else ""
        return f"{rate}{cell.arm:<{self._width}}{which}"
