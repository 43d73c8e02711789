"""Inside `jax.shard_map`: `centralize(fan_in, specs)` sees shards, and takes means over all."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gc_optax
from gc_optax import FanIn
from tests.test_sharding import (
    BOTH,
    FAN_IN,
    LAYOUTS,
    assert_the_same,
    gradients,
    means_to_send,
    mesh_of,
    only_means_travel,
    specs_of,
    unsharded,
)

STATE = optax.EmptyState()


def update_of(gc: optax.GradientTransformation):
    return lambda grads: gc.update(grads, STATE)[0]


def in_shards(gc, specs, kind=AxisType.Auto, **options):
    """The update as a function of whole arrays, each device at its own shard."""
    mesh = mesh_of(kind)
    mapped = jax.shard_map(update_of(gc), mesh=mesh, in_specs=(specs,), out_specs=specs, **options)
    return jax.jit(mapped), mesh


@pytest.mark.parametrize(
    ("layout", "kind", "check_vma"),
    [
        *[(layout, AxisType.Auto, True) for layout in LAYOUTS],
        ("FSDP x tensor parallel", AxisType.Explicit, True),
        ("FSDP x tensor parallel", AxisType.Auto, False),
    ],
)
def test_with_specs_every_leaf_gets_the_unsharded_result(layout, kind, check_vma):
    specs = specs_of(layout)
    gc = gc_optax.centralize(FAN_IN, specs)
    function, mesh = in_shards(gc, specs, kind, check_vma=check_vma)
    placement = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    with jax.set_mesh(mesh):
        grads = jax.device_put(gradients(), placement)
        compiled = function.lower(grads).compile()
        updates: Any = compiled(grads)
    means = means_to_send(specs, mesh, by_dimension=False)
    assert only_means_travel(compiled.as_text(), means)
    assert_the_same(updates, unsharded())


def test_16_bit_shards_get_the_unsharded_result():
    specs = specs_of("FSDP x tensor parallel")
    function, _ = in_shards(gc_optax.centralize(FAN_IN, specs), specs)
    assert_the_same(function(gradients(jnp.bfloat16)), unsharded(jnp.bfloat16), jnp.bfloat16)


def test_without_specs_each_shard_of_a_fan_in_is_centralized_by_itself():
    specs = specs_of("FSDP x tensor parallel")
    function, _ = in_shards(gc_optax.centralize(FAN_IN), specs)
    updates: Any = function(gradients())
    shards = gradients()["up"].reshape(4, 4, 32)
    expected = shards - shards.mean(1, keepdims=True)
    chex.assert_trees_all_close(updates["up"], expected.reshape(16, 32), atol=2e-6)
    # The docstring: right where the fan-in is whole.
    rest = {name: specs[name] for name in ("embedding", "query_bias", "scale")}
    for name in rest:
        chex.assert_trees_all_equal(updates[name], unsharded()[name])
    whole, _ = in_shards(gc_optax.centralize(FAN_IN), specs_of("fan-out"))
    assert_the_same(whole(gradients()), unsharded())


def test_axes_of_the_mesh_that_are_not_manual_are_left_to_xla():
    specs = {"up": P("data", "model"), "down": P("model", "data")}
    grads = {name: gradients()[name] for name in specs}
    mesh = mesh_of(AxisType.Auto)
    gc = gc_optax.centralize(FanIn((0,)), specs)
    of_data = {"up": P("data"), "down": P(None, "data")}
    mapped = jax.shard_map(
        update_of(gc), mesh=mesh, in_specs=(of_data,), out_specs=of_data, axis_names={"data"}
    )
    placed = jax.device_put(grads, {n: NamedSharding(mesh, s) for n, s in specs.items()})
    assert_the_same(jax.jit(mapped)(placed), {name: unsharded()[name] for name in specs})


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_the_same_transformation_is_right_outside_of_shard_map(kind):
    specs = specs_of("FSDP x tensor parallel")
    gc = gc_optax.centralize(FAN_IN, specs)
    assert_the_same(jax.jit(update_of(gc))(gradients()), unsharded())
    mesh = mesh_of(kind)
    with jax.set_mesh(mesh):
        placed = jax.device_put(gradients(), {n: NamedSharding(mesh, s) for n, s in specs.items()})
        assert_the_same(jax.jit(update_of(gc))(placed), unsharded())


def test_a_function_sees_the_shapes_of_whole_arrays():
    """A shard of one row has a fan-in of 1 by itself; eight have one of 8."""
    seen = []

    def fan_in(updates):
        seen.append(jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), updates))
        return gc_optax.fan_in_by_name(updates)

    specs = {"kernel": P(BOTH), "bias": P("data")}
    grads = {
        "kernel": jnp.asarray(gradients()["down"][:8]),
        "bias": jnp.ones(4, jnp.bfloat16),
    }
    function, _ = in_shards(gc_optax.centralize(fan_in, specs), specs)
    expected, _ = gc_optax.centralize().update(grads, STATE)
    assert_the_same(function(grads), expected)
    assert seen == [{"kernel": ((8, 16), jnp.float32), "bias": ((4,), jnp.bfloat16)}]


@pytest.mark.parametrize(
    "specs",
    [
        P("data"),
        {"a": P("data"), "b": P("data")},
        {"a": {"up": P("data"), "down": P("data")}, "b": P("data", None)},
    ],
    ids=["one for all", "a prefix", "a tree"],
)
@pytest.mark.parametrize("as_shardings", [False, True])
def test_specs_may_be_a_prefix_and_may_be_shardings(specs, as_shardings):
    two = {name: gradients()[name] for name in ("up", "down")}
    grads = {"a": two, "b": gradients()["down"]}
    given = specs
    if as_shardings:
        given = jax.tree.map(lambda spec: NamedSharding(mesh_of(AxisType.Auto), spec), specs)
    function, _ = in_shards(gc_optax.centralize(FanIn((0,)), given), specs)
    expected = {"a": {name: unsharded()[name] for name in two}, "b": unsharded()["down"]}
    assert_the_same(function(grads), expected)


def test_masked_leaves_need_no_specs_of_their_own():
    specs = {"up": P("data"), "down": P("data")}
    gc = optax.masked(gc_optax.centralize(FanIn((0,)), specs), {"up": True, "down": False})
    grads = {name: gradients()[name] for name in specs}
    mapped = jax.shard_map(
        lambda grads: gc.update(grads, gc.init(grads))[0],
        mesh=mesh_of(AxisType.Auto),
        in_specs=(specs,),
        out_specs=specs,
    )
    assert_the_same(jax.jit(mapped)(grads), {"up": unsharded()["up"], "down": grads["down"]})


def test_an_axis_that_vmap_names_counts_as_one_of_the_mesh():
    shards = jnp.asarray(gradients()["down"].reshape(4, 8, 16))
    gc = gc_optax.centralize(FanIn((0,)), P("rows"))
    updates: Any = jax.vmap(update_of(gc), axis_name="rows")(shards)
    assert_the_same(updates.reshape(32, 16), unsharded()["down"])


def refused(specs, error, grads=None):
    grads = grads or {"dense": {"kernel": jnp.ones((8, 16))}}
    mapped = jax.shard_map(
        update_of(gc_optax.centralize(FanIn((0,)), specs)),
        mesh=mesh_of(AxisType.Auto),
        in_specs=P("data"),
        out_specs=P("data"),
    )
    with pytest.raises(error) as raised:
        jax.eval_shape(mapped, grads)
    return str(raised.value)


def test_specs_that_cannot_be_right_name_the_leaf():
    leaf = "leaf `dense/kernel` of shape (2, 16)"
    assert refused({"dense": {}}, ValueError) == (
        f"`specs` does not fit: it has no PartitionSpec for {leaf}. Build it from this tree, or "
        "add PartitionSpec() there for a leaf that is whole."
    )
    assert refused({"dense": {"kernel": P("data", None, "model")}}, ValueError) == (
        f"{P('data', None, 'model')} in `specs` is for arrays of at least 3 dimensions, "
        f"and {leaf} has 2."
    )
    assert refused({"dense": {"kernel": P("rows")}}, ValueError) == (
        f"{P('rows')} in `specs` splits {leaf} over 'rows', and the mesh has the axes "
        "'data', 'model': name one of them."
    )
    assert refused({"dense": {"kernel": "data"}}, TypeError) == (
        "Leaf `dense/kernel` of `specs` is of type str, not a PartitionSpec or a NamedSharding: "
        "give what `in_specs` of `jax.shard_map` has for the parameters."
    )
    assert refused("data", TypeError) == (
        "`specs` is of type str, not a PartitionSpec or a NamedSharding: give what `in_specs` of "
        "`jax.shard_map` has for the parameters."
    )


MODEL_SPECS = {
    "embedding": P(None, "data"),
    "query": P("data", "model"),  # (d, heads, head_dim): heads by tensor parallelism
    "attention_out": P("model", None, "data"),
    "up": P("data", "model"),
    "down": P("model", "data"),
    "scale": P(),
}
MODEL_FAN_IN = {name: FAN_IN[name] for name in MODEL_SPECS}


def network(params, tokens, gathered=lambda leaf, axis: leaf, summed=lambda partial: partial):
    """A layer of a transformer; the hooks are what FSDP and tensor parallelism add to it."""
    x = gathered(params["embedding"], 1)[tokens]
    heads = jnp.einsum("bd,dhk->bhk", x, gathered(params["query"], 0))
    x = x + summed(jnp.einsum("bhk,hkd->bd", heads, gathered(params["attention_out"], 2)))
    hidden = jnp.tanh(x @ gathered(params["up"], 0))
    x = x + summed(hidden @ gathered(params["down"], 1))
    return x * jnp.broadcast_to(params["scale"], x.shape)


def loss(params, tokens, **hooks):
    return jnp.sum((network(params, tokens, **hooks) - 1.0) ** 2) / 64


def test_training_by_fsdp_and_tensor_parallelism_by_hand_gives_the_numbers_of_one_device():
    params = {name: jnp.asarray(0.1 * gradients()[name]) for name in MODEL_SPECS}
    tokens = jnp.arange(64) % 32
    hooks = {
        "gathered": lambda leaf, axis: jax.lax.all_gather(leaf, "data", axis=axis, tiled=True),
        "summed": lambda partial: jax.lax.psum(partial, "model"),
    }

    def trained(specs, **hooks):
        # GC on the gradient, and on the update, so that the mean of the weights stays.
        gc = gc_optax.centralize(MODEL_FAN_IN, specs)
        optimizer = optax.chain(gc, optax.sgd(0.05, momentum=0.9), gc)

        def steps(params, tokens):
            state = optimizer.init(params)
            for _ in range(3):
                # The transpose of the gather is FSDP's reduce-scatter of the gradient.
                grads = jax.grad(loss)(params, tokens, **hooks)
                updates, state = optimizer.update(grads, state, params)
                params = optax.apply_updates(params, updates)
            return params

        return steps

    alone: Any = jax.jit(trained(None))(params, tokens)
    mapped = jax.shard_map(
        trained(MODEL_SPECS, **hooks),
        mesh=mesh_of(AxisType.Auto),
        in_specs=(MODEL_SPECS, P("data")),
        out_specs=MODEL_SPECS,
    )
    together: Any = jax.jit(mapped)(params, tokens)
    assert_the_same(together, alone)
    for name, fan_in in MODEL_FAN_IN.items():
        if fan_in.axes:
            before, after = (np.asarray(of[name]).mean(fan_in.axes) for of in (params, together))
            np.testing.assert_allclose(after, before, atol=1e-6)
        assert np.abs(np.asarray(together[name] - params[name])).max() > 1e-3
