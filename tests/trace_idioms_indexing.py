"""Constant indices, slices, scatter; convolutions and their groups."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.abstract import f32
from tests.trace_idioms_registry import ROWS, conv, conv1d, conv2d, idiom


@idiom("rows in another order", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    return x @ p["w"][jnp.array([3, 2, 1, 0, 7, 6, 5, 4])]


@idiom("rows in another order by an identity", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    return x @ (jnp.eye(8)[::-1] @ p["w"])


@idiom("rows in another order by `take`, from NumPy", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    return x @ jnp.take(p["w"], np.random.default_rng(0).permutation(8), axis=0)


@idiom("columns in another order", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    return x @ p["w"][:, jnp.array([3, 2, 1, 0, 5, 4])]


@idiom("some columns by constants", {"w": (8, 6)}, ROWS)
def _(p, x):
    return x @ p["w"][:, jnp.array([3, 2, 1, 0])]


@idiom("some rows by constants", {"w": (12, 6)}, ROWS, conflict=True)
def _(p, x):
    return x @ p["w"][jnp.array([0, 1, 2, 3, 5, 6, 7, 11])]


@idiom("positions by a one-hot product", {"position": (5, 8)}, ROWS)
def _(p, x):
    return x + jax.nn.one_hot(jnp.arange(5), 5) @ p["position"]


@idiom("positions by `take`, before a layer", {"position": (9, 8), "w": (8, 3)}, ROWS, w=(0,))
def _(p, x):
    return (x + jnp.take(p["position"], jnp.arange(5), axis=0)) @ p["w"]


@idiom("positions that are interpolated", {"position": (9, 8), "w": (8, 3)}, ROWS, w=(0,))
def _(p, x):
    return (x + jax.image.resize(p["position"], (5, 8), "bilinear")) @ p["w"]


@idiom("relative positions of windows", {"table": (13, 4)}, f32(2, 4, 7, 7))
def _(p, scores):
    index = jnp.array(np.arange(49).reshape(7, 7) % 13)
    return scores + p["table"][index].transpose(2, 0, 1)


@idiom("relative positions of tokens, contracted with queries", {"r": (7, 4)}, f32(2, 7, 4))
def _(p, q):
    index = jnp.clip(jnp.arange(7)[:, None] - jnp.arange(7), -3, 3) + 3
    return jnp.einsum("bid,ijd->bij", q, p["r"][index])


@idiom("a circulant matrix", {"w": (8,)}, ROWS)
def _(p, x):
    return x @ p["w"][(jnp.arange(8)[:, None] - jnp.arange(8)) % 8]


@idiom("Toeplitz matrices by `take`", {"w": (3, 13)}, f32(2, 3, 7), conflict=True)
def _(p, x):
    index = jnp.arange(7)[:, None] - jnp.arange(7) + 6
    return jnp.einsum("hij,bhj->bhi", jnp.take(p["w"], index, axis=1), x)


@idiom("Toeplitz matrices by slices", {"w": (3, 13)}, f32(2, 3, 7), conflict=True)
def _(p, x):
    rows = jnp.stack([p["w"][:, 6 - i : 13 - i] for i in range(7)], 1)
    return jnp.einsum("hij,bhj->bhi", rows, x)


@idiom("Toeplitz matrices by mapped slices", {"w": (3, 13)}, f32(2, 3, 7), conflict=True)
def _(p, x):
    def row(i):
        return lax.dynamic_slice_in_dim(p["w"], 6 - i, 7, 1)

    return jnp.einsum("hij,bhj->bhi", jax.vmap(row, out_axes=1)(jnp.arange(7)), x)


@idiom("blocks of a diagonal by slices", {"w": (8, 6)}, ROWS, conflict=True)
def _(p, x):
    return jnp.concatenate([x[:, 4 * k : 4 * k + 4] @ p["w"][4 * k : 4 * k + 4] for k in (0, 1)], 1)


@idiom("two inputs, each with its rows", {"w": (12, 6)}, ROWS, f32(5, 4), w=(0,))
def _(p, x, y):
    return x @ p["w"][:8] + y @ p["w"][8:]


@idiom("three inputs and a bias", {"w": (20, 6), "b": (6,)}, ROWS, f32(5, 4), w=(0,))
def _(p, x, y):
    return jnp.tanh(x @ p["w"][:8] + p["b"] + y @ p["w"][8:12] + x @ p["w"][12:])


@idiom("two inputs, mapped", {"w": (12, 6)}, ROWS, f32(5, 4), w=(0,))
def _(p, x, y):
    return jax.vmap(lambda x, y: x @ p["w"][:8] + y @ p["w"][8:])(x, y)


@idiom("the first rows only", {"w": (12, 6)}, ROWS, conflict=True)
def _(p, x):
    return x @ p["w"][:8]


@idiom("gates by slices of the outputs", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    return jax.nn.sigmoid(x @ p["w"][:, :3]) * jnp.tanh(x @ p["w"][:, 3:])


@idiom("every second row", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    return x[:, ::2] @ p["w"][::2] + x[:, 1::2] @ p["w"][1::2]


@idiom("two halves by `split`", {"w": (16, 6)}, ROWS, w=(0,))
def _(p, x):
    first, second = jnp.split(p["w"], 2)
    return x @ first + x @ second


@idiom("halves of the outputs by `split`", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    first, second = jnp.split(p["w"], 2, 1)
    return (x @ first) * (x @ second)


@idiom("rolled rows", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    return x @ jnp.roll(p["w"], 1, 0)


@idiom("reversed rows", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    return x @ p["w"][::-1]


@idiom("rows that are scattered into zeros", {"w": (3, 6)}, ROWS, w=(0,))
def _(p, x):
    return x @ jnp.zeros((8, 6)).at[jnp.array([0, 2, 5])].set(p["w"])


@idiom("a triangle that is scattered into zeros", {"w": (36,)}, ROWS)
def _(p, x):
    return x @ jnp.zeros((8, 8)).at[jnp.triu_indices(8)].set(p["w"])


@idiom("a kernel that is rotated four times", {"w": (3, 3, 2, 4)}, f32(1, 6, 6, 2), w=conv(0, 1, 2))
def _(p, x):
    kernel = jnp.stack([jnp.rot90(p["w"], k) for k in range(4)], -1).reshape(3, 3, 2, -1)
    return conv2d(x, kernel)


@idiom("a grouped convolution", {"w": (3, 4, 6)}, f32(2, 9, 8), w=conv(0, 1, groups=2))
def _(p, x):
    return conv1d(x, p["w"], feature_group_count=2)


@idiom("a depthwise convolution", {"w": (3, 1, 8)}, f32(2, 9, 8), w=conv(0, 1, groups=8))
def _(p, x):
    return conv1d(x, p["w"], feature_group_count=8)


@idiom("grouped convolutions of an ensemble", {"w": (5, 3, 4, 6)}, f32(5, 2, 9, 8),
       w=conv(1, 2, groups=2, batch=(0,)))  # fmt: skip
def _(p, x):
    return jax.vmap(lambda w, x: conv1d(x, w, feature_group_count=2))(p["w"], x)


@idiom("depthwise convolutions of an ensemble", {"w": (5, 3, 1, 8)}, f32(5, 2, 9, 8),
       w=conv(1, 2, groups=8, batch=(0,)))  # fmt: skip
def _(p, x):
    return jax.vmap(lambda w, x: conv1d(x, w, feature_group_count=8))(p["w"], x)


@idiom("convolutions of an ensemble on one image", {"w": (5, 3, 8, 6)}, f32(2, 9, 8), w=conv(1, 2))
def _(p, x):
    return jax.vmap(lambda w: conv1d(x, w))(p["w"])


@idiom("grouped convolutions in a scan", {"w": (5, 3, 4, 8)}, f32(2, 9, 8),
       w=conv(1, 2, groups=2, batch=(0,)))  # fmt: skip
def _(p, x):
    return lax.scan(lambda x, w: (conv1d(x, w, feature_group_count=2), None), x, p["w"])[0]
