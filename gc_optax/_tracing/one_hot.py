"""Arrays that choose: one-hot encodings, and outer products of activations.

A contraction with an array that is 1 at an index and 0 elsewhere is a look-up, however it is spelt.
So each value knows along which of its dimensions it chooses.
"""

import math
from collections.abc import Collection, Sequence

import jax.numpy as jnp
import numpy as np

from gc_optax._tracing.constants import known
from gc_optax._tracing.values import Value

STARTS = ("dot_general", "eq", "mul", "scatter")
"""Primitives that make a one-hot array or an outer product of others."""

UNCHANGED = ("convert_element_type", "copy", "reduce_precision", "stop_gradient")
"""Primitives that change no dimension."""


def chosen_by_constant(array: np.ndarray | None) -> frozenset[int]:
    """The dimensions along which an array of the program is 1 once and 0 elsewhere."""
    if array is None or array.ndim < 2:
        return frozenset()
    is_one = array == 1
    if is_one.sum() != np.count_nonzero(array):
        return frozenset()
    return frozenset(
        d for d, size in enumerate(is_one.shape) if size > 1 and (is_one.sum(d) == 1).all()
    )


def chosen_dimensions(eqn, operands: Sequence[Value]) -> frozenset[int]:
    """The dimensions along which the output of an equation may choose.

    `index == iota` compares an index with positions. Along which dimension these run, the equation
    does not say, so it may be any.
    """
    name = eqn.primitive.name
    if name == "eq" or name == "scatter":
        makes_one_hot = _compares_positions if name == "eq" else _writes_at_positions
        rank = len(eqn.outvars[0].aval.shape)
        return frozenset(range(rank)) if makes_one_hot(eqn, operands) else frozenset()
    for which, value in enumerate(operands):
        if value.one_hot:
            return _carried(name, eqn, which, operands)
    return frozenset()


def _carried(name: str, eqn, which: int, operands: Sequence[Value]) -> frozenset[int]:
    """The dimensions in the output of an equation of which operand `which` chooses."""
    dims = operands[which].one_hot
    if name in UNCHANGED or name == "mul":  # gates: something at the chosen entry, 0 elsewhere
        return dims
    if name == "transpose":
        return _moved(dims, eqn)
    if name == "dot_general":
        return _in_outer_product(dims, eqn, which)
    if name == "broadcast_in_dim":
        return frozenset(eqn.params["broadcast_dimensions"][d] for d in dims)
    if name == "select_n":  # `where(index == iota, 1, 0)`
        _, otherwise, *_ = operands
        is_zero = otherwise.is_constant and otherwise.splat and not np.any(known(otherwise))
        return dims if which == 0 and is_zero else frozenset()
    if name in ("gather", "dynamic_slice") and which == 0:  # `eye[index]`
        return frozenset(range(len(eqn.outvars[0].aval.shape)))
    if name in ("reshape", "squeeze"):
        return _whole(dims, eqn.invars[which].aval.shape, eqn.outvars[0].aval.shape)
    return frozenset()


def outer_product(eqn, operands: Sequence[Value]) -> tuple[frozenset[int], ...]:
    """The dimensions of either factor, where activations are multiplied without a sum."""
    name = eqn.primitive.name
    if name in UNCHANGED:
        return operands[0].outer
    if name == "transpose" and operands[0].outer:
        return tuple(_moved(dims, eqn) for dims in operands[0].outer)
    if name == "reshape" and operands[0].outer:
        shapes = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
        return tuple(_overlapping(dims, *shapes) for dims in operands[0].outer)
    if name not in ("dot_general", "mul") or any(value.splat for value in operands):
        return ()
    if not all(value.activation or value.is_constant for value in operands):
        return ()
    if name == "mul":
        sizes = zip(*(atom.aval.shape for atom in eqn.invars), strict=False)
        ones = [tuple(size == 1 for size in pair) for pair in sizes]
        return tuple(
            frozenset(d for d, pair in enumerate(ones) if pair == one)
            for one in ((False, True), (True, False))
        )
    (contracted, _), (batch, _) = eqn.params["dimension_numbers"]
    if contracted:
        return ()
    left, rank = len(eqn.invars[0].aval.shape), len(eqn.outvars[0].aval.shape)
    return frozenset(range(len(batch), left)), frozenset(range(left, rank))


def _in_outer_product(dims: Collection[int], eqn, which: int) -> frozenset[int]:
    """Where dimensions of a factor are in a product without a sum."""
    (contracted, _), batching = eqn.params["dimension_numbers"]
    if contracted:
        return frozenset()
    batch = list(batching[which])
    free = [d for d in range(len(eqn.invars[which].aval.shape)) if d not in batch]
    before = 0 if which == 0 else len(eqn.invars[0].aval.shape) - len(batch)
    return frozenset(
        batch.index(d) if d in batch else len(batch) + before + free.index(d) for d in dims
    )


def _compares_positions(eqn, operands: Sequence[Value]) -> bool:
    return (
        not any(value.has_leaves for value in operands)
        and all(jnp.issubdtype(atom.aval.dtype, jnp.number) for atom in eqn.invars)
        and any(value.is_constant and not value.splat for value in operands)
    )


def _writes_at_positions(eqn, operands: Sequence[Value]) -> bool:
    """Whether this is `zeros.at[index].set(1)`."""
    operand, index, update = operands
    is_index = not (index.has_leaves or index.splat)
    return is_index and all(v.is_constant and v.splat for v in (operand, update))


def _moved(dims: Collection[int], eqn) -> frozenset[int]:
    order = list(eqn.params["permutation"])
    return frozenset(order.index(d) for d in dims)


def _whole(dims: Collection[int], old: Sequence[int], new: Sequence[int]) -> frozenset[int]:
    """Where these dimensions are after a reshape, if it keeps them whole."""
    places = {(math.prod(new[:e]), size): e for e, size in enumerate(new) if size > 1}
    found = (places.get((math.prod(old[:d]), old[d])) for d in dims)
    return frozenset(e for e in found if e is not None)


def _overlapping(dims: Collection[int], old: Sequence[int], new: Sequence[int]) -> frozenset[int]:
    """The dimensions after a reshape into which any part of these has gone."""

    def spans(shape: Sequence[int]) -> list[tuple[int, int]]:
        """For each dimension the strides between which its index varies."""
        return [(math.prod(shape[d + 1 :]), math.prod(shape[d:])) for d in range(len(shape))]

    before, after = spans(old), spans(new)
    return frozenset(
        e
        for d in dims
        for e, (low, high) in enumerate(after)
        if max(low, before[d][0]) < min(high, before[d][1])
    )
