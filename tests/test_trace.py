"""What `fan_in_by_trace` takes and gives, and what it does where there is no single answer."""

import re
import resource
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import gc_optax
from tests.abstract import f32, i32

pytestmark = pytest.mark.usefixtures("default_promotion")


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(nnx.relu(self.norm(self.conv(x)))).mean((1, 2)))


def mlp(params, x):
    return jnp.tanh(x @ params["w1"]) @ params["w2"]


MLP = {"w1": f32(4, 6), "w2": f32(6, 2)}


def axes(fan_in):
    return jax.tree.map(lambda spec: spec.axes, fan_in)


def test_nnx_module_gives_the_tree_that_its_optimizer_updates():
    model = Net(nnx.Rngs(0))
    images = jnp.ones((2, 8, 8, 3))

    def loss(model, images):
        return jnp.sum(model(images) ** 2)

    before = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(model)))
    fan_in = gc_optax.fan_in_by_trace(loss, model, images)
    after = nnx.to_pure_dict(nnx.state(model))
    jax.tree.map(lambda a, b: jnp.array_equal(a, b) or pytest.fail("changed"), before, after)
    assert axes(fan_in)["conv"]["kernel"] == (0, 1, 2)
    assert axes(fan_in)["head"]["kernel"] == (0,)
    optimizer = nnx.Optimizer(
        model, optax.chain(gc_optax.centralize(fan_in), optax.sgd(0.1)), wrt=nnx.Param
    )
    kernel = model.conv.kernel[...]
    optimizer.update(model, nnx.grad(loss)(model, images))
    moved = model.conv.kernel[...] - kernel
    assert jnp.abs(moved).max() > 0
    assert jnp.abs(moved.mean((0, 1, 2))).max() < 1e-6


def test_abstract_nnx_module_is_traced_without_arrays():
    model = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
    fan_in = gc_optax.fan_in_by_trace(lambda m, x: m(x), model, f32(2, 8, 8, 3))
    assert axes(fan_in)["conv"]["kernel"] == (0, 1, 2)


def test_shapes_alone_are_enough_and_nothing_is_allocated():
    big = {"w1": f32(200_000, 100_000), "w2": f32(100_000, 200_000)}  # 160 GB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fan_in = gc_optax.fan_in_by_trace(mlp, big, f32(8, 200_000))
    assert axes(fan_in) == {"w1": (0,), "w2": (0,)}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_flags_strings_and_functions_are_passed_as_they_are():
    def fn(params, x, train, *, activation, mode="plain", mutable=("a", "b")):
        assert train is True
        assert mode == "plain"
        assert mutable == ("a", "b")
        return activation(x @ params["w1"]) @ params["w2"]

    fan_in = gc_optax.fan_in_by_trace(fn, MLP, f32(3, 4), True, activation=jnp.tanh)
    assert axes(fan_in) == {"w1": (0,), "w2": (0,)}


def test_leaves_that_are_no_arrays_are_left_alone():
    model = eqx.nn.MLP(4, 2, 6, 1, key=jax.random.key(0))
    fan_in = gc_optax.fan_in_by_trace(lambda m, x: m(x), model, f32(4))
    assert fan_in.layers[0].weight.axes == (1,)
    assert fan_in.activation == gc_optax.FanIn((), "not an array")
    updates = eqx.filter(model, eqx.is_inexact_array)
    centralized: Any = gc_optax.centralize(fan_in).update(updates, optax.EmptyState())[0]
    assert jnp.abs(centralized.layers[0].weight.mean(1)).max() < 1e-6


def test_data_that_the_function_closes_over_or_makes_counts_if_there_is_no_other():
    x = jnp.ones((3, 4))
    expected = {"w1": (0,), "w2": (0,)}
    assert axes(gc_optax.fan_in_by_trace(lambda p: mlp(p, x), MLP)) == expected
    assert axes(gc_optax.fan_in_by_trace(lambda p: mlp(p, jnp.ones((3, 4))), MLP)) == expected
    assert axes(gc_optax.fan_in_by_trace(lambda p, k: mlp(p, x), MLP, jax.random.key(0))) == (
        expected
    )


def test_constants_beside_real_data_stay_constants():
    mask = jnp.tril(jnp.ones((4, 6)))

    def fn(params, x):
        return mlp({**params, "w1": params["w1"] * mask}, x)

    assert axes(gc_optax.fan_in_by_trace(fn, MLP, f32(3, 4))) == {"w1": (0,), "w2": (0,)}


def test_auxiliary_outputs_do_not_decide():
    def loss(params, x):
        out = mlp(params, x)
        return jnp.sum(out), {"reconstruction": out @ params["w2"].T, "name": "aux"}

    assert axes(gc_optax.fan_in_by_trace(loss, MLP, f32(3, 4))) == {"w1": (0,), "w2": (0,)}


