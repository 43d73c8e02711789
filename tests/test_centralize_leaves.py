"""`centralize` on every kind of leaf, and the ways to give it its axes."""

import dataclasses
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
from tests.variants import eager

# Fan-in of 1 and other leaves that pass through.


@given(data=st.data(), shape=strategies.shapes(min_rank=1, min_size=1))
@settings(max_examples=20)
def test_a_leaf_with_a_fan_in_of_1_passes_unchanged(data, shape):
    rank = len(shape)
    axis = data.draw(st.integers(0, rank - 1))
    shape = (*shape[:axis], 1, *shape[axis + 1 :])
    grads = data.draw(strategies.arrays(shape))
    assert eager(FanIn((axis,)), grads) is grads
    assert eager(FanIn((axis - rank,)), grads) is grads


def test_a_long_axis_beside_one_of_size_1_is_centralized(centralized):
    grads = jnp.arange(4.0).reshape(1, 4, 1)
    expected = (jnp.arange(4.0) - 1.5).reshape(1, 4, 1)
    chex.assert_trees_all_close(centralized(FanIn((0, 1)), grads), expected)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
@pytest.mark.parametrize("axes", [(0,), (-1,)])
def test_an_empty_leaf_passes_without_a_warning(centralized, shape, axes):
    grads = jnp.zeros(shape)
    chex.assert_trees_all_equal(centralized(FanIn(axes), grads), grads)


@pytest.mark.parametrize("dtype", strategies.INTEGERS)
def test_integers_and_booleans_pass_unchanged(dtype):
    leaf = jnp.ones((3, 2)).astype(dtype)
    assert eager(FanIn((0,)), leaf) is leaf


def test_prng_keys_pass_unchanged():
    keys = jax.random.split(jax.random.key(0), 3)
    assert eager(FanIn((0,)), keys) is keys


def test_float0_gradients_of_integer_parameters_pass_unchanged():
    params = {"kernel": jnp.ones((3, 2)), "steps": jnp.arange(4).reshape(2, 2)}
    grads = jax.grad(lambda p: p["kernel"].sum(), allow_int=True)(params)
    assert grads["steps"].dtype == jax.dtypes.float0
    for fan_in in (FanIn((0,)), gc_optax.fan_in_by_name):
        updates = eager(fan_in, grads)
        assert updates["steps"] is grads["steps"]
        chex.assert_trees_all_close(updates["kernel"], jnp.zeros((3, 2)))


def test_leaves_that_are_no_arrays_pass_unchanged():
    leaf = 2.5
    assert eager(FanIn(()), {"a": leaf, "b": jax.nn.relu}) == {"a": leaf, "b": jax.nn.relu}


def test_a_scalar_passes_where_its_fan_in_is_empty():
    scalar = jnp.float32(3.0)
    assert eager(FanIn(()), scalar) is scalar
    assert eager(gc_optax.fan_in_by_name, {"temperature": scalar})["temperature"] is scalar


def test_none_and_masked_nodes_stay_where_they_are(centralized):
    updates = {"a": None, "b": optax.MaskedNode(), "c": jnp.array([[1.0], [3.0]]), "d": {}}
    result = centralized(FanIn((0,)), updates)
    assert result["a"] is None
    assert isinstance(result["b"], optax.MaskedNode)
    assert result["d"] == {}
    chex.assert_trees_all_close(result["c"], jnp.array([[-1.0], [1.0]]))


def test_complex_gradients_lose_their_complex_mean(centralized):
    grads = jnp.array([[1.0 + 2.0j, 4.0], [3.0 - 4.0j, 8.0j]])
    expected = jnp.array([[-1.0 + 3.0j, 2.0 - 4.0j], [1.0 - 3.0j, -2.0 + 4.0j]])
    result = centralized(FanIn((0,)), grads)
    chex.assert_trees_all_equal_shapes_and_dtypes(result, grads)
    chex.assert_trees_all_close(result, expected)


