"""How fast XLA takes the means over a fan-in, in several formulations.

    python benchmarks/reductions.py [--output reductions.json]

The one read that `centralize` adds to an update is the sum over the first axes of a kernel, where
Flax keeps the fan-in: a sum of columns. All formulations are timed in one process, in a random
order in each round; a ratio is the median over rounds, within which it is taken.

The first table has the means alone, of kernels of one shape, 64 MiB together and so more than
caches hold. A ratio below 1 is faster than `mean`, which is what `centralize` does. The second has
whole update steps by SGD with momentum, over the optimizer alone, and what the read that GC adds
comes to.

- `product`: with a row of ones; `short product`: only for a fan-in of at most 1,024.
- `two stages`: over 8 neighbors along the fan-in, then over the rest.
- `slices`: the same, where the 8 are added as slices, elementwise.
- `rows`: the mean over the last axis instead, as of kernels with the outputs in front. It reads as
  much, and is no alternative.
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
import optax
from _architectures import TREES, count
from overhead import (
    OPTIMIZERS,
    Call,
    compiled_update,
    console,
    ratio,
    samples,
    spread,
    table,
    update_calls,
    with_quartiles,
)

import gc_optax
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
NETWORKS = ("ResNet-50", "ViT-B/16")
BYTES = 64 * 2**20  # that one call reads
NEIGHBORS = 8
SHORT = 1_024


def mean(kernel: jax.Array) -> jax.Array:
    """As `centralize` has it."""
    return kernel.mean(_fan_in(kernel))


def product(kernel: jax.Array) -> jax.Array:
    """A row of ones times the kernel as a matrix."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    ones = jnp.ones((1, len(matrix)), kernel.dtype)
    return jnp.dot(ones, matrix, precision="highest")[0] / len(matrix)


def short_product(kernel: jax.Array) -> jax.Array:
    """The product where the fan-in is short, and the mean elsewhere."""
    return product(kernel) if math.prod(kernel.shape[:-1]) <= SHORT else mean(kernel)


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


Formulation = Callable[[jax.Array], jax.Array]
FORMULATIONS: dict[str, Formulation] = {
    "mean": mean,
    "product": product,
    "short product": short_product,
    "two stages": two_stages,
    "slices": slices,
}
TIMED_ALONE = {name: f for name, f in FORMULATIONS.items() if f is not short_product}
TIMED_ALONE["rows"] = rows


def _fan_in(kernel: jax.Array) -> tuple[int, ...]:
    return tuple(range(kernel.ndim - 1))


