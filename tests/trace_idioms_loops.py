"""Inner loops, recurrent states, and loops over layers."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from tests.abstract import f32
from tests.trace_idioms_registry import INDEX, MLP, ROWS, idiom, mlp, normal, stacked

X = jnp.asarray(normal(16, 4))
LAYERS = {"a": (0,), "out": (0,)}
TASK = f32(16, 4)


def loss(p, x):
    return jnp.mean(mlp(p, x) ** 2)


def step(p, x):
    return jax.tree.map(lambda w, g: w - 0.1 * g, p, jax.grad(loss)(p, x))


@idiom("one inner step", MLP, TASK, **LAYERS)
def _(p, x):
    return loss(step(p, x), x)


@idiom("inner steps in a scan", MLP, TASK, **LAYERS)
def _(p, x):
    return loss(lax.scan(lambda p, _: (step(p, x), None), p, length=3)[0], x)


@idiom("inner steps in a `fori_loop`", MLP, TASK, **LAYERS)
def _(p, x):
    return loss(lax.fori_loop(0, 3, lambda _, p: step(p, x), p), x)


@idiom("inner steps in a `while_loop`", MLP, TASK, **LAYERS)
def _(p, x):
    state = lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, step(s[1], x)), (0, p))
    return loss(state[1], x)


@idiom("inner steps over batches", MLP, f32(3, 16, 4), TASK, **LAYERS)
def _(p, batches, x):
    return loss(lax.scan(lambda p, x: (step(p, x), None), p, batches)[0], x)


@idiom("inner steps for each of several tasks", MLP, f32(3, 16, 4), **LAYERS)
def _(p, tasks):
    def task(x):
        return loss(lax.scan(lambda p, _: (step(p, x), None), p, length=2)[0], x)

    return jax.vmap(task)(tasks).mean()


@idiom("inner steps on a closed-over batch", MLP, **LAYERS)
def _(p):
    return loss(lax.scan(lambda p, _: (step(p, X), None), p, length=2)[0], X)


@idiom("inner steps with momentum", MLP, TASK, **LAYERS)
def _(p, x):
    def with_momentum(state, _):
        p, velocity = state
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, jax.grad(loss)(p, x))
        return (jax.tree.map(lambda w, v: w - 0.1 * v, p, velocity), velocity), None

    zeros = jax.tree.map(jnp.zeros_like, p)
    return loss(lax.scan(with_momentum, (p, zeros), length=3)[0][0], x)


@idiom("inner steps of Adam", MLP, TASK, **LAYERS)
def _(p, x):
    adam = optax.adam(0.1)

    def adam_step(carry, _):
        p, state = carry
        updates, state = adam.update(jax.grad(loss)(p, x), state, p)
        return (optax.apply_updates(p, updates), state), None

    return loss(lax.scan(adam_step, (p, adam.init(p)), length=3)[0][0], x)


@idiom("inner steps of first order", MLP, TASK, **LAYERS)
def _(p, x):
    def first_order(p, _):
        grads = lax.stop_gradient(jax.grad(loss)(p, x))
        return jax.tree.map(lambda w, g: w - 0.1 * g, p, grads), None

    return loss(lax.scan(first_order, p, length=2)[0], x)


@idiom("inner steps with learned rates", {**MLP, "rate": (4, 8)}, TASK, **LAYERS)
def _(p, x):
    layers = {name: p[name] for name in MLP}
    grads = jax.grad(loss)(layers, x)
    return loss({**layers, "a": p["a"] - p["rate"] * grads["a"], "out": p["out"]}, x)


@idiom("inner steps of the head only", {"a": (4, 8), "out": (8, 3)}, TASK, **LAYERS)
def _(p, x):
    h = jnp.tanh(x @ p["a"])
    grad = jax.grad(lambda w: jnp.mean((h @ w) ** 2))
    head = lax.scan(lambda w, _: (w - 0.1 * grad(w), None), p["out"], length=3)[0]
    return jnp.mean((h @ head) ** 2)


@idiom("Langevin steps of an input", MLP, TASK, **LAYERS)
def _(p, x):
    energy = jax.grad(lambda z: jnp.sum(mlp(p, z)))
    return lax.scan(lambda z, _: (z - 0.1 * energy(z), None), x, length=3)[0]


@idiom("inference of a code that starts learned", {**MLP, "z": (1, 4)}, f32(16, 3), **LAYERS)
def _(p, x):
    layers = {name: p[name] for name in MLP}
    error = lambda z: jnp.sum((mlp(layers, z) - x) ** 2)  # noqa: E731
    start = jnp.broadcast_to(p["z"], (16, 4))
    z = lax.scan(lambda z, _: (z - 0.1 * jax.grad(error)(z), None), start, length=3)[0]
    return error(z)


@idiom("slots", {"slots": (3, 4), "update": (4, 4), "keep": (4, 4)}, TASK, update=(0,), keep=(0,))
def _(p, x):
    def attend(slots, _):
        weights = jax.nn.softmax(jnp.einsum("sd,nd->sn", slots, x))
        return jnp.tanh(weights @ x @ p["update"] + slots @ p["keep"]), None

    return lax.scan(attend, p["slots"], length=3)[0]


@idiom("slots with a residual", {"slots": (3, 4), "update": (4, 4)}, TASK, update=(0,))
def _(p, x):
    def attend(slots, _):
        weights = jax.nn.softmax(jnp.einsum("sd,nd->sn", slots, x))
        return slots + jnp.tanh(weights @ x @ p["update"]), None

    return lax.scan(attend, p["slots"], length=3)[0]


def recurrent(p, start, x):
    return lax.scan(lambda h, x: (jnp.tanh(x @ p["i"] + h @ p["h"]), None), start, x)[0]


@idiom("a learned initial state", {"i": (8, 4), "h": (4, 4), "start": (1, 4)}, f32(3, 5, 8),
       i=(0,), h=(0,))  # fmt: skip
def _(p, x):
    return recurrent(p, jnp.broadcast_to(p["start"], (5, 4)), x)


@idiom("a learned initial state for each row", {"i": (8, 4), "h": (4, 4), "start": (2, 4)},
       f32(3, 2, 8), i=(0,), h=(0,))  # fmt: skip
def _(p, x):
    return recurrent(p, p["start"], x)


@idiom("a recurrent network, reversed and mapped", {"i": (8, 4), "h": (4, 4)}, f32(5, 3, 8),
       i=(0,), h=(0,))  # fmt: skip
def _(p, x):
    def one(x):
        return lax.scan(
            lambda h, x: (jnp.tanh(x @ p["i"] + h @ p["h"]), None), jnp.zeros(4), x, reverse=True
        )[0]

    return jax.vmap(one)(x)


@idiom("a gated recurrent network of one matrix", {"w": (12, 16)}, f32(3, 5, 8), w=(0,))
def _(p, x):
    def lstm(state, x):
        h, c = state
        i, f, g, o = jnp.split(jnp.concatenate([x, h], -1) @ p["w"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    return lax.scan(lstm, (jnp.zeros((5, 4)),) * 2, x)[0][0]


@idiom("an equilibrium by a loop", {"w": (6, 6), "u": (8, 6)}, ROWS, w=(0,), u=(0,))
def _(p, x):
    return lax.fori_loop(0, 5, lambda _, z: jnp.tanh(z @ p["w"] + x @ p["u"]), jnp.zeros((5, 6)))


@idiom("layers in a scan", {"w": (3, 8, 8), "b": (3, 8)}, ROWS, w=stacked(1, batch=(0,)))
def _(p, x):
    return lax.scan(lambda h, p: (jnp.tanh(h @ p["w"] + p["b"]), None), x, p)[0]


@idiom("layers in a scan of checkpoints", {"w": (3, 8, 8)}, ROWS, w=stacked(1, batch=(0,)))
def _(p, x):
    layer = jax.checkpoint(lambda h, w: (jnp.tanh(h @ w), None))
    return lax.scan(layer, x, p["w"])[0]


@idiom("layers in an unrolled scan", {"w": (4, 8, 8)}, ROWS, w=stacked(1, batch=(0,)))
def _(p, x):
    return lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, p["w"], unroll=2)[0]


@idiom("layers in a scan of scans", {"w": (2, 3, 8, 8)}, ROWS, w=stacked(2, batch=(0, 1)))
def _(p, x):
    def inner(h, w):
        return lax.scan(lambda h, w: (jnp.tanh(h @ w), None), h, w)[0], None

    return lax.scan(inner, x, p["w"])[0]


@idiom("layers that a loop indexes", {"w": (3, 8, 8)}, ROWS, w=stacked(1, batch=(0,)))
def _(p, x):
    return lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ p["w"][i]), x)


@idiom("as many layers as an argument says", {"w": (3, 8, 8)}, ROWS, INDEX,
       w=stacked(1, batch=(0,)))  # fmt: skip
def _(p, x, depth):
    return lax.fori_loop(0, depth, lambda i, h: jnp.tanh(h @ p["w"][i]), x)


@idiom("layers of which data drops some", {"w": (3, 8, 8)}, ROWS, f32(3), w=stacked(1, batch=(0,)))
def _(p, x, kept):
    def layer(h, xs):
        return lax.cond(xs[1] > 0, lambda: jnp.tanh(h @ xs[0]), lambda: h), None

    return lax.scan(layer, x, (p["w"], kept))[0]


@idiom("layers under `associative_scan`", {"w": (8, 8)}, ROWS, w=(0,))
def _(p, x):
    return lax.associative_scan(lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1]), (x, x @ p["w"]))[1]
