"""Elementwise primitives: weights combine, and with data they become part of the activations."""

import dataclasses

from gc_optax._tracing.interpreter import UNIFORM, Interpreter, rule, shape_of
from gc_optax._tracing.values import STATISTIC, Value, merge

UNARY = (
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "bessel_i0e", "bessel_i1e",
    "bitcast_convert_type", "cbrt", "ceil", "clz", "conj", "convert_element_type", "cos", "cosh",
    "digamma", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "imag", "integer_pow",
    "is_finite", "lgamma", "log", "log1p", "log2", "logistic", "neg", "not", "one_minus_square",
    "polynomial", "population_count", "real",
    "reduce_precision", "round", "rsqrt", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh",
)  # fmt: skip

BINARY = (
    "and", "atan2", "clamp", "complex", "eq", "ge", "gt", "igamma", "igammac", "le", "lt", "max",
    "min", "ne", "nextafter", "or", "polygamma", "pow", "regularized_incomplete_beta", "rem",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "xor", "zeta",
)  # fmt: skip

PHRASES = {
    "add": "added to activations",
    "add_any": "added to activations",
    "sub": "added to activations",
    "mul": "multiplied with activations",
    "div": "multiplied with activations",
}

UNIFORM.update([*UNARY, *BINARY, *PHRASES])


@rule(*UNARY, *BINARY)
def _elementwise(self: Interpreter, eqn, operands):
    if any(value.data for value in operands):
        return self.mix(eqn, operands, f"combined with activations by `{eqn.primitive.name}`")
    return [merge(operands, shape_of(eqn.outvars[0]), eqn.primitive.name)]


@rule("mul", "div")
def _scale(self: Interpreter, eqn, operands):
    """A weight scaled by one number is a weight, even if the number depends on the data."""
    inputs = [value for value in operands if value.data]
    weights = [value for value in operands if not value.data]
    shape = shape_of(eqn.outvars[0])
    if inputs and not (all(value.uniform for value in inputs) and _varies(weights, shape)):
        return self.mix(eqn, operands, PHRASES[eqn.primitive.name])
    scaled = merge(weights, shape, eqn.primitive.name)
    scaled.sources += [(value, STATISTIC) for value in inputs]
    return [scaled]


def _varies(weights: list[Value], shape) -> bool:
    """Whether the product is still about the weights, and not about the data broadcast by one."""
    is_matrix = sum(size > 1 for size in shape) > 1
    return is_matrix and not all(value.uniform for value in weights)


@rule("add", "sub", "add_any")
def _add(self: Interpreter, eqn, operands):
    if any(value.data for value in operands):
        return self.mix(eqn, operands, PHRASES[eqn.primitive.name])
    output = merge(operands, shape_of(eqn.outvars[0]), eqn.primitive.name)
    # W + A @ B: the product is a weight itself, and B is contracted with what A gives.
    if any(_is_whole(value) for value in operands):
        output.bonds = frozenset(dataclasses.replace(bond, is_weight=True) for bond in output.bonds)
    return [output]


def _is_whole(value: Value) -> bool:
    """Whether a leaf without a product behind it fills all dimensions, two or more."""
    return not value.bonds and any(
        len(layout.dims) > 1 and all(layout.axes([d]) for d in range(len(layout.dims)))
        for layout in value.layouts.values()
    )
