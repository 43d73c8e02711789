"""The environment loop: runs a jaxpr over `Value`s, with one rule per primitive.

A rule is called where an operand has leaves. It gets the interpreter, the equation and the
operands' values, and gives back the values of the outputs. README.md shows how to add one.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from gc_optax._tracing.constants import closed_array, made_by
from gc_optax._tracing.one_hot import STARTS, chosen_by_constant, chosen_dimensions, outer_product
from gc_optax._tracing.records import Recorder, is_backward
from gc_optax._tracing.values import (
    SPLAT,
    Evidence,
    Reference,
    Value,
    activation,
    combined_evidence,
    is_pending,
    merge,
)

Rule = Callable[["Interpreter", Any, list[Value]], list[Value]]

RULES: dict[str, Rule] = {}

DEFAULT = "(any other)"
"""The rule for primitives that have none of their own."""

SPLAT_PRESERVING: set[str] = set()
"""Primitives that make one number out of one number, or repeat it."""

ADDITIVE = {
    "add", "add_any", "convert_element_type", "copy", "neg", "optimization_barrier",
    "reduce_precision", "squeeze", "sub",
}  # fmt: skip
"""Primitives that give the sum of their operands, up to signs and casts, entry by entry."""

ALWAYS: set[str] = set()
"""Primitives whose rule is called whatever the operands are: they look inside, or at state."""

LINEAR: set[str] = set()
"""Primitives through which an activation keeps the leaves that data has chosen or mixed."""

KEY_PRIMITIVES = {
    "random_bits", "random_clone", "random_fold_in", "random_seed", "random_split",
    "random_unwrap", "random_wrap", "rng_bit_generator", "rng_uniform", "threefry2x32",
}  # fmt: skip
"""Primitives of random numbers, which are no data whatever the key is."""


def rule(*primitives: str) -> Callable[[Rule], Rule]:
    """Registers a rule for the named primitives."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(primitives, function))
        return function

    return register


def shape_of(atom) -> tuple[int, ...]:
    """The shape of a variable or literal; () for tokens."""
    return getattr(atom.aval, "shape", ())


