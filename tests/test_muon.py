from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen as nn
from flax import nnx
from optax.contrib import MuonDimensionNumbers

import gc_optax
from gc_optax import FanIn

pytestmark = pytest.mark.usefixtures("default_promotion")

TOKENS = jnp.arange(10).reshape(2, 5)


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 8, name="embed")(tokens)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(nn.LayerNorm(name="norm")(x))
        x = nn.Conv(8, (3,), name="conv")(x)
        return nn.Dense(11, name="head")(x)


HEADS = MuonDimensionNumbers((0,), (1, 2))
BY_HAND = {
    "attention": {
        "query": {"kernel": HEADS, "bias": None},
        "key": {"kernel": HEADS, "bias": None},
        "value": {"kernel": HEADS, "bias": None},
        "out": {"kernel": MuonDimensionNumbers((0, 1), (2,)), "bias": None},
    },
    "conv": {"kernel": MuonDimensionNumbers((0, 1), (2,)), "bias": None},
    "embed": {"embedding": None},
    "head": {"kernel": MuonDimensionNumbers((0,), (1,)), "bias": None},
    "norm": {"scale": None, "bias": None},
}


@pytest.fixture
def problem():
    model = Transformer()
    params = model.init(jax.random.key(0), TOKENS)["params"]

    def loss(params, tokens):
        logits: Any = model.apply({"params": params}, tokens)
        return jnp.sum(logits**2)

    return params, loss


@pytest.mark.parametrize("how", ["trace", pytest.param("name", marks=pytest.mark.slow)])
def test_muon_updates_a_flax_attention_model_as_by_a_hand_written_specification(problem, how):
    params, loss = problem
    traced = gc_optax.fan_in_by_trace(loss, params, TOKENS)
    fan_in = traced if how == "trace" else gc_optax.fan_in_by_name
    numbers = gc_optax.muon_dimension_numbers(fan_in, params)
    assert numbers == BY_HAND
    grads = jax.grad(loss)(params, TOKENS)
    ours = optax.contrib.muon(0.1, muon_weight_dimension_numbers=numbers)
    by_hand = optax.contrib.muon(0.1, muon_weight_dimension_numbers=BY_HAND)
    updates = [jax.jit(o.update)(grads, o.init(params), params)[0] for o in (ours, by_hand)]
    chex.assert_trees_all_equal(*updates)


@pytest.mark.slow
def test_muon_orthogonalizes_the_attention_kernels_over_the_right_axes(problem):
    params, loss = problem
    fan_in = gc_optax.fan_in_by_trace(loss, params, TOKENS)
    numbers = gc_optax.muon_dimension_numbers(fan_in, params)
    optimizer = optax.contrib.muon(
        1.0, ns_steps=18, ns_coeffs=(1.5, -0.5, 0.0), muon_weight_dimension_numbers=numbers
    )
    grads = jax.tree.map(lambda p: jax.random.normal(jax.random.key(p.size), p.shape), params)
    updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
    for name, matrix in (("query", (8, 8)), ("out", (8, 8))):
        update = updates["attention"][name]["kernel"].reshape(matrix)
        values = jnp.linalg.svd(update, compute_uv=False)
        assert values.max() / values.min() < 1.01, (name, values)
    # Adam's first step has entries of one size.
    for update in (updates["embed"]["embedding"], updates["attention"]["query"]["bias"]):
        sizes = jnp.abs(update)
        assert sizes.max() / sizes.min() < 1.001


def test_stacked_layers_are_orthogonalized_one_by_one():
    def stack(w, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

    w = jax.ShapeDtypeStruct((3, 4, 4), jnp.float32)
    fan_in = gc_optax.fan_in_by_trace(stack, w, jnp.ones((2, 4)))
    assert gc_optax.muon_dimension_numbers(fan_in, w) == MuonDimensionNumbers((1,), (2,))


def test_muon_runs_in_an_nnx_optimizer():
    model = nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0))
    x = jnp.ones((2, 5, 8))
    fan_in = gc_optax.fan_in_by_trace(lambda m, x: m(x), model, x)
    numbers = gc_optax.muon_dimension_numbers(fan_in, model)
    optimizer = nnx.Optimizer(
        model, optax.contrib.muon(0.1, muon_weight_dimension_numbers=numbers), wrt=nnx.Param
    )
    kernel = model.query.kernel[...]
    optimizer.update(model, nnx.grad(lambda m: jnp.sum(m(x) ** 2))(model))
    assert jnp.abs(model.query.kernel[...] - kernel).max() > 0


def test_leaves_that_are_left_alone_go_to_adam():
    params = {"ones": jnp.ones((1, 3)), "whole": jnp.ones((2, 3)), "int": jnp.ones((2, 3), int)}
    fan_in = {"ones": FanIn((0,)), "whole": FanIn((0, 1)), "int": FanIn((0,))}
    numbers = gc_optax.muon_dimension_numbers(fan_in, params)
    assert numbers == {"ones": None, "whole": None, "int": None}


def test_axes_out_of_range_name_the_leaf():
    with pytest.raises(ValueError, match=r"Axis 2 .* leaf `w` of shape \(2, 3\)"):
        gc_optax.muon_dimension_numbers({"w": FanIn((2,))}, {"w": jnp.ones((2, 3))})
    with pytest.raises(ValueError, match=r"Axis 5 .* leaf `w` of shape \(2, 3\)"):
        gc_optax.muon_dimension_numbers(
            {"w": FanIn((0,), batch_axes=(5,))}, {"w": jnp.ones((2, 3))}
        )
