"""Primitives that only move, cut or join dimensions: each layout goes along.

A rule is a function `(layout, eqn) -> layout`, or None where the layout is lost.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from gc_optax._tracing import layout as lay
from gc_optax._tracing.control_flow import unknown
from gc_optax._tracing.interpreter import UNIFORM, Interpreter, rule, shape_of
from gc_optax._tracing.layout import Layout
from gc_optax._tracing.values import Value, merge

MOVES = ("broadcast_in_dim", "reshape", "squeeze", "transpose", "slice", "reduce_sum",
         "optimization_barrier", "copy", "sharding_constraint", "reshard")  # fmt: skip
"""Primitives that make no more than one number out of one number."""

LayoutRule = Callable[[Layout, Any], Layout | None]


def carries(*primitives: str) -> Callable[[LayoutRule], LayoutRule]:
    """Registers what primitives of one operand do to its layout."""

    def register(function: LayoutRule) -> LayoutRule:
        def apply(self: Interpreter, eqn, operands: list[Value]) -> list[Value]:
            (operand,) = operands
            output = operand.map(lambda layout: function(layout, eqn), eqn.primitive.name)
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
        if lay.size_of(source) == shape[target]:
            dims[target] = source
    return layout.pick(dims)


@carries("unstack")
def _unstack(layout, eqn):
    gone = [eqn.params["axis"] % len(layout.dims)]
    return layout.choose(_without(layout, gone).dims, gone)


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

    def within(layout: Layout) -> Layout:
        dims = list(layout.dims)
        dims[dimension] = lay.joined(dims[dimension], (), shape[dimension])
        return layout.pick(dims)

    return [merge([v.map(within, "concatenate") for v in operands], shape, "concatenate")]


@rule("stack")
def _stack(self: Interpreter, eqn, operands):
    if any(value.data for value in operands):
        return self.mix(eqn, operands, "stacked with activations")
    shape = shape_of(eqn.outvars[0])
    axis = eqn.params["axis"] % len(shape)

    def within(layout: Layout) -> Layout:
        new = lay.broadcast(shape[axis])
        return layout.pick((*layout.dims[:axis], new, *layout.dims[axis:]))

    return [merge([v.map(within, "stack") for v in operands], shape, "stack")]


@carries("tile")
def _tile(layout, eqn):
    repeats = map(lay.broadcast, eqn.params["reps"])
    # A single row that is repeated is a new dimension, like that of a broadcast.
    return layout.pick(
        new if new and lay.size_of(dim) == 1 else (*new, *dim)
        for new, dim in zip(repeats, layout.dims, strict=True)
    )


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
        cut = _cut(layout, sizes)
        dims = [lay.broadcast(size) for size in shape]
        kept = [d for d in range(len(sizes)) if d not in gone]
        for source, target in zip(kept, numbers.offset_dims, strict=True):
            dims[target] = cut.dims[source]
        if len(batch) != 1:
            return cut.pick(dims)
        for source in gone:  # chosen rows: still rows
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


@rule("optimization_barrier", "device_put", "copy", "sharding_constraint", "reshard",
      "layout_constraint", "name", "pvary", "pbroadcast", "psum",
      "psum_invariant", "pmax", "pmin", "ppermute")  # fmt: skip
def _identity(self: Interpreter, eqn, operands):
    return list(operands)


UNIFORM.update(MOVES)


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
    """A part of each dimension. A single index chooses one copy: that axis is gone."""
    gone = [d for d, size in enumerate(shape) if size == 1 < lay.size_of(layout.dims[d])]
    parts = enumerate(zip(layout.dims, shape, strict=True))
    return layout.choose((() if d in gone else lay.resized(*part) for d, part in parts), gone)
