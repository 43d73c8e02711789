"""Idioms of public code in plain JAX: noise on weights, weights made of other weights."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.zoo.case import ALONE, Entry
from benchmarks.zoo.oracles.stated import case

PACKAGES = ["jax"]

X, KEY = jnp.linspace(-1.0, 1.0, 32).reshape(8, 4), jax.random.key(0)
IN_OUT = "stored (in, out), applied as x @ w"


def bayes(p, x, key):
    """Bayes by backprop: a sample of the weights, by a key that is an argument."""
    noise = jax.random.normal(key, p["mu"].shape)
    return x @ (p["mu"] + jax.nn.softplus(p["rho"]) * noise)


def flipout(p, x, key):
    """Per example signs on both sides of a perturbation."""
    one, two, three = jax.random.split(key, 3)
    delta = jax.nn.softplus(p["rho"]) * jax.random.normal(one, p["rho"].shape)
    left = jax.random.rademacher(two, x.shape, x.dtype)
    right = jax.random.rademacher(three, (x.shape[0], 6), x.dtype)
    return x @ p["mu"] + ((x * left) @ delta) * right


def local_reparameterization(p, x, key):
    """The mean and the variance of the outputs are two layers."""
    mean, variance = x @ p["mu"], x**2 @ jnp.exp(p["log_var"])
    return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape)


def noisy_net(p, x, key):
    """Factorized noise of NoisyNet."""
    scale = lambda e: jnp.sign(e) * jnp.sqrt(jnp.abs(e))  # noqa: E731
    one, two = jax.random.split(key)
    inputs = scale(jax.random.normal(one, (4, 1)))
    outputs = scale(jax.random.normal(two, (1, 6)))
    return x @ (p["mu"] + p["sigma"] * inputs * outputs)


def drop_connect(p, x, key):
    """A random mask on the weights."""
    return x @ jnp.where(jax.random.bernoulli(key, 0.5, p["w"].shape), p["w"], 0.0)


def lora(p, x):
    """A frozen kernel that the function closes over, and a low-rank update."""
    return x @ (jnp.ones((4, 6)) * 0.1 + 2.0 * p["a"] @ p["b"])


def dora(p, x):
    """The update of a direction, and a magnitude per output."""
    direction = jnp.ones((4, 6)) * 0.1 + p["a"] @ p["b"]
    return x @ (p["m"] * direction / jnp.linalg.norm(direction, axis=0, keepdims=True))


def weight_standardization(p, x):
    """Kernels are standardized before the convolution."""
    w = p["w"]
    w = (w - w.mean((0, 1, 2))) / (w.std((0, 1, 2)) + 1e-5)
    return lax.conv_general_dilated(
        x, w * p["gain"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def spectral(p, x):
    """Power iteration from a fixed start."""
    v = jnp.ones(6)
    for _ in range(2):
        u = p["w"] @ v
        u = u / jnp.linalg.norm(u)
        v = u @ p["w"]
        v = v / jnp.linalg.norm(v)
    return x @ (p["w"] / (lax.stop_gradient(u) @ p["w"] @ lax.stop_gradient(v)))


def hypernetwork(p, x, z):
    """A kernel that is made from data."""
    w = (z @ p["make"]).reshape(4, 6)
    return x @ w


def hyperfan(p, x):
    """A kernel that is made from an embedding of the layer."""
    return x @ (p["z"] @ p["make"]).reshape(4, 6)


def fake_quantized(p, x):
    """Rounding with a straight-through gradient."""
    scale = jnp.abs(p["w"]).max(0, keepdims=True) / 127
    w = p["w"] / scale
    return x @ ((w + lax.stop_gradient(jnp.round(w) - w)) * scale)


def binary(p, x):
    """Signs with a straight-through gradient and a scale per output."""
    sign = p["w"] + lax.stop_gradient(jnp.sign(p["w"]) - p["w"])
    return (x @ sign) * jnp.abs(p["w"]).mean(0)


def orthogonal(p, x):
    """The Cayley transform of a skew-symmetric matrix."""
    skew = p["a"] - p["a"].T
    return x @ jnp.linalg.solve(jnp.eye(4) + skew, jnp.eye(4) - skew)


def glow(p, x):
    """An invertible 1x1 convolution by its LU factors."""
    lower = jnp.tril(p["l"], -1) + jnp.eye(4)
    upper = jnp.triu(p["u"], 1) + jnp.diag(jnp.exp(p["s"]))
    return x @ (lower @ upper)


MU_RHO = {
    "mu": ((4, 6), (0,), IN_OUT),
    "rho": ((4, 6), (0,), "the spread of each weight: noise on w of x @ w", ALONE),
}
LORA = {
    "a": ((4, 2), (0,), "x @ (a @ b): the first of two layers"),
    "b": ((2, 6), (0,), "x @ (a @ b): the second of two layers"),
}
ONE = {"w": ((4, 6), (0,), IN_OUT)}
IMAGE = jnp.zeros((2, 8, 8, 3))

ENTRIES = {
    "Bayes by backprop": (bayes, MU_RHO, X, KEY),
    "Flipout": (flipout, MU_RHO, X, KEY),
    "local reparameterization": (
        local_reparameterization,
        {"mu": MU_RHO["mu"], "log_var": ((4, 6), (0,), "x^2 @ exp(log_var)", ALONE)},
        X,
        KEY,
    ),
    "NoisyNet": (
        noisy_net,
        {"mu": ((4, 6), (0,), IN_OUT), "sigma": ((4, 6), (0,), "noise on w of x @ w", ALONE)},
        X,
        KEY,
    ),
    "DropConnect": (drop_connect, ONE, X, KEY),
    "LoRA on a closed-over kernel": (lora, LORA, X),
    "DoRA": (dora, LORA | {"m": ((1, 6), (), "a magnitude per output")}, X),
    "weight standardization": (
        weight_standardization,
        {
            "w": ((3, 3, 3, 6), (0, 1, 2), "stored HWIO"),
            "gain": ((6,), (), "a gain"),
        },
        IMAGE,
    ),
    "spectral normalization": (spectral, ONE, X),
    "hypernetwork": (
        hypernetwork,
        {"make": ((5, 24), (0,), "a layer on z, whose outputs are another's weights")},
        X,
        jnp.ones(5),
    ),
    "hypernetwork of an embedding": (
        hyperfan,
        {
            "z": ((5,), (), "a vector"),
            "make": ((5, 24), (), "makes a kernel from a vector, and no layer of data"),
        },
        X,
    ),
    "fake quantization": (fake_quantized, ONE, X),
    "binary weights": (binary, ONE, X),
    "Cayley transform": (
        orthogonal,
        {"a": ((4, 4), (), "a generator: its sum over inputs is no output's")},
        X,
    ),
    "Glow, LU factors": (
        glow,
        {
            "l": ((4, 4), (0,), "x @ (l @ u)"),
            "u": ((4, 4), (0,), "x @ (l @ u)"),
            "s": ((4,), (), "a vector"),
        },
        X,
    ),
}


def entries() -> list[Entry]:
    """All of the table."""
    return [Entry(n, lambda r=row: case(r[0], r[1], *r[2:])) for n, row in ENTRIES.items()]
