"""Idioms of public code in plain JAX: layers on spectra, convolutions as long as the data."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.zoo.oracles.stated import Idioms

PACKAGES = ["jax"]

SEQUENCE = jnp.linspace(-1.0, 1.0, 84).reshape(2, 7, 6)
IN_OUT = "stored (in, out), applied as x @ w"
FNO = "multiplies each kept mode by itself: (in, out, modes)"

idiom = Idioms()


@idiom(
    "FNO, complex by parts",
    {
        "re": ((6, 5, 3), (0,), FNO),
        "im": ((6, 5, 3), (0,), FNO),
        "w": ((6, 5), (0,), IN_OUT),
    },
    SEQUENCE,
)
def fno(p, x):
    """The low modes of a spectrum through layers of their own, a skip through a layer."""
    spectrum = jnp.fft.rfft(x, axis=1)
    low = jnp.einsum("bmi,iom->bmo", spectrum[:, :3], p["re"] + 1j * p["im"])
    full = jnp.zeros((2, 4, 5), low.dtype).at[:, :3].set(low)
    return jax.nn.gelu(jnp.fft.irfft(full, n=7, axis=1) + x @ p["w"])


@idiom(
    "FNO, two dimensions",
    {"w": ((2, 4, 5, 3, 3, 2), (1,), "(corner, in, out, modes, modes, parts)", ((0, 1), (1, 5)))},
    jnp.ones((2, 4, 8, 8)),
)
def fno_plane(p, x):
    """Two corners of the spectrum of an image."""
    w = lax.complex(p["w"][..., 0], p["w"][..., 1])
    spectrum = jnp.fft.rfft2(x)
    top = jnp.einsum("bixy,ioxy->boxy", spectrum[:, :, :3, :3], w[0])
    bottom = jnp.einsum("bixy,ioxy->boxy", spectrum[:, :, -3:, :3], w[1])
    full = jnp.zeros((2, 5, 8, 5), top.dtype)
    full = full.at[:, :, :3, :3].set(top).at[:, :, -3:, :3].set(bottom)
    return jnp.fft.irfft2(full, s=(8, 8))


@idiom(
    "Hyena",
    {
        "in": ((6, 12), (0,), IN_OUT),
        "w1": ((5, 8), (0,), "a layer on constant positions"),
        "w2": ((8, 6), (0,), IN_OUT),
        "decay": ((6,), (), "a decay per channel"),
    },
    SEQUENCE,
)
def hyena(p, x):
    """A long convolution whose kernel is a perceptron of time, gated."""
    time = jnp.linspace(0.0, 1.0, 7)
    features = jnp.stack(
        [time, *(jnp.sin(k * time) for k in (1, 2)), *(jnp.cos(k * time) for k in (1, 2))], -1
    )
    kernel = (jnp.sin(features @ p["w1"]) @ p["w2"]) * jnp.exp(-time[:, None] * p["decay"])
    gate, v = jnp.split(x @ p["in"], 2, -1)
    spectrum = jnp.fft.rfft(kernel, n=14, axis=0) * jnp.fft.rfft(v, n=14, axis=1)
    return gate * jnp.fft.irfft(spectrum, n=14, axis=1)[:, :7]


@idiom(
    "long convolution",
    {
        "k": ((7, 6), (), "each output uses other taps: a Toeplitz matrix", ((0,),)),
        "w": ((6, 6), (0,), IN_OUT),
    },
    SEQUENCE,
)
def long_convolution(p, x):
    """A kernel as long as the sequence, through spectra."""
    spectrum = jnp.fft.rfft(p["k"], n=14, axis=0) * jnp.fft.rfft(x, n=14, axis=1)
    return jax.nn.gelu(jnp.fft.irfft(spectrum, n=14, axis=1)[:, :7]) @ p["w"]


entries = idiom.entries
