"""What the property tests draw: shapes, axes, dtypes, `FanIn`s and the arrays they belong to."""

import math
from typing import NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np

from gc_optax import FanIn

WIDE_FLOATS = (jnp.float32, jnp.complex64)
NARROW_FLOATS = (jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn, jnp.float8_e5m2)
INTEGERS = (jnp.int8, jnp.uint8, jnp.int32, jnp.bool_)


class Layout(NamedTuple):
    """A leaf's shape and the axes that its layer sums over."""

    shape: tuple[int, ...]
    fan_in: FanIn

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(axis % len(self.shape) for axis in self.fan_in.axes)

    @property
    def size(self) -> int:
        return math.prod(self.shape[axis] for axis in self.axes)


def shapes(min_rank: int = 0, max_rank: int = 5, min_size: int = 0):
    sizes = st.integers(min_size, 4)
    return st.lists(sizes, min_size=min_rank, max_size=max_rank).map(tuple)


@st.composite
def fan_ins(draw, rank: int, min_axes: int = 0) -> FanIn:
    """Any subset of the axes, in any order, each from the front or from the back."""
    chosen = draw(st.permutations(range(rank)))[: draw(st.integers(min_axes, rank))]
    return FanIn(tuple(axis - rank if draw(st.booleans()) else axis for axis in chosen))


@st.composite
def layouts(draw, min_rank: int = 0, max_rank: int = 5, min_axes: int = 0, min_size: int = 0):
    shape = draw(shapes(min_rank, max_rank, min_size))
    return Layout(shape, draw(fan_ins(len(shape), min_axes)))


@st.composite
def summing_layouts(draw):
    """Layouts with a fan-in of at least 2, where centralizing is more than the identity."""
    shape = draw(shapes(min_rank=1, min_size=1).filter(lambda shape: max(shape) > 1))
    long_axis = draw(st.sampled_from([axis for axis, size in enumerate(shape) if size > 1]))
    others = draw(fan_ins(len(shape))).axes
    rank = len(shape)
    return Layout(shape, FanIn((*(a for a in others if a % rank != long_axis), long_axis)))


def dtypes():
    return st.sampled_from(WIDE_FLOATS + NARROW_FLOATS)


@st.composite
def values(draw, shape: tuple[int, ...]) -> np.ndarray:
    """Float64 numbers of ordinary size around a mean that is often far from zero."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mean = draw(st.sampled_from([0.0, 1.0, -10.0]))
    return rng.normal(mean, 1.0, shape)


@st.composite
def arrays(draw, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    array = draw(values(shape))
    if jnp.issubdtype(dtype, jnp.complexfloating):
        array = array + 1j * draw(values(shape))
    # Cast in NumPy: a cast in JAX would be compiled anew for each shape.
    return jnp.asarray(array.astype(dtype))
