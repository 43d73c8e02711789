"""Idioms of public code in plain JAX: tables of positions and what attention does with them."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.zoo.oracles.stated import Idioms

PACKAGES = ["jax"]

SEQUENCE, WINDOW = jnp.ones((2, 7, 6)), jnp.ones((2, 9, 6))
IN_OUT, TABLE = "stored (in, out), applied as x @ w", "a table of positions"
QKV = dict.fromkeys("qkv", ((6, 6), (0,), IN_OUT))
DISTANCE = np.arange(7)[:, None] - np.arange(7)[None]

idiom = Idioms()


def heads(x, n=2):
    """(batch, time, width) to (batch, heads, time, head width)."""
    return x.reshape(*x.shape[:2], n, -1).swapaxes(1, 2)


def attend(p, x, bias):
    """Attention with two heads and a bias of the scores."""
    q, k, v = (heads(x @ p[n]) for n in "qkv")
    y = jax.nn.softmax(q @ k.mT / q.shape[-1] ** 0.5 + bias) @ v
    return y.swapaxes(1, 2).reshape(x.shape)


def window_index(side=3):
    """Swin's index of the relative position of each pair of places in a window."""
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij")).reshape(2, -1)
    relative = grid[:, :, None] - grid[:, None] + side - 1
    return relative[0] * (2 * side - 1) + relative[1]


@idiom("Swin, relative bias", QKV | {"table": ((25, 2), (), TABLE)}, WINDOW)
def swin(p, x):
    """A constant index into a table of all relative positions."""
    bias = p["table"][window_index().reshape(-1)].reshape(9, 9, 2)
    return attend(p, x, jnp.transpose(bias, (2, 0, 1)))


@idiom(
    "Swin, the index as an argument",
    QKV | {"table": ((25, 2), (), TABLE)},
    WINDOW,
    jnp.asarray(window_index()),
)
def swin_argument(p, x, index):
    """The index is a buffer of the model."""
    return attend(p, x, jnp.take(p["table"], index, axis=0).transpose(2, 0, 1))


@idiom(
    "Swin 2, continuous bias",
    QKV | {"w": ((2, 8), (0,), IN_OUT), "u": ((8, 2), (0,), IN_OUT)},
    WINDOW,
)
def swin_continuous(p, x):
    """A perceptron on constant coordinates gives the table."""
    grid = jnp.stack(jnp.meshgrid(jnp.arange(-2.0, 3), jnp.arange(-2.0, 3)), -1).reshape(25, 2)
    table = jax.nn.relu(jnp.sign(grid) * jnp.log1p(jnp.abs(grid)) @ p["w"]) @ p["u"]
    return attend(p, x, table[window_index()].transpose(2, 0, 1))


def t5_bucket(distance, buckets=8):
    """The bucket of a distance, exact when near and logarithmic when far."""
    n = jnp.maximum(-distance, 0)
    far = 4 + (jnp.log(jnp.maximum(n, 1) / 4) / np.log(4.0) * 4).astype(int)
    return jnp.where(n < 4, n, jnp.minimum(far, buckets - 1))


@idiom("T5, buckets", QKV | {"table": ((8, 2), (), TABLE)}, SEQUENCE)
def t5(p, x):
    """Buckets of distances look up a bias per head."""
    return attend(p, x, p["table"][t5_bucket(jnp.asarray(DISTANCE))].transpose(2, 0, 1))


@idiom("T5, buckets by one-hot", QKV | {"table": ((2, 8), (), TABLE)}, SEQUENCE)
def t5_one_hot(p, x):
    """T5X: the table (heads, buckets) times a one-hot."""
    chosen = jax.nn.one_hot(t5_bucket(jnp.asarray(DISTANCE)), 8, axis=0)
    return attend(p, x, jnp.tensordot(p["table"], chosen, 1)[None])


@idiom(
    "Shaw, relative keys and values",
    QKV | dict.fromkeys(("rk", "rv"), ((5, 6), (), TABLE)),
    SEQUENCE,
)
def shaw(p, x):
    """Rows of distances are added to keys and values."""
    index = np.clip(DISTANCE, -2, 2) + 2
    q, k, v = (x @ p[n] for n in "qkv")
    scores = q @ k.mT + jnp.einsum("btd,tsd->bts", q, p["rk"][index])
    weights = jax.nn.softmax(scores)
    return weights @ v + jnp.einsum("bts,tsd->btd", weights, p["rv"][index])


@idiom(
    "Transformer-XL",
    QKV
    | {
        "r": ((6, 6), (0,), "a layer on constant sinusoids"),
        "u": ((6,), (), "a bias"),
        "c": ((6,), (), "a bias"),
    },
    SEQUENCE,
)
def transformer_xl(p, x):
    """Sinusoids of distances go through a layer, scores are shifted."""
    place = np.arange(7)[:, None] / 10 ** np.arange(3)
    sinusoids = jnp.asarray(np.concatenate([np.sin(place), np.cos(place)], -1))
    q, k, v = (x @ p[n] for n in "qkv")
    by_place = jnp.einsum("btd,sd->bts", q + p["c"], sinusoids @ p["r"])
    padded = jnp.pad(by_place, ((0, 0), (0, 0), (1, 0))).reshape(2, 8, 7)[:, 1:]
    return jax.nn.softmax((q + p["u"]) @ k.mT + padded) @ v


