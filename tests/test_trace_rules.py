"""Primitives at the borders of their rules: who is a weight, what a layout loses, what is said."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AxisType, PartitionSpec

import gc_optax
from gc_optax import FanIn
from gc_optax._tracing.interpreter import RULES
from gc_optax._tracing.structure import carries
from tests.abstract import f32, i32


def cholesky(w):
    return jax.lax.linalg.cholesky(w, symmetrize_input=False)


def solve(a, b):
    return jax.lax.linalg.triangular_solve(a, b, left_side=True)


# Roles: a primitive whose other operand is the weight.


@pytest.mark.parametrize(
    ("primitive", "fn", "shape", "data"),
    [
        (
            "ragged_dot_general",
            lambda w, experts: jax.lax.ragged_dot(w, experts, jnp.array([2, 3])),
            (5, 4),
            f32(2, 4, 6),
        ),
        (
            "conv_general_dilated",
            lambda w, kernel: jax.lax.conv(w, kernel, (1, 1), "VALID"),
            (2, 3, 5, 5),
            f32(4, 3, 2, 2),
        ),
    ],
)
def test_a_weight_on_the_side_of_the_activations_is_left_alone(primitive, fn, shape, data):
    spec = gc_optax.fan_in_by_trace(fn, f32(*shape), data)
    assert spec.axes == ()
    assert f"meets data in `{primitive}`, which is not followed" in spec.reason


def test_an_index_that_is_a_parameter_makes_no_lookup_of_data():
    params = {"index": i32(3), "kernel": f32(4, 5)}
    fan_in = gc_optax.fan_in_by_trace(lambda p, x: x[p["index"]] @ p["kernel"], params, f32(7, 4))
    assert fan_in == {"index": FanIn((), "rank below 2"), "kernel": FanIn((0,), kind="dense")}


# What was seen.


@pytest.mark.parametrize(
    ("reason", "fn"),
    [
        ("combined with activations by `max`", lambda w, x: jnp.maximum(w, x)),
        ("sorted with activations", lambda w, x: jax.lax.sort((x, w), num_keys=1)[1]),
        ("added to activations", lambda w, x: x + cholesky(w)),
    ],
)
def test_what_is_done_to_a_weight_besides_a_contraction_is_the_reason(reason, fn):
    assert gc_optax.fan_in_by_trace(fn, f32(4, 4), f32(4, 4)) == FanIn((), reason)


def test_activations_that_are_padded_with_a_weight_are_no_use_of_it():
    def fn(p, x):
        padding = p["scale"].sum()
        return jax.lax.pad(x, padding, ((0, 1, 0), (0, 0, 0))) @ p["kernel"]

    params = {"scale": f32(2, 3), "kernel": f32(4, 5)}
    fan_in = gc_optax.fan_in_by_trace(fn, params, f32(6, 4))
    assert fan_in["scale"].axes == ()
    assert fan_in["kernel"] == FanIn((0,), kind="dense")


def test_rows_of_a_lost_layout_that_data_chooses_are_named():
    spec = gc_optax.fan_in_by_trace(lambda w, i: cholesky(w)[i], f32(4, 4), i32(3))
    assert spec.axes == ()
    assert "layout lost in `cholesky`" in spec.reason


def test_a_lost_layout_that_meets_data_in_an_unknown_primitive_is_named():
    spec = gc_optax.fan_in_by_trace(lambda w, x: solve(x, cholesky(w)), f32(4, 4), f32(4, 4))
    assert spec.axes == ()
    assert "layout lost in `cholesky`" in spec.reason


@pytest.mark.parametrize(
    "meet",
    [lambda ones, x, i: solve(x, ones), lambda ones, x, i: ones[i]],
    ids=["unknown primitive", "lookup"],
)
def test_a_number_that_is_repeated_has_no_axes_to_lose(meet):
    def fn(w, x, i):
        return x @ w + meet(jnp.broadcast_to(w.sum(), (4, 4)), x, i)

    # The kernel shows its fan-in elsewhere, and the number says nothing against it.
    spec = gc_optax.fan_in_by_trace(fn, f32(4, 4), f32(4, 4), i32(4))
    assert spec == FanIn((0,), kind="dense")


def test_a_rule_that_gives_up_the_layout_is_named(monkeypatch):
    monkeypatch.setitem(RULES, "transpose", RULES["transpose"])
    carries("transpose")(lambda layout, eqn: None)
    spec = gc_optax.fan_in_by_trace(lambda w, x: x @ w.T, f32(4, 6), f32(3, 6))
    assert spec.axes == ()
    assert "layout lost in `transpose`" in spec.reason


# Layouts that go along.


def roll(w):
    return jnp.concatenate([w[2:], w[:2]])


@pytest.mark.parametrize(
    "fn",
    [
        lambda w: jnp.pad(w, ((0, 0), (0, 2))),
        lambda w: jnp.sort(w, axis=1),
        lambda w: w + roll(w),
        lambda w: w.mean(0, keepdims=True) + w,
        lambda w: jax.lax.clamp(jnp.min(w), w, jnp.float32(1)),
        lambda w: jax.lax.optimization_barrier(w),
        lambda w: checkpoint_name(w, "kernel"),
    ],
    ids=["pad", "sort", "roll", "mean first", "clamp", "barrier", "name"],
)
def test_a_weight_keeps_its_fan_in_through(fn):
    def layer(w, x):
        return x @ fn(w)

    with jax.numpy_rank_promotion("allow"):
        assert gc_optax.fan_in_by_trace(layer, f32(4, 6), f32(3, 4)) == FanIn((0,), kind="dense")


def test_a_clamp_by_a_parameter_of_rank_0_leaves_the_kernel_a_kernel():
    def fn(p, x):
        return x @ jax.lax.clamp(p["low"], p["kernel"], jnp.float32(1))

    fan_in = gc_optax.fan_in_by_trace(fn, {"low": f32(), "kernel": f32(4, 6)}, f32(3, 4))
    assert fan_in["kernel"] == FanIn((0,), kind="dense")
    assert fan_in["low"].axes == ()


def test_an_axis_of_size_1_vanishes_between_two_that_merge():
    def fn(w, x):
        return x @ w.reshape(12, 5)

    assert gc_optax.fan_in_by_trace(fn, f32(4, 1, 3, 5), f32(2, 12)).axes == (0, 2)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((3, 2, 4, 5), (0, 1, 2)), ((3, 8, 5, 1), (0, 1)), ((3, 8, 2, 5), (0, 1))],
    ids=["input features", "output features, one of size 1", "output features"],
)
def test_features_of_a_convolution_may_be_two_axes(shape, axes):
    def fn(w, x):
        numbers = ("NWC", "WIO", "NWC")
        kernel = w.reshape(3, 8, -1)
        return jax.lax.conv_general_dilated(x, kernel, (1,), "VALID", dimension_numbers=numbers)

    assert gc_optax.fan_in_by_trace(fn, f32(*shape), f32(2, 9, 8)) == FanIn(
        axes, kind="conv", groups=1
    )


def test_weights_that_a_scan_goes_through_and_stacks_again_are_layers():
    def fn(w, x):
        layers = jax.lax.scan(lambda _, row: (None, 2 * row), None, w)[1]
        return jnp.einsum("bi,lio->blo", x, layers)

    spec = gc_optax.fan_in_by_trace(fn, f32(3, 4, 5), f32(2, 4))
    assert spec == FanIn((1,), batch_axes=(0,), kind="dense")


@pytest.mark.parametrize("indices", [[0, 2], [[0, 2], [4, 5]]], ids=["rank 1", "rank 2"])
def test_layers_that_constant_indices_choose_are_layers(indices):
    def fn(w, x):
        chosen = w[np.array(indices)]
        return jnp.einsum("bi,nio->bno", x, chosen.reshape(-1, 4, 5))

    assert gc_optax.fan_in_by_trace(fn, f32(6, 4, 5), f32(2, 4)).axes == (1,)


def test_rows_from_where_data_says_on_are_looked_up():
    def fn(w, x, start):
        return x + jax.lax.dynamic_slice_in_dim(w, start, 3)

    spec = gc_optax.fan_in_by_trace(fn, f32(8, 4), f32(3, 4), i32())
    assert spec == FanIn((), "embedding lookup")


# What some versions of JAX have a primitive for, and others several.


def test_weights_that_are_stacked_are_layers_and_with_data_they_are_activations():
    def layers(p, x):
        return jnp.einsum("bi,lio->blo", x, jnp.stack([p["a"], p["b"]]))

    params = {"a": f32(4, 5), "b": f32(4, 5)}
    fan_in = gc_optax.fan_in_by_trace(layers, params, f32(2, 4))
    assert all(spec.axes == (0,) for spec in fan_in.values())

    spec = gc_optax.fan_in_by_trace(lambda w, x: jnp.stack([w, x]), f32(4, 5), f32(4, 5))
    assert spec.axes == ()
    assert spec.reason in ("stacked with activations", "concatenated with activations")


@pytest.mark.parametrize("tiled", [False, True])
def test_shards_that_are_gathered(tiled):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))

    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(PartitionSpec("x"), PartitionSpec()),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    def fn(w, x):
        whole = jax.lax.all_gather(w, "x", tiled=tiled)
        return x @ whole.reshape(4, 5)

    spec = gc_optax.fan_in_by_trace(fn, f32(4, 5), f32(3, 4))
    assert spec == FanIn((0,), kind="dense")
