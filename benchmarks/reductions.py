"""How fast XLA takes the means over a fan-in, in several formulations.

    python benchmarks/reductions.py [--output reductions.json]

The one read that `centralize` adds to an update is the sum over the first axes of a kernel, where
Flax keeps the fan-in: a sum of columns. Each row is 64 MiB of kernels of one shape, more than
caches hold; the formulations take the means of the same kernels, in one process, in a random order
in each round. A ratio is the median over rounds, within which it is taken: below 1, a formulation
is faster than `mean`, which is what `centralize` does.

- `rows`: the mean over the last axis instead, as of kernels with the outputs in front. It reads as
  much and says what the memory gives; it is no alternative.
- `product`: with a row of ones.
- `two stages`: over 8 neighbors along the last axis of the fan-in, then over the rest.
- `slices`: the same, where the 8 are added as slices, elementwise.
"""

import argparse
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from overhead import Call, console, ratio, samples, spread, table, with_quartiles

from gc_optax.experiments import _record

SHAPES = (
    (768, 768),  # attention of GPT-2 small and ViT-B/16
    (768, 3072),  # their MLP
    (3072, 768),
    (3, 3, 64, 64),  # ResNet-50, from the first stage
    (3, 3, 256, 256),
    (3, 3, 512, 512),  # to the last
    (1, 1, 256, 1024),
    (1, 1, 2048, 512),
)
BYTES = 64 * 2**20  # that one call reads
NEIGHBORS = 8


def mean(kernel: jax.Array) -> jax.Array:
    """As `centralize` has it."""
    return kernel.mean(_fan_in(kernel))


def product(kernel: jax.Array) -> jax.Array:
    """A row of ones times the kernel as a matrix."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    ones = jnp.ones((1, len(matrix)), kernel.dtype)
    return jnp.dot(ones, matrix, precision="highest")[0] / len(matrix)


def two_stages(kernel: jax.Array) -> jax.Array:
    """Sums of neighbors first."""
    return _mean_of_sums(_neighbors(kernel).sum(-2), kernel)


def slices(kernel: jax.Array) -> jax.Array:
    """Sums of neighbors first, pair by pair, each a slice."""
    split = _neighbors(kernel)
    parts = [split[..., place, :] for place in range(NEIGHBORS)]
    while len(parts) > 1:
        parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
    # XLA would compute them inside of the sum, number by number.
    return _mean_of_sums(jax.lax.optimization_barrier(parts[0]), kernel)


def rows(kernel: jax.Array) -> jax.Array:
    """The mean over the outputs, which nobody needs."""
    return kernel.mean(-1)


FORMULATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "mean": mean,
    "product": product,
    "two stages": two_stages,
    "slices": slices,
    "rows": rows,
}


def _fan_in(kernel: jax.Array) -> tuple[int, ...]:
    return tuple(range(kernel.ndim - 1))


def _neighbors(kernel: jax.Array) -> jax.Array:
    *first, inputs, outputs = kernel.shape
    return kernel.reshape(*first, inputs // NEIGHBORS, NEIGHBORS, outputs)


def _mean_of_sums(sums: jax.Array, kernel: jax.Array) -> jax.Array:
    return sums.sum(_fan_in(kernel)) / math.prod(kernel.shape[:-1])


def measure(shape: tuple[int, ...], rounds: int, size: int = BYTES) -> dict:
    """All formulations on kernels of one shape, `size` bytes together."""
    rng = np.random.default_rng(0)
    number = max(1, size // (4 * math.prod(shape)))
    kernels = [jnp.asarray(rng.standard_normal(shape, np.float32)) for _ in range(number)]

    def compiled(function: Callable[[jax.Array], jax.Array]) -> Callable:
        # As in `centralize`, the sum is not fused into what made the gradient.
        means = jax.jit(lambda ks: [function(k) for k in jax.lax.optimization_barrier(ks)])
        return means.lower(kernels).compile()

    calls: dict[str, Call] = {
        name: partial(lambda means: jax.block_until_ready(means(kernels)), compiled(function))
        for name, function in FORMULATIONS.items()
    }
    taken = samples(calls, rounds)
    return {
        "shape": shape,
        "kernels": number,
        "bytes": 4 * number * math.prod(shape),
        "seconds": {name: spread(taken[name]["wall"]) for name in taken},
        "over_mean": {name: ratio(taken, name, "mean") for name in taken if name != "mean"},
    }


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25, help="samples of each formulation")
    parser.add_argument("--output", type=Path, help="a JSON file for the numbers")
    options = parser.parse_args()
    others = [name for name in FORMULATIONS if name != "mean"]
    shown = table(
        "Means over the fan-in (quartiles in brackets)",
        *("", "mean, GiB/s", *(f"{name} / mean" for name in others)),
    )
    results = []
    for shape in SHAPES:
        row = measure(shape, options.rounds)
        results.append(row)
        speed = row["bytes"] / 2**30 / row["seconds"]["mean"]["median"]
        ratios = (with_quartiles(row["over_mean"][name]) for name in others)
        shown.add_row(" x ".join(map(str, shape)), f"{speed:.1f}", *ratios)
    console().print(shown)
    content = {
        "versions": _record.versions(),
        "device": _record.device(jax.devices()[:1]),
        "rounds": options.rounds,
        "shapes": results,
    }
    if options.output:
        options.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
