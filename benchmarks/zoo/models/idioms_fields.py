"""Idioms of public code in plain JAX: fields, flows and functions of centers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.zoo.case import ALONE
from benchmarks.zoo.oracles.stated import Idioms

PACKAGES = ["jax"]

X, POINTS = jnp.linspace(-1.0, 1.0, 32).reshape(8, 4), jnp.linspace(-1.0, 1.0, 24).reshape(8, 3)
IN_OUT, BIAS = "stored (in, out), applied as x @ w", "a bias"


def dense(*widths, prefix="w"):
    """What is right for the kernels and biases of a perceptron."""
    stated = {}
    for i, shape in enumerate(itertools.pairwise(widths)):
        stated |= {f"{prefix}{i}": (shape, (0,), IN_OUT), f"b{prefix}{i}": (shape[1:], (), BIAS)}
    return stated


def net(p, x, act=jnp.tanh, prefix="w"):
    """The perceptron."""
    last = sum(name.startswith(f"b{prefix}") for name in p) - 1
    for i in range(last):
        x = act(x @ p[f"{prefix}{i}"] + p[f"b{prefix}{i}"])
    return x @ p[f"{prefix}{last}"] + p[f"b{prefix}{last}"]


idiom = Idioms()


@idiom("SIREN", dense(3, 16, 16, 1), POINTS)
def siren(p, x):
    """Sines, and the gradient of the field beside it."""
    field = lambda x: net(p, x, lambda y: jnp.sin(30 * y))[0]  # noqa: E731
    value, slope = jax.vmap(jax.value_and_grad(field))(x)
    return value, slope


@idiom("Fourier features", dense(16, 16, 1) | {"f": ((3, 8), (0,), IN_OUT)}, POINTS)
def fourier(p, x):
    """Learned frequencies."""
    angle = 2 * np.pi * x @ p["f"]
    return net(p, jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1))


@idiom(
    "NeRF",
    dense(21, 16, 16) | dense(16, 1, prefix="s") | dense(19, 8, 3, prefix="c"),
    *(POINTS, POINTS),
)
def nerf(p, origins, directions):
    """Points along rays, their density and color, and the sum along each ray."""
    depth = jnp.linspace(0.1, 2.0, 5)
    points = origins[:, None] + depth[:, None] * directions[:, None]
    waves = [f(2.0**i * points) for i in range(3) for f in (jnp.sin, jnp.cos)]
    features = net(p, jnp.concatenate([points, *waves], -1), jax.nn.relu)
    sigma = jax.nn.softplus(net(p, features, prefix="s"))[..., 0]
    toward = jnp.broadcast_to(directions[:, None], points.shape)
    color = jax.nn.sigmoid(net(p, jnp.concatenate([features, toward], -1), prefix="c"))
    alpha = 1 - jnp.exp(-sigma * 0.4)
    through = jnp.cumprod(1 - alpha + 1e-10, -1)
    return jnp.sum((alpha * through)[..., None] * color, -2)


@idiom("hash grid", dense(4, 16, 1) | {"grid": ((2, 32, 2), (), "rows are looked up")}, POINTS)
def hash_grid(p, x):
    """Instant NGP: corners of two grids are looked up and interpolated."""
    features = []
    for level, size in enumerate((4, 8)):
        place = (x + 1) * size / 2
        low = jnp.floor(place).astype("u4")
        part = place - low
        total = 0.0
        for corner in np.ndindex(2, 2, 2):
            at = low + np.asarray(corner, "u4")
            index = (at[:, 0] ^ (at[:, 1] * np.uint32(2654435761)) ^ at[:, 2]) % 32
            weight = jnp.where(np.asarray(corner) == 1, part, 1 - part).prod(-1)
            total += weight[:, None] * p["grid"][level, index]
        features.append(total)
    return net(p, jnp.concatenate(features, -1), jax.nn.relu)


DEGREES = np.arange(8) % 3 + 1


@idiom("MADE", dense(4, 8, 4), X)
def made(p, x):
    """Masks let each output see the inputs before it."""
    first = np.arange(1, 5)[:, None] <= DEGREES
    last = DEGREES[:, None] < np.arange(1, 5)
    hidden = jax.nn.relu(x @ (p["w0"] * first) + p["bw0"])
    return hidden @ jnp.where(last, p["w1"], 0.0) + p["bw1"]


@idiom(
    "RealNVP",
    {
        "w0": ((2, 2, 8), (1,), "(couplings, in, out)"),
        "b0": ((2, 8), (), BIAS),
        "w1": ((2, 8, 4), (1,), "(couplings, in, out)"),
        "b1": ((2, 4), (), BIAS),
    },
    X,
)
def realnvp(p, x):
    """Couplings by scan; halves change places."""

    def step(carry, layer):
        (a, b), total = carry
        y = jnp.tanh(a @ layer["w0"] + layer["b0"]) @ layer["w1"] + layer["b1"]
        shift, scale = jnp.split(y, 2, -1)
        return ((b * jnp.exp(scale) + shift, a), total + scale.sum(-1)), None

    (x, total), _ = lax.scan(step, (tuple(jnp.split(x, 2, -1)), jnp.zeros(8)), p)
    return -0.5 * sum((y**2).sum(-1) for y in x) + total


@idiom("invertible 1x1 convolution", {"w": ((3, 3), (0,), IN_OUT)}, jnp.ones((2, 8, 8, 3)))
def invertible(p, x):
    """Glow: a kernel of one tap, and its determinant."""
    kernel = p["w"][None, None]
    y = lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return (y**2).sum() + 64 * jnp.linalg.slogdet(p["w"])[1]


@idiom(
    "planar flow",
    {
        "u": ((3, 4), (), "directions of shifts"),
        "w": ((3, 4), (1,), "x . w of each"),
        "b": ((3,), (), BIAS),
    },
    X,
)
def planar(p, x):
    """Shifts along one direction each, by scan."""

    def step(x, layer):
        u, w, b = layer
        return x + u * jnp.tanh(x @ w + b)[:, None], None

    return lax.scan(step, x, (p["u"], p["w"], p["b"]))[0]


@idiom(
    "Sylvester flow",
    {
        "q": ((4, 2), (), "turns there and back"),
        "r": ((2, 2), (0,), IN_OUT, ALONE),
        "b": ((2,), (), BIAS),
    },
    X,
)
def sylvester(p, x):
    """An orthogonal basis by QR on both sides of a triangle."""
    q = jnp.linalg.qr(p["q"])[0]
    return x + jnp.tanh(x @ q @ jnp.triu(p["r"]) + p["b"]) @ q.T


@idiom(
    "radial basis functions",
    {"centers": ((5, 4), (), "compared with, not summed"), "w": ((5, 3), (0,), IN_OUT)},
    X,
)
def radial(p, x):
    """A layer on distances to centers."""
    return jnp.exp(-jnp.sum((x[:, None] - p["centers"]) ** 2, -1)) @ p["w"]


@idiom("random features", {"w": ((16, 3), (0,), IN_OUT)}, X)
def random_features(p, x):
    """A layer on frozen features of a key that the function makes."""
    frozen = jax.random.normal(jax.random.key(0), (4, 16))
    return jnp.cos(x @ frozen) @ p["w"]


@idiom("PINN at closed-over points", dense(3, 16, 16, 1))
def pinn(p):
    """A heat equation at points that nothing else brings."""
    u = lambda x: net(p, x)[0]  # noqa: E731

    def residual(x):
        along = lambda f, v: lambda x: jax.jvp(f, (x,), (v,))[1]  # noqa: E731
        time, space = jnp.eye(3)[0], jnp.eye(3)[1:]
        return along(u, time)(x) - sum(along(along(u, v), v)(x) for v in space)

    boundary = jnp.where(POINTS < 0, -1.0, POINTS)
    return jnp.mean(jax.vmap(residual)(POINTS) ** 2) + jnp.mean(jax.vmap(u)(boundary) ** 2)


@idiom("deep operator network", dense(4, 16, 8) | dense(3, 16, 8, prefix="t"), X, POINTS)
def deeponet(p, u, points):
    """A product of two perceptrons' outputs."""
    return jnp.einsum("bk,nk->bn", net(p, u), net(p, points, prefix="t"))


entries = idiom.entries
