"""Axes by arithmetic: what kernels of the usual kinds sum over."""


def all_but_last(shape) -> tuple[int, ...]:
    """Every axis but the last: kernels stored (..., in, out)."""
    return tuple(range(len(shape) - 1))


def all_but_first(shape) -> tuple[int, ...]:
    """Every axis but the first: kernels stored (out, in, ...)."""
    return tuple(range(1, len(shape)))


def all_but_second_to_last(shape) -> tuple[int, ...]:
    """Every axis but the one before the last: transposed kernels stored (..., out, in)."""
    return (*range(len(shape) - 2), len(shape) - 1)


def einsum_axes(equation: str, shape, operand: int = 1) -> tuple[int, ...]:
    """The axes of an operand of an einsum that its output does not have."""
    inputs, output = equation.replace(" ", "").split("->")
    letters = inputs.split(",")[operand]
    if "..." in letters:  # an ellipsis stands in front in all that is met here
        named = letters.replace("...", "")
        letters = "." * (len(shape) - len(named)) + named
        output += "."
    return tuple(axis for axis, letter in enumerate(letters) if letter not in output)
