"""The ways to call `centralize`, all of which must give the same; the fixture `centralized`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gc_optax


def eager(fan_in: Any, updates: Any) -> Any:
    return gc_optax.centralize(fan_in).update(updates, optax.EmptyState())[0]


def jit(fan_in: Any, updates: Any) -> Any:
    return jax.jit(functools.partial(eager, fan_in))(updates)


def vmap(fan_in: Any, updates: Any) -> Any:
    """Over a new first axis and over a new last one."""
    batch = _after_zeros(_after_zeros(updates), axis=-1)
    mapped = jax.vmap(jax.vmap(functools.partial(eager, fan_in), in_axes=-1, out_axes=-1))
    return _second(_second(mapped(batch), axis=-1))


def scan(fan_in: Any, updates: Any) -> Any:
    def step(carry, updates):
        return carry, eager(fan_in, updates)

    return _second(jax.lax.scan(step, None, _after_zeros(updates))[1])


def devices(fan_in: Any, updates: Any) -> Any:
    """Two axes of each leaf are sharded where their sizes are even, over up to four devices."""
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)

    def placed(leaf: jax.Array) -> jax.Array:
        names = iter(mesh.axis_names)
        spec = P(*(next(names, None) if size % 2 == 0 else None for size in leaf.shape))
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    return jit(fan_in, jax.tree.map(placed, updates))


VARIANTS: tuple[Callable[[Any, Any], Any], ...] = (eager, jit, vmap, scan, devices)


def _after_zeros(updates: Any, axis: int = 0) -> Any:
    """A batch of two: what one takes from the other shows."""
    # Stacked in NumPy: in JAX it would be compiled anew for each shape.
    return jax.tree.map(
        lambda leaf: jnp.asarray(np.stack([np.zeros_like(leaf), leaf], axis)), updates
    )


def _second(batch: Any, axis: int = 0) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).take(1, axis)), batch)
