"""Look-ups: rows of a table, in every spelling."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.abstract import f32, i32
from tests.trace_idioms_registry import INDICES, ROWS, idiom, stacked

TOKENS = i32(3)
CONSTANT = jnp.array([1, 2, 3])
TABLE = {"table": (9, 4), "w": (4, 3)}


def lookup(name):
    """Registers a look-up by data, by constants, and by what is computed."""

    def register(rows):
        @idiom(f"rows by {name}", TABLE, TOKENS, w=(0,))
        def _(p, tokens):
            return jnp.mean(rows(p["table"], tokens) @ p["w"])

        @idiom(f"rows by {name} with constants", TABLE, w=(0,))
        def _(p):
            return jnp.mean(rows(p["table"], CONSTANT) @ p["w"])

        @idiom(f"rows by {name} with an argmax", TABLE, f32(3, 9), w=(0,))
        def _(p, scores):
            return jnp.mean(rows(p["table"], jnp.argmax(scores, -1)) @ p["w"])

    return register


def one_hot(tokens):
    return jax.nn.one_hot(tokens, 9)


lookup("an index")(lambda table, t: table[t])
lookup("`eye[index]`")(lambda table, t: jnp.eye(9)[t] @ table)
lookup("NumPy's `eye[index]`")(lambda table, t: jnp.array(np.eye(9, dtype="f"))[t] @ table)
lookup("a one-hot product")(lambda table, t: one_hot(t) @ table)
lookup("a comparison in `where`")(
    lambda table, t: jnp.where(t[:, None] == jnp.arange(9), 1.0, 0.0) @ table
)
lookup("a comparison with constants first")(
    lambda table, t: (jnp.arange(9) == t[:, None]).astype(jnp.float32) @ table
)
lookup("a comparison of floats")(
    lambda table, t: (t[:, None].astype(float) == jnp.arange(9.0)).astype(float) @ table
)
lookup("a scattered one")(lambda table, t: jnp.zeros((3, 9)).at[jnp.arange(3), t].set(1.0) @ table)
lookup("a transposed one-hot")(lambda table, t: jax.nn.one_hot(t, 9, axis=0).T @ table)
lookup("a one-hot whose first axis is contracted")(
    lambda table, t: jnp.einsum("nb,nd->bd", jax.nn.one_hot(t, 9, axis=0), table)
)
lookup("a one-hot on the right")(lambda table, t: (table.T @ one_hot(t).T).T)
lookup("a one-hot of one more axis")(lambda table, t: (one_hot(t[None]) @ table)[0])
lookup("a one-hot in half precision")(
    lambda table, t: jax.nn.one_hot(t, 9, dtype=jnp.bfloat16) @ table.astype(jnp.bfloat16)
)
lookup("a one-hot that is reshaped")(
    lambda table, t: one_hot(t.reshape(3, 1)).reshape(3, 9) @ table
)
lookup("a one-hot multiplied and summed")(lambda table, t: (one_hot(t)[:, :, None] * table).sum(1))
lookup("columns")(lambda table, t: table.T[:, t].T)
lookup("`at[].get()`")(lambda table, t: table.at[t].get())
lookup("`take`")(lambda table, t: jnp.take(table, t, axis=0))
lookup("`take` that clips")(lambda table, t: jnp.take(table, t, axis=0, mode="clip"))
lookup("`take` with a fill")(lambda table, t: jnp.take(table, t, axis=0, fill_value=0))
lookup("`take_along_axis`")(lambda table, t: jnp.take_along_axis(table, t[:, None], axis=0))
lookup("an index into a flat table")(
    lambda table, t: table.reshape(-1)[4 * t[:, None] + jnp.arange(4)]
)
lookup("a mean of several")(lambda table, t: table[t[None]].mean(0))
lookup("a map")(lambda table, t: lax.map(lambda i: table[i], t))
lookup("a map of one-hots")(lambda table, t: lax.map(lambda i: one_hot(i) @ table, t))
lookup("a map of one-hots, on the right")(
    lambda table, t: lax.map(lambda i: table.T @ one_hot(i), t)
)
lookup("`vmap`")(lambda table, t: jax.vmap(lambda i: table[i])(t))
lookup("`vmap` of one-hots")(lambda table, t: jax.vmap(lambda i: one_hot(i) @ table)(t))
lookup("`vmap` of slices")(
    lambda table, t: jax.vmap(lambda i: lax.dynamic_slice(table, (i, 0), (1, 4))[0])(t)
)
lookup("`dynamic_index_in_dim`")(
    lambda table, t: jax.vmap(lambda i: lax.dynamic_index_in_dim(table, i, 0, False))(t)
)
lookup("a loop that writes rows")(
    lambda table, t: lax.fori_loop(
        0, 3, lambda i, rows: rows.at[i].set(table[t[i]]), jnp.zeros((3, 4))
    )
)
lookup("a switch")(
    lambda table, t: jax.vmap(lambda i: lax.switch(i, [lambda k=k: table[k] for k in range(3)]))(t)
)


@idiom("tokens and positions", {**TABLE, "position": (3, 4)}, TOKENS, w=(0,))
def _(p, tokens):
    return (p["table"][tokens] * 2.0 + p["position"]) @ p["w"]


@idiom("a tied head", {"table": (9, 4), "w": (4, 4)}, TOKENS, w=(0,))
def _(p, tokens):
    return jnp.tanh(p["table"][tokens] @ p["w"]) @ p["table"].T


@idiom("a factorized table", {"table": (9, 2), "up": (2, 4), "w": (4, 3)}, TOKENS, up=(0,), w=(0,))
def _(p, tokens):
    return p["table"][tokens] @ p["up"] @ p["w"]


@idiom("word2vec", {"word": (9, 4), "context": (9, 4)}, TOKENS, i32(3, 2))
def _(p, words, contexts):
    return jnp.einsum("bd,bnd->bn", p["word"][words], p["context"][contexts])


@idiom("word2vec by a product and a sum", {"word": (9, 4), "context": (9, 4)}, TOKENS, TOKENS)
def _(p, words, contexts):
    return (p["word"][words] * p["context"][contexts]).sum(-1)


@idiom("matrix factorization at closed-over places", {"user": (9, 4), "item": (9, 4)}, f32(3))
def _(p, ratings):
    users, items = jnp.array([1, 2, 3]), jnp.array([1, 0, 0])
    return ((p["user"][users] * p["item"][items]).sum(-1) - ratings) ** 2


@idiom("matrix factorization of a whole matrix", {"user": (9, 4), "item": (9, 4)}, f32(9, 9))
def _(p, ratings):
    return jnp.mean((p["user"] @ p["item"].T - ratings) ** 2)


@idiom("relations as matrices", {"entity": (9, 4), "relation": (3, 4, 4)}, *[INDICES] * 3,
       relation=stacked(1, batch=(0,)))  # fmt: skip
def _(p, subjects, relations, objects):
    # A form without outputs: the axis that is contracted first is as good as the other.
    e, r = p["entity"], p["relation"][relations]
    return jnp.einsum("bi,bij,bj->b", e[subjects], r, e[objects])


@idiom("a codebook and its decoder", {"encoder": (8, 4), "codes": (7, 4), "decoder": (4, 8)}, ROWS,
       encoder=(0,), decoder=(0,))  # fmt: skip
def _(p, x):
    z = x @ p["encoder"]
    nearest = jnp.argmin(((z[:, None] - p["codes"]) ** 2).sum(-1), -1)
    code = p["codes"][nearest]
    straight = z + lax.stop_gradient(code - z)
    return ((code - z) ** 2).sum() + (straight @ p["decoder"]).sum()