def _neighbors(kernel: jax.Array) -> jax.Array:
    *first, inputs, outputs = kernel.shape
    return kernel.reshape(*first, inputs // NEIGHBORS, NEIGHBORS, outputs)


def _mean_of_sums(sums: jax.Array, kernel: jax.Array) -> jax.Array:
    return sums.sum(_fan_in(kernel)) / math.prod(kernel.shape[:-1])


def centralize(formulation: Formulation) -> optax.GradientTransformation:
    """`gc_optax.centralize()` with another mean, for kernels with a fan-in that 8 divides."""

    def of_leaf(fan_in: gc_optax.FanIn, leaf: jax.Array) -> jax.Array:
        if not fan_in.axes:
            return leaf
        inner = len(fan_in.axes)
        if fan_in.axes != tuple(range(inner)):
            raise ValueError(f"Here the fan-in stands in front, which {fan_in} does not say.")
        kernel = jax.lax.optimization_barrier(leaf)
        matrix = kernel.reshape(math.prod(leaf.shape[:inner]), -1)
        use = mean if len(matrix) % NEIGHBORS else formulation
        kernel, means = jax.lax.optimization_barrier((kernel, use(matrix)))
        return kernel - means.reshape(leaf.shape[inner:])

    return optax.stateless(
        lambda updates, params: jax.tree.map(of_leaf, gc_optax.fan_in_by_name(updates), updates)
    )


def measure(shape: tuple[int, ...], rounds: int, size: int = BYTES) -> dict:
    """All formulations on kernels of one shape, `size` bytes together."""
    rng = np.random.default_rng(0)
    number = max(1, size // (4 * math.prod(shape)))
    kernels = [jnp.asarray(rng.standard_normal(shape, np.float32)) for _ in range(number)]

    def compiled(function: Formulation) -> Callable:
        # As in `centralize`, the sum is not fused into what made the gradient.
        means = jax.jit(lambda ks: [function(k) for k in jax.lax.optimization_barrier(ks)])
        return means.lower(kernels).compile()

    calls: dict[str, Call] = {
        name: partial(lambda means: jax.block_until_ready(means(kernels)), compiled(function))
        for name, function in TIMED_ALONE.items()
    }
    taken = samples(calls, rounds)
    return {
        "shape": shape,
        "kernels": number,
        "bytes": 4 * number * math.prod(shape),
        "seconds": {name: spread(taken[name]["wall"]) for name in taken},
        "cores": spread(taken["mean"]["processor"] / taken["mean"]["wall"]),
        "over_mean": {name: ratio(taken, name, "mean") for name in taken if name != "mean"},
    }


def measure_update(shapes, rounds: int) -> dict:
    """The update step of one tree by SGD with momentum, under all formulations."""
    make, arrays = OPTIMIZERS["sgd"]
    optimizer = make()
    chains = {"alone": optax.identity()}
    chains |= {name: centralize(formulation) for name, formulation in FORMULATIONS.items()}
    compiled = {
        name: compiled_update(shapes, chain, optimizer)[0] for name, chain in chains.items()
    }
    taken = samples(update_calls(compiled, shapes, optimizer), rounds)
    centralized = 4 * gc_optax.summary(shapes).centralized
    seconds = {name: spread(taken[name]["wall"]) for name in taken}
    alone = seconds["alone"]["median"]
    return {
        "seconds": seconds,
        "bytes_per_second_alone": arrays * 4 * count(shapes) / alone,
        "bytes_per_second_of_the_added_read": centralized / (seconds["mean"]["median"] - alone),
        "over_alone": {name: ratio(taken, name, "alone") for name in FORMULATIONS},
    }


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25, help="samples of each formulation")
    parser.add_argument("--output", type=Path, help="a JSON file for the numbers")
    options = parser.parse_args()
    others = [name for name in TIMED_ALONE if name != "mean"]
    shown = table(
        "Means over the fan-in (quartiles in brackets)",
        *("", "mean, GiB/s", "cores in use", *(f"{name} / mean" for name in others)),
    )
    results = [measure(shape, options.rounds) for shape in SHAPES]
    for row in results:
        speed = row["bytes"] / 2**30 / row["seconds"]["mean"]["median"]
        ratios = (with_quartiles(row["over_mean"][name]) for name in others)
        cores = f"{row['cores']['median']:.1f}"
        shown.add_row(" x ".join(map(str, row["shape"])), f"{speed:.1f}", cores, *ratios)
    console().print(shown)
    updates = {name: measure_update(TREES[name][0](), options.rounds) for name in NETWORKS}
    shown = table(
        "Update steps by SGD with momentum",
        *("", "alone, GiB/s", "the added read, GiB/s"),
        *(f"{name} / alone" for name in FORMULATIONS),
    )
    for name, row in updates.items():
        speeds = (row["bytes_per_second_alone"], row["bytes_per_second_of_the_added_read"])
        ratios = (with_quartiles(row["over_alone"][name]) for name in FORMULATIONS)
        shown.add_row(name, *(f"{speed / 2**30:.1f}" for speed in speeds), *ratios)
    console().print(shown)
    content = {
        "versions": _record.versions(),
        "device": _record.device(jax.devices()[:1]),
        "rounds": options.rounds,
        "shapes": results,
        "updates": updates,
    }
    if options.output:
        options.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
