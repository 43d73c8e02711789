"""Penalties, noise from keys, and products with constants."""

import jax
import jax.numpy as jnp
from jax import lax

from tests.abstract import f32, i32
from tests.trace_idioms_registry import INDICES, MLP, ROWS, idiom, mlp, normal

X, Y = jnp.asarray(normal(16, 4)), jnp.ones((16, 3))
KEY, RAW_KEY = jax.random.key(0), jax.random.PRNGKey(0)
LAYERS = {"a": (0,), "out": (0,)}
BAYES = {"mean": (8, 4), "spread": (8, 4)}


@idiom("penalties beside a layer", MLP, f32(16, 4), **LAYERS)
def _(p, x):
    with_constant, with_data = p["a"] @ jnp.ones((8, 8)), p["a"].T @ X[:4]
    return jnp.mean(mlp(p, x)) + jnp.sum(with_constant**2) + jnp.sum(with_data**2)


@idiom("a penalty that wants columns orthogonal", MLP, f32(16, 4), **LAYERS)
def _(p, x):
    return jnp.mean(mlp(p, x)) + jnp.sum((p["a"] @ p["a"].T - jnp.eye(4)) ** 2)


@idiom("a smoothness penalty by a difference operator", MLP, f32(16, 4), **LAYERS)
def _(p, x):
    difference = jnp.eye(8, 7) - jnp.eye(8, 7, -1)
    return jnp.mean(mlp(p, x)) + jnp.sum((p["a"] @ difference) ** 2)


@idiom("a spectral norm by power iteration", MLP, f32(16, 4), **LAYERS)
def _(p, x):
    u, v = jnp.ones(4), jnp.ones(8)
    for _ in range(2):
        v = p["a"].T @ u / jnp.linalg.norm(p["a"].T @ u)
        u = p["a"] @ v / jnp.linalg.norm(p["a"] @ v)
    sigma = lax.stop_gradient(u) @ p["a"] @ lax.stop_gradient(v)
    return mlp({**p, "a": p["a"] / sigma}, x)


@idiom("Bayes by backprop", BAYES, ROWS, KEY, mean=(0,))
def _(p, x, key):
    return x @ (p["mean"] + jax.nn.softplus(p["spread"]) * jax.random.normal(key, (8, 4)))


@idiom("Bayes by backprop with a raw key", BAYES, ROWS, RAW_KEY, mean=(0,))
def _(p, x, key):
    return x @ (p["mean"] + jax.nn.softplus(p["spread"]) * jax.random.normal(key, (8, 4)))


@idiom("Bayes by backprop, a sample for each example", BAYES, ROWS, KEY, mean=(0,))
def _(p, x, key):
    def sample(x, key):
        noise = jax.random.normal(key, (8, 4))
        return x @ (p["mean"] + jax.nn.softplus(p["spread"]) * noise)

    return jax.vmap(sample)(x, jax.random.split(key, 5))


@idiom("noise on a kernel from a split and folded key", {"w": (8, 4)}, ROWS, RAW_KEY, w=(0,))
def _(p, x, key):
    key = jax.random.split(jax.random.fold_in(key, 3))[1]
    return x @ (p["w"] + jax.random.normal(key, (8, 4)))


@idiom("noise on a kernel in a scan over keys", {"w": (8, 8)}, ROWS, KEY, w=(0,))
def _(p, x, key):
    def step(x, key):
        return jnp.tanh(x @ (p["w"] + jax.random.normal(key, (8, 8)))), None

    return lax.scan(step, x, jax.random.split(key, 3))[0]


@idiom("dropped connections", {"w": (8, 4)}, ROWS, KEY, w=(0,))
def _(p, x, key):
    return x @ jnp.where(jax.random.bernoulli(key, 0.5, (8, 4)), p["w"], 0.0)


@idiom("dropped connections, other ones for each example", {"w": (8, 4)}, ROWS, KEY, w=(0,))
def _(p, x, key):
    kept = jax.random.bernoulli(key, 0.5, (5, 8, 4))
    return jnp.einsum("bi,bio->bo", x, p["w"] * kept)


@idiom("Flipout", {"mean": (8, 4), "spread": (8, 4)}, ROWS, KEY, mean=(0,), spread=(0,))
def _(p, x, key):
    left, right = (jax.random.rademacher(key, shape, float) for shape in ((5, 8), (5, 4)))
    return x @ p["mean"] + (x * left) @ p["spread"] * right


@idiom("a generator of images from noise", MLP, KEY, **LAYERS)
def _(p, key):
    return mlp(p, jax.random.normal(key, (16, 4)))


@idiom("a variational autoencoder", {"mean": (8, 3), "spread": (8, 3), "decoder": (3, 8)},
       ROWS, KEY, mean=(0,), spread=(0,), decoder=(0,))  # fmt: skip
def _(p, x, key):
    z = x @ p["mean"] + jax.random.normal(key, (5, 3)) * jnp.exp(x @ p["spread"])
    return z @ p["decoder"]


