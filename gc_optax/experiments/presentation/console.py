"""The tables that a comparison prints."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gc_optax.experiments.presentation import formatting
from gc_optax.experiments.presentation.formatting import ACCURACY, LOSS, Shown
from gc_optax.experiments.runs import analysis
from gc_optax.experiments.runs.measurements import Cell, Measurements
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.optimizers import ARMS, BASELINE


def tables(run: Measurements, times: Mapping[str, Mapping], console: Console) -> RenderableType:
    """Accuracy, loss and the `wall_times` of the record; what the columns mean stands below."""
    last, is_text = run.design.epochs, run.design.is_text
    judge = run.design.judge.capitalize()
    accuracy = f"{judge} accuracy, % of characters" if is_text else f"{judge} accuracy, %"
    loss = f"{judge} loss, nats per character" if is_text else f"{judge} loss, nats"
    unlimited = console.options.update(width=1000)
    # Where the second epoch does not fit beside the others it is left out, not broken up.
    for epochs in (sorted({1, min(2, last), last}), sorted({1, last}), [last]):
        metrics = [
            _metric(run, epochs, ACCURACY, accuracy),
            _metric(run, epochs, LOSS, loss),
        ]
        if all(console.measure(t, options=unlimited).maximum <= console.width for t in metrics):
            break
    return Group(*metrics, _remarks(run), *_times(times))


def arms(config: Config) -> RenderableType:
    """What each arm does, and the chain that it is."""
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    for arm in config.arms:
        table.add_row(Text(arm, style="bold"), config.chain_code(arm))
        if arm != BASELINE:
            verb = "centralizes " if ARMS[arm].make else ""
            table.add_row("", Text(f"{verb}{ARMS[arm].meaning}", style="dim"))
    return table


def _metric(run: Measurements, epochs: list[int], shown: Shown, title: str) -> Table:
    design = run.design
    any_diverged = any(analysis.diverged(run, cell) for cell in run.metrics)
    table = _table(title)
    several = len(design.learning_rates) > 1
    if several:
        table.add_column("rate", justify="right", no_wrap=True)
    else:
        table.title = f"{title}, at learning rate {design.learning_rates[0]:g}"
    table.add_column("arm", no_wrap=True)
    for epoch in epochs:
        table.add_column(f"epoch {epoch}", justify="right")
    if _is_paired(run):
        table.add_column("minus none at the end", justify="right")
    if any_diverged:
        table.add_column("diverged", justify="right", no_wrap=True)
    for rate in design.learning_rates:
        for arm in design.arms:
            cell = Cell(arm, rate)
            row: list[str | Text] = [arm]
            if several:
                row.insert(0, f"{rate:g}" if arm == design.arms[0] else "")
            for epoch in epochs:
                there = analysis.values(run, cell, shown.metric, epoch)
                what = formatting.mean(run, cell, shown, epoch)
                row.append(Text(what, style="" if there else "dim"))
            if _is_paired(run):
                what, pairs, clear = formatting.difference(run, cell, shown, design.epochs)
                row.append(Text(what, style="bold" if clear else "") + pairs)
            if any_diverged:
                row.append(_diverged(run, cell))
            table.add_row(*row, end_section=arm == design.arms[-1])
    return table


def _is_paired(run: Measurements) -> bool:
    return BASELINE in run.design.arms and len(run.design.arms) > 1


def _diverged(run: Measurements, cell: Cell) -> str | Text:
    if cell not in run.metrics:
        return ""
    number = len(analysis.diverged(run, cell))
    what = f"{number} of {len(run.design.seeds)}"
    return Text(what, style="bold red") if number else what


def _remarks(run: Measurements) -> Text:
    seeds = run.design.seeds
    if len(seeds) == 1:
        lines = [f"One seed, {seeds[0]}: no error can be given."]
    else:
        lines = [f"Mean ± standard error over {len(seeds)} seeds, {seeds[0]} to {seeds[-1]}."]
    if _is_paired(run) and len(seeds) > 1:
        lines.append("Differences are paired by seed, [95% confidence interval by Student's t];")
        lines.append("bold where it excludes 0, with no correction for the number of comparisons.")
    if any(analysis.diverged(run, cell) for cell in run.metrics):
        lines.append("A seed has diverged if a loss is not finite; it stays in every mean, and an")
        lines.append("example for which the network gives no finite answer counts as wrong.")
    if run.ended:
        lines.append("Where no loss of a group was finite any more it was ended, and would have")
        lines.append("got nothing right in the epochs that were left: see ended_early in run.json.")
    return Text("\n".join([*lines, ""]), style="dim")


def _times(times: Mapping[str, Mapping[str, Any]]) -> list[RenderableType]:
    table = _table("Wall time, s")
    ratios = any(of_arm["epoch_ratio_to_none"] is not None for of_arm in times.values())
    for name in ("arm", "compile", "run", "per epoch (quartiles)", "examples/s"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    if ratios:
        table.add_column("epoch / none", justify="right")
    for arm, of_arm in times.items():
        low, high = of_arm["epoch_quartiles"]
        ratio = of_arm["epoch_ratio_to_none"]
        table.add_row(
            arm,
            f"{of_arm['compile']:.2f}",
            f"{of_arm['run']:.2f}",
            f"{of_arm['epoch']:.3f} ({low:.3f} to {high:.3f})",
            f"{of_arm['examples_per_second']:,.0f}",
            *([f"{ratio:.2f}" if ratio is not None else ""] if ratios else []),
        )
    if ratios or len(times) < 2:
        return [table]
    return [table, Text("The arms ran one after the other: what else the machine did is in their "
                        "times,\nwhich say little of what an arm costs.", style="dim")]  # fmt: skip


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
