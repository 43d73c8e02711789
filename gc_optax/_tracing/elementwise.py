"""Elementwise primitives: weights combine, and with data they become part of the activations."""

import dataclasses
from collections.abc import Sequence

from gc_optax._tracing import layout as lay
from gc_optax._tracing.interpreter import (
    LINEAR,
    SPLAT_PRESERVING,
    Interpreter,
    rule,
    shape_of,
)
from gc_optax._tracing.values import MAIN, STATISTIC, Value, merge

UNARY = (
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "bessel_i0e", "bessel_i1e",
    "cbrt", "ceil", "clz", "conj", "convert_element_type", "cos", "cosh",
    "digamma", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "imag", "integer_pow",
    "is_finite", "lgamma", "log", "log1p", "log2", "logistic", "neg", "not", "one_minus_square",
    "polynomial", "population_count", "real",
    "reduce_precision", "round", "rsqrt", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh",
)  # fmt: skip

BINARY = (
    "and", "atan2", "clamp", "complex", "eq", "eq_to", "ge", "gt", "igamma", "igammac", "le",
    "le_to", "lt", "lt_to", "max", "min", "ne", "nextafter", "or", "polygamma",
    "pow", "regularized_incomplete_beta", "rem",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "xor", "zeta",
)  # fmt: skip

PHRASES = {
    "add": "added to activations",
    "add_any": "added to activations",
    "sub": "added to activations",
    "mul": "multiplied with activations",
    "div": "multiplied with activations",
}

SPLAT_PRESERVING.update([*UNARY, *BINARY, *PHRASES])
LINEAR.update(["convert_element_type", "neg", *PHRASES])


@rule(*UNARY, *BINARY)
def _elementwise(interpreter: Interpreter, eqn, operands):
    phrase = f"combined with activations by `{eqn.primitive.name}`"
    output = interpreter.combine(eqn, operands, phrase)
    if output.activation and eqn.primitive.name not in LINEAR:
        # What has passed a nonlinearity was no weight: its use has been recorded.
        output.layouts = {
            leaf: layout for leaf, layout in output.layouts.items() if not layout.product
        }
    return [output]


@rule("mul", "div")
def _scale(interpreter: Interpreter, eqn, operands):
    """A weight scaled by one number is a weight, even if the number depends on the data."""
    factors = [value for value in operands if value.activation and value.splat]
    rest = [value for value in operands if value not in factors]
    if factors and _varies(rest, shape_of(eqn.outvars[0])):
        scaled = merge(rest, shape_of(eqn.outvars[0]), eqn.primitive.name)
        scaled.sources += [(value, STATISTIC) for value in factors]
        return [scaled]
    output = interpreter.combine(eqn, operands, PHRASES[eqn.primitive.name])
    mask_parts(output, operands)
    if output.is_weight and any(value.noise for value in operands):
        output.layouts = {
            leaf: layout._replace(noise=True) for leaf, layout in output.layouts.items()
        }
    return [output]


def mask_parts(output: Value, operands: Sequence[Value]) -> None:
    """A constant mask that keeps one entry of each row (a diagonal) leaves parts of these axes."""
    dims = [d for value in operands if value.is_constant for d in value.one_hot]
    if dims and output.has_leaves:
        output.layouts = {
            leaf: layout._replace(parts=layout.parts | {(a, None) for a in layout.axes(dims)})
            for leaf, layout in output.layouts.items()
        }


def _varies(values: Sequence[Value], shape) -> bool:
    """Whether a product is about these weights, and not about one number that is broadcast."""
    is_matrix = sum(size > 1 for size in shape) > 1
    return (
        is_matrix
        and any(value.has_leaves for value in values)
        and not all(value.splat for value in values)
    )


@rule("add", "sub", "add_any")
def _add(interpreter: Interpreter, eqn, operands):
    if step := _gradient_step(operands):
        return [_updated(*step, shape_of(eqn.outvars[0]))]
    output = interpreter.combine(eqn, operands, PHRASES[eqn.primitive.name])
    if any(map(_is_whole, operands, eqn.invars)):
        # W + A @ B: the product is a weight itself, and B is contracted with what A gives.
        output.edges = frozenset(dataclasses.replace(edge, is_weight=True) for edge in output.edges)
    if any(value.is_weight and _is_whole(value, atom)
           for value, atom in zip(operands, eqn.invars, strict=True)):  # fmt: skip
        output.layouts = {
            leaf: layout._replace(product=False) for leaf, layout in output.layouts.items()
        }
    return [output]


def _gradient_step(operands: Sequence[Value]) -> tuple[Value, Value] | None:
    """The weight and the step of `w - rate * gradient`, after which `w` is still that parameter."""
    for weight, step in (operands, operands[::-1]):
        is_parameter = weight.is_weight or any(layout.updated for layout in weight.layouts.values())
        if is_parameter and step.gradient and step.activation:
            return weight, step
    return None


def _updated(weight: Value, step: Value, shape) -> Value:
    layouts = {
        leaf: lay.stretched(layout, shape)._replace(updated=True)
        for leaf, layout in weight.layouts.items()
    }
    return Value(
        max(weight.own_evidence, step.evidence),
        activation=True,
        layouts=layouts,
        unknown=weight.unknown,
        edges=weight.edges,
        sources=[(weight, MAIN), (step, MAIN)],
    )


def _is_whole(value: Value, atom) -> bool:
    """Whether an array without a product behind it fills all dimensions, two or more."""
    if value.activation or value.edges:
        return False
    shape = shape_of(atom)
    if value.is_constant:
        return sum(size > 1 for size in shape) > 1
    return any(
        not layout.product
        and len(layout.dims) > 1
        and all(layout.axes([d]) for d in range(len(layout.dims)))
        for layout in value.layouts.values()
    )
