"""Idioms of public code in plain JAX: low-rank updates, adapters, hypernetworks."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.zoo.case import ALONE
from benchmarks.zoo.oracles.stated import Idioms

PACKAGES = ["jax"]

X = jnp.linspace(-1.0, 1.0, 48).reshape(8, 6)
FROZEN = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), "f4")
IN_OUT = "stored (in, out), applied as x @ w"
FIRST, SECOND = ((6, 2), (0,), "x @ (a @ b)", ALONE), ((2, 5), (0,), "x @ (a @ b)", ALONE)


def kernels(**shapes):
    """What is right for kernels, and for vectors among them."""
    return {n: (s, (0,), IN_OUT) if len(s) == 2 else (s, (), "a vector") for n, s in shapes.items()}


idiom = Idioms()


@idiom("LoRA, everything closed over", {"a": FIRST, "b": SECOND})
def lora_closed(p):
    """Data and the frozen kernel are arrays of the module."""
    return jnp.mean((X @ FROZEN + (X @ p["a"]) @ p["b"]) ** 2)


@idiom("LoRA, kernel closed over", {"a": FIRST, "b": SECOND}, X)
def lora_frozen(p, x):
    """The frozen kernel is an array of the module, the update is one of x."""
    return x @ FROZEN + 2.0 * (x @ p["a"] @ p["b"])


@idiom("LoRA, kernel as an argument", {"a": FIRST, "b": SECOND}, X, FROZEN)
def lora_argument(p, x, frozen):
    """The frozen kernel comes in as data do."""
    return x @ (frozen + p["a"] @ p["b"])


@idiom(
    "DoRA, kernel as an argument",
    {"a": FIRST, "b": SECOND, "m": ((5,), (), "a magnitude")},
    X,
    FROZEN,
)
def dora_argument(p, x, frozen):
    """The direction is normalized with the update in it."""
    w = frozen + p["a"] @ p["b"]
    return x @ (p["m"] * w / jnp.linalg.norm(w, axis=0))


@idiom("VeRA, (IA)3", {"d": ((2,), (), "a scale"), "s": ((5,), (), "a scale")}, X)
def vera(p, x):
    """Scales between frozen random factors."""
    a, b = jnp.ones((6, 2)) * 0.3, jnp.ones((2, 5)) * 0.1
    return p["s"] * (((x @ a) * p["d"]) @ b) + x @ FROZEN


@idiom("adapter", kernels(down=(6, 2), up=(2, 6)), X)
def adapter(p, x):
    """A bottleneck beside a frozen layer."""
    return x + jax.nn.gelu(x @ p["down"]) @ p["up"] + x @ (FROZEN @ FROZEN.T)


MAKES = "a layer on z, whose outputs are another's weights"


@idiom(
    "hypernetwork, two kernels",
    {"h": ((3, 8), (0,), MAKES), "w1": ((8, 24), (0,), MAKES), "w2": ((8, 4), (0,), MAKES)},
    X,
    jnp.ones(3),
)
def hypernetwork(p, x, z):
    """A perceptron makes two kernels."""
    h = jax.nn.relu(z @ p["h"])
    return jnp.tanh(x @ (h @ p["w1"]).reshape(6, 4)) @ (h @ p["w2"])


@idiom(
    "hypernetwork of coordinates",
    {
        "h": ((2, 8), (0,), "a layer on constants"),
        "o": ((8, 1), (0,), "a layer on what is made of constants", ALONE),
    },
    X,
)
def compositional(p, x):
    """A kernel is a field over the places of its entries."""
    grid = jnp.stack(
        jnp.meshgrid(jnp.linspace(-1, 1, 6), jnp.linspace(-1, 1, 5), indexing="ij"), -1
    )
    return x @ (jnp.sin(grid @ p["h"]) @ p["o"])[..., 0]


@idiom("FiLM", kernels(w=(6, 9), f=(3, 18)), X, jnp.ones((8, 3)))
def film(p, x, z):
    """Scales and shifts from another input."""
    scale, shift = jnp.split(z @ p["f"], 2, -1)
    return (x @ p["w"]) * (1 + scale) + shift


entries = idiom.entries
