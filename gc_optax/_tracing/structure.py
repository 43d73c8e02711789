"""Primitives that only move, cut or join dimensions: each layout goes along.

A rule is a function `(layout, eqn) -> layout`, or None where no layout describes the outcome.
"""

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gc_optax._tracing import layout as lay
from gc_optax._tracing.interpreter import (
    ADDITIVE,
    LINEAR,
    SPLAT_PRESERVING,
    Interpreter,
    rule,
    shape_of,
)
from gc_optax._tracing.layout import Layout
from gc_optax._tracing.values import Value, merge

MOVES = ("broadcast_in_dim", "reshape", "squeeze", "transpose", "optimization_barrier", "copy",
         "sharding_constraint", "reshard")  # fmt: skip

SPLAT_PRESERVING.update([*MOVES, "slice", "reduce_sum"])
LINEAR.update([*MOVES, "slice"])

LayoutRule = Callable[[Layout, Any], Layout | None]


def carries(*primitives: str) -> Callable[[LayoutRule], LayoutRule]:
    """Registers what primitives of one operand do to its layout."""

    def register(function: LayoutRule) -> LayoutRule:
        def apply(interpreter: Interpreter, eqn, operands: list[Value]) -> list[Value]:
            (operand,) = operands
            if not operand.has_leaves:  # it had been chosen from leaves by data
                return interpreter.activations(eqn, operands)
            output = operand.map(lambda layout: function(layout, eqn), eqn.primitive.name)
            output.is_sum = eqn.primitive.name in ADDITIVE
            return [output for _ in eqn.outvars]

        rule(*primitives)(apply)
        return function

    return register


@carries("transpose")
def _transpose(layout, eqn):
    return layout.pick(layout.dims[d] for d in eqn.params["permutation"])


@carries("reshape")
def _reshape(layout, eqn):
    order = eqn.params["dimensions"]
    if order is not None:
        layout = layout.pick(layout.dims[d] for d in order)
    return lay.reshaped(layout, shape_of(eqn.outvars[0]))


@carries("squeeze")
def _squeeze(layout, eqn):
    # A slice of one row chooses one copy once its dimension is gone.
    gone = eqn.params["dimensions"]
    return layout.choose(without(layout, gone).dims, gone)


@carries("broadcast_in_dim")
def _broadcast_in_dim(layout, eqn):
    shape = shape_of(eqn.outvars[0])
    dims = [lay.broadcast(size) for size in shape]
    for source, target in zip(layout.dims, eqn.params["broadcast_dimensions"], strict=True):
        if lay.size_of(source) == shape[target]:
            dims[target] = source
    return layout.pick(dims)


@rule("unstack")
def _unstack(interpreter: Interpreter, eqn, operands):
    (operand,) = operands
    d = eqn.params["axis"] % len(shape_of(eqn.invars[0]))

    def row(layout: Layout, index: int) -> Layout:
        layout = lay.sliced(layout, d, range(index, index + 1))
        return layout.choose(without(layout, [d]).dims, [d])

    return [operand.map(partial(row, index=i), "unstack") for i in range(len(eqn.outvars))]


@carries("slice")
def _slice(layout, eqn):
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or (1,) * len(starts)
    return _sliced(layout, list(map(range, starts, limits, strides)))


@carries("rev")
def _rev(layout, eqn):
    return lay.shuffled(layout, eqn.params["dimensions"])


