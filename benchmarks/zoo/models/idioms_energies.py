"""Idioms of public code in plain JAX: energies, samplers, differential equations."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.zoo.models.idioms_fields import IN_OUT, dense, net
from benchmarks.zoo.oracles.stated import Idioms

PACKAGES = ["jax"]

X = jnp.linspace(-1.0, 1.0, 32).reshape(8, 4)
KEY = jax.random.key(0)


idiom = Idioms()


@idiom("energy, Langevin inner loop", dense(4, 16, 1), X, KEY)
def langevin(p, x, key):
    """Samples by gradients of the energy, then a contrast."""
    energy = lambda x: net(p, x, jax.nn.silu).sum()  # noqa: E731

    def step(y, key):
        noise = jax.random.normal(key, y.shape)
        return y - 0.1 * jax.grad(energy)(y) + 0.01 * noise, None

    y = lax.scan(step, jax.random.normal(key, x.shape), jax.random.split(key, 3))[0]
    return energy(x) - energy(lax.stop_gradient(y))


@idiom("energy, samples with gradients", dense(4, 16, 1), X)
def unrolled(p, x):
    """The inner loop is differentiated, by `fori_loop`."""
    energy = lambda y: net(p, y, jax.nn.silu).sum()  # noqa: E731
    return lax.fori_loop(0, 3, lambda i, y: y - 0.1 * jax.grad(energy)(y), x)


@idiom("score matching", dense(4, 16, 4), X, KEY)
def score(p, x, key):
    """Hutchinson's estimate of a divergence."""
    v = jax.random.rademacher(key, x.shape, x.dtype)
    s, slope = jax.jvp(lambda x: net(p, x), (x,), (v,))
    return jnp.mean(0.5 * (s**2).sum(-1) + (v * slope).sum(-1))


@idiom("diffusion", dense(6, 16, 4), X, KEY)
def diffusion(p, x, key):
    """Noise is predicted from noisy data and a time."""
    one, two = jax.random.split(key)
    t, noise = jax.random.uniform(one, (8, 1)), jax.random.normal(two, x.shape)
    noisy = jnp.cos(t) * x + jnp.sin(t) * noise
    return jnp.mean((net(p, jnp.concatenate([noisy, jnp.sin(t), jnp.cos(t)], -1)) - noise) ** 2)


@idiom("neural ODE, Runge-Kutta", dense(5, 16, 4), X)
def runge_kutta(p, x):
    """Fixed steps by scan."""

    def field(t, y):
        return net(p, jnp.concatenate([y, jnp.full((8, 1), t)], -1))

    def step(y, t):
        a = field(t, y)
        b = field(t + 0.05, y + 0.05 * a)
        return y + 0.1 * b, None

    return lax.scan(step, x, jnp.linspace(0.0, 1.0, 10))[0]


@idiom("continuous flow", dense(4, 16, 4), X)
def continuous(p, x):
    """A neural ODE with the trace of its Jacobian, by `fori_loop`."""

    def field(y):
        slope = jax.jacfwd(lambda y: net(p, y))
        return net(p, y), jax.vmap(lambda y: jnp.trace(slope(y)))(y)

    def step(i, state):
        change, trace = field(state[0])
        return state[0] + 0.1 * change, state[1] - 0.1 * trace

    return lax.fori_loop(0, 4, step, (x, jnp.zeros(8)))


@idiom("Hamiltonian network", dense(4, 16, 1), X)
def hamiltonian(p, x):
    """The symplectic gradient of a scalar net."""
    slope = jax.vmap(jax.grad(lambda x: net(p, x)[0]))(x)
    q, momentum = jnp.split(slope, 2, -1)
    return jnp.concatenate([momentum, -q], -1)


@idiom("Lagrangian network", dense(4, 16, 1), X)
def lagrangian(p, x):
    """Accelerations by solving with the Hessian of a scalar net."""

    def one(x):
        q, v = jnp.split(x, 2)
        energy = lambda q, v: net(p, jnp.concatenate([q, v]), jax.nn.softplus)[0]  # noqa: E731
        mass = jax.hessian(energy, 1)(q, v)
        force = jax.grad(energy)(q, v) - jax.jacfwd(jax.grad(energy, 1))(q, v) @ v
        return jnp.linalg.solve(mass + jnp.eye(2), force)

    return jax.vmap(one)(x)


@idiom(
    "input-convex network",
    dense(4, 8, prefix="x") | {"y": ((4, 8), (0,), IN_OUT), "z": ((8, 8), (0,), IN_OUT)},
    X,
)
def convex(p, x):
    """Kernels on the hidden side are made positive."""
    z = jax.nn.softplus(net(p, x, prefix="x"))
    return jax.nn.softplus(z @ jax.nn.softplus(p["z"]) + x @ p["y"])


entries = idiom.entries
