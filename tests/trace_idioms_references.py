"""What is written into a `jax.Ref` comes out of it."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.ref import addupdate, swap

from tests.abstract import f32
from tests.trace_idioms_registry import INDEX, ROWS, idiom, stacked

TWO = {"w": (8, 6), "v": (6, 2)}
BOTH = {"w": (0,), "v": (0,)}

reference = functools.partial(idiom, remat=False)


@reference("a weight in a reference", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    return x @ jax.new_ref(p["w"])[...]


@reference("a result in a reference", TWO, ROWS, **BOTH)
def _(p, x):
    ref = jax.new_ref(jnp.zeros((5, 6)))
    ref[...] = x @ p["w"]
    return ref[...] @ p["v"]


@reference("rows that are written into a reference", TWO, ROWS, **BOTH)
def _(p, x):
    ref = jax.new_ref(jnp.zeros((5, 6)))

    def write(i, carry):
        ref[i] = x[i] @ p["w"]
        return carry

    lax.fori_loop(0, 5, write, 0)
    return ref[...] @ p["v"]


@reference("a sum in a reference", TWO, ROWS, **BOTH)
def _(p, x):
    ref = jax.new_ref(jnp.zeros((5, 6)))

    def add(_, carry):
        ref[...] += x @ p["w"]
        return carry

    lax.fori_loop(0, 3, add, 0)
    return ref[...] @ p["v"]


@reference("`addupdate` of a reference", TWO, ROWS, **BOTH)
def _(p, x):
    ref = jax.new_ref(jnp.zeros((5, 6)))
    addupdate(ref, ..., x @ p["w"])
    return ref[...] @ p["v"]


@reference("layers in a reference", {"w": (3, 8, 8)}, ROWS, w=stacked(1, batch=(0,)))
def _(p, x):
    ref = jax.new_ref(p["w"])
    return lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ ref[i]), x)


@reference("a reference that a branch writes", TWO, ROWS, INDEX, **BOTH)
def _(p, x, i):
    ref = jax.new_ref(jnp.zeros((5, 6)))

    def write():
        ref[...] = x @ p["w"]

    lax.cond(i > 0, write, lambda: None)
    return ref[...] @ p["v"]


@reference("a reference that a jitted function writes", TWO, ROWS, **BOTH)
def _(p, x):
    ref = jax.new_ref(jnp.zeros((5, 6)))

    @jax.jit
    def write(ref, w):
        ref[...] = x @ w

    write(ref, p["w"])
    return ref[...] @ p["v"]


@reference("a state in a reference", {"i": (8, 4), "h": (4, 4), "o": (4, 2)}, ROWS,
           i=(0,), h=(0,), o=(0,))  # fmt: skip
def _(p, x):
    ref = jax.new_ref(jnp.zeros(4))

    def one(carry, x):
        ref[...] = jnp.tanh(x @ p["i"] + ref[...] @ p["h"])
        return carry, ref[...] @ p["o"]

    return lax.scan(one, 0.0, x)[1]


@reference("a learned state in a reference", {"i": (8, 4), "h": (4, 4), "start": (5, 4)},
           f32(3, 5, 8), i=(0,), h=(0,))  # fmt: skip
def _(p, x):
    ref = jax.new_ref(p["start"])

    def one(carry, x):
        ref[...] = jnp.tanh(x @ p["i"] + ref[...] @ p["h"])
        return carry, None

    lax.scan(one, 0.0, x)
    return ref[...]


@reference("two weights in one reference", {"a": (4, 6), "b": (4, 6)}, ROWS)
def _(p, x):
    ref = jax.new_ref(jnp.zeros((8, 6)))
    ref[:4] = p["a"]
    ref[4:] = p["b"]
    return x @ ref[...]


@reference("a weight that is swapped out of a reference", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    ref = jax.new_ref(p["w"])
    old = swap(ref, ..., jnp.zeros((8, 6)))
    return x @ old + x @ ref[...]


@reference("a cache of keys in a reference", {"q": (8, 4), "k": (8, 4)}, ROWS, q=(0,), k=(0,))
def _(p, x):
    cache = jax.new_ref(jnp.zeros((5, 4)))

    def one(i, total):
        cache[i] = x[i] @ p["k"]
        return total + jax.nn.softmax((x[i] @ p["q"]) @ cache[...].T).sum()

    return lax.fori_loop(0, 5, one, 0.0)
