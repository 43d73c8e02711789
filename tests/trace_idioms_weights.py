"""What is made of weights: gains, low rank, quantization, collectives, state spaces, scopes."""

import jax
import jax.numpy as jnp
from jax import lax

from tests.abstract import f32
from tests.trace_idioms_registry import ROWS, conv, conv1d, idiom, stacked

KERNEL = {"w": (8, 6)}
CODES = jnp.linspace(-1.0, 1.0, 16)


def norm(w, axis):
    return jnp.sqrt((w**2).sum(axis, keepdims=True))


@idiom("a gain for each tap", {"v": (32, 16, 5), "g": (1, 1, 5)}, f32(2, 9, 16), v=conv(1, 2))
def _(p, x):
    return conv1d(x, (p["g"] * p["v"] / norm(p["v"], (0, 1))).T)


@idiom(
    "a gain for each output channel",
    {"v": (5, 16, 32), "g": (1, 1, 32)},
    f32(2, 9, 16),
    v=conv(0, 1),
)
def _(p, x):
    return conv1d(x, p["g"] * p["v"] / norm(p["v"], (0, 1)))


@idiom("a gain for each input", {"v": (8, 6), "g": (8, 1)}, ROWS, v=(0,))
def _(p, x):
    return x @ (p["g"] * p["v"] / norm(p["v"], 1))


@idiom("a gain for each output", {"v": (8, 6), "g": (1, 6)}, ROWS, v=(0,))
def _(p, x):
    return x @ (p["g"] * p["v"] / norm(p["v"], 0))


@idiom("a gain for each output, of rank 1", {"v": (8, 6), "g": (6,)}, ROWS, v=(0,))
def _(p, x):
    return x @ (p["g"] * p["v"] / norm(p["v"], 0))


@idiom("a gain of each head's kernel", {"w": (8, 2, 3), "g": (1, 2, 1)}, ROWS, w=(0,))
def _(p, x):
    return jnp.einsum("bi,iho->bho", x, p["w"] * p["g"])


@idiom("a scale of each block and output", {"w": (8, 6), "s": (2, 1, 6)}, ROWS, w=(0,))
def _(p, x):
    return x @ (p["w"].reshape(2, 4, 6) * p["s"]).reshape(8, 6)


@idiom("a scale of each block", {"w": (8, 6), "s": (2, 1, 1)}, ROWS, w=(0,))
def _(p, x):
    return x @ (p["w"].reshape(2, 4, 6) * p["s"]).reshape(8, 6)


@idiom("a scale that is repeated over its block", {"w": (8, 6), "s": (2, 6)}, ROWS, w=(0,))
def _(p, x):
    return x @ (p["w"] * jnp.repeat(p["s"], 4, 0))


@idiom("a scale of each head", {"w": (8, 6), "s": (3,)}, ROWS, w=(0,))
def _(p, x):
    return jnp.einsum("bi,hio->bho", x, p["w"][None] * p["s"][:, None, None])


@idiom("rank-one members of an ensemble", {"w": (8, 6), "r": (3, 8), "s": (3, 6)}, f32(3, 5, 8),
       w=(0,))  # fmt: skip
def _(p, x):
    kernels = p["w"] * p["r"][:, :, None] * p["s"][:, None]
    return jnp.einsum("ebi,eio->ebo", x, kernels)


@idiom("rank-one members of an ensemble, on the activations",
       {"w": (8, 6), "r": (3, 1, 8), "s": (3, 1, 6)}, f32(3, 5, 8), w=(0,))  # fmt: skip
def _(p, x):
    return ((x * p["r"]) @ p["w"]) * p["s"]


@idiom("a low-rank kernel whose norm is learned",
       {"w": (8, 6), "a": (8, 2), "b": (2, 6), "m": (1, 6)}, ROWS,
       w=(0,), a=(0,), b=(0,))  # fmt: skip
def _(p, x):
    v = p["w"] + p["a"] @ p["b"]
    return x @ (p["m"] * v / norm(v, 0))


@idiom("a low-rank kernel alone", {"a": (8, 2), "b": (2, 6)}, ROWS)
def _(p, x):
    return x @ (p["a"] @ p["b"])


@idiom("a low-rank kernel, factor by factor", {"a": (8, 2), "b": (2, 6)}, ROWS, a=(0,), b=(0,))
def _(p, x):
    return x @ p["a"] @ p["b"]


@idiom("low rank with a diagonal between", {"w": (8, 6), "a": (8, 2), "b": (2, 6), "d": (2,)}, ROWS,
       w=(0,), a=(0,), b=(0,))  # fmt: skip
def _(p, x):
    return x @ (p["w"] + (p["a"] * p["d"]) @ p["b"])


@idiom("low rank, stored transposed", {"w": (6, 8), "a": (2, 8), "b": (6, 2)}, ROWS,
       w=(1,), a=(1,), b=(1,))  # fmt: skip
def _(p, x):
    return x @ (p["w"] + 0.5 * p["b"] @ p["a"]).T


@idiom("low rank of stacked layers", {"w": (3, 8, 8), "a": (3, 8, 2), "b": (3, 2, 8)}, ROWS,
       **{name: stacked(1, batch=(0,)) for name in "wab"})  # fmt: skip
