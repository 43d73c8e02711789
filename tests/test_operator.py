"""The operator `P = I - e e^T` on random layouts, against the matrix itself in float64."""

from typing import Any

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings

import gc_optax
from gc_optax import FanIn
from tests import strategies
from tests.strategies import Layout
from tests.variants import eager


def matrix(fan_in_size: int) -> np.ndarray:
    e = np.ones(fan_in_size) / np.sqrt(fan_in_size)
    return np.eye(fan_in_size) - np.outer(e, e)


def wide(array) -> np.ndarray:
    """In the widest precision."""
    array = np.asarray(array)
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


def output_vectors(layout: Layout, array) -> np.ndarray:
    """One column per output unit."""
    first = range(len(layout.axes))
    return np.moveaxis(wide(array), layout.axes, first).reshape(layout.size, -1)


def by_matrix(layout: Layout, array) -> np.ndarray:
    """What centralizing must give: `P` times each output vector, where there is one to project."""
    vectors = output_vectors(layout, array) if layout.size else np.zeros((0, 0))
    if layout.size <= 1:
        return wide(array).reshape(layout.shape)
    rest = [size for axis, size in enumerate(layout.shape) if axis not in layout.axes]
    moved = [layout.shape[axis] for axis in layout.axes] + rest
    projected = (matrix(layout.size) @ vectors).reshape(moved)
    return np.moveaxis(projected, range(len(layout.axes)), layout.axes)


def rounding(array) -> float:
    """The error that a few operations on this array may have."""
    scale = float(np.max(np.abs(np.asarray(array).astype(np.complex128)), initial=1.0))
    return 4 * scale * float(jnp.finfo(array.dtype).eps)


@given(data=st.data(), layout=strategies.layouts(), dtype=strategies.dtypes())
@settings(max_examples=20)
def test_centralizing_multiplies_each_output_vector_by_the_projection_matrix(
    centralized, data, layout, dtype
):
    grads = data.draw(strategies.arrays(layout.shape, dtype))
    actual = centralized(layout.fan_in, grads)
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, grads)
    chex.assert_trees_all_close(wide(actual), by_matrix(layout, grads), atol=rounding(grads))


@given(data=st.data(), layout=strategies.summing_layouts())
@settings(max_examples=6)
def test_float64_is_centralized_in_float64(centralized, data, layout):
    grads = data.draw(strategies.values(layout.shape))
    with jax.enable_x64(True):
        actual = centralized(layout.fan_in, jnp.asarray(grads))
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, grads)
    chex.assert_trees_all_close(actual, by_matrix(layout, grads), rtol=0, atol=1e-14)


@given(data=st.data(), layout=strategies.layouts(), dtype=strategies.dtypes())
@settings(max_examples=6)
def test_centralizing_twice_is_centralizing_once(centralized, data, layout, dtype):
    grads = data.draw(strategies.arrays(layout.shape, dtype))
    once = centralized(layout.fan_in, grads)
    twice = centralized(layout.fan_in, once)
    chex.assert_trees_all_equal_shapes_and_dtypes(twice, once)
    chex.assert_trees_all_close(wide(twice), wide(once), atol=rounding(grads))


@given(data=st.data(), layout=strategies.layouts(min_size=1))
@settings(max_examples=6)
def test_the_operator_is_its_own_transpose(centralized, data, layout):
    a = data.draw(strategies.arrays(layout.shape))
    b = data.draw(strategies.arrays(layout.shape))
    left = np.vdot(centralized(layout.fan_in, a), b)
    right = np.vdot(a, centralized(layout.fan_in, b))
    scale = float(jnp.linalg.norm(a.ravel()) * jnp.linalg.norm(b.ravel()))
    chex.assert_trees_all_close(left, right, atol=1e-5 * max(scale, 1.0))


@given(data=st.data(), layout=strategies.summing_layouts(), dtype=strategies.dtypes())
@settings(max_examples=6)
def test_the_mean_over_the_fan_in_becomes_zero(centralized, data, layout, dtype):
    grads = data.draw(strategies.arrays(layout.shape, dtype))
    means = output_vectors(layout, centralized(layout.fan_in, grads)).mean(0)
    chex.assert_trees_all_close(means, np.zeros_like(means), atol=rounding(grads))


