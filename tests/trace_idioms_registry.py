"""Idioms whose fan-in axes are known by hand, by kind; `test_trace_idioms.py` runs them.

An idiom is a function of parameters and arguments, registered with the shapes of the parameters
and with what is right for each leaf that is to be centralized. All others are to be left alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gc_optax import FanIn
from tests.abstract import f32, i32


class Idiom(NamedTuple):
    """A function, the shapes of its parameters, its arguments, and what is right."""

    function: Callable[..., Any]
    shapes: dict[str, tuple[int, ...]]
    args: tuple[Any, ...]
    right: dict[str, FanIn]  # of all leaves
    conflict: bool  # whether a warning says that uses disagree
    unused: tuple[str, ...]  # leaves that the function does not use
    remat: bool  # whether `jax.checkpoint` takes the function


IDIOMS: dict[str, Idiom] = {}


def idiom(
    name: str,
    shapes: dict[str, tuple[int, ...]],
    *args: Any,
    conflict: Any = False,  # `Any`, since a dict of what is right is often given as `**layers`
    unused: Any = (),
    remat: Any = True,
    **right: FanIn | tuple[int, ...],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers an idiom; axes stand for a dense layer, and what is not named is left alone."""

    def fan_in(leaf: str) -> FanIn:
        expected = right.get(leaf, ())
        if isinstance(expected, FanIn):
            return expected
        return FanIn(expected, kind="dense" if expected else "other")

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in IDIOMS or right.keys() - shapes.keys():
            raise ValueError(f"The idiom {name!r} is there twice, or names a leaf that it lacks.")
        expected = {leaf: fan_in(leaf) for leaf in shapes}
        IDIOMS[name] = Idiom(function, shapes, args, expected, conflict, unused, remat)
        return function

    return register


def stacked(*axes: int, batch: tuple[int, ...]) -> FanIn:
    """Copies of a dense layer, told apart by the axes in `batch`."""
    return FanIn(axes, batch_axes=batch, kind="dense")


def conv(*axes: int, groups: int = 1, batch: tuple[int, ...] = ()) -> FanIn:
    """A convolution."""
    return FanIn(axes, batch_axes=batch, kind="conv", groups=groups)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


ROWS = f32(5, 8)  # a batch of 5 with 8 features
INDEX = i32()  # of one expert, or task
INDICES = i32(5)  # one for each row of a batch
MLP = {"a": (4, 8), "b": (8,), "out": (8, 3)}


def mlp(p, x):
    return jnp.tanh(x @ p["a"] + p["b"]) @ p["out"]


def conv1d(x: jax.Array, w: jax.Array, **options: Any) -> jax.Array:
    numbers = ("NHC", "HIO", "NHC")
    return jax.lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=numbers, **options)


def conv2d(x: jax.Array, w: jax.Array, **options: Any) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers, **options)
