"""`muon_dimension_numbers`: what Optax's Muon takes for matrices, and what it does to them."""

import dataclasses
from typing import Any

import chex
import equinox as eqx
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


def with_groups(fan_in):
    """The groups of plain convolutions, written out."""
    return jax.tree.map(
        lambda spec: dataclasses.replace(spec, groups=1) if spec.kind == "conv" else spec, fan_in
    )


@pytest.mark.parametrize("as_function", [False, True])
def test_muon_updates_a_flax_attention_model_as_by_a_hand_written_specification(
    problem, as_function
):
    params, loss = problem
    fan_in = with_groups(gc_optax.fan_in_by_trace(loss, params, TOKENS))
    assert gc_optax.muon_dimension_numbers(fan_in, params) == BY_HAND
    numbers = gc_optax.muon_dimension_numbers(fan_in, None if as_function else params)
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


def test_an_equinox_module_can_be_optimized_by_the_function():
    model = eqx.nn.MLP(4, 3, 8, 1, activation=jnp.tanh, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def loss(params, x):
        return jnp.mean(jax.vmap(eqx.combine(params, static))(x) ** 2)

    x = jax.random.normal(jax.random.key(1), (16, 4))
    fan_in = gc_optax.fan_in_by_trace(loss, params, x)
    numbers = gc_optax.muon_dimension_numbers(fan_in)
    assert numbers(params).layers[0].weight == MuonDimensionNumbers((1,), (0,))
    optimizer = optax.contrib.muon(0.1, muon_weight_dimension_numbers=numbers)
    grads = jax.grad(loss)(params, x)
    updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
    plain, kernel = optax.contrib.muon(0.1), params.layers[0].weight.T
    expected, _ = plain.update(grads.layers[0].weight.T, plain.init(kernel), kernel)
    chex.assert_trees_all_close(updates.layers[0].weight.T, expected, atol=1e-6)


def test_the_function_runs_in_an_nnx_optimizer_and_takes_modules():
    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    numbers = gc_optax.muon_dimension_numbers(gc_optax.fan_in_by_name)
    assert jax.tree.leaves(numbers(model)) == [0, 1]  # those of one kernel
    optimizer = nnx.Optimizer(
        model, optax.contrib.muon(0.1, muon_weight_dimension_numbers=numbers), wrt=nnx.Param
    )
    kernel = model.kernel[...]
    optimizer.update(model, nnx.grad(lambda m: jnp.sum(m(jnp.ones((2, 4))) ** 3))(model))
    assert jnp.abs(model.kernel[...] - kernel).max() > 0


def by_the_bias_beside(params):
    """Sure of a kernel where its bias stands beside it, and otherwise guessing."""
    is_sure = not isinstance(params["bias"], optax.MaskedNode)
    return {"kernel": FanIn((0,), guess=not is_sure), "bias": FanIn(())}


def test_the_function_keeps_to_its_answer_where_optax_takes_the_biases_away():
    numbers = gc_optax.muon_dimension_numbers(by_the_bias_beside)
    optimizer = optax.contrib.muon(0.1, muon_weight_dimension_numbers=numbers)
    for size in (3, 5):  # of one optimizer for two networks
        params = {"kernel": jnp.ones((size, 2)), "bias": jnp.ones(2)}
        grads = {"kernel": jnp.arange(2.0 * size).reshape(size, 2), "bias": jnp.ones(2)}
        state = optimizer.init(params)
        for update in (optimizer.update, jax.jit(optimizer.update)):
            updates, _ = update(grads, state, params)
            plain = optax.contrib.muon(0.1)
            expected, _ = plain.update(grads, plain.init(params), params)
            chex.assert_trees_all_close(updates, expected, atol=1e-6)


def test_guesses_go_to_adam():
    params = {"sure": jnp.ones((3, 2)), "guess": jnp.ones((3, 2))}
    fan_in = {"sure": FanIn((0,)), "guess": FanIn((0,), guess=True)}
    numbers = gc_optax.muon_dimension_numbers(fan_in, params)
    assert numbers == {"sure": MuonDimensionNumbers((0,), (1,)), "guess": None}


@pytest.mark.parametrize("groups", [1, 2, 12, None])
def test_only_a_convolution_in_one_group_is_a_matrix(groups):
    fan_in = FanIn((0, 1), kind="conv", groups=groups)
    numbers = gc_optax.muon_dimension_numbers(fan_in, jnp.ones((4, 1, 12)))
    assert numbers == (MuonDimensionNumbers((0, 1), (2,)) if groups == 1 else None)


def test_one_channel_of_a_depthwise_kernel_does_not_move_the_others():
    params = {"kernel": jnp.ones((4, 1, 12))}
    kernel = jax.random.normal(jax.random.key(0), (4, 1, 12))
    changed = kernel.at[..., 0].multiply(-7.0)

    def largest_move(fan_in):
        numbers = gc_optax.muon_dimension_numbers(fan_in, params)
        optimizer = optax.contrib.muon(1.0, muon_weight_dimension_numbers=numbers)
        state = optimizer.init(params)

        def update(grad) -> jax.Array:
            updates: Any = optimizer.update({"kernel": grad}, state, params)[0]
            return updates["kernel"]

        first, second = update(kernel), update(changed)
        return jnp.abs(first - second)[..., 1:].max()

    for groups in (12, None):
        assert largest_move({"kernel": FanIn((0, 1), kind="conv", groups=groups)}) == 0
    # As one matrix it does.
    assert largest_move({"kernel": FanIn((0, 1), kind="conv", groups=1)}) > 0.01


def test_what_is_excluded_goes_to_adam(problem):
    params, loss = problem
    fan_in = gc_optax.fan_in_by_trace(loss, params, TOKENS)
    numbers = gc_optax.muon_dimension_numbers(gc_optax.exclude(fan_in, "^head/"), params)
    assert numbers["head"]["kernel"] is None
    assert numbers["attention"]["query"]["kernel"] == HEADS


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
