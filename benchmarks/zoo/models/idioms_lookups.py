"""Idioms of public code in plain JAX: tables whose rows are looked up, factors, tied weights."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.zoo.case import ALONE
from benchmarks.zoo.oracles.stated import Idioms

PACKAGES = ["jax"]

X, IDS, TOKENS = jnp.ones((8, 4)), jnp.arange(8) % 5, jnp.arange(14).reshape(2, 7) % 5
TRIPLE = (IDS, IDS % 3, IDS)
IN_OUT, ROWS, BIAS = "stored (in, out), applied as x @ w", "rows are looked up", "a bias"
SAMPLED = "v @ w; no gradient goes through the sample, where it is h @ w.T"
PAIR = {"inside": ((5, 6), (), ROWS), "outside": ((5, 6), (), ROWS)}
E = {"e": ((5, 6), (), ROWS)}

idiom = Idioms()


@idiom("word2vec", PAIR, IDS, IDS, jnp.zeros((8, 3), "i4"))
def word2vec(p, center, context, negatives):
    """Skip-gram with negative samples: two tables, and dot products of their rows."""
    one = p["inside"][center]
    positive = jnp.sum(one * p["outside"][context], -1)
    negative = jnp.einsum("bd,bnd->bn", one, p["outside"][negatives])
    return -jax.nn.log_sigmoid(positive).mean() - jax.nn.log_sigmoid(-negative).mean()


@idiom("word2vec by one-hot products", PAIR, IDS, IDS)
def word2vec_one_hot(p, center, context):
    """The same rows by one-hot products."""
    one = jax.nn.one_hot(center, 5) @ p["inside"]
    return jnp.sum(one * (jax.nn.one_hot(context, 5) @ p["outside"]), -1)


@idiom(
    "word2vec, full softmax",
    PAIR | {"outside": ((5, 6), (1,), "the classes of a row: stored (out, in)")},
    IDS,
)
def word2vec_softmax(p, center):
    """The whole vocabulary as classes: `outside` is a layer on the looked-up row."""
    return jax.nn.log_softmax(p["inside"][center] @ p["outside"].T)


@idiom(
    "GloVe",
    {"rows": ((5, 6), (), ROWS), "columns": ((5, 6), (), ROWS), "bias": ((5,), (), BIAS)},
    *(IDS, IDS, jnp.ones(8)),
)
def glove(p, rows, columns, counts):
    """Rows, columns and their biases against the logarithm of a count."""
    product = jnp.sum(p["rows"][rows] * jnp.take(p["columns"], columns, axis=0), -1)
    return (product + p["bias"][rows] - jnp.log(counts)) ** 2


FACTORS = "one factor of a matrix that is compared with data"


@idiom(
    "matrix factorization, whole",
    {"users": ((8, 3), (), FACTORS), "items": ((4, 3), (), FACTORS)},
    X,
)
def factors_whole(p, ratings):
    """All users by all items, compared with the data."""
    return jnp.mean((ratings - p["users"] @ p["items"].T) ** 2)


@idiom(
    "matrix factorization by rows",
    {"users": ((5, 3), (), ROWS), "items": ((5, 3), (), ROWS)},
    IDS,
    IDS,
)
def factors_rows(p, users, items):
    """Single pairs, vmapped."""
    return jax.vmap(lambda u, i: p["users"][u] @ p["items"][i])(users, items)


@idiom("two towers", {"users": ((5, 6), (), ROWS), "w": ((4, 6), (0,), IN_OUT)}, IDS, X)
def two_towers(p, users, x):
    """A table of users against a layer on the items' features."""
    return p["users"][users] @ (x @ p["w"]).T


@idiom("factorization machine", {"v": ((4, 3), (0,), IN_OUT)}, X)
def machine(p, x):
    """Pairs of inputs weighted by the factors of each."""
    return 0.5 * jnp.sum((x @ p["v"]) ** 2 - x**2 @ p["v"] ** 2, -1)


@idiom("factorization machine on categories", {"v": ((5, 3), (), ROWS)}, TOKENS)
def machine_ids(p, ids):
    """The same on categories, whose factors are looked up."""
    rows = p["v"][ids]
    return 0.5 * jnp.sum(rows.sum(1) ** 2 - (rows**2).sum(1), -1)


@idiom("DeepFM", {"tables": ((3, 5, 6), (), ROWS), "w": ((22, 9), (0,), IN_OUT)}, IDS, X)
def deepfm(p, ids, x):
    """One table per field, sliced out of a stack, then a layer."""
    fields = [p["tables"][i][ids] for i in range(3)]
    return jax.nn.relu(jnp.concatenate([*fields, x], -1) @ p["w"])


@idiom(
    "tied autoencoder",
    {
        "w": ((4, 6), (), "x @ w and h @ w.T: two uses that disagree"),
        "hidden": ((6,), (), BIAS),
        "visible": ((4,), (), BIAS),
    },
    X,
)
def tied_autoencoder(p, x):
    """The decoder is the transposed encoder."""
    return jax.nn.sigmoid(x @ p["w"] + p["hidden"]) @ p["w"].T + p["visible"]


