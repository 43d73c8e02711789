"""Slices of an axis that are contracted one by one, and whether they make up the whole.

`x @ w[:3] + y @ w[3:]` is one layer over all rows of `w`. If the products are not added, or some
rows are missing, each output sums over a part of the axis, and no mean over all of it is right.
"""

import functools
import operator
from collections.abc import Iterable, Sequence

from gc_optax._tracing.layout import Rows, is_ordered
from gc_optax._tracing.records import Record
from gc_optax._tracing.values import Value


def sliced_axes(uses: Sequence[Record], values: Iterable[Value]) -> frozenset[int]:
    """The axes of which these uses do not sum over all rows, in one sum.

    Args:
        uses: The uses of one leaf.
        values: All values that the outputs of the function depend on.
    """
    sliced = {axis for use in uses for axis, _ in use.parts if axis in use.axes}
    if not sliced:
        return frozenset()
    sums = _sums_above([use.node for use in uses], values)
    return frozenset(axis for axis in sliced if not _is_whole(axis, uses, sums))


def _is_whole(axis: int, uses: Sequence[Record], sums: dict[Value, set[Value]]) -> bool:
    """Whether each use of a part belongs to a sum in which every row of the axis occurs."""
    parts = {use: dict(use.parts)[axis] for use in uses if axis in dict(use.parts)}
    if None in parts.values():
        return False

    def completes(total: Value, use: Record) -> bool:
        """Whether the parts that are added in `total`, for the same outputs, make up the axis."""
        return _are_all(
            rows
            for other, rows in parts.items()
            if total in sums[other.node] and _outputs(axis, other) == _outputs(axis, use)
        )

    if len(parts) > 1 and not all(is_ordered(dim) for use in parts for dim in use.outputs):
        return False
    return all(any(completes(total, use) for total in sums[use.node]) for use in parts)


def _outputs(axis: int, use: Record) -> tuple:
    """Where the outputs of a use come from, and which parts of the other axes take part."""
    return use.outputs, frozenset(part for part in use.parts if part[0] != axis)


def _are_all(parts: Iterable[Rows | None]) -> bool:
    known = [part for part in parts if part is not None]
    return functools.reduce(operator.add, known).is_all


def _sums_above(nodes: Sequence[Value], values: Iterable[Value]) -> dict[Value, set[Value]]:
    """For each node, itself and all the values that are it plus something."""
    consumers: dict[Value, list[Value]] = {}
    for value in values:
        if value.is_sum:
            for source, _ in value.sources:
                consumers.setdefault(source, []).append(value)
    found: dict[Value, set[Value]] = {}
    for node in nodes:
        above, frontier = {node}, [node]
        while frontier:
            for value in consumers.get(frontier.pop(), []):
                if value not in above:
                    above.add(value)
                    frontier.append(value)
        found[node] = above
    return found
