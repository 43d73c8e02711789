"""Calls that hide a layer: derivatives of its own, checkpoints, roots, callbacks."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from tests.abstract import f32
from tests.trace_idioms_registry import MLP, ROWS, idiom, mlp, stacked

LAYERS = {"a": (0,), "out": (0,)}


@idiom("layers with a derivative of their own", MLP, f32(16, 4), **LAYERS)
def _(p, x):
    @jax.custom_vjp
    def layer(w, b, x):
        return jnp.tanh(x @ w + b)

    def forward(w, b, x):
        return layer(w, b, x), (w, x)

    def backward(saved, g):
        w, x = saved
        return x.T @ g, g.sum(0), g @ w.T

    layer.defvjp(forward, backward)
    return layer(p["a"], p["b"], x) @ p["out"]


@idiom("layers with a tangent of their own", MLP, f32(16, 4), **LAYERS)
def _(p, x):
    @jax.custom_jvp
    def layer(w, x):
        return jnp.tanh(x @ w)

    @layer.defjvp
    def _(primals, tangents):
        (w, x), (dw, dx) = primals, tangents
        y = layer(w, x)
        return y, (1 - y**2) * (dx @ w + x @ dw)

    return layer(p["a"], x) @ p["out"]


@idiom("a straight-through estimator with a derivative of its own", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    @jax.custom_vjp
    def rounded(w):
        return jnp.round(w)

    rounded.defvjp(lambda w: (rounded(w), None), lambda _, g: (g,))
    return x @ rounded(p["w"])


@idiom("a gradient that is reversed", MLP, f32(16, 4), **LAYERS)
def _(p, x):
    @jax.custom_vjp
    def reverse(x):
        return x

    reverse.defvjp(lambda x: (x, None), lambda _, g: (-g,))
    return reverse(jnp.tanh(x @ p["a"] + p["b"])) @ p["out"]


@idiom("activations that are recomputed", MLP, f32(16, 4), **LAYERS)
def _(p, x):
    policy = jax.checkpoint_policies.dots_saveable
    return jax.checkpoint(lambda p, x: jax.nn.relu(mlp(p, x)), policy=policy)(p, x)


@idiom("a checkpoint that closes over its weights", MLP, f32(16, 4), **LAYERS)
def _(p, x):
    return jax.checkpoint(lambda x: jax.nn.silu(mlp(p, x)))(x)


@idiom("the gradient of a checkpoint by its input", MLP, f32(16, 4), **LAYERS)
def _(p, x):
    return jax.grad(lambda x: jax.checkpoint(mlp)(p, x).sum())(x)


@idiom("an equilibrium with a root of its own", {"w": (4, 4)}, f32(16, 4), w=(0,))
def _(p, x):
    def residual(z):
        return jnp.tanh(z @ p["w"] + x) - z

    def solve(f, z):
        return lax.fori_loop(0, 5, lambda _, z: z + f(z), z)

    return lax.custom_root(residual, x, solve, lambda g, y: y)


@idiom("an equilibrium with an implicit derivative", {"w": (4, 4), "u": (8, 4)}, ROWS,
       w=(0,), u=(0,))  # fmt: skip
def _(p, x):
    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def fixed_point(f, p, x):
        return lax.fori_loop(0, 5, lambda _, z: f(p, x, z), jnp.zeros((5, 4)))

    def forward(f, p, x):
        z = fixed_point(f, p, x)
        return z, (p, x, z)

    def backward(f, saved, g):
        p, x, z = saved
        _, pull = jax.vjp(lambda p, x: f(p, x, z), p, x)
        return pull(g)

    fixed_point.defvjp(forward, backward)
    return fixed_point(lambda p, x, z: jnp.tanh(z @ p["w"] + x @ p["u"]), p, x)


@idiom("a jitted layer that is called twice", {"w": (8, 8)}, ROWS, w=(0,))
def _(p, x):
    layer = jax.jit(lambda w, x: jnp.tanh(x @ w))
    return layer(p["w"], layer(p["w"], x))


@idiom("a jitted layer that takes either side", {"w": (8, 8)}, ROWS, conflict=True)
def _(p, x):
    layer = jax.jit(lambda w, x: jnp.tanh(x @ w))
    return layer(p["w"].T, layer(p["w"], x))


@idiom("layers of an ensemble under `vmap`", {"a": (3, 4, 8), "b": (3, 8), "out": (3, 8, 3)},
       f32(16, 4), a=(1,), out=stacked(1, batch=(0,)))  # fmt: skip
def _(p, x):
    # Of the first layers nothing tells the members from the outputs: all see the same input.
    return jax.vmap(mlp, (0, None))(p, x)


@idiom("layers of an ensemble along the last axis", {"a": (4, 8, 3), "b": (8, 3), "out": (8, 3, 3)},
       f32(3, 16, 4), a=stacked(0, batch=(2,)), out=stacked(0, batch=(2,)))  # fmt: skip
def _(p, x):
    return jax.vmap(mlp, (-1, 0))(p, x)


@idiom(
    "a callback beside a layer",
    {"w": (8, 6)},
    ROWS,
    w=(0,),
)
def _(p, x):
    y = x @ p["w"]
    jax.debug.callback(lambda y: None, y)
    return y
