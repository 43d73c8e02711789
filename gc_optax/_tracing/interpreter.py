"""The environment loop: runs a jaxpr over `Value`s, with one rule per primitive.

A rule is called only where an operand is a weight. It gets the interpreter, the equation and the
operands' values, and gives back the values of the outputs. To add a primitive that only moves
dimensions around, see `structure`; one that contracts, `contraction`.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.numpy as jnp

from gc_optax._tracing import layout as lay
from gc_optax._tracing.records import Kind, Record
from gc_optax._tracing.values import CONSTANT, Value, data

Rule = Callable[["Interpreter", Any, list[Value]], list[Value]]

RULES: dict[str, Rule] = {}

DEFAULT = "(any other)"
"""The rule for primitives that have none of their own."""


UNIFORM: set[str] = set()
"""Primitives that make one number out of one number, or repeat it."""


def rule(*primitives: str) -> Callable[[Rule], Rule]:
    """Registers a rule for the named primitives."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(primitives, function))
        return function

    return register


def shape_of(atom) -> tuple[int, ...]:
    """The shape of a variable or literal; () for tokens and references."""
    return getattr(atom.aval, "shape", ())


class Interpreter:
    """Runs jaxprs and records what it sees of each leaf.

    Args:
        constants_are_data: Whether arrays that are computed from nothing count as inputs.
    """

    def __init__(self, constants_are_data: bool = False):
        self.records: list[Record] = []
        self._constants_are_data = constants_are_data
        self._stack: list[Any] = []
        self._pseudo_leaves = itertools.count(-1, -1)

    def run(self, jaxpr, args: Sequence[Value], constants: Iterable[Value] = ()) -> list[Value]:
        """The values of the outputs."""
        from jax.extend.core import Literal  # slow to import: it loads Pallas

        env: dict[Any, Value] = dict(zip(jaxpr.invars, args, strict=True))
        env.update(zip(jaxpr.constvars, constants, strict=False))

        def read(atom) -> Value:
            return CONSTANT if isinstance(atom, Literal) else env.get(atom, CONSTANT)

        for eqn in jaxpr.eqns:
            outputs = self._apply(eqn, [read(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _apply(self, eqn, operands: list[Value]) -> list[Value]:
        if any(value.is_weight for value in operands):
            self._stack.append(eqn)
            outputs = RULES.get(eqn.primitive.name, RULES[DEFAULT])(self, eqn, operands)
            self._stack.pop()
            return [
                _one(value) if _is_uniform(var) else value
                for value, var in zip(outputs, eqn.outvars, strict=True)
            ]
        if any(value.data for value in operands):
            if eqn.primitive.name not in RULES and any(map(_is_index, operands, eqn.invars)):
                return RULES[DEFAULT](self, eqn, operands)  # may hold a one-hot encoding
            return self.data_outputs(eqn, operands)
        uniform = all(value.uniform for value in operands) and bool(operands)
        return [
            data([]) if self._constants_are_data and not _is_uniform(var) else Value(uniform=one)
            for var in eqn.outvars
            for one in [_is_uniform(var, uniform)]
        ]

    def data_outputs(self, eqn, operands: Sequence[Value]) -> list[Value]:
        """Outputs that depend on an input. A number stays one through arithmetic and broadcast."""
        name = eqn.primitive.name
        uniform = name in UNIFORM and all(value.uniform for value in operands)
        one_hot = _compares_with_positions(eqn, operands) or (
            name in UNIFORM and len(operands) == 1 and operands[0].one_hot
        )
        return [
            data(operands if _has_gradient(eqn, var) else (), _is_uniform(var, uniform), one_hot)
            for var in eqn.outvars
        ]

    def mix(self, eqn, operands: Sequence[Value], phrase: str) -> list[Value]:
        """Weights become part of the activations in another way than by a contraction."""
        outputs = self.data_outputs(eqn, operands)
        for value in operands:
            self.note(value, phrase, outputs[0])
        return outputs

    def note(self, value: Value, phrase: str, node: Value) -> None:
        """Records of each leaf in a weight that this was done to it."""
        if value.data:
            return
        for leaf in value.lost:
            self.record(leaf, "note", node, text=phrase)
        for leaf, layout in value.layouts.items():
            self.record(leaf, "note", node, text=phrase, axes=layout.axes())
        # `table @ W` of a constant table is a contraction like any other, and now seen to be one
        # that no input comes before.
        constants = [leaf for leaf in value.layouts if leaf < 0]
        self.follow_bonds(value, constants, node, is_certain=True)

    def record(
        self, leaf: int, kind: Kind, node: Value, stack: tuple[Any, ...] = (), **details
    ) -> None:
        """Records a sighting, here unless `stack` says where; `node` is what came out of it."""
        if leaf >= 0:
            self.records.append(Record(leaf, kind, stack or self.place(), node, **details))

    def place(self) -> tuple[Any, ...]:
        """The equations that we are in, outermost first."""
        return tuple(self._stack)

    def follow_bonds(
        self, value: Value, start: Sequence[int], node: Value, is_certain: bool = False
    ) -> None:
        """Records the contractions between parameters, outward from the leaves next to the data.

        In `x @ (W + A @ B)`, `x` is contracted with `A`, and `B` with what comes of that. In
        `x @ (A @ B)` that is not certain, since `B` could also be a layer that maps inputs `A`.
        """
        visited, frontier = set(start), list(start)
        while frontier:
            near = frontier.pop(0)
            for bond in value.bonds:
                for (here, _), (far, axes) in (bond.ends, bond.ends[::-1]):
                    if here != near or far in visited or far not in value.layouts:
                        continue
                    visited.add(far)
                    frontier.append(far)
                    product = not (is_certain or bond.is_weight)
                    self.record_use(far, "dense", node, value, axes, product, stack=bond.stack)

    def record_use(
        self,
        leaf: int,
        kind: Kind,
        node: Value,
        value: Value,
        axes: frozenset[int],
        product: bool,
        kept: frozenset[int] | None = None,
        batch: frozenset[int] = frozenset(),
        stack: tuple[Any, ...] = (),
    ) -> None:
        """Records that axes of a leaf were contracted; those still in `kept` only in part."""
        layout = value.layouts[leaf]
        axes |= layout.summed
        in_bonds = [far for bond in value.bonds for end, far in bond.ends if end == leaf]
        self.record(
            leaf,
            kind,
            node,
            stack,
            axes=axes,
            batch=batch - axes,
            present=layout.axes().union(*in_bonds),
            partial=axes & (layout.chosen | (layout.axes() if kept is None else kept)),
            product=product,
            stopped=layout.stopped,
        )

    def frozen(self, variable) -> Value:
        """An array that is like a parameter but not one of them: a frozen weight, a mask."""
        shape = shape_of(variable)
        if not _is_uniform(variable) and jnp.issubdtype(variable.aval.dtype, jnp.inexact):
            return self.with_layout(Value(), shape)
        return Value(uniform=_is_uniform(variable))

    def with_layout(self, value: Value, shape: Sequence[int]) -> Value:
        """The value; a constant gets a layout, so that contractions with it can be followed."""
        if value.is_weight:
            return value
        return Value(layouts={next(self._pseudo_leaves): lay.identity(shape)})


def _is_uniform(var, uniform: bool = False) -> bool:
    return uniform or all(size == 1 for size in shape_of(var))


def _one(value: Value) -> Value:
    """A single number: it has no axes to lose (a largest singular value)."""
    if value.data or (value.uniform and not value.lost):
        return value
    return Value(uniform=True, layouts=value.layouts, bonds=value.bonds, sources=value.sources)


def _has_gradient(eqn, var) -> bool:
    """Whether a gradient flows back from the output: not through integers, masks or a stop.

    This decides which uses of a parameter the loss depends on (`verdict.relevance`).
    """
    dtype = getattr(var.aval, "dtype", None)
    is_inexact = dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
    return is_inexact and eqn.primitive.name != "stop_gradient"


def _is_index(value: Value, atom) -> bool:
    return value.data and jnp.issubdtype(getattr(atom.aval, "dtype", bool), jnp.integer)


def _compares_with_positions(eqn, operands: Sequence[Value]) -> bool:
    """Whether this is a one-hot encoding: `index == iota`."""
    return (
        eqn.primitive.name == "eq"
        and any(map(_is_index, operands, eqn.invars))
        and any(not value.data and not value.uniform for value in operands)
    )
