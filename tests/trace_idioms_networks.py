"""Whole networks: attention, graphs, memories, flows, state spaces, operators."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.abstract import f32, i32
from tests.trace_idioms_registry import INDICES, ROWS, idiom, normal, stacked  # fmt: skip

X = jnp.asarray(normal(16, 4))
LAYERS = {"a": (0,), "out": (0,)}
NODES = f32(7, 8)


@idiom("attention by JAX", {**dict.fromkeys("qkv", (8, 2, 4)), "o": (2, 4, 8)}, f32(2, 5, 8),
       q=(0,), k=(0,), v=(0,), o=(0, 1))  # fmt: skip
def _(p, x):
    q, k, v = (jnp.einsum("bni,ihd->bnhd", x, p[name]) for name in "qkv")
    return jnp.einsum("bnhd,hdo->bno", jax.nn.dot_product_attention(q, k, v), p["o"])


@idiom("a mix of tokens", {"w": (7, 9)}, f32(2, 7, 4), w=(0,))
def _(p, x):
    return jnp.einsum("bni,nm->bmi", x, p["w"])


@idiom("a mix of tokens by a swap of axes", {"w": (7, 9)}, f32(2, 7, 4), w=(0,))
def _(p, x):
    return (x.swapaxes(1, 2) @ p["w"]).swapaxes(1, 2)


@idiom("a gate of tokens", {"w": (7, 7), "b": (7, 1)}, f32(2, 7, 4), w=(1,))
def _(p, x):
    return x * (jnp.einsum("nm,bmd->bnd", p["w"], x) + p["b"])


@idiom("heads in a map", {"w": (3, 8, 4)}, ROWS, w=stacked(1, batch=(0,)))
def _(p, x):
    return lax.map(lambda w: x @ w, p["w"])


@idiom("a memory of keys and values", {"q": (8, 6), "k": (9, 6), "v": (9, 4)}, ROWS,
       q=(0,), k=(1,), v=(0,))  # fmt: skip
def _(p, x):
    return jax.nn.softmax(x @ p["q"] @ p["k"].T) @ p["v"]


@idiom("a memory that is key and value", {"q": (8, 6), "m": (9, 6)}, ROWS, conflict=True, q=(0,))
def _(p, x):
    return jax.nn.softmax(x @ p["q"] @ p["m"].T) @ p["m"]


@idiom("a learned prefix of keys and values", {**dict.fromkeys("qkv", (8, 6)), "prefix": (3, 6)},
       ROWS, q=(0,), k=(0,), v=(0,))  # fmt: skip
def _(p, x):
    k, v = (jnp.concatenate([p["prefix"], x @ p[name]]) for name in "kv")
    return jax.nn.softmax(x @ p["q"] @ k.T) @ v


@idiom("learned tokens before a layer", {"prompt": (3, 8), "w": (8, 6)}, f32(2, 5, 8), w=(0,))
def _(p, x):
    prompt = jnp.tile(p["prompt"][None], (2, 1, 1))
    return jnp.concatenate([prompt, x], 1) @ p["w"]


@idiom("messages along edges", {"message": (8, 6), "update": (14, 5)}, ROWS, i32(9), i32(9),
       message=(0,), update=(0,))  # fmt: skip
def _(p, x, senders, receivers):
    messages = jnp.tanh(x[senders] @ p["message"])
    received = jax.ops.segment_sum(messages, receivers, 5)
    return jnp.concatenate([x, received], -1) @ p["update"]


@idiom("a kernel for each type of edge", {"w": (3, 8, 6)}, ROWS, i32(9), i32(9), i32(9),
       w=stacked(1, batch=(0,)))  # fmt: skip
def _(p, x, senders, receivers, kinds):
    messages = jnp.einsum("ei,eio->eo", x[senders], p["w"][kinds])
    return jax.ops.segment_sum(messages, receivers, 5)


@idiom("attention along edges", {"w": (8, 6), "a": (12, 1)}, ROWS, f32(5, 5), w=(0,), a=(0,))
def _(p, x, graph):
    h = x @ p["w"]
    pairs = jnp.concatenate([jnp.repeat(h, 5, 0), jnp.tile(h, (5, 1))], -1)
    scores = jax.nn.leaky_relu(pairs @ p["a"]).reshape(5, 5)
    return jax.nn.softmax(jnp.where(graph > 0, scores, -1e9)) @ h


@idiom("powers of a graph, in a loop", {"w": (3, 8, 6)}, ROWS, f32(5, 5), w=stacked(1, batch=(0,)))
def _(p, x, graph):
    total = 0
    for k in range(3):
        total, x = total + x @ p["w"][k], graph @ x
    return total


@idiom("a learned graph", {"graph": (7, 7), "w": (8, 6)}, NODES, graph=(1,), w=(0,))
def _(p, x):
    return jax.nn.softmax(p["graph"]) @ (x @ p["w"])


@idiom("a learned graph of embeddings", {"e": (7, 4), "f": (7, 4), "w": (8, 6)}, NODES, w=(0,))
def _(p, x):
    return jax.nn.softmax(jax.nn.relu(p["e"] @ p["f"].T)) @ (x @ p["w"])


@idiom("weights of the edges of an argument", {"m": (7, 7), "w": (8, 6)}, NODES, f32(7, 7), w=(0,))
def _(p, x, graph):
    return (graph * p["m"]) @ (x @ p["w"])


@idiom("learned splines", {"c": (8, 5, 6)}, ROWS, c=(0, 1))
def _(p, x):
    basis = jnp.exp(-((x[..., None] - jnp.linspace(-1, 1, 5)) ** 2))
    return jnp.einsum("bik,iko->bo", basis, p["c"])


@idiom("learned steps", {"c": (8, 4, 6)}, ROWS, c=(0, 1))
def _(p, x):
    grid, x = jnp.linspace(-1, 1, 5), x[..., None]
    return jnp.einsum("bik,iko->bo", ((x >= grid[:-1]) & (x < grid[1:])).astype(float), p["c"])


@idiom("a loop that halts by what it computes", {"w": (8, 8), "halt": (8, 1)}, ROWS,
       w=(0,), halt=(0,))  # fmt: skip
def _(p, x):
    def step(state):
        h, halted = state
        return jnp.tanh(h @ p["w"]), halted + jax.nn.sigmoid(h @ p["halt"])

    return lax.while_loop(lambda s: jnp.all(s[1] < 1), step, (x, jnp.zeros((5, 1))))[0]


@idiom("weights that are written as the input is read", dict.fromkeys("qkv", (8, 6)), f32(7, 8),
       q=(0,), k=(0,), v=(0,))  # fmt: skip
def _(p, x):
    def step(memory, x):
        q, k, v = (x @ p[name] for name in "qkv")
        memory = memory + jnp.outer(v - memory @ k, k)
        return memory, memory @ q

    return lax.scan(step, jnp.zeros((6, 6)), x)[1]


@idiom("weights that learn as the input is read",
       {"start": (6, 6), **dict.fromkeys("qkv", (8, 6))}, f32(7, 8),
       start=(0,), q=(0,), k=(0,), v=(0,))  # fmt: skip
def _(p, x):
    def step(w, x):
        q, k, v = (x @ p[name] for name in "qkv")
        w = w - 0.1 * jax.grad(lambda w: ((k @ w - v) ** 2).sum())(w)
        return w, q @ w

    return lax.scan(step, p["start"], x)[1]


@idiom(
    "a diagonal recurrence", {"b": (8, 6), "c": (6, 3), "poles": (6,)}, f32(9, 8), b=(0,), c=(0,)
)
def _(p, x):
    decay = jnp.broadcast_to(jnp.exp(-jnp.exp(p["poles"])), (9, 6))
    combine = lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1])  # noqa: E731
    return lax.associative_scan(combine, (decay, x @ p["b"]))[1] @ p["c"]


@idiom("a state space that its input selects",
       {"b": (8, 4), "c": (8, 4), "dt": (8, 8), "poles": (8, 4)}, f32(9, 8),
       b=(0,), c=(0,), dt=(0,))  # fmt: skip
def _(p, x):
    def step(h, inputs):
        x, b, c, dt = inputs
        h = h * jnp.exp(-dt[:, None] * jnp.exp(p["poles"])) + (dt * x)[:, None] * b
        return h, (h * c).sum(-1)

    inputs = (x, x @ p["b"], x @ p["c"], jax.nn.softplus(x @ p["dt"]))
    return lax.scan(step, jnp.zeros((8, 4)), inputs)[1]


@idiom("a long filter that a network gives", {"f": (4, 8), "g": (8, 6)}, f32(2, 6, 20),
       f=(0,), g=(0,))  # fmt: skip
def _(p, u):
    times = jnp.stack([jnp.linspace(0, 1, 20) ** k for k in range(4)], 1)
    kernel = (jnp.sin(times @ p["f"]) @ p["g"]).T
    return jnp.fft.irfft(jnp.fft.rfft(u, n=40) * jnp.fft.rfft(kernel, n=40), n=40)[..., :20]


@idiom("a field of sines on a grid", {"a": (2, 8), "b": (8, 8), "c": (8, 3)},
       a=(0,), b=(0,), c=(0,))  # fmt: skip
def _(p):
    grid = jnp.stack(jnp.meshgrid(*[jnp.linspace(0, 1, 4)] * 2), -1)
    return jnp.sin(30 * jnp.sin(30 * grid @ p["a"]) @ p["b"]) @ p["c"]


@idiom("an operator by branch and trunk", {"branch": (8, 6), "trunk": (2, 6)}, ROWS, f32(9, 2),
       branch=(0,), trunk=(0,))  # fmt: skip
def _(p, u, points):
    return jnp.einsum("bp,qp->bq", u @ p["branch"], jnp.tanh(points @ p["trunk"]))


@idiom("an operator whose trunk closes over its points", {"branch": (8, 6), "trunk": (2, 6)}, ROWS,
       branch=(0,), trunk=(0,))  # fmt: skip
def _(p, u):
    return (u @ p["branch"]) @ jnp.tanh(jnp.asarray(normal(9, 2)) @ p["trunk"]).T


@idiom("values of actions by one-hot", {"w": (8, 6), "v": (6, 4)}, ROWS, INDICES, w=(0,), v=(0,))
def _(p, x, actions):
    return ((jnp.tanh(x @ p["w"]) @ p["v"]) * jax.nn.one_hot(actions, 4)).sum(-1)


@idiom("values of actions by an index", {"w": (8, 6), "v": (6, 4)}, ROWS, INDICES, w=(0,), v=(0,))
def _(p, x, actions):
    return (jnp.tanh(x @ p["w"]) @ p["v"])[jnp.arange(5), actions]


@idiom("a callback between layers", {"w": (8, 6), "v": (6, 2)}, ROWS, w=(0,), v=(0,))
def _(p, x):
    shape = jax.ShapeDtypeStruct((5, 6), jnp.float32)
    return jax.pure_callback(np.tanh, shape, x @ p["w"]) @ p["v"]


@idiom("attention of heads with wide values",
       {**dict.fromkeys("qk", (8, 2, 4)), "v": (8, 2, 16), "o": (2, 16, 2)},
       f32(2, 50, 8), q=(0,), k=(0,), v=(0,))  # fmt: skip
def _(p, x):
    # The product of three takes `o` in two steps, since that is the shortest way.
    q, k, v = (jnp.einsum("bni,ihd->bnhd", x, p[name]) for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
    return jnp.einsum("bhqk,bkhd,hdo->bqo", weights, v, p["o"])


@idiom("powers of a graph, product of three", {"w": (3, 8, 6)}, ROWS, f32(3, 5, 5))
def _(p, x, powers):
    # The shortest way sums over inputs first and over powers later, in a product of its own.
    return jnp.einsum("knm,mi,kio->no", powers, x, p["w"])