@given(data=st.data(), layout=strategies.summing_layouts())
@settings(max_examples=6)
def test_a_gradient_that_is_constant_over_the_fan_in_vanishes(centralized, data, layout):
    outputs = [1 if axis in layout.axes else size for axis, size in enumerate(layout.shape)]
    constant = data.draw(strategies.arrays(tuple(outputs)))
    grads = jnp.broadcast_to(constant, layout.shape)
    chex.assert_trees_all_close(
        centralized(layout.fan_in, grads), np.zeros(layout.shape), atol=rounding(grads)
    )


@given(data=st.data(), layout=strategies.layouts(), dtype=strategies.dtypes())
@settings(max_examples=6)
def test_the_norm_of_no_output_vector_grows(centralized, data, layout, dtype):
    grads = data.draw(strategies.arrays(layout.shape, dtype))
    if layout.size == 0:
        return
    before = np.linalg.norm(output_vectors(layout, grads), axis=0)
    after = np.linalg.norm(output_vectors(layout, centralized(layout.fan_in, grads)), axis=0)
    assert np.all(after <= before + np.sqrt(layout.size) * rounding(grads))


@given(
    data=st.data(),
    layout=strategies.layouts(),
    scales=st.tuples(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32)),
)
@settings(max_examples=6)
def test_the_operator_is_linear(centralized, data, layout, scales):
    a = data.draw(strategies.arrays(layout.shape))
    b = data.draw(strategies.arrays(layout.shape))
    combined = centralized(layout.fan_in, scales[0] * a + scales[1] * b)
    apart = scales[0] * centralized(layout.fan_in, a) + scales[1] * centralized(layout.fan_in, b)
    chex.assert_trees_all_close(combined, apart, atol=8 * (rounding(a) + rounding(b)))


@given(data=st.data(), layout=strategies.layouts(max_rank=4), batch=st.integers(1, 4))
@settings(max_examples=6)
def test_centralizing_the_average_is_averaging_the_centralized(centralized, data, layout, batch):
    grads = data.draw(strategies.arrays((batch, *layout.shape)))
    of_the_average = centralized(layout.fan_in, grads.mean(0))
    each = jnp.stack([centralized(layout.fan_in, grad) for grad in grads])
    chex.assert_trees_all_close(of_the_average, each.mean(0), atol=2 * rounding(grads))


def test_column_means_of_4_3_5_0_are_subtracted_from_the_columns(centralized):
    grads = jnp.array([[5.0, 1.0, 9.0, -2.0], [3.0, 5.0, 1.0, 2.0]])
    chex.assert_trees_all_equal(grads.mean(0), jnp.array([4.0, 3.0, 5.0, 0.0]))
    expected = jnp.array([[1.0, -2.0, 4.0, -2.0], [-1.0, 2.0, -4.0, 2.0]])
    chex.assert_trees_all_equal(centralized(FanIn((0,)), grads), expected)


@given(data=st.data(), batch=st.integers(1, 4), shape=strategies.shapes(2, 2, min_size=2))
@settings(max_examples=6)
def test_for_a_dense_layer_it_equals_the_gradient_from_feature_centered_inputs(data, batch, shape):
    inputs = data.draw(strategies.arrays((batch, shape[0])))
    deltas = data.draw(strategies.arrays((batch, shape[1])))
    weights = data.draw(strategies.arrays(shape))
    # The loss whose gradient with respect to the layer's output is `deltas`.
    grads = jax.grad(lambda w: jnp.sum(deltas * (inputs @ w)))(weights)
    centered = inputs - inputs.mean(1, keepdims=True)
    chex.assert_trees_all_close(
        eager(FanIn((0,)), grads), centered.T @ deltas, rtol=1e-4, atol=1e-2
    )


def run(optimizer, grad, params, steps) -> Any:
    """The parameters after each step."""
    # Optax's Adam raises a Python float to an integer array's power, which strict promotion bars.
    with jax.numpy_dtype_promotion("standard"):
        return _run(optimizer, grad, params, steps)


