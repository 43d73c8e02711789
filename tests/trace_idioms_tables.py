"""Tables and kernels that indices go into, in networks: grids, labels, tokens, tasks."""

import jax
import jax.numpy as jnp
from jax import lax

from tests.abstract import f32, i32
from tests.trace_idioms_registry import (  # fmt: skip
    INDEX,
    INDICES,
    MLP,
    ROWS,
    idiom,
    mlp,
    normal,
    stacked,
)

TABLE = {"table": (9, 4), "w": (4, 3)}
TOKENS = i32(3)
EXPERTS = {"w": (4, 8, 6)}
EXPERT = {"w": stacked(1, batch=(0,))}
KEY = jax.random.key(0)
X = jnp.asarray(normal(16, 4))


@idiom("a soft look-up", TABLE, f32(3, 9), table=(0,), w=(0,))
def _(p, scores):
    return jax.nn.softmax(scores) @ p["table"] @ p["w"]


@idiom("a soft look-up whose forward pass is hard", TABLE, f32(3, 9), table=(0,), w=(0,))
def _(p, scores):
    soft = jax.nn.softmax(scores)
    hard = jax.nn.one_hot(jnp.argmax(scores, -1), 9)
    return (soft + lax.stop_gradient(hard - soft)) @ p["table"] @ p["w"]


@idiom("counts of words", TABLE, i32(3, 5), table=(0,), w=(0,))
def _(p, words):
    # A layer on counts, though the same as a sum of embeddings.
    return jax.nn.one_hot(words, 9).sum(1) @ p["table"] @ p["w"]


@idiom("an interpolation in a table", {"table": (5, 6)}, f32(7), table=(0,))
def _(p, x):
    return jnp.maximum(0, 1 - jnp.abs(x[:, None] - jnp.arange(5.0))) @ p["table"]


@idiom("all fields of a row as one-hots", {"w": (32, 6)}, i32(5, 8), w=(0,))
def _(p, fields):
    return jax.nn.one_hot(fields, 4).reshape(5, 32) @ p["w"]


@idiom("features and an action", {"w": (8, 6), "actions": (4, 6)}, ROWS, INDICES, w=(0,))
def _(p, x, actions):
    return x @ p["w"] + jax.nn.one_hot(actions, 4) @ p["actions"]


@idiom("a bin of a number", {"table": (5, 6)}, f32(5))
def _(p, x):
    return p["table"][jnp.digitize(x, jnp.linspace(-1, 1, 4))]


@idiom("a code as a token", TABLE, TOKENS, w=(0,))
def _(p, codes):
    one_hot = codes[:, None] == jnp.array([4, 5, 6, 7, 8, 9, 10, 11, 12])
    return one_hot.astype(jnp.float32) @ p["table"] @ p["w"]


@idiom("the head's column of a label", {"w": (8, 6), "v": (6, 4)}, ROWS, INDICES, w=(0,))
def _(p, x, labels):
    return (jnp.tanh(x @ p["w"]) * p["v"].T[labels]).sum(-1)


@idiom("the distance from a label's center", {"w": (8, 6), "centers": (4, 6)}, ROWS, INDICES,
       w=(0,))  # fmt: skip
def _(p, x, labels):
    return ((x @ p["w"] - p["centers"][labels]) ** 2).sum()


@idiom("prototypes", {"w": (8, 6), "c": (4, 6)}, ROWS, INDICES, w=(0,), c=(1,))
def _(p, x, labels):
    scores = x @ p["w"] @ p["c"].T
    return scores[jnp.arange(5), labels].sum() - jax.nn.logsumexp(scores)


@idiom("codes by distances with a product", {"e": (8, 4), "codes": (7, 4), "d": (4, 8)}, ROWS,
       e=(0,), d=(0,))  # fmt: skip
def _(p, x):
    z, codes = x @ p["e"], p["codes"]
    distance = (z**2).sum(-1, keepdims=True) - 2 * z @ codes.T + (codes**2).sum(-1)
    code = jax.nn.one_hot(jnp.argmin(distance, -1), 7) @ codes
    straight = z + lax.stop_gradient(code - z)
    return ((lax.stop_gradient(z) - code) ** 2).sum() + (straight @ p["d"]).sum()


@idiom("a hashed grid", {"grid": (2, 16, 4), "w": (8, 3)}, f32(5, 2), w=(0,))
def _(p, x):
    features = []
    for level in range(2):
        cell = jnp.floor(x * 2**level).astype(jnp.int32)
        place = (cell * jnp.array([7, 13])).sum(-1) % 16
        rest = (x * 2**level - cell).prod(-1, keepdims=True)
        features.append(p["grid"][level][place] * rest)
    return jnp.concatenate(features, -1) @ p["w"]


@idiom("a plane that is sampled", {"plane": (8, 8, 4), "w": (4, 3)}, f32(5, 2), w=(0,))
def _(p, x):
    i, j = jnp.floor(x).astype(jnp.int32).T
    f = (x[:, 0] - i)[:, None]
    return ((1 - f) * p["plane"][i, j] + f * p["plane"][i + 1, j]) @ p["w"]


@idiom("a plane that `map_coordinates` samples", {"plane": (8, 8)}, f32(2, 5))
def _(p, x):
    return jax.scipy.ndimage.map_coordinates(p["plane"], list(x), order=1)


