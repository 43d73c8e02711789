"""Primitives that only move, cut or join dimensions: each layout goes along.

A rule is a function `(layout, eqn) -> layout`, or None where the layout is lost.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from gc_optax._tracing import layout as lay
from gc_optax._tracing.control_flow import unknown
from gc_optax._tracing.interpreter import UNIFORM, Interpreter, rule, shape_of
from gc_optax._tracing.layout import Layout
from gc_optax._tracing.values import Value, merge

LayoutRule = Callable[[Layout, Any], Layout | None]


def carries(*primitives: str) -> Callable[[LayoutRule], LayoutRule]:
    """Registers what a primitive does to the layout of its first operand.

    Further operands (start indices) may be anything but weights of interest.
    """

    def register(function: LayoutRule) -> LayoutRule:
        def apply(self: Interpreter, eqn, operands: list[Value]) -> list[Value]:
            first, *others = operands
            if first.data or any(value.data for value in others):
                return self.mix(eqn, operands, f"moved by `{eqn.primitive.name}` with activations")
            output = first.map(lambda layout: function(layout, eqn), eqn.primitive.name)
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
    return _without(layout, eqn.params["dimensions"])


@carries("broadcast_in_dim")
def _broadcast_in_dim(layout, eqn):
    shape = shape_of(eqn.outvars[0])
    dims = [lay.broadcast(size) for size in shape]
    for source, target in zip(layout.dims, eqn.params["broadcast_dimensions"], strict=True):
        if math.prod(piece.size for piece in source) == shape[target]:
            dims[target] = source
    return layout.pick(dims)


@carries("unstack")
def _unstack(layout, eqn):
    return _without(layout, [eqn.params["axis"] % len(layout.dims)])


@carries("slice")
def _slice(layout, eqn):
    return _cut(layout, shape_of(eqn.outvars[0]))


@carries("rev", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _along_a_dimension(layout, eqn):
    return layout


@carries("reduce_sum")
def _reduce_sum(layout, eqn):
    gone = eqn.params["axes"]
    return _without(layout, gone)._replace(summed=layout.summed | layout.axes(gone))


@carries(
    "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor",
    "argmax", "argmin",
)  # fmt: skip
def _reduce(layout, eqn):
    return _without(layout, eqn.params["axes"])


@rule("split")
def _split(self: Interpreter, eqn, operands):
    shapes = map(shape_of, eqn.outvars)
    return [operands[0].map(partial(_cut, shape=shape), "split") for shape in shapes]


@rule("pad")
def _pad(self: Interpreter, eqn, operands):
    operand, padding = operands
    if operand.data or padding.data:
        return self.mix(eqn, operands, "padded with activations")
    return [operand.map(lambda layout: lay.fitted(layout, shape_of(eqn.outvars[0])), "pad")]


@rule("sort")
def _sort(self: Interpreter, eqn, operands):
    if any(value.data for value in operands):
        return self.mix(eqn, operands, "sorted with activations")
    return list(operands)


@rule("concatenate")
def _concatenate(self: Interpreter, eqn, operands):
    if any(value.data for value in operands):
        return self.mix(eqn, operands, "concatenated with activations")
    dimension, shape = eqn.params["dimension"], shape_of(eqn.outvars[0])

    def stretched(layout: Layout) -> Layout:
        dims = list(layout.dims)
        dims[dimension] = lay.joined(dims[dimension], (), shape[dimension])
        return layout.pick(dims)

    return [merge([v.map(stretched, "concatenate") for v in operands], shape, "concatenate")]


@rule("dynamic_slice")
def _dynamic_slice(self: Interpreter, eqn, operands):
    operand, *starts = operands
    if operand.data or any(value.data for value in starts):
        return lookup(self, eqn, operand, operands)
    return [operand.map(lambda layout: _cut(layout, shape_of(eqn.outvars[0])), "dynamic_slice")]


@rule("gather")
def _gather(self: Interpreter, eqn, operands):
    """`W[i]` by constant indices; by data it is a lookup."""
    operand, indices = operands
    if operand.data or indices.data:
        return lookup(self, eqn, operand, operands)
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    shape = shape_of(eqn.outvars[0])
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    batch = [d for d in range(len(shape)) if d not in numbers.offset_dims]

    def gathered(layout: Layout) -> Layout:
        dims = [lay.broadcast(size) for size in shape]
        kept = [d for d in range(len(sizes)) if d not in gone]
        for source, target in zip(kept, numbers.offset_dims, strict=True):
            dims[target] = _cut_dim(layout.dims[source], sizes[source])
        if len(batch) == 1:  # chosen rows: still rows
            for source in gone:
                dims[batch[0]] = lay.joined(dims[batch[0]], layout.dims[source], shape[batch[0]])
        return layout.pick(dims)

    return [operand.map(gathered, "gather")]


def lookup(self: Interpreter, eqn, operand: Value, operands) -> list[Value]:
    """Rows are chosen by data: an embedding."""
    outputs = self.data_outputs(eqn, operands)
    if not operand.data:
        for leaf, layout in operand.layouts.items():
            if layout.axes():
                self.record(leaf, "lookup", outputs[0], stopped=layout.stopped)
        for leaf, primitive in operand.lost.items():
            self.record(leaf, "lost", outputs[0], text=primitive)
    return outputs


@rule("optimization_barrier", "device_put", "copy", "copy_p", "sharding_constraint", "reshard",
      "mesh_cast", "layout_constraint", "name", "pvary", "pcast", "pbroadcast", "psum",
      "psum_invariant", "psum2", "pmax", "pmin", "ppermute")  # fmt: skip
def _identity(self: Interpreter, eqn, operands):
    return list(operands)


UNIFORM.update(
    ("broadcast_in_dim", "reshape", "squeeze", "transpose", "slice", "reduce_sum"),
)
UNIFORM.update(("optimization_barrier", "copy", "copy_p", "sharding_constraint", "reshard"))


@rule("all_gather", "all_gather_invariant", "reduce_scatter")
def _resharded(self: Interpreter, eqn, operands):
    """Along a mesh axis, in place: the dimension grows or shrinks."""
    (operand,) = operands
    if not eqn.params["tiled"]:
        return unknown(self, eqn, operands)
    shape = shape_of(eqn.outvars[0])
    return [operand.map(lambda layout: lay.fitted(layout, shape), eqn.primitive.name)]


@rule("stop_gradient")
def _stop_gradient(self: Interpreter, eqn, operands):
    (operand,) = operands
    output = operand.map(lambda layout: layout._replace(stopped=True), "stop_gradient")
    output.sources.clear()
    return [output]


def _without(layout: Layout, dimensions) -> Layout:
    return layout.pick(dim for d, dim in enumerate(layout.dims) if d not in dimensions)


def _cut(layout: Layout, shape) -> Layout:
    return layout.pick(_cut_dim(d, size) for d, size in zip(layout.dims, shape, strict=True))


def _cut_dim(dim: lay.Dim, size: int) -> lay.Dim:
    """A part of a dimension. A single index chooses one copy: the axis is gone."""
    if size == 1 and math.prod(piece.size for piece in dim) > 1:
        return ()
    return lay.resized(dim, size)
