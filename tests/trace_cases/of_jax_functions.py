"""Derivatives, devices and losses in plain JAX."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tests.abstract import f32
from tests.trace_cases.registry import case


@case
def custom_vjp_layer():
    @jax.custom_vjp
    def dense(w, x):
        return x @ w.T

    dense.defvjp(lambda w, x: (x @ w.T, (w, x)), lambda r, g: (g.T @ r[1], g @ r[0]))
    return (lambda p, x: dense(p["w"], x).sum()), {"w": f32(6, 4)}, (f32(3, 4),), {"w": (1,)}


@case
def custom_jvp_layer():
    @jax.custom_jvp
    def dense(w, x):
        return x @ w

    dense.defjvp(lambda p, t: (dense(*p), p[1] @ t[0] + t[1] @ p[0]))
    return (lambda p, x: dense(p["w"], x).sum()), {"w": f32(4, 6)}, (f32(3, 4),), {"w": (0,)}


def _mesh():
    return jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)


@case
def shard_map_with_sharded_fan_in():
    def layer(p, x):
        body = jax.shard_map(
            lambda w, x: jax.lax.psum(x @ w, "a"),
            mesh=_mesh(),
            in_specs=(PartitionSpec("a", "b"), PartitionSpec(None, "a")),
            out_specs=PartitionSpec(None, "b"),
        )
        return body(p["up"], x) @ p["down"]

    params = {"up": f32(4, 8), "down": f32(8, 3)}
    return layer, params, (f32(3, 4),), {"up": (0,), "down": (0,)}


@case
def shard_map_that_gathers_its_weights():
    def layer(p, x):
        def body(w, x):
            return x @ jax.lax.all_gather(w, "a", axis=0, tiled=True)

        return jax.shard_map(
            body,
            mesh=_mesh(),
            in_specs=(PartitionSpec("a"), PartitionSpec("b")),
            out_specs=PartitionSpec("b"),
            check_vma=False,
        )(p, x)

    return layer, f32(4, 8), (f32(4, 4),), {"": (0,)}


@case
def loss_with_penalty_and_auxiliary_output():
    def loss(p, x, y):
        prediction = jnp.tanh(x @ p["w1"] + p["b1"]) @ p["w2"]
        penalty = sum(jnp.sum(w**2) for w in jax.tree.leaves(p))
        orthogonality = jnp.sum((p["w1"].T @ p["w1"] - jnp.eye(6)) ** 2)
        return jnp.mean((prediction - y) ** 2) + penalty + orthogonality, {"p": p, "y": prediction}

    params = {"w1": f32(4, 6), "b1": f32(6), "w2": f32(6, 1)}
    return loss, params, (f32(3, 4), f32(3, 1)), {"w1": (0,), "w2": (0,)}


@case
def value_and_gradient_of_a_loss():
    def loss(p, x):
        return jnp.sum(jnp.tanh(x @ p["w1"]) @ p["w2"])

    params = {"w1": f32(4, 6), "w2": f32(6, 2)}
    return jax.value_and_grad(loss), params, (f32(3, 4),), {"w1": (0,), "w2": (0,)}


@case
def per_example_losses_under_jit_and_vmap():
    @jax.jit
    def loss(p, x):
        return jax.vmap(lambda x: jnp.tanh(p["w1"] @ x) @ p["w2"])(x).sum()

    return loss, {"w1": f32(6, 4), "w2": f32(6, 2)}, (f32(3, 4),), {"w1": (1,), "w2": (0,)}


@case
def forces_as_the_gradient_by_the_input():
    def loss(p, x, forces):
        def energy(x):
            return (jax.nn.relu(x @ p["w1"]) @ p["w2"]).sum()

        return ((jax.grad(energy)(x) + forces) ** 2).mean() + energy(x)

    params = {"w1": f32(4, 6), "w2": f32(6, 1)}
    return loss, params, (f32(2, 4), f32(2, 4)), {"w1": (0,), "w2": (0,)}


@case
def gradient_penalty_through_checkpointed_layers():
    def loss(p, x):
        layer = jax.checkpoint(lambda w, x: jnp.tanh(x @ w))

        def critic(x):
            return jax.lax.scan(lambda x, w: (layer(w, x), None), x, p)[0].sum()

        return (jax.grad(critic)(x) ** 2).sum() + critic(x)

    return loss, f32(3, 4, 4), (f32(2, 4),), {"": ((1,), (0,))}


@case
def inner_loop_of_meta_learning():
    def loss(p, x, y):
        def inner(p):
            return ((jnp.tanh(x @ p["w1"]) @ p["w2"] - y) ** 2).mean()

        adapted = jax.tree.map(lambda w, g: w - 0.1 * g, p, jax.grad(inner)(p))
        return ((jnp.tanh(x @ adapted["w1"]) @ adapted["w2"] - y) ** 2).mean()

    params = {"w1": f32(4, 6), "w2": f32(6, 2)}
    return loss, params, (f32(3, 4), f32(3, 2)), {"w1": (0,), "w2": (0,)}