def test_reasons_say_what_was_seen():
    def fn(p, tokens, x):
        h = p["table"][tokens] + p["position"]
        h = jnp.concatenate([h, jnp.broadcast_to(p["token"], (2, 1, 4))], axis=1)
        return (h * p["scale"]) @ p["out"] @ p["scalar"], x

    params = {
        "table": f32(11, 4),
        "position": f32(1, 5, 4),
        "token": f32(1, 1, 4),
        "scale": f32(6, 4),
        "out": f32(4, 1),
        "scalar": f32(1, 7),
        "unused": f32(3, 3),
        "empty": f32(0, 3),
    }
    fan_in = gc_optax.fan_in_by_trace(fn, params, i32(2, 5), f32(2))
    reasons = jax.tree.map(lambda spec: spec.reason, fan_in)
    assert reasons == {
        "table": "embedding lookup",
        "position": "added to activations",
        "token": "concatenated with activations",
        "scale": "multiplied with activations",
        "out": "dense",
        "scalar": "fan-in of 1",
        "unused": "no use found",
        "empty": "empty",
    }


def test_tied_embedding_is_left_alone_without_a_warning():
    def fn(table, tokens):
        return jnp.tanh(table[tokens]) @ table.T

    spec = gc_optax.fan_in_by_trace(fn, f32(11, 4), i32(2, 5))
    assert spec == gc_optax.FanIn((), "embedding lookup, also contracted (tied)")


@pytest.mark.parametrize(
    ("primitive", "function"),
    [
        ("fft", lambda w: jnp.fft.fft(w).real),
        ("qr", lambda w: jnp.linalg.qr(w)[0]),
        ("svd", lambda w: jnp.linalg.svd(w, full_matrices=False)[0]),
        ("cholesky", lambda w: jax.lax.linalg.cholesky(w, symmetrize_input=False)),
    ],
)
def test_unknown_primitive_before_the_contraction_is_named(primitive, function):
    spec = gc_optax.fan_in_by_trace(lambda w, x: x @ function(w), f32(4, 4), f32(3, 4))
    assert spec.axes == ()
    assert f"layout lost in `{primitive}`" in spec.reason
    assert "test_trace.py" in spec.reason


def test_unknown_primitive_that_meets_data_is_named():
    def solve(w, x):
        return jax.lax.linalg.triangular_solve(w, x, left_side=True)

    spec = gc_optax.fan_in_by_trace(solve, f32(4, 4), f32(4, 3))
    assert spec.axes == ()
    assert "meets data in `triangular_solve`, which is not followed" in spec.reason


def test_number_from_an_unknown_primitive_may_scale_a_weight():
    def fn(w, x):
        return x @ (w / jnp.linalg.svd(w, compute_uv=False)[0])

    assert gc_optax.fan_in_by_trace(fn, f32(4, 4), f32(3, 4)).axes == (0,)


def test_loop_that_never_settles_loses_the_layout():
    def fn(w, x):
        def step(_, ws):
            return (*ws[1:], ws[0].T)

        ws = jax.lax.fori_loop(0, 20, step, tuple(w[i] for i in range(12)))
        return x @ ws[0]

    spec = gc_optax.fan_in_by_trace(fn, f32(12, 4, 4), f32(3, 4))
    assert spec.axes == ()


def test_product_of_parameters_alone_is_left_alone():
    def fn(p, x):
        return x @ (p["a"] @ p["b"])

    fan_in = gc_optax.fan_in_by_trace(fn, {"a": f32(4, 2), "b": f32(2, 6)}, f32(3, 4))
    for spec in fan_in.values():
        assert spec.axes == ()
        assert spec.reason.startswith("contracted with another parameter before it meets data, at")


def test_conflicting_uses_warn_once_and_name_leaf_and_places():
    def autoencoder(p, x):
        with jax.named_scope("encoder"):
            code = jnp.tanh(x @ p["tied"])
        with jax.named_scope("decoder"):
            return code @ p["tied"].T

    with pytest.warns(UserWarning, match="so this is left alone") as caught:
        fan_in = gc_optax.fan_in_by_trace(autoencoder, {"tied": f32(6, 3)}, f32(2, 6))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    message = str(caught[0].message)
    assert "leaf `tied` of shape (6, 3) has conflicting uses" in message
    assert re.search(r"axes \(0,\) at encoder \(test_trace.py:\d+", message)
    assert re.search(r"axes \(1,\) at decoder \(test_trace.py:\d+", message)
    assert "give its axes in a FanIn of your own" in message
    assert fan_in["tied"].axes == ()
    assert fan_in["tied"].reason.startswith("conflicting uses: axes (0,) at encoder")


@pytest.mark.parametrize(
    "file",
    [
        "/tmp/ipykernel_1042/1652744489.py",
        "/tmp/ipython-input-3-4282502808.py",
        "/tmp/ipython-input-2938354417.py",
        "<ipython-input-3-5e6e1f>",
    ],
)
def test_a_place_in_a_notebook_is_named_a_cell(file):
    names = {}
    exec(compile("def both(w, x):\n    return x @ w + x @ w.T", file, "exec"), names)
    with pytest.warns(UserWarning, match=r"axes \(0,\) at notebook cell:2:\d+"):
        gc_optax.fan_in_by_trace(names["both"], f32(4, 4), f32(4, 4))