@idiom("a product of two planes", {"xy": (8, 4), "yz": (8, 4), "w": (4, 3)}, INDICES, INDICES,
       w=(0,))  # fmt: skip
def _(p, i, j):
    return (p["xy"][i] * p["yz"][j]) @ p["w"]


@idiom("sums of embeddings by segments", TABLE, i32(7), i32(7), w=(0,))
def _(p, tokens, segments):
    return jax.ops.segment_sum(p["table"][tokens], segments, 3) @ p["w"]


@idiom("a factorized table, multiplied first", {"table": (9, 2), "up": (2, 4), "w": (4, 3)}, TOKENS,
       w=(0,))  # fmt: skip
def _(p, tokens):
    return (p["table"] @ p["up"])[tokens] @ p["w"]


@idiom("tokens that are sampled in a loop", {"table": (9, 8), "w": (8, 9)}, INDEX, KEY, w=(0,))
def _(p, token, key):
    def step(token, key):
        scores = p["table"][token] @ p["w"]
        return jax.random.categorical(key, scores), scores

    return lax.scan(step, token, jax.random.split(key, 4))[1]


@idiom("a token that a key chooses", TABLE, KEY, w=(0,))
def _(p, key):
    return p["table"][jax.random.randint(key, (5,), 0, 9)] @ p["w"]


@idiom("an expert that a key chooses", EXPERTS, ROWS, KEY, **EXPERT)
def _(p, x, key):
    return x @ p["w"][jax.random.randint(key, (), 0, 4)]


@idiom("a closed-over batch that a key chooses", MLP, KEY, a=(0,), out=(0,))
def _(p, key):
    return mlp(p, X[jax.random.randint(key, (5,), 0, 16)])


@idiom("a closed-over batch that a key shuffles", MLP, KEY, a=(0,), out=(0,))
def _(p, key):
    return mlp(p, jax.random.permutation(key, X))


@idiom("two chosen kernels, added", EXPERTS, ROWS, INDEX, INDEX, **EXPERT)
def _(p, x, i, j):
    return x @ (p["w"][i] + p["w"][j])


@idiom("kernels that are interpolated in time", EXPERTS, ROWS, f32(), **EXPERT)
def _(p, x, t):
    i = jnp.floor(t).astype(jnp.int32)
    return x @ ((i + 1 - t) * p["w"][i] + (t - i) * p["w"][i + 1])


@idiom("a chosen kernel, used in both directions", {"w": (4, 8, 8)}, ROWS, INDEX, conflict=True)
def _(p, x, i):
    return jnp.tanh(x @ p["w"][i]) @ p["w"][i].T


@idiom("scales and shifts of a task", {"w": (8, 6), "g": (4, 6), "b": (4, 6)}, ROWS, INDICES,
       w=(0,))  # fmt: skip
def _(p, x, i):
    return (x @ p["w"]) * p["g"][i] + p["b"][i]


@idiom("a task's gain of a kernel's outputs", {"w": (8, 6), "g": (4, 6)}, ROWS, INDEX, w=(0,))
def _(p, x, i):
    return x @ (p["w"] * p["g"][i])


@idiom("a task's gain of a kernel's inputs", {"w": (8, 6), "g": (4, 8)}, ROWS, INDEX, w=(0,))
def _(p, x, i):
    return x @ (p["w"] * p["g"][i][:, None])


@idiom("chosen low rank, from the input on", {"a": (4, 8, 2), "b": (4, 2, 6)}, ROWS, INDICES,
       a=stacked(1, batch=(0,)), b=stacked(1, batch=(0,)))  # fmt: skip
def _(p, x, i):
    return jnp.einsum("bi,bir,bro->bo", x, p["a"][i], p["b"][i])


@idiom("a hypernetwork of a task", {"z": (4, 2), "hyper": (2, 48)}, ROWS, INDEX, hyper=(0,))
def _(p, x, i):
    return x @ (p["z"][i] @ p["hyper"]).reshape(8, 6)


@idiom("chosen rows as keys", {"q": (8, 6), "k": (9, 6)}, ROWS, TOKENS, q=(0,))
def _(p, x, i):
    return x @ p["q"] @ p["k"][i].T


@idiom("a window of outputs", {"w": (8, 6)}, ROWS, INDEX)
def _(p, x, i):
    return x @ lax.dynamic_slice(p["w"], (0, i), (8, 2))


@idiom("a window of rows", {"w": (8, 6)}, f32(5, 3), INDEX)
def _(p, x, i):
    return x @ lax.dynamic_slice(p["w"], (i, 0), (3, 6))


@idiom("chosen low rank, multiplied first", {"a": (4, 8, 2), "b": (4, 2, 6)}, ROWS, INDEX)
def _(p, x, i):
    return x @ (p["a"][i] @ p["b"][i])


@idiom("kernels of a basis for each type of edge", {"v": (2, 8, 6), "c": (3, 2)}, ROWS, INDICES)
def _(p, x, i):
    kernels = jnp.einsum("tb,bio->tio", p["c"], p["v"])
    return jnp.einsum("ei,eio->eo", x, kernels[i])


@idiom("a shared kernel before a chosen one, multiplied first", {"a": (8, 8), "b": (4, 8, 6)},
       ROWS, INDEX)  # fmt: skip
def _(p, x, i):
    return x @ (p["a"] @ p["b"][i])
