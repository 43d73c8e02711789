"""Collectives inside `shard_map`: the axes are the same, the sizes those of shards."""

from typing import Any

from gc_optax._tracing import layout as lay
from gc_optax._tracing.control_flow import call, unknown
from gc_optax._tracing.interpreter import Interpreter, rule, shape_of
from gc_optax._tracing.layout import Layout
from gc_optax._tracing.values import Value


@rule("pvary", "pbroadcast", "psum", "psum_invariant", "pmax", "pmin", "ppermute")
def _identity(interpreter: Interpreter, eqn, operands):
    return list(operands)


@rule("shard_map")
def _shard_map(interpreter: Interpreter, eqn, operands):
    """Followed inside, where each leaf knows which of its axes are split over the mesh."""
    operands = [_split(*pair) for pair in zip(operands, eqn.params["in_specs"], strict=True)]
    return call(interpreter, eqn.params["jaxpr"], eqn, operands)


def _split(value: Value, spec: Any) -> Value:
    if not value.has_leaves:
        return value

    def with_shards(layout: Layout) -> Layout:
        found = {
            (name, axis)
            for d, names in enumerate(spec)
            for name in (names if isinstance(names, tuple) else (names,))
            if name is not None
            for axis in layout.axes([d])
        }
        return layout._replace(shards=layout.shards | found)

    return value.map(with_shards, "shard_map")


@rule("all_gather", "all_gather_invariant", "reduce_scatter")
def _gathered(interpreter: Interpreter, eqn, operands):
    """Tiled, a dimension grows or shrinks; else there is a new one, for the shards of an axis."""
    (operand,) = operands
    if not operand.has_leaves:
        return interpreter.activations(eqn, operands)
    shape, name = shape_of(eqn.outvars[0]), eqn.primitive.name
    if eqn.params["tiled"]:
        return [operand.map(lambda layout: lay.fitted(layout, shape), name)]
    if name == "reduce_scatter":
        return unknown(interpreter, eqn, operands)
    dimension = eqn.params["all_gather_dimension"]
    names = eqn.params["axis_name"]
    names = names if isinstance(names, tuple) else (names,)

    def with_shards(layout: Layout) -> Layout:
        axes = tuple(sorted(axis for split, axis in layout.shards if split in names))
        size = shape[dimension]
        new = (lay.Piece(axes, size, None),) if axes else lay.broadcast(size)
        return layout.pick((*layout.dims[:dimension], new, *layout.dims[dimension:]))

    return [operand.map(with_shards, name)]
