"""Progress while a comparison runs: a bar on a terminal, a line per finished cell anywhere."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gc_optax.experiments._config import Config
from gc_optax.experiments._results import Cell, Results


class Reporter:
    """Says on `console` what is being trained and what has been."""

    def __init__(self, console: Console, config: Config):
        self._console = console
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
        total = len(config.learning_rates) * len(config.arms) * config.epochs
        self._task = self._bar.add_task("starting", total=total)

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

    def epoch(self, cell: Cell, results: Results):
        """One more epoch of `cell` is there."""
        accuracy = results.mean(cell, "test_accuracy", results.epochs(cell)).mean
        self._bar.update(
            self._task, advance=1, description=f"{self._name(cell)}  {accuracy:6.2%} right"
        )

    def finished(self, cell: Cell, results: Results, seconds: float):
        """All epochs of `cell` are there."""
        accuracy = results.mean(cell, "test_accuracy", results.epochs(cell)).mean
        diverged = results.diverged(cell)
        self._console.print(
            f"{self._name(cell)}  test accuracy {accuracy:6.2%} after {results.epochs(cell)} "
            f"epochs, {seconds:.1f} s" + (f", {diverged} seeds diverged" if diverged else ""),
            highlight=False,
        )

    def _name(self, cell: Cell) -> str:
        rate = f"learning rate {cell.learning_rate:<6g}  " if self._several else ""
        return f"{rate}{cell.arm:<{self._width}}"