@idiom("ALiBi with learned slopes", QKV | {"slopes": ((2, 1, 1), (), "a slope per head")}, SEQUENCE)
def alibi(p, x):
    """Slopes times constant distances."""
    return attend(p, x, -p["slopes"] * np.abs(DISTANCE))


@idiom("learned positions", QKV | {"table": ((10, 6), (), TABLE)}, SEQUENCE)
def absolute(p, x):
    """The first rows of a longer table."""
    return attend(p, x + p["table"][: x.shape[1]], 0.0)


@idiom("learned positions by arange", QKV | {"table": ((10, 6), (), TABLE)}, SEQUENCE)
def absolute_lookup(p, x):
    """The rows of a constant range, taken."""
    return attend(p, x + jnp.take(p["table"], jnp.arange(7), axis=0), 0.0)


@idiom("learned positions, interpolated", QKV | {"table": ((5, 6), (), TABLE)}, SEQUENCE)
def interpolated(p, x):
    """A shorter table is resized to the sequence."""
    return attend(p, x + jax.image.resize(p["table"], (7, 6), "linear"), 0.0)


@idiom(
    "axial positions",
    {
        "rows": ((4, 1, 6), (), TABLE),
        "columns": ((1, 5, 6), (), TABLE),
        "w": ((6, 3), (0,), IN_OUT),
    },
    jnp.ones((2, 4, 5, 6)),
)
def axial(p, x):
    """A table for rows and one for columns."""
    return jax.nn.relu(x + p["rows"] + p["columns"]) @ p["w"]


@idiom(
    "axial positions of SAM",
    QKV | dict.fromkeys(("h", "w"), ((5, 6), (), TABLE)),
    WINDOW,
)
def decomposed(p, x):
    """Queries times rows of relative heights and widths."""
    index = np.arange(3)[:, None] - np.arange(3)[None] + 2
    q, k, v = (x @ p[n] for n in "qkv")
    grid = q.reshape(2, 3, 3, 6)
    by_h = jnp.einsum("bhwc,hkc->bhwk", grid, p["h"][index])
    by_w = jnp.einsum("bhwc,wkc->bhwk", grid, p["w"][index])
    bias = (by_h[..., :, None] + by_w[..., None, :]).reshape(2, 9, 9)
    return jax.nn.softmax(q @ k.mT + bias) @ v


@idiom("LeViT, biases of distances", QKV | {"b": ((2, 9), (), TABLE)}, WINDOW)
def levit(p, x):
    """A bias per head and absolute distance, taken along the second axis."""
    grid = np.stack(np.meshgrid(np.arange(3), np.arange(3), indexing="ij")).reshape(2, -1)
    apart = np.abs(grid[:, :, None] - grid[:, None])
    return attend(p, x, p["b"][:, apart[0] * 3 + apart[1]])


@idiom("rotary positions", QKV, SEQUENCE)
def rotary(p, x):
    """Queries and keys are turned by constant angles."""
    angle = np.arange(7)[:, None] / 10 ** np.arange(3)

    def turn(y):
        a, b = jnp.split(y, 2, -1)
        return jnp.concatenate(
            [a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1
        )

    q, k, v = (x @ p[n] for n in "qkv")
    return jax.nn.softmax(turn(q) @ turn(k).mT) @ v


@idiom("talking heads", QKV | {"mix": ((2, 2), (0,), "a layer over heads")}, SEQUENCE)
def talking(p, x):
    """Scores of heads are mixed."""
    q, k, v = (heads(x @ p[n]) for n in "qkv")
    return jax.nn.softmax(jnp.einsum("bhts,hg->bgts", q @ k.mT, p["mix"])) @ v


@idiom(
    "synthesizer",
    {
        "scores": ((7, 7), (1,), "a layer over time, after a softmax", ((),)),
        "v": ((6, 6), (0,), IN_OUT),
    },
    SEQUENCE,
)
def synthesizer(p, x):
    """Scores that no input makes."""
    return jax.nn.softmax(p["scores"]) @ (x @ p["v"])


@idiom(
    "attention by one packed kernel",
    {
        "qkv": ((6, 3, 2, 3), (0,), "(in, three, heads, width)"),
        "o": ((2, 3, 6), (0, 1), "(heads, width, out)"),
    },
    SEQUENCE,
)
def packed(p, x):
    """Queries, keys and values by one kernel, `einsum` all the way."""
    q, k, v = jnp.einsum("btd,dnhk->nbthk", x, p["qkv"])
    weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k))
    return jnp.einsum("bhts,bshk,hkd->btd", weights, v, p["o"])


@idiom("attention by jax.nn", QKV, SEQUENCE)
def library(p, x):
    """`jax.nn.dot_product_attention`."""
    q, k, v = ((x @ p[n]).reshape(2, 7, 2, 3) for n in "qkv")
    return jax.nn.dot_product_attention(q, k, v, is_causal=True)


entries = idiom.entries
