"""Idioms of public code in plain JAX: queries, slots, memories, codebooks, prototypes."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.zoo.case import ALONE
from benchmarks.zoo.oracles.stated import Idioms

PACKAGES = ["jax"]

X, SEQUENCE, TOKENS = jnp.ones((8, 4)), jnp.ones((2, 7, 6)), jnp.arange(14).reshape(2, 7) % 5
KEY = jax.random.key(0)
IN_OUT, ROWS = "stored (in, out), applied as x @ w", "rows are looked up"
KV = {"k": ((6, 8), (0,), IN_OUT), "v": ((6, 8), (0,), IN_OUT)}
QKV = KV | {"q": ((6, 8), (0,), IN_OUT)}
CODES = {"encode": ((4, 6), (0,), IN_OUT), "decode": ((6, 4), (0,), IN_OUT)}

idiom = Idioms()


@idiom(
    "Perceiver, queries as they are",
    KV | {"queries": ((3, 8), (1,), "products with keys: stored (out, in)", ALONE)},
    SEQUENCE,
)
def queries(p, x):
    """Learned queries attend to the inputs."""
    scores = jnp.einsum("qd,btd->bqt", p["queries"], x @ p["k"])
    return jax.nn.softmax(scores) @ (x @ p["v"])


@idiom(
    "DETR, queries through a layer",
    KV
    | {
        "queries": ((3, 6), (), "learned inputs of a layer"),
        "q": ((6, 8), (0,), "a layer on learned inputs", ALONE),
    },
    SEQUENCE,
)
def queries_projected(p, x):
    """The queries go through their own layer first."""
    q = jnp.broadcast_to(p["queries"], (x.shape[0], *p["queries"].shape)) @ p["q"]
    return jax.nn.softmax(q @ (x @ p["k"]).mT) @ (x @ p["v"])


@idiom("DETR, two blocks", QKV | {"queries": ((3, 6), (), "learned inputs")}, SEQUENCE)
def queries_updated(p, x):
    """After the first block the queries are activations, and `q` is a layer like any other."""
    queries = jnp.broadcast_to(p["queries"], (x.shape[0], 3, 6))
    for _ in range(2):
        scores = (queries @ p["q"]) @ (x @ p["k"]).mT
        queries = queries + (jax.nn.softmax(scores) @ (x @ p["v"]))[..., :6]
    return queries


@idiom("class token", QKV | {"token": ((1, 6), (), "a learned input")}, SEQUENCE)
def class_token(p, x):
    """A learned token in front of a sequence."""
    token = jnp.broadcast_to(p["token"], (x.shape[0], 1, 6))
    x = jnp.concatenate([token, x], 1)
    return (jax.nn.softmax((x @ p["q"]) @ (x @ p["k"]).mT) @ (x @ p["v"]))[:, 0]


@idiom(
    "slot attention",
    dict.fromkeys("qkv", ((6, 6), (0,), IN_OUT)) | {"slots": ((3, 6), (), "a first state")},
    SEQUENCE,
)
def slots(p, x):
    """Learned first slots, updated by a scan."""

    def step(slots, _):
        weights = jax.nn.softmax(jnp.einsum("bsd,btd->bst", slots @ p["q"], x @ p["k"]), 1)
        return jnp.tanh(slots + weights @ (x @ p["v"])), None

    start = jnp.broadcast_to(p["slots"], (x.shape[0], *p["slots"].shape))
    return lax.scan(step, start, None, length=3)[0]


@idiom(
    "slot attention with noise",
    dict.fromkeys("qkv", ((6, 6), (0,), IN_OUT))
    | {"mean": ((1, 6), (), "a first state"), "scale": ((1, 6), (), "its spread")},
    *(SEQUENCE, jax.random.key_data(KEY)),
)
def slots_sampled(p, x, key):
    """First slots drawn around a learned mean."""
    noise = jax.random.normal(jax.random.wrap_key_data(key), (x.shape[0], 3, 6))
    slots = p["mean"] + jnp.exp(p["scale"]) * noise
    for _ in range(2):
        weights = jax.nn.softmax((slots @ p["q"]) @ (x @ p["k"]).mT, 1)
        slots = slots + weights @ (x @ p["v"])
    return slots


@idiom(
    "persistent memory",
    QKV | dict.fromkeys(("keys", "values"), ((3, 8), (), "learned rows beside those of the data")),
    SEQUENCE,
)
def memory(p, x):
    """Learned keys and values beside those of the sequence."""
    more = lambda m: jnp.broadcast_to(m, (x.shape[0], *m.shape))  # noqa: E731
    k = jnp.concatenate([more(p["keys"]), x @ p["k"]], 1)
    v = jnp.concatenate([more(p["values"]), x @ p["v"]], 1)
    return jax.nn.softmax((x @ p["q"]) @ k.mT) @ v


@idiom(
    "key-value memory",
    {
        "keys": ((9, 6), (1,), "x @ keys.T: stored (out, in)"),
        "values": ((9, 6), (0,), "weights @ values: stored (in, out)"),
    },
    SEQUENCE,
)
def key_value(p, x):
    """A perceptron in other words: slots of a memory."""
    return jax.nn.softmax(x @ p["keys"].T) @ p["values"]


@idiom(
    "external attention over an input's memory",
    QKV | {"start": ((3, 6), (), "a first memory")},
    SEQUENCE,
)
def written_memory(p, x):
    """A memory that each step reads and writes: a neural Turing machine."""

    def step(memory, x):
        address = jax.nn.softmax((x @ p["q"]) @ (memory @ p["k"]).T)
        read = address @ (memory @ p["v"])
        return memory + address[:, None] * x, read

    return jax.vmap(lambda x: lax.scan(step, p["start"], x)[1])(x)


@idiom(
    "prompt tuning",
    {"prompt": ((3, 6), (), "learned inputs"), "w": ((6, 5), (0,), IN_OUT)},
    TOKENS,
)
def prompt(p, tokens):
    """Learned tokens in front of a frozen table's rows."""
    rows = jnp.ones((5, 6))[tokens]
    front = jnp.broadcast_to(p["prompt"], (tokens.shape[0], *p["prompt"].shape))
    return jax.nn.relu(jnp.concatenate([front, rows], 1) @ p["w"])


