"""A leaf without its mean over some axes, written so that XLA moves as little memory as it can.

An update step is bound by memory, and what is centralized may be computed just before: the
gradient plus decayed weights, or the step of an optimizer. The mean must be known before the first
entry is written, so the leaf is used twice, and how that is written decides whether XLA computes it
twice from what it is made of, which costs reads, or keeps it in between, which costs memory.

- On a TPU the leaf is divided before it is summed. The other way round, each mean takes a kernel of
  its own, and XLA does not sum while it computes what precedes.
- On a GPU XLA computes what precedes inside of a sum only if enough sums run side by side, so a
  long sum with few outputs is taken in parts, and the parts are added up.
- On a CPU XLA computes nothing inside of a sum over the first axes, so dividing first would cost an
  array. A barrier stands between the leaf and the subtraction: without it XLA keeps what precedes
  twice, once for the sum and once for the subtraction.

What the programs move, compiled for each platform, is in the documentation, on the page
"Benchmarks".
"""

import functools
import math
from collections.abc import Hashable

import jax
import jax.numpy as jnp

from gc_optax._fan_in import fan_in_size

Shape = tuple[int, ...]

SUMS_SIDE_BY_SIDE = 6144
"""From so many on, an H100 (of 132 multiprocessors) computes inside of them what precedes."""
SHORTEST_SUM = 32
"""Entries: the parts of a leaf take at most a 32nd of its memory."""


def minus_mean(leaf: jax.Array, axes: Shape, mesh_axes: tuple[Hashable, ...] = ()) -> jax.Array:
    """The leaf minus its mean over `axes`, which is taken over `mesh_axes` of the mesh, too."""
    # A narrow mean would be off by more than the gradient's own rounding; the subtraction is
    # done wide too, so that the result is rounded once.
    wide = jnp.dtype(jnp.float32) if leaf.dtype.itemsize < 4 else leaf.dtype
    axes = tuple(sorted(axes))
    kept, mean = _mean(leaf, axes, wide)
    if mesh_axes:
        mean = jax.lax.pmean(mean, mesh_axes)  # of means of equally many weights
    return (kept.astype(wide) - jnp.expand_dims(mean, axes)).astype(leaf.dtype)


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)  # what is not compiled is cached
def _mean(leaf: jax.Array, axes: Shape, wide: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """The leaf as the subtraction is to read it, and its mean."""
    size = fan_in_size(axes, leaf.shape)

    def summed_first(leaf: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.lax.optimization_barrier(leaf), leaf.astype(wide).sum(axes) / size

    def divided_first(leaf: jax.Array) -> tuple[jax.Array, jax.Array]:
        return leaf, (leaf.astype(wide) / size).sum(axes)

    def in_parts(leaf: jax.Array) -> tuple[jax.Array, jax.Array]:
        axis, parts = _parts(leaf.shape, axes, _is_split(leaf, axes))
        before, length, after = leaf.shape[:axis], leaf.shape[axis], leaf.shape[axis + 1 :]
        split = leaf.reshape(*before, parts, length // parts, *after).astype(wide)
        sums = split.sum([1 + a for a in axes if a >= axis])
        # Or else XLA makes one sum of both.
        total = jax.lax.optimization_barrier(sums).sum([a for a in axes if a <= axis])
        return leaf, total / size

    return jax.lax.platform_dependent(
        leaf, cuda=in_parts, rocm=in_parts, tpu=divided_first, default=summed_first
    )


def _parts(shape: Shape, axes: Shape, is_split: bool) -> tuple[int, int]:
    """Which axis is cut into how many parts; the axes before it are parts as they are."""
    size = fan_in_size(axes, shape)
    outputs = max(math.prod(shape) // size, 1)
    wanted = min(math.ceil(SUMS_SIDE_BY_SIDE / outputs), size // SHORTEST_SUM)
    if is_split or wanted <= 1:
        return axes[0], 1
    for axis in axes[:-1]:
        if wanted < shape[axis]:
            break
        wanted = math.ceil(wanted / shape[axis])
    else:
        axis = axes[-1]
    divisors = [n for n in range(1, shape[axis] + 1) if shape[axis] % n == 0]
    enough = [n for n in divisors if wanted <= n <= 2 * wanted]
    return axis, enough[0] if enough else max(n for n in divisors if n <= wanted)


def _is_split(leaf: jax.Array, axes: Shape) -> bool:
    """Whether the mesh, as far as it is explicit, splits one of the axes over devices."""
    spec = jax.typeof(leaf).sharding.spec
    return any(spec[axis] is not None for axis in axes)
