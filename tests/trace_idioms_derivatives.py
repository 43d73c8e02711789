"""Networks whose derivatives by the input are a part of the loss."""

import jax
import jax.numpy as jnp
from jax.experimental.ode import odeint

from tests.abstract import f32
from tests.trace_idioms_registry import MLP, idiom, mlp

LAYERS = {"a": (0,), "out": (0,)}
FIELD = {"a": (4, 8), "out": (8, 4)}
POINTS = f32(16, 4)


def field(p, x):
    return jnp.tanh(x @ p["a"]) @ p["out"]


@idiom("a derivative as the output", MLP, POINTS, **LAYERS)
def _(p, x):
    slope = jax.grad(lambda x: mlp(p, x).sum())(x)
    return jnp.concatenate([slope[:, 2:], -slope[:, :2]], 1)


@idiom("a Jacobian, backward", MLP, POINTS, **LAYERS)
def _(p, x):
    return jax.vmap(jax.jacrev(lambda x: mlp(p, x)))(x)


@idiom("a Jacobian, forward", MLP, POINTS, **LAYERS)
def _(p, x):
    return jax.vmap(jax.jacfwd(lambda x: mlp(p, x)))(x)


@idiom("a product with the Hessian", MLP, POINTS, **LAYERS)
def _(p, x):
    return jax.jvp(jax.grad(lambda x: mlp(p, x).sum()), (x,), (x,))[1]


@idiom("a linear approximation", MLP, POINTS, **LAYERS)
def _(p, x):
    y, tangent = jax.linearize(lambda x: mlp(p, x), x)
    return y + tangent(x)


@idiom("a flow and the determinant of its Jacobian", FIELD, POINTS, **LAYERS)
def _(p, x):
    return jax.vmap(lambda x: jnp.linalg.slogdet(jax.jacfwd(lambda x: x + field(p, x))(x))[1])(x)


@idiom("a flow and an estimated trace", FIELD, POINTS, jax.random.key(0), **LAYERS)
def _(p, x, key):
    y, pull = jax.vjp(lambda x: field(p, x), x)
    noise = jax.random.normal(key, x.shape)
    return (pull(noise)[0] * noise).sum() + y.sum()


@idiom("a differential equation", FIELD, POINTS, **LAYERS)
def _(p, x):
    return odeint(lambda x, t, p: field(p, x), x, jnp.linspace(0.0, 1.0, 3), p)