def test_numpy_arrays_are_centralized_like_jax_arrays():
    grads = np.array([[1.0, 2.0], [3.0, 6.0]], np.float32)
    result = eager(FanIn((0,)), {"kernel": grads, "bias": np.ones(2, np.float32)})
    assert isinstance(result["kernel"], jax.Array)
    chex.assert_trees_all_close(result["kernel"], jnp.array([[-1.0, -2.0], [1.0, 2.0]]))
    np.testing.assert_array_equal(grads, [[1.0, 2.0], [3.0, 6.0]])


# Narrow floats.


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_mean_of_16_bit_floats_is_accumulated_in_float32(centralized, dtype):
    rng = np.random.default_rng(0)
    grads = jnp.asarray(rng.normal(1.0, 0.1, (4096, 8)).astype(dtype))
    exact = np.asarray(grads).astype(np.float64)
    exact = exact - exact.mean(0)
    result = np.asarray(centralized(FanIn((0,)), grads)).astype(np.float64)
    eps = float(jnp.finfo(dtype).eps)
    # One rounding of the result, nothing else.
    chex.assert_trees_all_close(result, exact, rtol=eps, atol=1e-6)

    def narrow_sum(carry, row):
        return carry + row, None

    total = jax.lax.scan(narrow_sum, jnp.zeros(8, dtype), grads)[0]
    narrow = grads - (total / jnp.asarray(4096, dtype))[None]
    error = np.abs(np.asarray(narrow).astype(np.float64) - exact).max()
    assert error > 5 * eps, "a mean accumulated in 16 bits should be visibly wrong here"


def test_float16_means_do_not_overflow(centralized):
    grads = jnp.full((64, 2), 30000.0, jnp.float16)
    chex.assert_trees_all_equal(centralized(FanIn((0,)), grads), jnp.zeros((64, 2), jnp.float16))


@pytest.mark.parametrize("dtype", strategies.WIDE_FLOATS + strategies.NARROW_FLOATS)
def test_the_dtype_is_preserved(centralized, dtype):
    grads = jnp.asarray(np.arange(6).reshape(3, 2).astype(dtype))
    expected = np.array([[-2.0, -2.0], [0.0, 0.0], [2.0, 2.0]])
    result = centralized(FanIn((0,)), grads)
    chex.assert_trees_all_equal_shapes_and_dtypes(result, grads)
    chex.assert_trees_all_close(np.asarray(result).astype(np.complex128), expected, atol=1e-6)


# Trees of FanIn.


def test_one_fan_in_serves_the_whole_tree(centralized):
    updates = {"a": jnp.array([[1.0], [3.0]]), "b": [jnp.array([2.0, 4.0])]}
    expected = {"a": jnp.array([[-1.0], [1.0]]), "b": [jnp.array([-1.0, 1.0])]}
    chex.assert_trees_all_close(centralized(FanIn((0,)), updates), expected)


def test_a_prefix_serves_all_leaves_below_it(centralized):
    kernel = jnp.array([[1.0, 2.0], [3.0, 6.0]])
    updates = {"body": {"x": kernel, "y": [kernel, kernel]}, "head": kernel}
    result = centralized({"body": {"x": FanIn((1,)), "y": FanIn((0,))}, "head": FanIn(())}, updates)
    over_inputs = jnp.array([[-1.0, -2.0], [1.0, 2.0]])
    over_outputs = jnp.array([[-0.5, 0.5], [-1.5, 1.5]])
    expected = {"body": {"x": over_outputs, "y": [over_inputs, over_inputs]}, "head": kernel}
    chex.assert_trees_all_close(result, expected)


def test_a_tree_built_for_all_parameters_serves_updates_with_whole_subtrees_masked():
    params = {"frozen": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, "kernel": jnp.ones(4)}
    params["kernel"] = jnp.ones((4, 2))
    fan_in = gc_optax.fan_in_by_name(params)
    grads = jnp.arange(8.0).reshape(4, 2)
    for hole in (None, optax.MaskedNode(), {}):
        result = eager(fan_in, {"frozen": hole, "kernel": grads})
        chex.assert_trees_all_close(result["kernel"], grads - grads.mean(0, keepdims=True))
        assert result["frozen"] == hole


def test_a_function_from_the_updates_gives_the_tree():
    seen = []

    def fan_in(updates):
        seen.append(jax.tree.structure(updates))
        return FanIn((0,))

    updates = {"a": jnp.array([[1.0], [3.0]])}
    result = eager(fan_in, updates)
    assert seen == [jax.tree.structure(updates)]
    chex.assert_trees_all_close(result, {"a": jnp.array([[-1.0], [1.0]])})


