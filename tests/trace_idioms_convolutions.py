"""Convolutions: their groups, copies, and other ways to write them."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.abstract import f32
from tests.trace_idioms_registry import conv, conv1d, idiom, stacked

IMAGE = f32(2, 9, 8)
NUMBERS = ("NHC", "HIO", "NHC")


@idiom("a transposed convolution", {"w": (3, 8, 6)}, IMAGE, w=conv(0, 1))
def _(p, x):
    return lax.conv_transpose(x, p["w"], (2,), "SAME", dimension_numbers=NUMBERS)


@idiom("a transposed convolution with the kernel of its gradient", {"w": (3, 6, 8)}, IMAGE,
       w=conv(0, 2))  # fmt: skip
def _(p, x):
    return lax.conv_transpose(
        x, p["w"], (2,), "SAME", dimension_numbers=NUMBERS, transpose_kernel=True
    )


@idiom("a convolution with a kernel per channel and one across", {"d": (3, 1, 8), "w": (1, 8, 6)},
       IMAGE, d=conv(0, 1, groups=8), w=conv(0, 1))  # fmt: skip
def _(p, x):
    return conv1d(conv1d(x, p["d"], feature_group_count=8), p["w"])


@idiom("a convolution of one channel", {"w": (3, 1, 6)}, f32(2, 9, 1), w=conv(0, 1))
def _(p, x):
    return conv1d(x, p["w"])


@idiom("a convolution with groups of a batch", {"w": (3, 8, 6)}, IMAGE, w=conv(0, 1, groups=2))
def _(p, x):
    return conv1d(x, p["w"], batch_group_count=2)


@idiom("`convolve` for each channel", {"w": (4, 3)}, f32(4, 9), w=conv(1, groups=4))
def _(p, x):
    return jax.vmap(lambda x, w: jnp.convolve(x, w, mode="same"))(x, p["w"])


@idiom("a kernel in the place of the image", {"w": (2, 9, 8)}, f32(3, 8, 6))
def _(p, x):
    return conv1d(p["w"], x)


@idiom("a dense layer on patches", {"w": (24, 6)}, IMAGE, w=(0,))
def _(p, x):
    patches = lax.conv_general_dilated_patches(x, (3,), (1,), "SAME", dimension_numbers=NUMBERS)
    return patches @ p["w"]


@idiom("a contraction with windows by an index", {"w": (3, 8, 6)}, IMAGE, w=(0, 1))
def _(p, x):
    windows = x[:, np.arange(7)[:, None] + np.arange(3)]
    return jnp.einsum("btki,kio->bto", windows, p["w"])


@idiom("a contraction with patches by a reshape", {"w": (4, 4, 3, 6)}, f32(2, 8, 8, 3),
       w=(0, 1, 2))  # fmt: skip
def _(p, x):
    return jnp.einsum("nhiwjc,ijco->nhwo", x.reshape(2, 2, 4, 2, 4, 3), p["w"])


@idiom("a sum over shifted images", {"w": (3, 8, 6)}, IMAGE, w=stacked(1, batch=(0,)))
def _(p, x):
    return sum(jnp.roll(x, k, 1) @ p["w"][k] for k in range(3))


@idiom("taps of each channel", {"w": (3, 8)}, IMAGE, w=stacked(0, batch=(1,)))
def _(p, x):
    shifted = jnp.stack([jnp.roll(x, k, 1) for k in range(3)], 2)
    return jnp.einsum("btkd,kd->btd", shifted, p["w"])


@idiom("a one-hot board", {"w": (3, 4, 6)}, jax.ShapeDtypeStruct((2, 9), jnp.int32), w=conv(0, 1))
def _(p, board):
    return conv1d(jax.nn.one_hot(board, 4), p["w"])


@idiom(
    "a convolution with noise for each image",
    {"w": (3, 8, 6)},
    f32(5, 9, 8),
    jax.random.key(0),
    w=conv(0, 1),
)
def _(p, x, key):
    def one(x, key):
        return conv1d(x[None], p["w"] + jax.random.normal(key, (3, 8, 6)))[0]

    return jax.vmap(one)(x, jax.random.split(key, 5))