def test_axis_contracted_in_part_is_a_conflict():
    def fn(w, x):
        return jnp.einsum("nij,ikjo->nko", x, w.reshape(2, 3, 2, 5))

    with pytest.warns(UserWarning, match="an axis is contracted in part only"):
        spec = gc_optax.fan_in_by_trace(fn, f32(6, 10), f32(4, 2, 2))
    assert spec.axes == ()


def test_function_that_returns_gradients_is_told_apart():
    def loss(p, x):
        return jnp.sum(mlp(p, x))

    with pytest.warns(UserWarning, match="`fn` seems to return gradients") as caught:
        fan_in = gc_optax.fan_in_by_trace(jax.grad(loss), MLP, f32(3, 4))
    assert len(caught) == 1
    assert axes(fan_in) == {"w1": (), "w2": ()}


def test_function_that_returns_the_gradient_of_one_leaf_is_told_apart():
    def loss(w, x):
        return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w))

    with pytest.warns(UserWarning, match="`fn` seems to return gradients"):
        spec = gc_optax.fan_in_by_trace(jax.grad(loss), f32(4, 4), f32(3, 4))
    assert spec == gc_optax.FanIn((), "not known, since `fn` seems to return gradients")


def test_backward_pass_inside_the_function_does_not_count_beside_the_forward_pass():
    def force(p, x):
        return jax.grad(lambda x: (x @ p["a"]).sum())(x)

    assert gc_optax.fan_in_by_trace(force, {"a": f32(4, 6)}, f32(2, 4))["a"].axes == (0,)


def test_parameter_that_only_a_backward_pass_uses_is_left_alone():
    def pull_back(p, y):
        _, pull = jax.vjp(lambda x: jnp.tanh(x) @ p["a"], jnp.ones((2, 4)))
        return pull(y)[0]

    fan_in = gc_optax.fan_in_by_trace(pull_back, {"a": f32(4, 6)}, f32(2, 6))
    assert fan_in["a"] == gc_optax.FanIn((), "used in a backward pass only")


def test_blocks_that_an_index_chooses_along_the_fan_in_are_a_conflict():
    def blocks(w, x):
        w = w.reshape(3, 4, 5)
        return jnp.stack([x[:, k] @ w[k] for k in range(3)], axis=1)

    with pytest.warns(UserWarning, match="an axis is contracted in part only"):
        assert gc_optax.fan_in_by_trace(blocks, f32(12, 5), f32(2, 3, 4)).axes == ()


def test_product_of_parameters_by_multiplying_and_summing_is_left_alone():
    def fn(p, x):
        return x @ (p["a"][:, None, :] * p["b"][None]).sum(-1)

    fan_in = gc_optax.fan_in_by_trace(fn, {"a": f32(4, 3), "b": f32(6, 3)}, f32(2, 4))
    assert axes(fan_in) == {"a": (), "b": ()}


@pytest.mark.parametrize(
    "side_output", [lambda y: y, lambda y: jax.lax.stop_gradient(y)], ids=["aux", "stopped"]
)
def test_table_that_only_a_side_output_contracts_is_left_alone(side_output):
    def fn(p, x):
        side = side_output(x @ p.T)
        return ((x + p) ** 2).sum(), side

    assert gc_optax.fan_in_by_trace(fn, f32(5, 4), f32(2, 5, 4)).axes == ()


def test_printing_a_parameter_is_no_use():
    def fn(w, x):
        jax.debug.print("{} {}", w, x)
        return x @ w

    assert gc_optax.fan_in_by_trace(fn, f32(4, 6), f32(3, 4)).axes == (0,)


def test_dead_code_and_stopped_gradients_do_not_count():
    def fn(p, x):
        _ = (x @ p["w1"]) @ p["w1"].T
        target = jax.lax.stop_gradient(mlp(p, x) @ p["w2"].T)
        frozen = jax.lax.stop_gradient(p["w2"]).T
        return mlp(p, x).sum() + target.sum() + (jnp.ones((2, 2)) @ frozen).sum()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fan_in = gc_optax.fan_in_by_trace(fn, MLP, f32(3, 4))
    assert axes(fan_in) == {"w1": (0,), "w2": (0,)}


def test_errors_of_the_function_come_through():
    with pytest.raises(TypeError, match="dot_general requires contracting dimensions"):
        gc_optax.fan_in_by_trace(mlp, MLP, f32(3, 5))


def test_summary_shows_traced_reasons():
    fan_in = gc_optax.fan_in_by_trace(mlp, MLP, f32(3, 4))
    text = repr(gc_optax.summary(MLP, fan_in))
    assert re.search(r"w1 +\(4, 6\) +0 +4 +dense", text)


def test_traced_axes_are_used_under_jit_by_centralize():
    fan_in = gc_optax.fan_in_by_trace(mlp, MLP, f32(3, 4))
    optimizer = gc_optax.centralize(fan_in)
    grads = jax.tree.map(lambda leaf: jnp.arange(float(leaf.size)).reshape(leaf.shape), MLP)
    updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(grads))
    assert jnp.abs(updates["w1"].mean(0)).max() < 1e-5
