"""How many seeds to train side by side.

On an accelerator as many as its memory holds. On a CPU, many small networks at once share the cost
of each operation, but larger ones push each other out of its caches: with the CNN and batches of
64 on two cores, eight seeds of digits took 6.6 ms a step side by side and 7.9 ms one after the
other, and eight of Fashion-MNIST 101 ms and 73 ms.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

SHARE = 0.6  # of the memory; the data set and the compiler's copies need the rest
CACHE = 32 * 2**20  # bytes that one seed's step may touch on a CPU


def activation_bytes(function: Callable, *arguments) -> int:
    """A bound on what `function` holds: the bytes of all that its operations give out."""
    jaxpr = jax.make_jaxpr(function)(*arguments)
    shapes: list[Any] = [v.aval for equation in jaxpr.eqns for v in equation.outvars]
    return sum(a.size * a.dtype.itemsize for a in shapes if hasattr(a, "dtype"))


def fits(needed: int, seeds: int, devices: Sequence[Any]) -> int:
    """How many of `seeds` to train at once where each needs so many bytes, on all `devices`."""
    if devices[0].platform == "cpu":
        return seeds if needed <= CACHE else 1
    memory = _memory(devices[0])
    if memory is None:
        return seeds
    return max(1, min(seeds, int(SHARE * memory * len(devices) // max(1, needed))))


def _memory(device: Any) -> int | None:
    """The bytes of the device's memory, where it says."""
    statistics = device.memory_stats()
    return statistics.get("bytes_limit") if statistics else None