@idiom(
    "restricted Boltzmann machine",
    {"w": ((4, 6), (0,), SAMPLED), "hidden": ((6,), (), BIAS), "visible": ((4,), (), BIAS)},
    *(X, jax.random.key_data(jax.random.key(0))),
)
def boltzmann(p, x, key):
    """Contrastive divergence: the energy of the data and of a sample."""
    one, two = jax.random.split(jax.random.wrap_key_data(key))
    free = lambda v: -jnp.sum(jax.nn.softplus(v @ p["w"] + p["hidden"]), -1)  # noqa: E731
    energy = lambda v: free(v) - v @ p["visible"]  # noqa: E731
    hidden = jax.random.bernoulli(one, jax.nn.sigmoid(x @ p["w"] + p["hidden"]))
    sample = jax.random.bernoulli(two, jax.nn.sigmoid(hidden @ p["w"].T + p["visible"]))
    return jnp.mean(energy(x) - energy(lax.stop_gradient(sample.astype(x.dtype))))


@idiom("tied head", {"table": ((5, 6), (), ROWS), "w": ((6, 6), (0,), IN_OUT)}, TOKENS)
def tied_head(p, tokens):
    """A language model whose table is its head, by `einsum`."""
    x = jax.nn.gelu(p["table"][tokens] @ p["w"])
    return jnp.einsum("btd,vd->btv", x, p["table"])


@idiom("bag of rows", {"table": ((5, 6), (), ROWS), "w": ((6, 3), (0,), IN_OUT)}, TOKENS)
def bag(p, tokens):
    """The mean of rows, then a layer."""
    return p["table"][tokens].mean(1) @ p["w"]


@idiom(
    "bag by segments",
    {"table": ((5, 6), (), ROWS), "w": ((6, 3), (0,), IN_OUT)},
    IDS,
)
def segments(p, tokens):
    """Rows summed over the segments of a flat list."""
    rows = jnp.take(p["table"], tokens, axis=0, mode="clip")
    return jax.ops.segment_sum(rows, jnp.arange(8) // 2, 4) @ p["w"]


@idiom("counts of words", {"table": ((5, 6), (0,), IN_OUT), "w": ((6, 3), (0,), IN_OUT)}, TOKENS)
def counts(p, tokens):
    """Counts times the table: a layer over the vocabulary."""
    counts = jax.vmap(lambda row: jnp.zeros(5).at[row].add(1.0))(tokens)
    return jnp.tanh(counts @ p["table"]) @ p["w"]


@idiom("hash embeddings", {"weights": ((5, 2), (), ROWS), "table": ((4, 6), (), ROWS)}, TOKENS)
def hashed(p, tokens):
    """Two rows of one table, weighted by a row of another."""
    rows = jnp.stack([p["table"][(tokens * a + 1) % 4] for a in (3, 7)], -2)
    return jnp.einsum("btk,btkd->btd", p["weights"][tokens], rows)


BILINEAR = "a chosen form of two rows", ((), (1,), (2,))


@idiom("RESCAL", E | {"r": ((3, 6, 6), (1, 2), *BILINEAR)}, *TRIPLE)
def rescal(p, head, relation, tail):
    """A matrix of each relation between the rows of two entities."""
    return jnp.einsum("bi,bij,bj->b", p["e"][head], p["r"][relation], p["e"][tail])


@idiom("RESCAL against all", E | {"r": ((3, 6, 6), (1,), "the chosen layer", ALONE)}, IDS, IDS % 3)
def rescal_all(p, head, relation):
    """The chosen matrix is a layer, and all entities are its tied head."""
    middle = jnp.einsum("bi,bij->bj", p["e"][head], p["r"][relation])
    return middle @ p["e"].T


@idiom("DistMult and TransE", E | {"r": ((3, 6), (), ROWS)}, *TRIPLE)
def distmult(p, head, relation, tail):
    """Elementwise products and sums of rows."""
    h, r, t = p["e"][head], p["r"][relation], p["e"][tail]
    return jnp.sum(h * r * t, -1) - jnp.abs(h + r - t).sum(-1)


@idiom("TransR", E | {"m": ((3, 6, 4), (1,), "each relation's layer")}, *TRIPLE)
def transr(p, head, relation, tail):
    """Entities are projected by the matrix of the relation."""
    m = p["m"][relation]
    project = lambda ids: jnp.einsum("bi,bij->bj", p["e"][ids], m)  # noqa: E731
    return jnp.sum((project(head) - project(tail)) ** 2, -1)


idiom(
    "tied head on closed-over tokens", {"table": ((5, 6), (), ROWS), "w": ((6, 6), (0,), IN_OUT)}
)(lambda p: tied_head(p, TOKENS))
idiom(
    "two towers of closed-over users", {"users": ((5, 6), (), ROWS), "w": ((4, 6), (0,), IN_OUT)}
)(lambda p: two_towers(p, IDS, X))


entries = idiom.entries