@idiom("sinusoids of positions", {"w": (8, 8)}, ROWS, w=(0,))
def _(p, x):
    return x + jnp.sin(jnp.arange(5.0)[:, None] * jnp.arange(8.0)) @ p["w"]


@idiom("an encoding of time", {"w": (8, 6), "v": (6, 8)}, ROWS, f32(5), w=(0,), v=(0,))
def _(p, x, t):
    angles = t[:, None] * jnp.arange(4.0)
    encoding = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
    return x + jnp.tanh(encoding @ p["w"]) @ p["v"]


@idiom("random features, closed over", {"w": (6, 3)}, ROWS, w=(0,))
def _(p, x):
    return jnp.cos(x @ jnp.asarray(normal(8, 6))) @ p["w"]


@idiom("learned frequencies", {"f": (8, 6), "w": (12, 3)}, ROWS, f=(0,), w=(0,))
def _(p, x):
    angles = x @ p["f"]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1) @ p["w"]


@idiom("a kernel machine on a closed-over Gram matrix", {"alpha": (16, 3)}, alpha=(0,))
def _(p):
    gram = jnp.exp(-((X[:, None] - X) ** 2).sum(-1))
    return jnp.mean((gram @ p["alpha"] - Y) ** 2)


@idiom("a frozen map before the kernel's inputs", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    return x @ (jnp.asarray(normal(8, 8)) @ p["w"])


@idiom("a frozen map after the kernel's outputs", {"w": (8, 6)}, ROWS)
def _(p, x):
    return x @ (p["w"] @ jnp.asarray(normal(6, 6)))


@idiom("low rank with a frozen first factor", {"w": (8, 6), "b": (2, 6)}, ROWS, w=(0,), b=(0,))
def _(p, x):
    return x @ (p["w"] + jnp.asarray(normal(8, 2)) @ p["b"])


@idiom("low rank with a frozen second factor", {"w": (8, 6), "a": (8, 2)}, ROWS, w=(0,), a=(0,))
def _(p, x):
    return x @ (p["w"] + p["a"] @ jnp.asarray(normal(2, 6)))


@idiom("radial basis functions", {"centers": (7, 8), "w": (7, 3)}, ROWS, w=(0,))
def _(p, x):
    return jnp.exp(-((x[:, None] - p["centers"]) ** 2).sum(-1)) @ p["w"]


@idiom(
    "radial basis functions by a product",
    {"centers": (7, 8), "w": (7, 3)},
    ROWS,
    w=(0,),
    centers=(1,),
)
def _(p, x):
    squares = (x**2).sum(-1)[:, None] + (p["centers"] ** 2).sum(-1)
    return jnp.exp(2 * x @ p["centers"].T - squares) @ p["w"]


@idiom("a cross-entropy by a one-hot label", MLP, f32(5, 4), INDICES, **LAYERS)
def _(p, x, y):
    return -(jax.nn.one_hot(y, 3) * jax.nn.log_softmax(mlp(p, x))).sum()


@idiom("a cross-entropy by a one-hot label, contracted", MLP, f32(5, 4), INDICES, **LAYERS)
def _(p, x, y):
    return -jnp.einsum("bk,bk->", jax.nn.one_hot(y, 3), jax.nn.log_softmax(mlp(p, x)))


@idiom("class means of embeddings", {"w": (8, 6)}, ROWS, INDICES, w=(0,))
def _(p, x, y):
    h = jnp.tanh(x @ p["w"])
    one_hot = jax.nn.one_hot(y, 3)
    means = one_hot.T @ h / one_hot.sum(0)[:, None]
    return h @ means.T


@idiom("all features but one", {"w": (8, 6)}, ROWS, i32(), w=(0,))
def _(p, x, i):
    return jnp.where(jnp.arange(8) == i, 0.0, x) @ p["w"]


@idiom("all nodes but itself", {"w": (5, 6)}, f32(5, 5), w=(0,))
def _(p, graph):
    return jnp.where(jnp.eye(5) == 1, 0.0, graph) @ p["w"]


@idiom("a one-hot feature beside others", {"w": (11, 6)}, ROWS, INDICES, w=(0,))
def _(p, x, i):
    return jnp.concatenate([x, jax.nn.one_hot(i, 3)], -1) @ p["w"]


@idiom("a mean over closed-over weights of the output", {"w": (8, 6)}, ROWS, w=(0,))
def _(p, x):
    return (x @ p["w"]) @ (jnp.ones(6) / 6)


@idiom("a mixture of tokens by a fixed mean", {"w": (8, 6)}, f32(2, 5, 8), w=(0,))
def _(p, x):
    return jnp.einsum("tu,bui,io->bto", jnp.ones((5, 5)) / 5, x, p["w"])


@idiom(
    "a filter in the frequency domain by a closed-over basis",
    {"f": (5, 8), "w": (8, 3)},
    ROWS,
    w=(0,),
)
def _(p, x):
    basis = jnp.asarray(normal(5, 5))
    return (basis.T @ (p["f"] * (basis @ x))) @ p["w"]