class Interpreter:
    """Runs jaxprs and records what it sees of each leaf."""

    def __init__(self):
        self.recorder = Recorder()
        self.references: list[Reference] = []
        self._backward = False

    def run(self, jaxpr, args: Sequence[Value]) -> list[Value]:
        """The values of the outputs of a jaxpr, closed or open."""
        from jax.extend.core import Literal  # slow to import: it loads Pallas

        body = open_jaxpr(jaxpr)
        env: dict[Any, Value] = dict(zip(body.invars, args, strict=True))
        constants = getattr(jaxpr, "consts", ())
        for variable, constant in zip(body.constvars, constants, strict=False):
            env[variable] = closed_over(constant)

        def read(atom) -> Value:
            if isinstance(atom, Literal):
                return closed_over(atom.val) if shape_of(atom) else literal(atom.val)
            return env.get(atom, SPLAT)

        for eqn in body.eqns:
            outputs = self._apply(eqn, [read(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in body.outvars]

    def _apply(self, eqn, operands: list[Value]) -> list[Value]:
        name = eqn.primitive.name
        if name in KEY_PRIMITIVES:
            return [constant(var, Evidence.MADE, noise=True) for var in eqn.outvars]
        is_activation = False
        for value in operands:
            if value.layouts or value.unknown or type(value) is Reference:
                return self._apply_rule(eqn, operands)
            is_activation = is_activation or value.activation
        if name in ALWAYS or (name not in RULES and _may_hold_data(eqn, operands)):
            return self._apply_rule(eqn, operands)
        return (self.activations if is_activation else constant_outputs)(eqn, operands)

    def _apply_rule(self, eqn, operands: list[Value]) -> list[Value]:
        name = eqn.primitive.name
        outside, self._backward = self._backward, is_backward([eqn], self._backward)
        self.recorder.stack.append(eqn)
        seen = len(self.recorder.records)
        if name in RULES and name not in LINEAR:
            operands = [self.settled(value, name) for value in operands]
        outputs = [
            _one(value) if _is_one(var) else value
            for value, var in zip(
                RULES.get(name, RULES[DEFAULT])(self, eqn, operands), eqn.outvars, strict=True
            )
        ]
        if not any(hasattr(open_jaxpr(value), "eqns") for value in eqn.params.values()):
            self._remark_vanished(eqn, operands, outputs, seen)  # else done inside
        self.recorder.stack.pop()
        self._backward = outside
        return outputs

    def settled(self, value: Value, primitive: str) -> Value:
        """The value; what data has chosen of leaves is an activation now, and no weight."""
        if not is_pending(value):
            return value
        settled = activation([value], value.evidence, gradient=value.gradient)
        for leaf, layout in value.layouts.items():
            if layout.picked:
                self.recorder.record(
                    leaf, "lookup", settled, value.evidence, stopped=layout.stopped
                )
            elif layout.updated:
                phrase = f"updated and combined with activations by `{primitive}`"
                self.recorder.record(leaf, "remark", settled, value.evidence, text=phrase)
        return settled

    def _remark_vanished(self, eqn, operands, outputs, seen: int) -> None:
        """Nothing that was used is left without a record."""
        left = {leaf for value in outputs for leaf in (*value.layouts, *value.unknown)}
        left |= {record.leaf for record in self.recorder.records[seen:]}
        for value in operands:
            node = outputs[0] if outputs else value
            for leaf in {*value.layouts, *value.unknown} - left:
                text = f"used in `{eqn.primitive.name}`"
                self.recorder.record(leaf, "remark", node, node.evidence, text=text, direct=False)

    def activations(
        self, eqn, operands: Sequence[Value], evidence: Evidence | None = None
    ) -> list[Value]:
        """Outputs that a layer gives, or that depend on what one gives."""
        if evidence is None:
            evidence = Evidence.ARGUMENT
            if not any(value.is_data for value in operands):
                evidence = max(combined_evidence(operands)[0], Evidence.MADE)
        name = eqn.primitive.name
        splat, gradient, tracked = name in SPLAT_PRESERVING, False, name in STARTS
        for value in operands:
            splat = splat and value.splat
            gradient = gradient or value.gradient
            tracked = tracked or bool(value.one_hot or value.outer)
        gradient = gradient or is_backward([eqn], self._backward)
        one_hot, outer = frozenset(), ()
        if tracked:
            one_hot, outer = chosen_dimensions(eqn, operands), outer_product(eqn, operands)
        return [
            activation(
                operands if _has_gradient(eqn, var) else (),
                evidence,
                splat=splat or _is_one(var),
                one_hot=one_hot,
                outer=outer,
                gradient=gradient,
                is_sum=name in ADDITIVE,
            )
            for var in eqn.outvars
        ]

    def mix(self, eqn, operands: Sequence[Value], phrase: str) -> list[Value]:
        """Weights become part of the activations in another way than by a contraction."""
        outputs = self.activations(eqn, operands)
        for value in operands:
            if value.has_leaves:
                self.recorder.remark(value, phrase, outputs[0])
        return outputs

    def combine(self, eqn, operands: Sequence[Value], phrase: str) -> Value:
        """The operands elementwise; weights that meet activations become a part of them.

        What comes of constants and of what data has chosen may yet be a weight: it keeps leaves.
        """
        _, is_activation = combined_evidence(operands)
        if is_activation and any(value.is_data and not value.has_leaves for value in operands):
            return self.mix(eqn, operands, phrase)[0]
        output = merge(operands, shape_of(eqn.outvars[0]), eqn.primitive.name)
        output.is_sum = eqn.primitive.name in ADDITIVE
        if is_activation:
            for value in operands:
                if value.is_weight:
                    self.recorder.remark(value, phrase, output, direct=not output.is_data)
        return output


def open_jaxpr(jaxpr):
    """The jaxpr with its equations, whether closed or not."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def constant(variable, evidence: Evidence, splat: bool = False, **known) -> Value:
    """An array that is made of nothing that is learned."""
    if _is_one(variable):
        return Value(splat=True, array=known.get("array"))
    return Value(evidence, splat=splat, **known)


def constant_outputs(eqn, operands: Sequence[Value]) -> list[Value]:
    """Outputs of an equation whose operands are constants, or that has none."""
    evidence = max((value.evidence for value in operands), default=Evidence.MADE)
    splat = eqn.primitive.name in SPLAT_PRESERVING and all(value.splat for value in operands)
    one_hot = chosen_dimensions(eqn, operands)
    return [
        constant(
            var,
            max(evidence, Evidence.MADE),
            splat,
            one_hot=one_hot,
            array=made_by(eqn, list(operands), index),
            noise=any(value.noise for value in operands),
        )
        for index, var in enumerate(eqn.outvars)
    ]


def literal(number) -> Value:
    """A number of the program."""
    return Value(splat=True, array=lambda: closed_array(number))


def closed_over(array) -> Value:
    """An array of the program: a batch, or a mask, or one that chooses rows."""
    known = closed_array(array)
    if np.size(array) <= 1:
        return Value(splat=True, array=known)
    return Value(Evidence.CLOSED, one_hot=chosen_by_constant(known), array=known)


def _may_hold_data(eqn, operands: Sequence[Value]) -> bool:
    """Whether a call without leaves may hold a one-hot encoding, or closed-over data."""
    return bool(eqn.params) and (
        not any(value.activation for value in operands)
        or any(map(is_index, operands, eqn.invars))
        or any(value.one_hot for value in operands)
    )


def is_index(value: Value, atom) -> bool:
    """Whether the value is data of integers."""
    return value.activation and _is_integer(getattr(atom.aval, "dtype", None))


@functools.cache
def _is_integer(dtype) -> bool:
    return dtype is not None and jnp.issubdtype(dtype, jnp.integer)


def _is_one(var) -> bool:
    shape = shape_of(var)
    return shape == () or max(shape) == min(shape) == 1


def _one(value: Value) -> Value:
    """A single number: it has no axes to lose (a largest singular value)."""
    if isinstance(value, Reference) or (value.splat and not value.unknown):
        return value
    return Value(
        value.evidence,
        activation=value.activation,
        splat=True,
        gradient=value.gradient,
        layouts=value.layouts,
        edges=value.edges,
        sources=value.sources,
    )


def _has_gradient(eqn, var) -> bool:
    """Whether a gradient flows back from the output: not through integers, masks or a stop.

    This decides which uses of a parameter the loss depends on (`verdict.relevance`).
    """
    return _is_inexact(getattr(var.aval, "dtype", None)) and eqn.primitive.name != "stop_gradient"


@functools.cache
def _is_inexact(dtype) -> bool:
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
