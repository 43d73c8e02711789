"""Idioms of public code in plain JAX: block-diagonal kernels, products and trains of factors."""

import jax
import jax.numpy as jnp

from benchmarks.zoo.case import ALONE
from benchmarks.zoo.oracles.stated import Idioms

PACKAGES = ["jax"]

X = jnp.linspace(-1.0, 1.0, 48).reshape(8, 6)
IN_OUT = "stored (in, out), applied as x @ w"
BLOCKS = "a block's layer, stored (blocks, in, out)"
FACTOR = "the first factor that meets data", ALONE

idiom = Idioms()


@idiom("block-diagonal", {"w": ((3, 2, 4), (1,), BLOCKS)}, X)
def blocks(p, x):
    """Groups of features, each with its own kernel."""
    return jnp.einsum("bgi,gio->bgo", x.reshape(8, 3, 2), p["w"]).reshape(8, 12)


@idiom("block-diagonal, assembled", {"w": ((3, 2, 4), (1,), BLOCKS, ALONE)}, X)
def assembled(p, x):
    """The whole matrix by `block_diag`."""
    return x @ jax.scipy.linalg.block_diag(*p["w"])


@idiom("Kronecker", {"a": ((2, 4), (0,), *FACTOR), "b": ((3, 5), (0,), *FACTOR)}, X)
def kronecker(p, x):
    """The whole matrix by `kron`."""
    return x @ jnp.kron(p["a"], p["b"])


@idiom("Kronecker by parts", {"a": ((2, 4), (0,), IN_OUT), "b": ((3, 5), (0,), IN_OUT)}, X)
def kronecker_parts(p, x):
    """The same, one side after the other."""
    return jnp.einsum("bij,ik,jl->bkl", x.reshape(8, 2, 3), p["a"], p["b"])


@idiom(
    "Tucker",
    {"a": ((6, 2), (0,), IN_OUT), "c": ((2, 3), (0,), IN_OUT), "b": ((5, 3), (1,), "transposed")},
    X,
)
def tucker(p, x):
    """Three layers in a row, without activations."""
    return x @ p["a"] @ p["c"] @ p["b"].T


@idiom(
    "tensor train",
    {
        "one": ((2, 3, 4), (0,), "contracts a part of the inputs: (in, out, rank)", ALONE),
        "two": ((4, 3, 5), (0, 1), "contracts the rest and the rank: (rank, in, out)", ALONE),
    },
    X,
)
def train(p, x):
    """Core by core, the data first."""
    y = jnp.einsum("bij,ior->bjor", x.reshape(8, 2, 3), p["one"])
    return jnp.einsum("bjor,rjq->boq", y, p["two"])


@idiom(
    "low rank",
    {"a": ((6, 2), (0,), "x @ a", ALONE), "b": ((2, 5), (0,), "(x @ a) @ b", ALONE)},
    X,
)
def low_rank(p, x):
    """The product of the factors first."""
    return x @ (p["a"] @ p["b"])


entries = idiom.entries