@carries("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _cumulative(layout, eqn):
    return lay.shuffled(layout, [eqn.params["axis"]])


@carries("reduce_sum")
def _reduce_sum(layout, eqn):
    gone = eqn.params["axes"]
    return without(layout, gone)._replace(summed=layout.summed | layout.axes(gone))


@carries(
    "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor",
    "argmax", "argmin",
)  # fmt: skip
def _reduce(layout, eqn):
    return without(layout, eqn.params["axes"])


@rule("split")
def _split(interpreter: Interpreter, eqn, operands):
    if not operands[0].has_leaves:
        return interpreter.activations(eqn, operands)
    axis, starts = eqn.params["axis"], itertools.accumulate(eqn.params["sizes"], initial=0)
    outputs = []
    for start, var in zip(starts, eqn.outvars, strict=False):
        rows = [range(start if d == axis else 0, (start if d == axis else 0) + size)
                for d, size in enumerate(shape_of(var))]  # fmt: skip
        outputs.append(operands[0].map(partial(_sliced, rows=rows), "split"))
    return outputs


@rule("sort")
def _sort(interpreter: Interpreter, eqn, operands):
    if any(value.is_data for value in operands):
        return interpreter.mix(eqn, operands, "sorted with activations")
    shape, dimension = shape_of(eqn.outvars[0]), eqn.params["dimension"]
    # Where each entry goes, and the order that comes out, depends on all keys.
    output = merge(operands, shape, "sort")
    output = output.map(lambda layout: lay.shuffled(layout, [dimension]), "sort")
    return [output for _ in eqn.outvars]


@rule("pad")
def _pad(interpreter: Interpreter, eqn, operands):
    operand, padding = operands
    if operand.has_leaves:
        shape = shape_of(eqn.outvars[0])
        operand = operand.map(lambda layout: lay.fitted(layout, shape), "pad")
    return [interpreter.combine(eqn, [operand, padding], "padded with activations")]


@rule("concatenate")
def _concatenate(interpreter: Interpreter, eqn, operands):
    dimension, shape = eqn.params["dimension"], shape_of(eqn.outvars[0])

    def within(layout: Layout) -> Layout:
        dims = list(layout.dims)
        dims[dimension] = lay.joined(dims[dimension], (), shape[dimension])
        return layout.pick(dims)

    parts = _side_by_side(operands, within, dimension, "concatenate")
    return [interpreter.combine(eqn, parts, "concatenated with activations")]


@rule("stack")
def _stack(interpreter: Interpreter, eqn, operands):
    shape = shape_of(eqn.outvars[0])
    axis = eqn.params["axis"] % len(shape)

    def within(layout: Layout) -> Layout:
        new = lay.broadcast(shape[axis])
        return layout.pick((*layout.dims[:axis], new, *layout.dims[axis:]))

    parts = _side_by_side(operands, within, axis, "stack")
    return [interpreter.combine(eqn, parts, "stacked with activations")]


def _side_by_side(
    operands: Sequence[Value], within: Callable[[Layout], Layout], dimension: int, primitive: str
) -> list[Value]:
    """Arrays, each in its place of the output; `dimension` tells different parts of an axis apart.

    Slices of an axis that are put together along it again are that axis. Along another dimension
    (the rows of a Toeplitz matrix), each entry of that dimension has a part of its own.
    """
    placed = [v.map(within, primitive) if v.has_leaves else v for v in operands]
    parts: dict[int, list[dict[int, lay.Rows | None]]] = {}
    others: dict[int, set[tuple[lay.Dim, ...]]] = {}
    for value in placed:
        for leaf, layout in value.layouts.items():
            parts.setdefault(leaf, []).append(dict(layout.parts))
            others.setdefault(leaf, set()).add(without(layout, [dimension]).dims)

    def completed(leaf: int, layout: Layout) -> Layout:
        found = parts[leaf]
        for axis in {axis for part in found for axis in part}:
            rows = [part.get(axis) for part in found]
            if len(others[leaf]) > 1 or not all(map(lay.is_ordered, *others[leaf])):
                rows = [None for _ in rows]  # the outputs of each part may be different ones
            if any(row != rows[0] for row in rows) or None in rows:
                layout = _put_together(layout, dimension, axis, rows)
        return layout

    for value in placed:
        if any(any(found) for leaf, found in parts.items() if leaf in value.layouts):
            value.layouts = {
                leaf: completed(leaf, layout) for leaf, layout in value.layouts.items()
            }
    return placed


def _put_together(
    layout: Layout, dimension: int, axis: int, rows: Sequence[lay.Rows | None]
) -> Layout:
    """The layout of one of several parts of an axis that stand beside each other."""
    along = axis in layout.axes([dimension])
    known = [row for row in rows if row is not None]
    rest = frozenset(part for part in layout.parts if part[0] != axis)
    if not along:
        piece = (lay.Piece((axis,), 1, None),)
        dims = enumerate(layout.dims)
        elsewhere = axis in layout.axes()
        layout = layout.pick(
            lay.joined(dim, piece, lay.size_of(dim)) if d == dimension else dim for d, dim in dims
        )
        if elsewhere:
            return layout._replace(parts=rest | {(axis, None)})
    together = functools.reduce(operator.add, known) if len(known) == len(rows) else None
    if together is not None and together.is_all:
        return layout._replace(parts=rest, chosen=layout.chosen - {axis})
    return layout._replace(parts=rest | {(axis, together)})


@carries("tile")
def _tile(layout, eqn):
    repeats = map(lay.broadcast, eqn.params["reps"])
    # A single row that is repeated is a new dimension, like that of a broadcast.
    return layout.pick(
        new if new and lay.size_of(dim) == 1 else (*new, *dim)
        for new, dim in zip(repeats, layout.dims, strict=True)
    )


@rule("optimization_barrier", "device_put", "copy", "sharding_constraint", "reshard",
      "layout_constraint", "name")  # fmt: skip
def _identity(interpreter: Interpreter, eqn, operands):
    return list(operands)


@rule("stop_gradient")
def _stop_gradient(interpreter: Interpreter, eqn, operands):
    (operand,) = operands
    if not operand.has_leaves:
        return interpreter.activations(eqn, operands)
    output = operand.map(lambda layout: layout._replace(stopped=True), "stop_gradient")
    output.sources.clear()
    return [output]


def without(layout: Layout, dimensions) -> Layout:
    return layout.pick(dim for d, dim in enumerate(layout.dims) if d not in dimensions)


def cut(layout: Layout, shape: Sequence[int], by_data: bool = False) -> Layout:
    """A part of each dimension that starts somewhere. A single index chooses one copy."""
    gone = [d for d, size in enumerate(shape) if size == 1 < lay.size_of(layout.dims[d])]
    parts = enumerate(zip(layout.dims, shape, strict=True))
    unknown = layout.axes(d for d, size in enumerate(shape)
                          if 1 < size < lay.size_of(layout.dims[d]))  # fmt: skip
    dims = (() if d in gone else lay.resized(*part) for d, part in parts)
    kept = {(axis, rows) for axis, rows in layout.parts if axis not in unknown}
    layout = layout._replace(parts=frozenset(kept | {(axis, None) for axis in unknown}))
    return layout.choose(dims, gone, by_data)


def _sliced(layout: Layout, rows: Sequence[range]) -> Layout:
    for d, part in enumerate(rows):
        layout = lay.sliced(layout, d, part)
    return layout