@idiom("VQ-VAE", CODES | {"book": ((5, 6), (), ROWS)}, X)
def nearest(p, x):
    """Distances to a codebook, the nearest row, a straight-through gradient."""
    z, book = x @ p["encode"], p["book"]
    distance = (z**2).sum(-1, keepdims=True) - 2 * z @ book.T + (book**2).sum(-1)
    code = book[distance.argmin(-1)]
    commitment = jnp.mean((lax.stop_gradient(code) - z) ** 2)
    commitment += jnp.mean((code - lax.stop_gradient(z)) ** 2)
    return jnp.mean(((z + lax.stop_gradient(code - z)) @ p["decode"] - x) ** 2) + commitment


@idiom("VQ-VAE by one-hot", CODES | {"book": ((6, 5), (), "columns are looked up")}, X)
def nearest_one_hot(p, x):
    """Sonnet's spelling: the codebook stored (d, codes), chosen by a one-hot product."""
    z, book = x @ p["encode"], p["book"]
    distance = (z**2).sum(1, keepdims=True) - 2 * z @ book + (book**2).sum(0, keepdims=True)
    code = jax.nn.one_hot(jnp.argmax(-distance, 1), 5) @ book.T
    return jnp.mean(((z + lax.stop_gradient(code - z)) @ p["decode"]) ** 2) + jnp.mean(
        (code - lax.stop_gradient(z)) ** 2
    )


@idiom(
    "Gumbel softmax codes",
    {
        "encode": ((4, 5), (0,), IN_OUT),
        "book": ((5, 6), (0,), "weights @ book"),
        "decode": ((6, 4), (0,), IN_OUT),
    },
    *(X, KEY),
)
def gumbel(p, x, key):
    """Weights on the rows of a codebook."""
    logits = x @ p["encode"]
    codes = jax.nn.softmax(logits + jax.random.gumbel(key, logits.shape))
    return (codes @ p["book"]) @ p["decode"]


@idiom(
    "Gumbel softmax codes, straight through",
    {
        "encode": ((4, 5), (0,), IN_OUT),
        "book": ((5, 6), (0,), "its rows are chosen softly in the gradient", ALONE),
        "decode": ((6, 4), (0,), IN_OUT),
    },
    *(X, KEY),
)
def gumbel_hard(p, x, key):
    """One row forward, weights on all backward."""
    logits = x @ p["encode"]
    soft = jax.nn.softmax(logits + jax.random.gumbel(key, logits.shape))
    hard = jax.nn.one_hot(soft.argmax(-1), 5)
    return ((hard + soft - lax.stop_gradient(soft)) @ p["book"]) @ p["decode"]


@idiom(
    "residual quantization",
    {"encode": ((4, 6), (0,), IN_OUT), "books": ((3, 5, 6), (), ROWS)},
    X,
)
def residual_codes(p, x):
    """A scan over a stack of codebooks."""

    def step(left, book):
        code = book[jnp.sum((left[:, None] - book) ** 2, -1).argmin(-1)]
        return left - code, code

    return lax.scan(step, x @ p["encode"], p["books"])[1].sum(0)


@idiom(
    "prototypes",
    {"w": ((4, 6), (0,), IN_OUT), "prototypes": ((5, 6), (), "compared with, not summed")},
    X,
)
def prototypes(p, x):
    """Distances to learned prototypes are the logits."""
    return -jnp.sum(((x @ p["w"])[:, None] - p["prototypes"]) ** 2, -1)


@idiom("cosine head", {"classes": ((4, 6), (0,), IN_OUT)}, X)
def cosine_head(p, x):
    """Features and classes are normalized before the product."""
    unit = lambda v, axis: v / jnp.linalg.norm(v, axis=axis, keepdims=True)  # noqa: E731
    return 30 * unit(x, -1) @ unit(p["classes"], 0)


entries = idiom.entries
