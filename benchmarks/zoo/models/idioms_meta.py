"""Idioms of public code in plain JAX: inner loops, penalties, derivatives, fixed points."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.stated import case

PACKAGES = ["jax"]

X, Y = jnp.linspace(-1.0, 1.0, 32).reshape(8, 4), jnp.ones((8, 3))
KEY = jax.random.key(0)
IN_OUT = "stored (in, out), applied as x @ w"
NET = {
    "w1": ((4, 16), (0,), IN_OUT),
    "b1": ((16,), (), "a bias"),
    "w2": ((16, 3), (0,), IN_OUT),
    "b2": ((3,), (), "a bias"),
}


def net(p, x):
    """Two layers."""
    return jnp.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]


def loss(p, x, y):
    """Mean squared error."""
    return jnp.mean((net(p, x) - y) ** 2)


def step(p, x, y):
    """One step of the inner optimizer."""
    return jax.tree.map(lambda w, g: w - 0.1 * g, p, jax.grad(loss)(p, x, y))


def maml(p, x, y):
    """One inner step, then the loss on other data."""
    return loss(step(p, x, y), x + 1, y)


def maml_tasks(p, x, y):
    """Over a batch of tasks."""
    return jax.vmap(maml, (None, 0, 0))(p, jnp.stack([x, -x]), jnp.stack([y, y])).mean()


def maml_scan(p, x, y):
    """Several inner steps by `lax.scan` over batches."""
    body = lambda p, batch: (step(p, *batch), None)  # noqa: E731
    batches = (jnp.stack([x, -x, x]), jnp.stack([y, y, y]))
    return loss(lax.scan(body, p, batches)[0], x, y)


def maml_loop(p, x, y):
    """Several inner steps by `fori_loop`."""
    return loss(lax.fori_loop(0, 3, lambda i, p: step(p, x, y), p), x, y)


def learned_rates(p, x, y):
    """Meta-SGD: one learning rate per weight."""
    inner = {name: p[name] for name in NET}
    grads = jax.grad(loss)(inner, x, y)
    return loss({n: w - p["rate_" + n] * grads[n] for n, w in inner.items()}, x, y)


def penalized(p, x, y):
    """A loss with weight decay, an orthogonality penalty and a group lasso beside it."""
    w = p["w1"]
    penalty = jnp.sum((w @ w.T - jnp.eye(4)) ** 2) + sum(jnp.sum(v**2) for v in p.values())
    return loss(p, x, y) + 1e-3 * penalty + jnp.linalg.norm(w, axis=1).sum()


def hessian_penalty(p, x, y):
    """The squared gradient norm beside the loss."""
    squares = jax.tree.map(lambda g: jnp.sum(g**2), jax.grad(loss)(p, x, y))
    return loss(p, x, y) + 0.1 * sum(jax.tree.leaves(squares))


def pinn(p, x, y):
    """A differential equation at points that the function closes over."""
    scalar = lambda x: net(p, x)[0]  # noqa: E731
    laplacian = jax.vmap(lambda x: jnp.trace(jax.hessian(scalar)(x)))(X)
    return jnp.mean(laplacian**2) + loss(p, x, y)


def dpsgd(p, x, y):
    """The loss of each example, as in private training."""
    return jax.vmap(lambda x, y: loss(p, x[None], y[None]))(x, y)


def equilibrium(p, x):
    """A fixed point with an implicit gradient."""
    f = lambda z: jnp.tanh(z @ p["w"] + x @ p["u"])  # noqa: E731
    solve = lambda f, z: lax.fori_loop(0, 5, lambda i, z: z - f(z), z)  # noqa: E731
    return lax.custom_root(
        lambda z: z - f(z),
        jnp.zeros((8, 6)),
        solve,
        lambda g, y: lax.fori_loop(0, 5, lambda i, z: z - (g(z) - y), y),
    )


ENTRIES = {
    "MAML": (maml, NET, X, Y),
    "MAML over tasks": (maml_tasks, NET, X, Y),
    "MAML by scan": (maml_scan, NET, X, Y),
    "MAML by fori_loop": (maml_loop, NET, X, Y),
    "MAML, jitted, rematerialized": (jax.jit(jax.checkpoint(maml)), NET, X, Y),
    "Meta-SGD": (
        learned_rates,
        NET | {f"rate_{n}": (row[0], (), "scales each weight's step") for n, row in NET.items()},
        X,
        Y,
    ),
    "penalties": (penalized, NET, X, Y),
    "gradient norm penalty": (hessian_penalty, NET, X, Y),
    "PINN": (pinn, NET, X, Y),
    "per-example losses": (dpsgd, NET, X, Y),
    "deep equilibrium": (
        equilibrium,
        {"w": ((6, 6), (0,), "z @ w"), "u": ((4, 6), (0,), IN_OUT)},
        X,
    ),
}


def entries() -> list[Entry]:
    """All of the table."""
    return [Entry(n, lambda r=row: case(r[0], r[1], *r[2:])) for n, row in ENTRIES.items()]
