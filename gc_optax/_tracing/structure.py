"""Primitives that only move, cut or join dimensions: each layout goes along.

A rule is a function `(layout, eqn) -> layout`, or None where no layout describes the outcome.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gc_optax._tracing import layout as lay
from gc_optax._tracing.interpreter import LINEAR, SPLAT_PRESERVING, Interpreter, rule, shape_of
from gc_optax._tracing.layout import Layout
from gc_optax._tracing.values import Value

MOVES = ("broadcast_in_dim", "reshape", "squeeze", "transpose", "optimization_barrier", "copy",
         "sharding_constraint", "reshard")  # fmt: skip

SPLAT_PRESERVING.update([*MOVES, "slice", "reduce_sum"])
LINEAR.update(MOVES)

LayoutRule = Callable[[Layout, Any], Layout | None]


def carries(*primitives: str) -> Callable[[LayoutRule], LayoutRule]:
    """Registers what primitives of one operand do to its layout."""

    def register(function: LayoutRule) -> LayoutRule:
        def apply(interpreter: Interpreter, eqn, operands: list[Value]) -> list[Value]:
            (operand,) = operands
            if not operand.has_leaves:  # it had been chosen from leaves by data
                return interpreter.activations(eqn, operands)
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
    return without(layout, eqn.params["dimensions"])


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
    return layout.choose(without(layout, gone).dims, gone)


@carries("slice")
def _slice(layout, eqn):
    return cut(layout, shape_of(eqn.outvars[0]))


@carries("rev", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _along_a_dimension(layout, eqn):
    return layout


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
    shapes = map(shape_of, eqn.outvars)
    return [operands[0].map(partial(cut, shape=shape), "split") for shape in shapes]


@rule("sort")
def _sort(interpreter: Interpreter, eqn, operands):
    if any(value.is_data for value in operands):
        return interpreter.mix(eqn, operands, "sorted with activations")
    return list(operands)


@rule("pad")
def _pad(interpreter: Interpreter, eqn, operands):
    def fitted(layout: Layout) -> Layout:
        return lay.fitted(layout, shape_of(eqn.outvars[0]))

    return _joined(interpreter, eqn, operands[:1], fitted, "padded with activations", operands[1:])


@rule("concatenate")
def _concatenate(interpreter: Interpreter, eqn, operands):
    dimension, shape = eqn.params["dimension"], shape_of(eqn.outvars[0])

    def within(layout: Layout) -> Layout:
        dims = list(layout.dims)
        dims[dimension] = lay.joined(dims[dimension], (), shape[dimension])
        return layout.pick(dims)

    return _joined(interpreter, eqn, operands, within, "concatenated with activations")


@rule("stack")
def _stack(interpreter: Interpreter, eqn, operands):
    shape = shape_of(eqn.outvars[0])
    axis = eqn.params["axis"] % len(shape)

    def within(layout: Layout) -> Layout:
        new = lay.broadcast(shape[axis])
        return layout.pick((*layout.dims[:axis], new, *layout.dims[axis:]))

    return _joined(interpreter, eqn, operands, within, "stacked with activations")


def _joined(
    interpreter: Interpreter,
    eqn,
    operands: Sequence[Value],
    within: Callable[[Layout], Layout],
    phrase: str,
    others: Sequence[Value] = (),
) -> list[Value]:
    """Arrays side by side, each in its part of the output."""
    parts = [v.map(within, eqn.primitive.name) if v.has_leaves else v for v in operands]
    return [interpreter.combine(eqn, [*parts, *others], phrase)]


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


def cut(layout: Layout, shape, by_data: bool = False) -> Layout:
    """A part of each dimension. A single index chooses one copy: that axis is gone."""
    gone = [d for d, size in enumerate(shape) if size == 1 < lay.size_of(layout.dims[d])]
    parts = enumerate(zip(layout.dims, shape, strict=True))
    dims = (() if d in gone else lay.resized(*part) for d, part in parts)
    return layout.choose(dims, gone, by_data)
