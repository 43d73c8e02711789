"""What `optax.centralize()` does with real layers, so that we notice if Optax changes.

It averages all axes but the first, whatever the layer sums over.
"""

from typing import Any

import chex
import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import gc_optax

KEY = jax.random.key(0)


def linen(module, *inputs):
    return jax.eval_shape(module.init, KEY, *inputs)["params"]


def haiku(function, *inputs):
    return jax.eval_shape(hk.transform(function).init, KEY, *inputs)


def nnx_params(module):
    return nnx.as_pure(nnx.state(module, nnx.Param))


def attention():
    return linen(nn.MultiHeadDotProductAttention(4, qkv_features=8), jnp.ones((1, 3, 8)))


class StackedNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        scanned = nn.scan(Norm, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return scanned(name="stack")(x, None)[0]


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.LayerNorm(name="norm")(x), None


def equinox(module):
    return eqx.filter(module, eqx.is_inexact_array)


IMAGE = jnp.ones((1, 8, 8, 3))

# The layer's parameters, the leaf in question, and the axes that its layer sums over.
WRONG = {
    "Linen Dense": (lambda: linen(nn.Dense(8), jnp.ones((1, 3))), "kernel", (0,)),
    "NNX Linear": (lambda: nnx_params(nnx.Linear(3, 8, rngs=nnx.Rngs(0))), "kernel", (0,)),
    "Haiku Linear": (lambda: haiku(lambda x: hk.Linear(8)(x), jnp.ones((1, 3))), "linear/w", (0,)),
    "Dense(1)": (lambda: linen(nn.Dense(1), jnp.ones((1, 3))), "kernel", (0,)),
    "Linen Conv": (
        lambda: {"Conv_0": linen(nn.Conv(4, (3, 3)), IMAGE)},
        "Conv_0/kernel",
        (0, 1, 2),
    ),
    "NNX Conv": (
        lambda: {"conv": nnx_params(nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)))},
        "conv/kernel",
        (0, 1, 2),
    ),
    "Haiku Conv": (lambda: haiku(lambda x: hk.Conv2D(4, 3)(x), IMAGE), "conv2_d/w", (0, 1, 2)),
    "Haiku Conv2DTranspose": (
        lambda: haiku(lambda x: hk.Conv2DTranspose(4, 3)(x), IMAGE),
        "conv2_d_transpose/w",
        (0, 1, 3),
    ),
    "attention query kernel": (attention, "query/kernel", (0,)),
    "attention out kernel": (attention, "out/kernel", (0, 1)),
    "attention key bias": (attention, "key/bias", ()),
    "LayerNorm scale stacked by nn.scan": (
        lambda: linen(StackedNorm(), jnp.ones((2, 8))),
        "stack/norm/scale",
        (),
    ),
    "Linen Embed": (
        lambda: linen(nn.Embed(10, 8), jnp.zeros(2, jnp.int32)),
        "embedding",
        (),
    ),
    "position embedding": (lambda: {"pos_embedding": jnp.zeros((1, 4, 8))}, "pos_embedding", ()),
    "Equinox conv bias": (lambda: equinox(eqx.nn.Conv2d(3, 4, 3, key=KEY)), "bias", ()),
    "Equinox Embedding": (
        lambda: {"embedding": equinox(eqx.nn.Embedding(10, 8, key=KEY))},
        "embedding/weight",
        (),
    ),
    "Dense on a scalar": (lambda: linen(nn.Dense(4), jnp.ones((2, 1))), "kernel", ()),
}
RIGHT = {
    "Equinox Linear": (lambda: equinox(eqx.nn.Linear(3, 8, key=KEY)), "weight", (1,)),
    "Equinox Conv": (lambda: equinox(eqx.nn.Conv2d(3, 4, 3, key=KEY)), "weight", (1, 2, 3)),
}


def leaf_at(tree, path):
    named = {
        jax.tree_util.keystr(key, simple=True, separator="/"): leaf
        for key, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    return named[path]


def updates_of(layer, optimizer):
    build, path, _ = layer
    params = build()
    rng = np.random.default_rng(0)
    grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(1.0, 1.0, p.shape), p.dtype), params)
    updates, _ = optimizer.update(grads, optimizer.init(params))
    return leaf_at(grads, path), leaf_at(updates, path)


def without_mean(grads, axes):
    return grads - grads.mean(axes, keepdims=True) if axes else grads


@pytest.mark.parametrize("name", WRONG)
def test_optax_averages_all_axes_but_the_first_where_that_is_wrong(name):
    grads, updates = updates_of(WRONG[name], optax.centralize())
    chex.assert_trees_all_close(
        updates, without_mean(grads, tuple(range(1, grads.ndim))), atol=1e-5
    )
    right = without_mean(grads, WRONG[name][2])
    assert np.abs(updates - right).max() > 0.1


@pytest.mark.parametrize("name", [*WRONG, *RIGHT])
def test_gc_optax_averages_what_the_layer_sums_over(name):
    layer = {**WRONG, **RIGHT}[name]
    grads, updates = updates_of(layer, gc_optax.centralize(gc_optax.fan_in_by_name))
    chex.assert_trees_all_close(updates, without_mean(grads, layer[2]), atol=1e-5)


@pytest.mark.parametrize("name", RIGHT)
def test_optax_is_right_for_the_layout_of_pytorch_and_equinox(name):
    grads, updates = updates_of(RIGHT[name], optax.centralize())
    chex.assert_trees_all_close(updates, without_mean(grads, RIGHT[name][2]), atol=1e-5)


@pytest.mark.parametrize("name", ["Dense(1)", "Equinox conv bias"])
def test_optax_zeroes_the_gradient_of(name):
    grads, updates = updates_of(WRONG[name], optax.centralize())
    chex.assert_trees_all_close(updates, np.zeros(grads.shape), atol=1e-6)
    assert np.abs(grads).max() > 0.1


def test_dense_1_never_trains_with_optax_and_trains_to_zero_loss_with_gc_optax():
    model = nn.Dense(1, use_bias=False)
    keys = jax.random.split(KEY, 3)
    inputs = jax.random.normal(keys[0], (64, 8))
    initial: Any = model.init(keys[1], inputs)
    # GC keeps the sum of the weights, so the target has the initial sum: zero loss is in reach.
    change = 4.0 * jax.random.normal(keys[2], (8, 1))
    targets = inputs @ (initial["params"]["kernel"] + change - change.mean(0, keepdims=True))

    def loss(params):
        return jnp.mean((model.apply(params, inputs) - targets) ** 2)

    def final_loss(centralize):
        optimizer = optax.chain(centralize, optax.sgd(0.1))

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        carry = (initial, optimizer.init(initial))
        (params, _), _ = jax.lax.scan(step, carry, length=200)
        return loss(params)

    assert loss(initial) > 50
    chex.assert_trees_all_close(final_loss(optax.centralize()), loss(initial), rtol=1e-4)
    assert final_loss(gc_optax.centralize(gc_optax.FanIn((0,)))) < 1e-6
