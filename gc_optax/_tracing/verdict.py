"""The policy: what the records of a leaf mean for it."""

from collections.abc import Sequence
from typing import NamedTuple

from gc_optax._fan_in import FanIn, fan_in_size
from gc_optax._tracing.parts import sliced_axes
from gc_optax._tracing.records import Record
from gc_optax._tracing.values import MAIN, STATISTIC, Evidence, Value

MAX_PLACES = 6


class Verdict(NamedTuple):
    """The `FanIn` of a leaf, and what to warn of."""

    fan_in: FanIn
    conflict: str = ""


def relevance(outputs: Sequence[Value], side_outputs: Sequence[Value]) -> dict[Value, int]:
    """How the outputs depend on each value: MAIN, or STATISTIC, or (not in the result) not at all.

    What only feeds auxiliary outputs or a scale factor (the power iteration of a spectral norm)
    says less about a layer than what the loss goes through.
    """
    levels: dict[Value, int] = {}
    for level in (MAIN, STATISTIC):
        frontier = [value for value, found in levels.items() if found > level]
        frontier = [source for value in frontier for source, _ in value.sources]
        frontier += outputs if level == MAIN else side_outputs
        while frontier:
            value = frontier.pop()
            if value not in levels:
                levels[value] = level
                frontier += [source for source, how in value.sources if how >= level]
    return levels


def verdict(shape: Sequence[int], records: Sequence[Record], levels: dict[Value, int]) -> Verdict:
    """What the records of one leaf mean, the most relevant ones deciding."""
    backward = [record for record in records if record.kind != "remark" and record.is_backward]
    forward = [record for record in records if record not in backward]
    if any(levels.get(record.node, 0) for record in backward):
        # A forward pass that nothing depends on, over constants, is there only to be transposed.
        forward = [
            record
            for record in forward
            if levels.get(record.node, 0) or record.evidence == Evidence.ARGUMENT
        ]
    only_backward = bool(backward) and all(record.kind == "remark" for record in forward)
    records = _decisive(forward, levels)
    uses = [record for record in records if record.is_use]
    seen = ", ".join(sorted({record.text for record in records if record.kind == "remark"}))

    def alone(reason: str, conflict: str = "") -> Verdict:
        return Verdict(FanIn((), reason, rank=len(shape)), conflict)

    def at_kind(kind: str) -> list[Record]:
        return [record for record in records if record.kind == kind]

    if 0 in shape:
        return alone("empty")
    if len(shape) < 2:
        return alone(seen or "rank below 2")
    if lookups := at_kind("lookup"):
        tied = ", also contracted (tied)" if uses else ""
        return alone(f"{lookups[0].text or 'embedding lookup'}{tied}")
    if unknown := at_kind("unknown"):
        return alone(_not_followed(unknown[0]))
    if only_backward:
        return alone("used in a backward pass only")
    if mixed := at_kind("mixed"):
        text = mixed[0].text or "mixed by data with the layer's own input"
        return alone(f"{text}, {_at(mixed[:1])}")
    if not uses:
        return alone(seen or "no use found")
    # A scale that is made of the leaf (of a quantized weight) has lost the axes that were reduced.
    summed = frozenset().union(*(use.axes for use in uses))
    also = [r for r in records if r.blocks and levels.get(r.node, 0) == MAIN and summed <= r.axes]
    if also:
        return alone(f"contracted, and {also[0].text}, {_at(also[:1])}")
    if any(use.partial for use in uses) or sliced_axes(uses, levels):
        text = f"conflicting uses: an axis is contracted in part only, {_places(uses, shape)}"
        return alone(text, text)
    if products := [use for use in uses if use.product]:
        what = products[0].product
        return alone(f"contracted with {what} before it meets data, {_at(products[:1])}")
    if len({_without_ones(use.axes, shape) for use in uses}) > 1:
        text = f"conflicting uses: {_places(uses, shape)}"
        return alone(text, text)
    axes = tuple(sorted(frozenset().union(*(use.axes for use in uses))))
    if fan_in_size(axes, shape) == 1:
        return alone("fan-in of 1")
    kind = "conv" if all(use.kind == "conv" for use in uses) else "dense"
    batch = frozenset.intersection(*(_batch(use, shape) for use in uses)) - set(axes)
    groups = {use.groups for use in uses} if kind == "conv" else {None}
    return Verdict(
        FanIn(
            axes,
            kind,
            tuple(sorted(batch)),
            kind=kind,
            groups=groups.pop() if len(groups) == 1 else None,
            rank=len(shape),
        )
    )


def _not_followed(record: Record) -> str:
    primitive = record.stack[-1].primitive.name if record.stack else ""
    if primitive == record.text:
        return f"meets data in `{primitive}`, which is not followed, {_at([record])}"
    return f"layout lost in `{record.text}`, before the use {_at([record])}"


def _decisive(records: Sequence[Record], levels: dict[Value, int]) -> list[Record]:
    """The records that decide: what the loss depends on, and of that what surely met data."""

    def level(record: Record) -> int:
        return min(levels.get(record.node, 0), STATISTIC if record.stopped else MAIN)

    remarks = [record for record in records if record.kind == "remark"]
    sightings = [record for record in records if record.kind != "remark"]
    highest = max(map(level, sightings), default=0)
    sightings = [record for record in sightings if level(record) == highest]
    evidence = max((record.evidence for record in sightings), default=Evidence.NONE)
    sightings = [record for record in sightings if record.evidence == evidence]
    # A table that the loss adds to its activations is no layer, whatever a side output or a
    # penalty with constants does with it.
    as_it_is = [r for r in remarks if r.direct and r.axes and level(r) == MAIN]
    if highest < MAIN and any(r.node.activation for r in as_it_is):
        return remarks
    if evidence < Evidence.ARGUMENT and any(
        r.evidence >= evidence and r.node.activation for r in as_it_is
    ):
        return remarks
    return sightings + remarks


def _without_ones(axes: frozenset[int], shape: Sequence[int]) -> frozenset[int]:
    return frozenset(axis for axis in axes if shape[axis] > 1)


def _batch(use: Record, shape: Sequence[int]) -> frozenset[int]:
    """The axes that tell copies of the layer apart: run along with the data, or indexed away."""
    gone = {axis for axis, size in enumerate(shape) if size > 1} - use.present - use.axes
    return use.batch | gone


def _places(uses: Sequence[Record], shape: Sequence[int]) -> str:
    by_axes: dict[tuple[int, ...], list[Record]] = {}
    for use in uses:
        by_axes.setdefault(tuple(sorted(_without_ones(use.axes, shape))), []).append(use)
    return " and ".join(f"axes {axes} {_at(places)}" for axes, places in by_axes.items())


def _at(records: Sequence[Record]) -> str:
    places = list(dict.fromkeys(record.where for record in records))
    more = f" and {len(places) - MAX_PLACES} more places" if len(places) > MAX_PLACES else ""
    return "at " + ", ".join(places[:MAX_PLACES]) + more
