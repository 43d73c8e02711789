"""How many seeds to train side by side.

On an accelerator as many as its memory holds. On a CPU, many small networks at once share the cost
of each operation, but larger ones push each other out of its caches: `benchmarks/throughput.py`
found that eight seeds of the CNN side by side cost 5.7 times one on digits, and on
Fashion-MNIST 10.0 times, against 8.2 one after the other (two cores).
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from gc_optax.experiments.data import Dataset
from gc_optax.experiments.execution import distributed
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.network import Network

SHARE = 0.6  # of the memory; the data set and the compiler's copies need the rest
CACHE = 32 * 2**20  # bytes that one seed's step may touch on a CPU


def seeds_that_fit(
    config: Config, network: Network, dataset: Dataset, devices: Sequence[Any]
) -> int:
    """How many seeds of `config` to train at once; the same in all processes."""
    params, statistics = jax.eval_shape(network.init, jax.random.key(0))
    shape = (config.batch_size, *dataset.train.inputs.shape[1:])
    dtype = dataset.train.inputs.dtype if dataset.is_text else jnp.float32

    def loss(params, statistics, inputs, key):
        return network.train(params, statistics, inputs, key)[0].sum()

    activations = activation_bytes(
        jax.grad(loss), params, statistics, jax.ShapeDtypeStruct(shape, dtype), jax.random.key(0)
    )
    # Parameters, gradient, updates and two moments.
    state = 5 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    (seeds,) = distributed.broadcast(fits(activations, state, config.seeds, devices))
    return seeds


def activation_bytes(function: Callable, *arguments) -> int:
    """An estimate of what `function` holds: the bytes of all that its operations give out."""
    jaxpr = jax.make_jaxpr(function)(*arguments)
    shapes: list[Any] = [v.aval for equation in jaxpr.eqns for v in equation.outvars]
    return sum(a.size * a.dtype.itemsize for a in shapes if hasattr(a, "dtype"))


def fits(activations: int, state: int, seeds: int, devices: Sequence[Any]) -> int:
    """How many of `seeds` to train at once.

    Args:
        activations: The bytes of one seed's step, which are spread over the devices.
        state: The bytes of its parameters and all that has their size, which every device has.
        seeds: How many there are.
        devices: On which they are trained.
    """
    here = [device for device in devices if device.process_index == jax.process_index()]
    memory = _memory(here[0])
    needed = max(1, activations // len(devices) + state)
    if devices[0].platform == "cpu":
        if activations + state > CACHE:
            return 1
        # All devices of a CPU share its memory.
        needed *= len(here)
    return seeds if memory is None else max(1, min(seeds, int(SHARE * memory // needed)))


def _container_limits() -> list[int]:
    """The bytes that Linux grants to this process's container, by either of its interfaces."""
    found = []
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # there is none, or it says "max"
            found.append(int(Path("/sys/fs/cgroup", file).read_text()))
    return found


def _memory(device: Any) -> int | None:
    """The bytes of the device's memory, where it says; for a CPU, the machine's or container's."""
    if device.platform == "cpu":
        try:
            machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, OSError, ValueError):  # Windows
            machine = 8 * 2**30
        return min([machine, *_container_limits()])
    statistics = device.memory_stats()
    return statistics.get("bytes_limit") if statistics else None
