"""Whole layers that data chooses, and kernels that data mixes."""

import jax
import jax.numpy as jnp
from jax import lax

from tests.abstract import f32, i32
from tests.trace_idioms_registry import INDEX, INDICES, ROWS, conv, conv1d, idiom, stacked

EXPERTS = {"w": (4, 8, 6)}
EXPERT = {"w": stacked(1, batch=(0,))}


@idiom("an expert for each row", EXPERTS, ROWS, INDICES, **EXPERT)
def _(p, x, i):
    return jnp.einsum("bi,bio->bo", x, p["w"][i])


@idiom("an expert for each row, mapped", {**EXPERTS, "b": (4, 6)}, ROWS, INDICES, **EXPERT)
def _(p, x, i):
    return jax.vmap(lambda x, i: x @ p["w"][i] + p["b"][i])(x, i)


@idiom("an expert for each row, scanned", EXPERTS, ROWS, INDICES, **EXPERT)
def _(p, x, i):
    return lax.map(lambda pair: pair[0] @ p["w"][pair[1]], (x, i))


@idiom("an expert that is stored transposed", {"w": (4, 6, 8)}, ROWS, INDEX,
       w=stacked(2, batch=(0,)))  # fmt: skip
def _(p, x, i):
    return x @ p["w"][i].T


@idiom("an expert from the left", EXPERTS, ROWS, INDEX, **EXPERT)
def _(p, x, i):
    return p["w"][i].T @ x[0]


@idiom("an expert by a one-hot product", EXPERTS, ROWS, INDICES, **EXPERT)
def _(p, x, i):
    chosen = jnp.einsum("be,eio->bio", jax.nn.one_hot(i, 4), p["w"])
    return jnp.einsum("bi,bio->bo", x, chosen)


@idiom("an expert by a product of three", EXPERTS, ROWS, INDICES, **EXPERT)
def _(p, x, i):
    return jnp.einsum("be,eio,bi->bo", jax.nn.one_hot(i, 4), p["w"], x)


@idiom("an expert by `take`", EXPERTS, ROWS, INDEX, **EXPERT)
def _(p, x, i):
    return x @ jnp.take(p["w"], i, axis=0)


@idiom("an expert by `dynamic_index_in_dim`", EXPERTS, ROWS, INDEX, **EXPERT)
def _(p, x, i):
    return x @ lax.dynamic_index_in_dim(p["w"], i, 0, False)


@idiom("an expert by `dynamic_slice`", EXPERTS, ROWS, INDEX, **EXPERT)
def _(p, x, i):
    return x @ lax.dynamic_slice(p["w"], (i, 0, 0), (1, 8, 6))[0]


@idiom("an expert by a switch", EXPERTS, ROWS, INDEX, **EXPERT)
def _(p, x, i):
    return lax.switch(i, [lambda x, k=k: x @ p["w"][k] for k in range(4)], x)


@idiom("an expert along the last axis", {"w": (8, 6, 4)}, ROWS, INDEX, w=stacked(0, batch=(2,)))
def _(p, x, i):
    return x @ p["w"][:, :, i]


@idiom("an expert along the middle axis", {"w": (8, 4, 6)}, ROWS, INDEX, w=stacked(0, batch=(1,)))
def _(p, x, i):
    return x @ p["w"][:, i]


@idiom("an expert in a merged axis", {"w": (32, 6)}, ROWS, INDEX)
def _(p, x, i):
    return x @ p["w"].reshape(4, 8, 6)[i]


@idiom("an expert that is routed to", {"router": (8, 4), **EXPERTS}, ROWS, router=(0,), **EXPERT)
def _(p, x):
    scores = jax.nn.softmax(x @ p["router"])
    i = jnp.argmax(scores, -1)
    gate = jnp.take_along_axis(scores, i[:, None], 1)
    return gate * jnp.einsum("bi,bio->bo", x, p["w"][i])


@idiom("two experts for each row", EXPERTS, ROWS, i32(5, 2))
def _(p, x, i):
    # The kernels of a row are added before they meet it, like the rows of a bag of embeddings.
    return jnp.einsum("bi,bkio->bo", x, p["w"][i])


@idiom("experts of capacity", EXPERTS, ROWS, INDICES, **EXPERT)
def _(p, x, i):
    dispatch = jax.nn.one_hot(i, 4)
    inputs = jnp.einsum("be,bi->ebi", dispatch, x)
    outputs = jnp.einsum("ebi,eio->ebo", inputs, p["w"])
    return jnp.einsum("ebo,be->bo", outputs, dispatch)


@idiom("experts by `ragged_dot`", EXPERTS, ROWS, i32(4), **EXPERT)
def _(p, x, sizes):
    return lax.ragged_dot(x, p["w"], sizes)


@idiom("a shared kernel and an expert", {**EXPERTS, "shared": (8, 6)}, ROWS, INDEX,
       shared=(0,), **EXPERT)  # fmt: skip
