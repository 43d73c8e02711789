"""Tracing at the borders of its rules: what is rare, and what cannot be followed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

import gc_optax
from gc_optax import FanIn
from gc_optax._tracing import constants, control_flow, hi_primitives, references
from tests.abstract import f32, i32

pytestmark = pytest.mark.usefixtures("default_promotion")

trace = gc_optax.fan_in_by_trace
DENSE = FanIn((0,), kind="dense")
X = jnp.linspace(-1.0, 1.0, 40).reshape(5, 8)


def test_entries_of_an_axis_that_are_joined_again_are_that_axis():
    assert trace(lambda w, x: x @ jnp.concatenate(list(w)), f32(2, 4, 3), f32(5, 8)).axes == (0, 1)
    assert trace(lambda w, x: x @ jnp.concatenate([w[0], w[1]]), f32(2, 4, 3), f32(5, 8)).axes == (
        0,
        1,
    )
    stacked = trace(
        lambda w, x: jnp.einsum("bi,lio->blo", x, jnp.stack(list(w))), f32(3, 8, 4), f32(5, 8)
    )
    assert stacked.axes == (1,)


def test_parts_for_different_outputs_are_no_whole():
    def blocks(w, x):
        return x @ jax.scipy.linalg.block_diag(*w)

    def padded(w, x):
        left, right = jnp.pad(w[:4], ((0, 0), (0, 3))), jnp.pad(w[4:], ((0, 0), (3, 0)))
        return x[:, :4] @ left + x[:, 4:] @ right

    for function, shape in ((blocks, (2, 4, 3)), (padded, (8, 3))):
        with pytest.warns(UserWarning, match="in part only"):
            assert trace(function, f32(*shape), f32(5, 8)).axes == ()


def test_some_of_the_entries_of_an_axis_are_a_part():
    with pytest.warns(UserWarning, match="in part only"):
        spec = trace(lambda w, x: x @ jnp.concatenate([w[0], w[1]]), f32(3, 4, 3), f32(5, 8))
    assert spec.axes == ()


def test_a_largest_entry_has_no_axis_left():
    assert trace(lambda w, x: x @ (w / jnp.max(w, axis=0)), f32(8, 6), f32(5, 8)) == DENSE


def test_a_window_that_data_chooses_is_looked_up():
    def windows(w, x, starts):
        return x + jax.vmap(lambda i: lax.dynamic_slice(w, (i, 0), (5, 8)))(starts).sum(0)

    assert trace(windows, f32(9, 8), f32(5, 8), i32(3)) == FanIn((), "embedding lookup")


def test_labels_choose_from_the_logits_of_closed_over_data():
    def loss(w, labels):
        return -jnp.take_along_axis(jax.nn.log_softmax(X @ w), labels[:, None], axis=1).mean()

    assert trace(loss, f32(8, 3), i32(5)) == DENSE


def test_an_index_that_is_made_of_weights_hides_what_it_chooses():
    def fn(p, x):
        return x @ p["w"][jnp.argsort(p["w"][:, 0])] @ p["v"][p["w"].astype(int)[0, 0]]

    fan_in = trace(fn, {"w": f32(8, 6), "v": f32(3, 6, 2)}, f32(5, 8))
    assert fan_in["w"].axes == fan_in["v"].axes == ()
    assert "no use found" not in {spec.reason for spec in fan_in.values()}


def test_activations_that_a_weight_is_written_into():
    def fn(w, x):
        return lax.dynamic_update_slice(x, w, (0, 0))

    assert trace(fn, f32(2, 3), f32(5, 8)).reason == "written among activations"


def test_a_weight_that_both_cases_hold_is_that_weight():
    def fn(w, x, flag):
        return x @ lax.cond(flag[0] > 0, lambda w: w, lambda w: w, w)

    assert trace(fn, f32(8, 6), f32(5, 8), f32(1)) == DENSE


def test_a_repeated_image_that_is_a_parameter_is_the_input_of_a_convolution():
    def fn(p, x):
        image = jnp.broadcast_to(p["image"], (5, 9, 3))
        numbers = ("NHC", "HIO", "NHC")
        return x + lax.conv_general_dilated(
            image, p["kernel"], (1,), "SAME", dimension_numbers=numbers
        )

    fan_in = trace(fn, {"image": f32(1, 9, 3), "kernel": f32(3, 3, 4)}, f32(5, 9, 4))
    assert fan_in["kernel"] == FanIn((0, 1), kind="conv", groups=1)
    assert "repeated among activations" in fan_in["image"].reason


def test_outer_products_are_summed_over_nothing():
    def fn(p, x):
        return jnp.einsum("bi,o->bio", x, p["scale"]).sum() + jnp.einsum("i,o->io", x[0], p["b"])

    assert trace(fn, {"scale": f32(6), "b": f32(8)}, f32(5, 8)) == {
        "scale": FanIn(()), "b": FanIn(()),
    }  # fmt: skip


def test_rows_of_an_embedding_are_an_activation_to_whatever_comes():
    def fn(p, tokens):
        rows = p["table"][tokens]
        left, right = jnp.split(rows, 2, axis=-1)
        return lax.stop_gradient(rows) @ p["w"] + left @ p["v"] + jnp.cumsum(right, 0) @ p["v"]

    params = {"table": f32(9, 8), "w": f32(8, 3), "v": f32(4, 3)}
    assert trace(fn, params, i32(5)) == {
        "table": FanIn((), "embedding lookup"), "w": DENSE, "v": DENSE,
    }  # fmt: skip


def test_a_factor_without_contracted_axes_takes_no_part():
    def mixed(p, x, gates):
        return jnp.einsum("bi,bk,kio->bo", x, gates, p["w"] * p["scale"])

    params = {"w": f32(4, 8, 6), "scale": f32(1, 1, 6)}
    fan_in = trace(mixed, params, f32(5, 8), f32(5, 4))
    assert fan_in["w"].axes == fan_in["scale"].axes == ()

    def low_rank(p, x):
        return x @ ((p["a"] + p["column"]) @ p["b"])

    fan_in = trace(low_rank, {"a": f32(8, 2), "column": f32(8, 1), "b": f32(2, 6)}, f32(5, 8))
    assert {spec.axes for spec in fan_in.values()} == {()}


def test_constants_that_are_written_into_a_weight_leave_it_a_weight():
    def fn(w, x):
        return x @ lax.dynamic_update_slice(w, jnp.zeros((2, 6)), (0, 0))

    assert trace(fn, f32(8, 6), f32(5, 8)) == DENSE


def test_one_number_that_is_closed_over_is_no_data():
    number = jnp.full((1,), 2.0)
    assert trace(lambda w, x: x @ (w * number), f32(8, 6), f32(5, 8)) == DENSE


def test_parts_that_are_not_known_or_not_all_are_no_whole():
    def unknown(w, x):
        return x[:, :4] @ lax.dynamic_slice(w, (jnp.arange(3)[1], 0), (4, 6))

    def twice(w, x):
        return x @ jnp.concatenate([w[:4], w[:4]])

    for function in (unknown, twice):
        with pytest.warns(UserWarning, match="in part only"):
            assert trace(function, f32(8, 6), f32(5, 8)).axes == ()


def test_parts_may_be_added_more_than_once():
    def fn(w, x):
        left, right = x[:, :4] @ w[:4], x[:, 4:] @ w[4:]
        return (left + right) + left

    assert trace(fn, f32(8, 6), f32(5, 8)) == DENSE


def test_collectives_of_data_inside_a_mapped_layer():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))

    def body(w, x):
        whole = lax.all_gather(x, "x", axis=1, tiled=True)
        return lax.psum_scatter(whole @ w, "x", scatter_dimension=1, tiled=False)

    specs = (PartitionSpec(), PartitionSpec(None, "x"))
    layer = jax.shard_map(
        body, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False
    )
    assert trace(layer, f32(8, 2), f32(5, 8)) == DENSE


def test_a_weight_that_is_scattered_over_a_mesh_is_not_followed():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))

    def body(w, x):
        return x @ lax.psum_scatter(w, "x", scatter_dimension=0, tiled=False)

    layer = jax.shard_map(
        body, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=False
    )
    spec = trace(layer, f32(2, 8, 6), f32(5, 8))
    assert spec.axes == ()
    assert "layout lost in `reduce_scatter`" in spec.reason


# References.


def test_a_reference_is_read_in_part():
    def rows(w, x):
        held = jax.new_ref(w)
        return x[:, :4] @ held[:4] + x[:, 4:] @ held[4:]

    assert trace(rows, f32(8, 6), f32(5, 8)) == DENSE
    with pytest.warns(UserWarning, match="in part only"):
        assert trace(lambda w, x: x[:, :4] @ jax.new_ref(w)[:4], f32(8, 6), f32(5, 8)).axes == ()
    layers = trace(lambda w, x: x @ jax.new_ref(w)[1], f32(3, 8, 6), f32(5, 8))
    assert (layers.axes, layers.batch_axes) == ((1,), (0,))


def test_a_reference_is_written_to_by_parts_of_weights():
    def fn(p, x):
        held = jax.new_ref(jnp.zeros((8, 6)))
        held[:4] = p["a"]
        return x @ held[...]

    assert "layout lost in `swap`" in trace(fn, {"a": f32(4, 6)}, f32(5, 8))["a"].reason


def test_weights_that_are_added_into_a_reference_are_joined():
    def fn(p, x):
        held = jax.new_ref(p["w"])
        held[...] += p["v"]
        return x @ held[...]

    assert trace(fn, {"w": f32(8, 6), "v": f32(8, 6)}, f32(5, 8)) == {"w": DENSE, "v": DENSE}


def test_updates_and_freezing_of_a_reference_are_followed():
    def fn(p, x):
        held = jax.new_ref(p["w"])
        jax.ref.addupdate(held, ..., p["v"])  # pyright: ignore[reportAttributeAccessIssue]
        return x @ jax.freeze(held)

    assert trace(fn, {"w": f32(8, 6), "v": f32(8, 6)}, f32(5, 8)) == {"w": DENSE, "v": DENSE}


def test_a_reference_that_is_read_in_an_unknown_way_hides_the_layout(monkeypatch):
    monkeypatch.setattr(references, "_kept_rows", lambda eqn, first: None)
    spec = trace(lambda w, x: x @ jax.new_ref(w)[:4], f32(8, 6), f32(5, 4))
    assert "layout lost in `get`" in spec.reason


def test_an_indexer_of_another_form_is_not_known():
    class Equation:
        params = {"tree": jax.tree.structure((1,))}  # noqa: RUF012
        invars = (0, 1)

    assert references._kept_rows(Equation, 1) is None


# Calls and constants.


def test_a_call_that_does_not_expand_is_not_followed(monkeypatch):
    monkeypatch.setattr(hi_primitives, "_expanded", lambda eqn: None)

    def fn(w, x):
        return lax.custom_root(
            lambda z: jnp.tanh(z @ w + x) - z, x, lambda f, z: z + f(z), lambda g, y: y
        )

    spec = trace(fn, f32(8, 8), f32(5, 8))
    if jax.__version_info__ >= (0, 11):  # it is a call with a jaxpr before
        assert "`call_hi_primitive`" in spec.reason


def test_what_has_no_expansion_is_said_so():
    class Equation:
        params = {"_prim": object()}  # noqa: RUF012

    assert hi_primitives._expanded(Equation) is None


def test_large_constants_and_keys_are_not_looked_at(monkeypatch):
    assert constants.closed_array(jax.random.key(0)) is None
    monkeypatch.setattr(constants, "LARGEST", 8)
    assert trace(lambda w, x: x @ (jnp.eye(8)[::-1] @ w), f32(8, 6), f32(5, 8)) == DENSE


def test_a_loop_that_does_not_settle_hides_the_layouts(monkeypatch):
    monkeypatch.setattr(control_flow, "MAX_ROUNDS", 0)

    def fn(w, x):
        return x @ lax.fori_loop(0, 3, lambda i, w: w + w.T, w)

    assert "layout lost in `scan`" in trace(fn, f32(8, 8), f32(5, 8)).reason


def test_what_an_activation_is_made_of_is_not_hidden_by_a_loop(monkeypatch):
    monkeypatch.setattr(control_flow, "MAX_ROUNDS", 0)

    def fn(w):
        return lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ w + X[:, :8] @ w), X)

    assert trace(fn, f32(8, 8)) == DENSE


def test_a_contraction_of_two_weights_is_recorded_by_no_rule():
    """A rule that asks too little is stopped by `contract` itself."""
    from gc_optax._tracing import layout as lay
    from gc_optax._tracing.contraction import contract
    from gc_optax._tracing.interpreter import Interpreter
    from gc_optax._tracing.values import Evidence, Value

    interpreter = Interpreter()
    weight = Value(layouts={0: lay.identity((8, 6))})
    contract(interpreter, Value(), weight, Value(), [0], Evidence.NONE, "dense")
    assert [record.kind for record in interpreter.recorder.records] == ["unknown"]


def test_a_table_that_is_added_and_contracted_on_the_side_is_no_layer():
    def fn(table, x):
        return ((x + table) ** 2).sum() + jnp.sum((np.diff(np.eye(5), axis=0) @ table) ** 2)

    assert trace(fn, f32(5, 8), f32(5, 8)).axes == ()


def test_a_kernel_in_the_frequencies_of_constants_is_left_alone():
    """Group convolutions: both sides are transformed by the same constants."""
    waves = jnp.cos(jnp.arange(81.0).reshape(9, 9))

    def fn(kernel, x):
        sides = jnp.tensordot(x, waves, 1), jnp.tensordot(kernel, waves, 1)
        return jnp.einsum("bif,oif->bo", *sides)

    assert trace(fn, f32(3, 4, 9), f32(5, 4, 9)).axes == ()


def test_an_outer_product_of_parameters_is_no_layer():
    def fn(p, x):
        return x @ jnp.einsum("i,o->io", p["a"][0], p["b"][0])

    assert trace(fn, {"a": f32(2, 8), "b": f32(2, 6)}, f32(5, 8))["b"].axes == ()


def test_sums_of_weights_and_gathered_rows_over_a_mesh():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))

    def body(p, tokens):
        rows = lax.all_gather(p["table"][tokens], "x", axis=0, tiled=True)
        return rows @ lax.psum(p["w"], "x")

    specs = (PartitionSpec(), PartitionSpec("x"))
    layer = jax.shard_map(
        body, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False
    )
    fan_in = trace(layer, {"table": f32(9, 8), "w": f32(8, 6)}, i32(4))
    assert fan_in == {"table": FanIn((), "embedding lookup"), "w": DENSE}


def test_kernels_that_constants_mix_before_closed_over_data_are_left_alone():
    gates = jnp.array([0.2, 0.3, 0.4])

    def fn(kernels):
        return X @ jnp.einsum("k,kio->io", gates, kernels)

    assert trace(fn, f32(3, 8, 6)).axes == ()
