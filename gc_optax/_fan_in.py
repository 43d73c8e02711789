"""`FanIn`: over which axes of a parameter its layer sums."""

import dataclasses
import math
import operator
from collections.abc import Sequence
from typing import Literal, get_args

import jax.numpy as jnp

Kind = Literal["dense", "conv", "other"]


@dataclasses.dataclass(frozen=True, repr=False)
class FanIn:
    """What Gradient Centralization needs to know about one parameter leaf.

    A layer computes `y_j = sum_i w_ij x_i`. The axes of `w` that `i` runs over are its fan-in
    axes, and the product of their sizes is its fan-in: `C_in` for a dense layer, `C_in * k1 * k2`
    for a convolution.

    A `FanIn` is not a pytree node, so in a tree of them each is a leaf. Two are equal if all
    fields except `reason` and `rank` are equal.

    Examples:
        >>> import gc_optax
        >>> gc_optax.FanIn((0, 1, 2), kind="conv")
        FanIn(axes=(0, 1, 2), kind='conv')

    Attributes:
        axes: The axes that the layer sums over. Negative axes count from the end. `()` leaves
            the parameter alone.
        reason: An explanation for people, such as `"embedding lookup"` or `"fan-in of 1"`. No
            code reads it.
        batch_axes: The axes over which independent copies of the layer are stacked (layers,
            experts, members of an ensemble), if known. Centralization does not need them;
            they distinguish copies from outputs.
        kind: `"dense"`, `"conv"`, or `"other"` if it is neither or unknown.
            `convolutions_only` keeps those of kind `"conv"`.
        guess: Whether the evidence allows another answer. Guesses are centralized like any other.
        groups: For a convolution, the number of groups its channels are divided into: 1 for a
            plain one, the number of channels for a depthwise one. None if unknown.
        rank: The rank of the leaf that this was made for, if known. Applying it to
            a leaf of a different rank (per-example gradients have an extra axis) is an error.

    Raises:
        TypeError: `axes` or `batch_axes` is not a sequence of integers, `groups` or `rank` is
            neither an integer nor None, `reason` is not a string, or `guess` not a bool.
        ValueError: An axis appears twice in `axes`, or in both `axes` and `batch_axes`; `kind` is
            not one of the three; `groups` is below 1, or `rank` is negative.

    Source: Yong, Huang, Hua, Zhang, "Gradient Centralization", 2020, arXiv 2004.01461, section 3.
    """

    axes: tuple[int, ...]
    reason: str = dataclasses.field(default="given", compare=False)
    batch_axes: tuple[int, ...] = ()
    _: dataclasses.KW_ONLY
    kind: Kind = "other"
    guess: bool = False
    groups: int | None = None
    rank: int | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "axes", _integers("axes", self.axes))
        object.__setattr__(self, "batch_axes", _integers("batch_axes", self.batch_axes))
        object.__setattr__(self, "groups", _count("groups", self.groups, 1))
        object.__setattr__(self, "rank", _count("rank", self.rank, 0))
        if not isinstance(self.reason, str):
            raise TypeError(f"`reason` of a FanIn must be a string, got {self.reason!r}.")
        if not isinstance(self.guess, bool):
            raise TypeError(f"`guess` of a FanIn must be True or False, got {self.guess!r}.")
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"`kind` of a FanIn must be one of {', '.join(map(repr, get_args(Kind)))}, got "
                f"{self.kind!r}."
            )
        named = self.axes + self.batch_axes
        if len(set(named)) != len(named):
            raise ValueError(
                f"A FanIn must name each axis once, got axes={self.axes} and "
                f"batch_axes={self.batch_axes}."
            )

    def __repr__(self) -> str:
        """The fields that say something: `axes`, and what is not the default."""
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.name == "axes" or getattr(self, field.name) != field.default
        ]
        return f"FanIn({', '.join(shown)})"


def _integers(argument: str, value: Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(operator.index(axis) for axis in value)
    except TypeError:
        raise TypeError(
            f"`{argument}` of a FanIn must be a tuple of integers such as (0,), got {value!r}."
        ) from None


def _count(argument: str, value: int | None, lowest: int) -> int | None:
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"`{argument}` of a FanIn must be an integer or None, got {value!r}."
        ) from None
    if number < lowest:
        raise ValueError(f"`{argument}` of a FanIn must be at least {lowest}, got {value}.")
    return number


def is_array(leaf) -> bool:
    """Whether `leaf` is an array or stands for one. Modules have a `dtype` too, but no shape."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def is_centralizable(leaf) -> bool:
    """Whether `leaf` is an array of floats or complex numbers: not integers, keys or functions."""
    return is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def normalized_axes(fan_in: FanIn, shape: Sequence[int], where: str) -> tuple[int, ...]:
    """`fan_in.axes` as non-negative axes of `shape`; `where` names the leaf in errors."""
    rank = len(shape)
    if fan_in.axes and fan_in.rank not in (None, rank):
        raise ValueError(
            f"{fan_in} was made for a leaf of rank {fan_in.rank}, and {where} has rank {rank}: its "
            "axes would be others there. Give a FanIn for this rank, or use `jax.vmap` over an "
            "axis that was added in front, such as that of per-example gradients."
        )
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