def _(p, x, i):
    return x @ (p["shared"] + p["w"][i])


@idiom("an adapter of a task", {"w": (8, 6), "a": (4, 8, 2), "b": (4, 2, 6)}, ROWS, INDEX,
       w=(0,), a=stacked(1, batch=(0,)), b=stacked(1, batch=(0,)))  # fmt: skip
def _(p, x, i):
    return x @ p["w"] + x @ p["a"][i] @ p["b"][i]


@idiom("a chosen network", {**EXPERTS, "b": (4, 6), "v": (4, 6, 2)}, ROWS, INDEX,
       v=stacked(1, batch=(0,)), **EXPERT)  # fmt: skip
def _(p, x, i):
    return jnp.tanh(x @ p["w"][i] + p["b"][i]) @ p["v"][i]


@idiom("a kernel by two indices", {"w": (2, 3, 8, 6)}, ROWS, INDEX, INDEX,
       w=stacked(2, batch=(0, 1)))  # fmt: skip
def _(p, x, i, j):
    return x @ p["w"][i, j]


@idiom("a chosen convolution", {"w": (4, 3, 8, 6)}, f32(2, 9, 8), INDEX, w=conv(1, 2, batch=(0,)))
def _(p, x, i):
    return conv1d(x, p["w"][i])


@idiom("one of two kernels", {"w": (8, 6), "v": (8, 6)}, ROWS, INDEX, w=(0,), v=(0,))
def _(p, x, i):
    return x @ jnp.where(i > 0, p["w"], p["v"])


@idiom("experts chosen by constants", EXPERTS, ROWS, **EXPERT)
def _(p, x):
    return jnp.einsum("bi,bio->bo", x, p["w"][jnp.array([0, 1, 2, 3, 0])])


@idiom("a sampled softmax", {"w": (8, 6)}, ROWS, i32(2))
def _(p, x, i):
    return x @ p["w"][:, i]


@idiom("kernels mixed by data", EXPERTS, ROWS, f32(5, 4))
def _(p, x, gates):
    return jnp.einsum("bi,bio->bo", x, jnp.einsum("bk,kio->bio", gates, p["w"]))


@idiom("kernels mixed by data, product of three", EXPERTS, ROWS, f32(5, 4))
def _(p, x, gates):
    return jnp.einsum("bi,kio,bk->bo", x, p["w"], gates)


@idiom("kernels mixed by data, the gates first", EXPERTS, ROWS, f32(5, 4))
def _(p, x, gates):
    return jnp.einsum("bk,kio,bi->bo", gates, p["w"], x)


@idiom("kernels mixed by data, mapped", EXPERTS, ROWS, f32(5, 4))
def _(p, x, gates):
    return jax.vmap(lambda x, gates: x @ jnp.tensordot(gates, p["w"], 1))(x, gates)


@idiom("kernels mixed by data for all rows", EXPERTS, ROWS, f32(4))
def _(p, x, gates):
    return x @ jnp.tensordot(gates, p["w"], 1)


@idiom("kernels mixed by data, by a product and a sum", EXPERTS, ROWS, f32(4))
def _(p, x, gates):
    return x @ (gates[:, None, None] * p["w"]).sum(0)


@idiom("kernels mixed by data, as one large layer", EXPERTS, ROWS, f32(5, 4))
def _(p, x, gates):
    return (x[:, None, :] * gates[:, :, None]).reshape(5, -1) @ p["w"].reshape(32, 6)


@idiom("kernels mixed by a router", {**EXPERTS, "router": (8, 4)}, ROWS, router=(0,))
def _(p, x):
    gates = jax.nn.softmax(x @ p["router"])
    return jnp.einsum("bi,bio->bo", x, jnp.einsum("bk,kio->bio", gates, p["w"]))


@idiom("convolutions mixed by data", {"w": (4, 3, 8, 6)}, f32(5, 9, 8), f32(5, 4))
def _(p, x, gates):
    def one(x, gates):
        return conv1d(x[None], jnp.tensordot(gates, p["w"], 1))[0]

    return jax.vmap(one)(x, gates)


@idiom("outputs of experts mixed by a router", {**EXPERTS, "router": (8, 4)}, ROWS,
       router=(0,))  # fmt: skip
def _(p, x):
    # The gates and the input could change places: it is the same sum of products.
    outputs = jnp.einsum("bi,eio->beo", x, p["w"])
    return jnp.einsum("beo,be->bo", outputs, jax.nn.softmax(x @ p["router"]))


@idiom("a hypernetwork", {"hyper": (2, 24)}, f32(5, 2), ROWS, hyper=(0,))
def _(p, z, x):
    return jnp.einsum("bi,bio->bo", x, (z @ p["hyper"]).reshape(5, 8, 3))


@idiom("a bilinear layer", {"w": (8, 4, 3)}, ROWS, f32(5, 4))
def _(p, x, y):
    return jnp.einsum("bi,ijo,bj->bo", x, p["w"], y)