def test_a_partial_of_jax_is_a_function():
    fan_in = jax.tree_util.Partial(lambda axis, updates: FanIn((axis,)), 0)
    result = eager(fan_in, jnp.array([[1.0], [3.0]]))
    chex.assert_trees_all_close(result, jnp.array([[-1.0], [1.0]]))


# The transformation itself.


def test_the_state_is_optax_empty_state():
    optimizer = gc_optax.centralize(FanIn((0,)))
    state = optimizer.init({"kernel": jnp.ones((3, 2))})
    assert state == optax.EmptyState()
    assert isinstance(optimizer, optax.GradientTransformation)
    assert optimizer.update({"kernel": jnp.ones((3, 2))}, state)[1] is state


def test_by_default_the_axes_are_read_from_the_names():
    grads = {"kernel": jnp.array([[1.0, 2.0], [3.0, 6.0]]), "embedding": jnp.ones((2, 2))}
    updates: Any = gc_optax.centralize().update(grads, optax.EmptyState())[0]
    chex.assert_trees_all_close(updates["kernel"], jnp.array([[-1.0, -2.0], [1.0, 2.0]]))
    assert updates["embedding"] is grads["embedding"]


# FanIn.


def test_a_fan_in_is_a_leaf_of_a_tree():
    fan_in = FanIn((0, 1))
    assert jax.tree.leaves({"a": fan_in}) == [fan_in]


def test_a_fan_in_is_frozen_and_hashable():
    fan_in = FanIn((0,), "dense", (1,))
    with pytest.raises(dataclasses.FrozenInstanceError):
        fan_in.axes = (1,)  # pyright: ignore[reportAttributeAccessIssue]
    assert {fan_in: 1}[FanIn((0,), "dense", (1,))] == 1
    assert fan_in != FanIn((0,), "dense")


def test_axes_may_be_any_sequence_of_integers_and_become_a_tuple_of_int():
    fan_in = FanIn([np.int64(0), 2], batch_axes=range(1, 2))  # pyright: ignore[reportArgumentType]
    assert fan_in == FanIn((0, 2), "given", (1,))
    assert all(type(axis) is int for axis in fan_in.axes + fan_in.batch_axes)


def test_what_people_read_is_no_part_of_equality_and_what_programs_read_is():
    fan_in = FanIn((0, 1), "conv", (2,), kind="conv", guess=True, groups=2, rank=4)
    for field, value in (("reason", "given"), ("rank", 5), ("rank", None)):
        other = dataclasses.replace(fan_in, **{field: value})
        assert other == fan_in
        assert hash(other) == hash(fan_in)
    changed = {"axes": (0,), "batch_axes": (), "kind": "dense", "guess": False, "groups": None}
    for field, value in changed.items():
        assert dataclasses.replace(fan_in, **{field: value}) != fan_in


def test_by_default_nothing_is_claimed_but_the_axes():
    fan_in = FanIn((0,))
    assert (fan_in.reason, fan_in.batch_axes, fan_in.kind) == ("given", (), "other")
    assert (fan_in.guess, fan_in.groups, fan_in.rank) == (False, None, None)


def test_a_fan_in_is_shown_by_what_it_says():
    assert repr(FanIn((0,))) == "FanIn(axes=(0,))"
    assert repr(FanIn((), "embedding lookup")) == "FanIn(axes=(), reason='embedding lookup')"
    fan_in = FanIn((0, 1), "depthwise", (2,), kind="conv", guess=True, groups=3, rank=4)
    assert repr(fan_in) == (
        "FanIn(axes=(0, 1), reason='depthwise', batch_axes=(2,), kind='conv', guess=True, groups=3,"
        " rank=4)"
    )
    assert eval(repr(fan_in)) == fan_in


def test_groups_and_rank_become_plain_integers():
    fan_in = FanIn((0,), groups=np.int64(2), rank=np.int32(3))  # pyright: ignore[reportArgumentType]
    assert type(fan_in.groups) is type(fan_in.rank) is int
