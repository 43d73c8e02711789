"""An NNX network as pure functions of its parameters and statistics."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

import gc_optax
from gc_optax.models import MODELS
from gc_optax.models._patches import convolve_by_patches

Params = Any
Statistics = Any  # of batch normalization; empty where there is none

DTYPES = ("float32", "bfloat16")


class Network(NamedTuple):
    """A network without its state.

    Attributes:
        init: `key -> params, statistics`.
        train: `params, statistics, inputs, key -> logits, statistics`: batches are normalized by
            themselves, and what is dropped depends on `key`.
        evaluate: `params, statistics, inputs -> logits`.
    """

    init: Callable[[jax.Array], tuple[Params, Statistics]]
    train: Callable[[Params, Statistics, jax.Array, jax.Array], tuple[jax.Array, Statistics]]
    evaluate: Callable[[Params, Statistics, jax.Array], jax.Array]


def maker(
    name: str, shape: Sequence[int], classes: int, dtype: str = "float32"
) -> Callable[[nnx.Rngs], nnx.Module]:
    """What makes the network `name` of `MODELS` for inputs of `shape`."""
    compute = jnp.dtype(dtype) if dtype != "float32" else None
    return lambda rngs: MODELS[name](shape, classes, dtype=compute, rngs=rngs)


def functional(make: Callable[[nnx.Rngs], nnx.Module]) -> Network:
    """The module that `make` makes, as pure functions."""

    def structure(training: bool):
        def prepared():
            module = make(nnx.Rngs(0))
            # Which of the two it is in is part of a module's structure.
            module.train() if training else module.eval()
            return module

        return nnx.split(nnx.eval_shape(prepared), nnx.Param, ...)[0]

    training, evaluating = structure(True), structure(False)

    def init(key: jax.Array) -> tuple[Params, Statistics]:
        module = make(nnx.Rngs(key))
        module.train()
        _, params, statistics = nnx.split(module, nnx.Param, ...)
        return nnx.as_pure(params), nnx.as_pure(statistics)

    def train(params, statistics, inputs, key):
        module = nnx.merge(training, params, statistics)
        logits = module(inputs, rngs=nnx.Rngs(dropout=key))
        _, _, statistics = nnx.split(module, nnx.Param, ...)
        return logits, nnx.as_pure(statistics)

    def evaluate(params, statistics, inputs):
        return nnx.merge(evaluating, params, statistics)(inputs)

    return Network(init, train, evaluate)


def as_patches(make: Callable[[nnx.Rngs], nnx.Module]) -> Callable[[nnx.Rngs], nnx.Module]:
    """The same network, its convolutions as products of patches: see `models/_patches.py`."""

    def made(rngs: nnx.Rngs) -> nnx.Module:
        module = make(rngs)
        for _, part in nnx.iter_graph(module):
            if isinstance(part, nnx.Conv):
                part.conv_general_dilated = convolve_by_patches
        return module

    return made


def traced_fan_in(network: Network, shape: Sequence[int], dtype: Any) -> Any:
    """The tree of `fan_in_by_trace` for the parameters of `network`; nothing is allocated."""
    params, statistics = jax.eval_shape(network.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((2, *shape), dtype)
    return gc_optax.fan_in_by_trace(network.evaluate, params, statistics, inputs)