def _run(optimizer, grad, params, steps):

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(grad(params), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[1]


def regression(key=0, samples=16, inputs=6, outputs=3):
    keys = jax.random.split(jax.random.key(key), 4)
    x = jax.random.normal(keys[0], (samples, inputs)) + 1.0
    y = jax.random.normal(keys[1], (samples, outputs))
    weights = jax.random.normal(keys[2], (inputs, outputs))
    return x, y, weights


@pytest.mark.parametrize(
    "optimizer",
    [optax.sgd(0.1), optax.adamw(0.1, weight_decay=0.3), optax.rmsprop(0.1, momentum=0.9)],
    ids=["sgd", "adamw", "rmsprop"],
)
def test_centralizing_the_final_update_keeps_the_sum_of_each_units_weights(optimizer):
    x, y, initial = regression()
    grad = jax.grad(lambda w: jnp.mean((x @ w - y) ** 2))
    fan_in = FanIn((0,))
    kept = run(optax.chain(optimizer, gc_optax.centralize(fan_in)), grad, initial, 50)
    free = run(optimizer, grad, initial, 50)
    sums = jnp.broadcast_to(initial.sum(0), (50, 3))
    chex.assert_trees_all_close(kept.sum(1), sums, atol=1e-4)
    assert np.abs(free.sum(1)[-1] - initial.sum(0)).max() > 0.1


def test_sgd_with_it_is_plain_sgd_on_the_projected_variable():
    x, y, initial = regression()
    projection = jnp.asarray(matrix(6)).astype(jnp.float32)

    def loss(w):
        return jnp.mean((x @ w - y) ** 2)

    def constrained(v):
        return loss(initial + projection @ v)

    chain = optax.chain(gc_optax.centralize(FanIn((0,))), optax.sgd(0.1))
    weights = run(chain, jax.grad(loss), initial, 30)
    variables = run(optax.sgd(0.1), jax.grad(constrained), jnp.zeros_like(initial), 30)
    chex.assert_trees_all_close(
        weights, jax.vmap(lambda v: initial + projection @ v)(variables), atol=1e-5
    )


def test_a_shift_of_all_inputs_moves_the_output_by_the_initial_sum_at_every_step():
    x, y, initial = regression()
    chain = optax.chain(gc_optax.centralize(FanIn((0,))), optax.sgd(0.1, momentum=0.9))
    weights = run(chain, jax.grad(lambda w: jnp.mean((x @ w - y) ** 2)), initial, 30)
    shift = 2.5
    moved = jnp.einsum("bi,tij->tbj", x + shift, weights) - jnp.einsum("bi,tij->tbj", x, weights)
    expected = jnp.broadcast_to(shift * initial.sum(0), moved.shape)
    chex.assert_trees_all_close(moved, expected, atol=1e-4)


def test_gradient_and_hessian_norms_of_the_constrained_loss_are_no_larger():
    x, y, initial = regression(outputs=1)

    def loss(w):
        return jnp.mean(jnp.tanh(x @ w - y) ** 2)

    def centralize(grads):
        return eager(FanIn((0,)), grads)

    grads = jax.grad(loss)(initial)
    hessian = jax.hessian(loss)(initial).reshape(6, 6)
    # P H P, by centralizing the columns and then the rows.
    constrained = centralize(centralize(hessian).T).T
    chex.assert_trees_all_close(constrained, matrix(6) @ np.asarray(hessian) @ matrix(6), atol=1e-5)
    assert jnp.linalg.norm(centralize(grads)) < jnp.linalg.norm(grads)
    assert jnp.linalg.norm(constrained, 2) < jnp.linalg.norm(hessian, 2)


def test_gradients_flow_through_it():
    grads = jax.random.normal(jax.random.key(0), (4, 3))

    def through(dtype):
        def squares(grads):
            return jnp.sum(eager(FanIn((0,)), grads.astype(dtype)).astype(jnp.float32) ** 2)

        return jax.grad(squares)(grads)

    # d |P g|^2 / d g = 2 P^T P g = 2 P g.
    expected = 2 * matrix(4) @ np.asarray(grads)
    chex.assert_trees_all_close(through(jnp.float32), expected, atol=1e-5)
    chex.assert_trees_all_close(through(jnp.bfloat16), expected, atol=5e-2)
