"""The tables that a comparison prints."""

import math

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gc_optax.experiments.data import SOURCES
from gc_optax.experiments.execution.record import chain_code
from gc_optax.experiments.runs.measurements import Cell, Results
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.optimizers import ARMS, BASELINE


def tables(results: Results, times: dict[str, dict], console: Console) -> RenderableType:
    """Accuracy, loss and the `wall_times` of the record; what the columns mean stands below."""
    last = results.config.epochs
    text = SOURCES[results.config.dataset].kind == "text"
    judge = results.config.judge.capitalize()
    accuracy = f"{judge} accuracy, % of characters" if text else f"{judge} accuracy, %"
    loss = f"{judge} loss, nats per character" if text else f"{judge} loss, nats"
    unlimited = console.options.update(width=1000)
    # Where the second epoch does not fit beside the others it is left out, not broken up.
    for shown in (sorted({1, min(2, last), last}), sorted({1, last})):
        metrics = [
            _metric(results, shown, "test_accuracy", accuracy, scale=100, digits=2),
            _metric(results, shown, "test_loss", loss, scale=1, digits=3),
        ]
        if all(console.measure(t, options=unlimited).maximum <= console.width for t in metrics):
            break
    return Group(
        *metrics,
        _notes(results),
        _times(times),
    )


def arms(config: Config) -> RenderableType:
    """What each arm does, and the chain that it is."""
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    for arm in config.arms:
        table.add_row(Text(arm, style="bold"), chain_code(config, arm))
        if arm != BASELINE:
            table.add_row("", Text(f"centralizes {ARMS[arm].meaning}", style="dim"))
    return table


def _metric(
    results: Results, shown: list[int], metric: str, title: str, *, scale: int, digits: int
) -> Table:
    config = results.config
    paired = BASELINE in config.arms and len(config.arms) > 1
    any_diverged = any(results.diverged(cell) for cell in results.cells)
    table = _table(title)
    several = len(config.learning_rates) > 1
    if several:
        table.add_column("rate", justify="right", no_wrap=True)
    else:
        table.title = f"{title}, at learning rate {config.learning_rates[0]:g}"
    table.add_column("arm", no_wrap=True)
    for epoch in shown:
        table.add_column(f"epoch {epoch}", justify="right")
    if paired:
        table.add_column("minus none at the end", justify="right")
    if any_diverged:
        table.add_column("diverged", justify="right", no_wrap=True)
    for rate in config.learning_rates:
        for position, arm in enumerate(config.arms):
            cell = Cell(arm, rate)
            row: list[str | Text] = [arm]
            if several:
                row.insert(0, f"{rate:g}" if position == 0 else "")
            row += [_mean(results, cell, metric, epoch, scale, digits) for epoch in shown]
            if paired:
                row.append(_difference(results, cell, metric, scale, digits))
            if any_diverged:
                row.append(_diverged(results, cell))
            table.add_row(*row, end_section=position == len(config.arms) - 1)
    return table


def _mean(
    results: Results, cell: Cell, metric: str, epoch: int, scale: int, digits: int
) -> str | Text:
    if results.epochs(cell) < epoch:
        return Text("not run", style="dim")
    center, error = results.mean(cell, metric, epoch)
    text = _number(scale * center, digits)
    return text if math.isnan(error) else f"{text} ± {_number(scale * error, digits)}"


def _difference(results: Results, cell: Cell, metric: str, scale: int, digits: int) -> str | Text:
    last = results.config.epochs
    difference = results.difference(cell, metric, last) if results.epochs(cell) == last else None
    if difference is None:
        return ""
    center, low, high = (_number(scale * value, digits, sign=True) for value in difference)
    if math.isnan(difference.low):
        return center
    clear = difference.low > 0 or difference.high < 0
    return Text(f"{center} [{low}, {high}]", style="bold" if clear else "")


def _diverged(results: Results, cell: Cell) -> str | Text:
    if not results.epochs(cell):
        return ""
    number = results.diverged(cell)
    text = f"{number} of {results.config.seeds}"
    return Text(text, style="bold red") if number else text


def _number(value: float, digits: int, *, sign: bool = False) -> str:
    if math.isnan(value):
        return "nan"
    # The loss of a network that diverges can be as large as a float gets.
    kind = f".{digits}f" if abs(value) < 100.5 else ".3g"
    return format(value, f"{'+' if sign else ''}{kind}")


def _notes(results: Results) -> Text:
    config = results.config
    if config.seeds == 1:
        lines = [f"One seed, {config.seed}: no error can be given."]
    else:
        lines = [f"Mean ± standard error over {config.seeds} seeds, {_range(config.all_seeds)}."]
    if BASELINE in config.arms and len(config.arms) > 1 and config.seeds > 1:
        lines.append("Differences are paired by seed, [95 % confidence interval by Student's t];")
        lines.append("bold where it excludes 0, with no correction for the number of comparisons.")
    if any(results.diverged(cell) for cell in results.cells):
        lines.append("A seed has diverged if a loss is not finite; it stays in every mean, and an")
        lines.append("example for which the network gives no finite answer counts as wrong.")
    if results.ended:
        lines.append("Where no loss of a group was finite any more it was ended, and would have")
        lines.append("got nothing right in the epochs that were left: see ended_early in run.json.")
    return Text("\n".join([*lines, ""]), style="dim")


def _range(seeds: range) -> str:
    return f"{seeds[0]} to {seeds[-1]}"


def _times(times: dict[str, dict]) -> Table:
    table = _table("Wall time, s")
    for name in ("arm", "compile", "run", "per epoch", "epoch / none", "examples/s"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for arm, of_arm in times.items():
        ratio = of_arm["epoch_ratio_to_none"]
        table.add_row(
            arm,
            f"{of_arm['compile']:.2f}",
            f"{of_arm['run']:.2f}",
            f"{of_arm['epoch']:.3f}",
            "" if ratio is None else f"{ratio:.2f}",
            f"{of_arm['examples_per_second']:,.0f}",
        )
    return table


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