def _(p, x):
    return lax.scan(lambda h, p: (jnp.tanh(h @ (p["w"] + p["a"] @ p["b"])), None), x, p)[0]


@idiom("a cast kernel", KERNEL, ROWS, w=(0,))
def _(p, x):
    return x @ p["w"].astype(jnp.bfloat16).astype(jnp.float32)


@idiom("a fake-quantized kernel", KERNEL, ROWS, w=(0,))
def _(p, x):
    scale = jnp.abs(p["w"]).max(0, keepdims=True) / 127
    rounded = jnp.clip(jnp.round(p["w"] / scale), -127, 127) * scale
    return x @ (p["w"] + lax.stop_gradient(rounded - p["w"]))


@idiom("a binary kernel", KERNEL, ROWS, w=(0,))
def _(p, x):
    return x @ (lax.stop_gradient(jnp.sign(p["w"]) - p["w"]) + p["w"])


@idiom("a kernel of integers and its scale", KERNEL, ROWS, w=(0,))
def _(p, x):
    scale = jnp.abs(p["w"]).max() / 127
    return (x @ jnp.round(p["w"] / scale).astype(jnp.int8).astype(jnp.float32)) * scale


@idiom("a kernel from a codebook", KERNEL, ROWS, w=(0,))
def _(p, x):
    @jax.custom_vjp
    def quantized(w):
        scale = jnp.abs(w).max(0, keepdims=True)
        return CODES[jnp.searchsorted((CODES[1:] + CODES[:-1]) / 2, w / scale)] * scale

    quantized.defvjp(lambda w: (quantized(w), None), lambda _, g: (g,))
    return x @ quantized(p["w"])


@idiom("a pruned kernel", KERNEL, ROWS, w=(0,))
def _(p, x):
    threshold = jnp.quantile(jnp.abs(p["w"]), 0.5)
    return x @ jnp.where(jnp.abs(p["w"]) > threshold, p["w"], 0)


@idiom("a standardized kernel", {"w": (3, 8, 6)}, f32(2, 9, 8), w=conv(0, 1))
def _(p, x):
    centered = p["w"] - p["w"].mean((0, 1), keepdims=True)
    return conv1d(x, centered / jnp.sqrt((centered**2).mean((0, 1), keepdims=True)))


@idiom("a positive kernel", KERNEL, ROWS, w=(0,))
def _(p, x):
    return x @ jax.nn.softplus(p["w"])


@idiom("a symmetric kernel", {"w": (8, 8)}, ROWS, conflict=True)
def _(p, x):
    return x @ (p["w"] + p["w"].T)


@idiom("kernels side by side", {"q": (8, 6), "k": (8, 6)}, ROWS, q=(0,), k=(0,))
def _(p, x):
    return jnp.split(x @ jnp.concatenate([p["q"], p["k"]], 1), 2, 1)


@idiom("kernels one below the other", {"a": (3, 6), "b": (5, 6)}, ROWS, a=(0,), b=(0,))
def _(p, x):
    return x @ jnp.concatenate([p["a"], p["b"]])


@idiom("a product of activations with their sum of weights", {"w": (8, 6), "v": (8, 6)}, ROWS,
       w=(0,), v=(0,))  # fmt: skip
def _(p, x):
    return x @ (0.3 * p["w"] + 0.7 * p["v"])


@idiom("grouped queries", {"q": (8, 2, 3, 4), "k": (8, 2, 4)}, f32(2, 5, 8), q=(0,), k=(0,))
def _(p, x):
    q, k = jnp.einsum("bni,ighd->bnghd", x, p["q"]), jnp.einsum("bni,igd->bngd", x, p["k"])
    return jnp.einsum("bnghd,bmgd->bghnm", q, k)


@idiom("attention of heads",
       {**dict.fromkeys("qkv", (8, 2, 4)), "o": (2, 4, 8), "b": (2, 4)},
       f32(2, 5, 8), q=(0,), k=(0,), v=(0,), o=(0, 1))  # fmt: skip
def _(p, x):
    q, k, v = (jnp.einsum("bni,ihd->bnhd", x, p[name]) for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q + p["b"], k))
    return jnp.einsum("bhqk,bkhd,hdo->bqo", weights, v, p["o"])


@idiom("attention without a softmax", dict.fromkeys("qkv", (8, 2, 4)), f32(2, 5, 8),
       q=(0,), k=(0,), v=(0,))  # fmt: skip
def _(p, x):
    q, k, v = (jnp.einsum("bni,ihd->bnhd", x, p[name]) for name in "qkv")
    return jnp.einsum("bnhd,bhde->bnhe", q, jnp.einsum("bnhd,bnhe->bhde", k, v))


@idiom("learned queries", {"l": (3, 8), "q": (8, 4), "k": (8, 4), "v": (8, 4), "o": (4, 4)}, ROWS,
       k=(0,), v=(0,), o=(0,))  # fmt: skip
def _(p, x):
    # `l @ q` may be one kernel of low rank as well.
    return jax.nn.softmax((p["l"] @ p["q"]) @ (x @ p["k"]).T) @ (x @ p["v"]) @ p["o"]


@idiom("a tied autoencoder", KERNEL, ROWS, conflict=True)
def _(p, x):
    return jnp.tanh(x @ p["w"]) @ p["w"].T
