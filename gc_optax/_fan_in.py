"""`FanIn`: over which axes of a parameter its layer sums."""

import dataclasses
import math
import operator
from collections.abc import Sequence

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class FanIn:
    """What Gradient Centralization needs to know about one parameter leaf.

    A layer computes `y_j = sum_i w_ij x_i`. The axes of `w` that `i` runs over are its fan-in
    axes, and the product of their sizes is its fan-in: `C_in` for a dense layer, `C_in * k1 * k2`
    for a convolution.

    A `FanIn` is not a pytree node, so in a tree of them each is a leaf.

    Examples:
        >>> import gc_optax
        >>> gc_optax.FanIn((0, 1, 2), "conv")
        FanIn(axes=(0, 1, 2), reason='conv', batch_axes=())

    Attributes:
        axes: The axes that the layer sums over. Negative axes count from the last. `()` leaves
            the parameter alone.
        reason: Why, for people: the kind of layer first, such as `"dense"`, `"conv"`,
            `"embedding lookup"` or `"fan-in of 1"`. A reason that starts with `"conv"` marks a
            convolution for `convolutions_only`.
        batch_axes: The axes over which independent copies of the layer are stacked (layers,
            experts, members of an ensemble), where known. Centralization does not need them;
            they tell outputs from copies.

    Raises:
        TypeError: `axes` or `batch_axes` is not a sequence of integers, or `reason` not a string.
        ValueError: An axis stands twice in `axes`, or in both `axes` and `batch_axes`.

    Source: Yong, Huang, Hua, Zhang, "Gradient Centralization", 2020, arXiv 2004.01461, section 3.
    """

    axes: tuple[int, ...]
    reason: str = "given"
    batch_axes: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "axes", _integers("axes", self.axes))
        object.__setattr__(self, "batch_axes", _integers("batch_axes", self.batch_axes))
        if not isinstance(self.reason, str):
            raise TypeError(f"`reason` of a FanIn must be a string, got {self.reason!r}.")
        named = self.axes + self.batch_axes
        if len(set(named)) != len(named):
            raise ValueError(
                f"A FanIn must name each axis once, got axes={self.axes} and "
                f"batch_axes={self.batch_axes}."
            )

    @property
    def is_convolution(self) -> bool:
        """Whether the layer is a convolution, by the first word of `reason`."""
        return self.reason.startswith("conv")


def _integers(argument: str, value: Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(operator.index(axis) for axis in value)
    except TypeError:
        raise TypeError(
            f"`{argument}` of a FanIn must be a tuple of integers such as (0,), got {value!r}."
        ) from None


def is_centralizable(leaf) -> bool:
    """Whether `leaf` is an array of floats or complex numbers: not integers, keys or functions."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def normalized_axes(fan_in: FanIn, shape: Sequence[int], where: str) -> tuple[int, ...]:
    """`fan_in.axes` as non-negative axes of `shape`; `where` names the leaf in errors."""
    rank = len(shape)
    for axis in fan_in.axes:
        if not -rank <= axis < rank:
            raise ValueError(
                f"Axis {axis} of {fan_in} is out of range for {where}, which has rank {rank}: "
                "give axes of that leaf, or FanIn(()) to leave it alone."
            )
    axes = tuple(axis % rank for axis in fan_in.axes)
    if len(set(axes)) != len(axes):
        raise ValueError(
            f"{fan_in} names an axis twice for {where}, which has rank {rank}: "
            "an axis and its negative are the same one."
        )
    return axes


def fan_in_size(axes: Sequence[int], shape: Sequence[int]) -> int:
    """The number of weights that one output sums over; 1 where `axes` is empty."""
    return math.prod(shape[axis] for axis in axes)
