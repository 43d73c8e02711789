"""What is data: arrays that the function closes over, makes, or is given."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.abstract import f32, i32
from tests.trace_idioms_registry import MLP, ROWS, conv, idiom, mlp, normal

X, Y = jnp.asarray(normal(16, 4)), jnp.ones((16, 3))
LAYERS = {"a": (0,), "out": (0,)}


@idiom("a loss that closes over its batch", MLP, **LAYERS)
def _(p):
    return jnp.mean((mlp(p, X) - Y) ** 2)


@idiom("a closed-over batch beside a scalar argument", MLP, f32(), **LAYERS)
def _(p, scale):
    return scale * jnp.mean((mlp(p, X) - Y) ** 2)


@idiom("a closed-over batch beside a vector argument", MLP, f32(3), **LAYERS)
def _(p, scales):
    return scales.sum() * jnp.mean((mlp(p, X) - Y) ** 2)


@idiom("a closed-over data set from which an argument chooses the batch", MLP, i32(3), **LAYERS)
def _(p, indices):
    return jnp.mean((mlp(p, X[indices]) - Y[indices]) ** 2)


@idiom("a scan over closed-over batches", MLP, **LAYERS)
def _(p):
    def step(total, batch):
        return total + jnp.mean(mlp(p, batch)), None

    return lax.scan(step, 0.0, X.reshape(4, 4, 4))[0]


@idiom("a loss of one example, mapped over a closed-over batch", MLP, **LAYERS)
def _(p):
    return jnp.mean(jax.vmap(lambda x, y: jnp.sum((mlp(p, x) - y) ** 2))(X, Y))


@idiom("a batch of NumPy", MLP, **LAYERS)
def _(p):
    return jnp.mean(mlp(p, np.ones((6, 4), np.float32)) ** 2)


@idiom("a single closed-over example", MLP, **LAYERS)
def _(p):
    return jnp.mean(mlp(p, X[0]))


@idiom("a batch of ones that the function makes", MLP, **LAYERS)
def _(p):
    return jnp.mean(mlp(p, jnp.ones((6, 4))))


@idiom("points that the function makes", MLP, **LAYERS)
def _(p):
    return jnp.mean(mlp(p, jnp.stack([jnp.linspace(0, 1, 9) ** k for k in range(4)], 1)) ** 2)


@idiom("points that the function makes, and a target", MLP, f32(), **LAYERS)
def _(p, target):
    points = jnp.stack([jnp.linspace(0, 1, 5) ** k for k in range(4)], 1)
    return (mlp(p, points).sum() - target) ** 2


@idiom("a derivative at closed-over points", MLP, **LAYERS)
def _(p):
    return jnp.mean(jax.vmap(jax.grad(lambda x: mlp(p, x)[0]))(X) ** 2)


@idiom("a directional derivative at closed-over points", MLP, **LAYERS)
def _(p):
    return jnp.mean(jax.jvp(lambda x: mlp(p, x), (X,), (jnp.ones_like(X),))[1] ** 2)


@idiom("a Laplacian at closed-over points", MLP, **LAYERS)
def _(p):
    hessian = jax.vmap(jax.hessian(lambda x: mlp(p, x)[0]))(X)
    return jnp.mean(jnp.trace(hessian, axis1=1, axis2=2) ** 2)


@idiom("a gradient penalty at the input", MLP, f32(16, 4), **LAYERS)
def _(p, x):
    slope = jax.vmap(jax.grad(lambda x: mlp(p, x)[0]))(x)
    return mlp(p, x).mean() + jnp.mean((jnp.sqrt((slope**2).sum(-1)) - 1) ** 2)


@idiom("features whose rows sum to one", {"w": (4, 8), "v": (8, 3)}, w=(0,), v=(0,))
def _(p):
    return jnp.mean(jax.nn.relu(jax.nn.softmax(X) @ p["w"]) @ p["v"])


@idiom("low rank beside a frozen kernel", {"a": (4, 2), "b": (2, 3)}, a=(0,), b=(0,))
def _(p):
    return jnp.mean((X @ (2 * jnp.ones((4, 3)) + p["a"] @ p["b"]) - Y) ** 2)


@idiom("a masked kernel on a closed-over batch", {"w": (4, 4)}, w=(0,))
def _(p):
    return jnp.mean(X @ (p["w"] * jnp.tril(jnp.ones((4, 4)))))


@idiom("attention over a closed-over sequence", dict.fromkeys("qkvo", (4, 4)),
       **dict.fromkeys("qkvo", (0,)))  # fmt: skip
def _(p):
    weights = jax.nn.softmax((X @ p["q"]) @ (X @ p["k"]).T)
    return jnp.mean(weights @ (X @ p["v"]) @ p["o"])


@idiom("attention to a closed-over memory", {"q": (8, 6), "k": (4, 6), "v": (4, 6), "o": (6, 3)},
       ROWS, **dict.fromkeys("qvo", (0,)))  # fmt: skip
def _(p, x):
    # `k` may as well be a frozen map of what the queries are contracted with.
    return (jax.nn.softmax((x @ p["q"]) @ (X @ p["k"]).T) @ (X @ p["v"]) @ p["o"]).sum()


@idiom("a convolution of closed-over images", {"w": (3, 8, 6)}, w=conv(0, 1))
def _(p):
    numbers = ("NHC", "HIO", "NHC")
    x = jnp.ones((2, 9, 8))
    return lax.conv_general_dilated(x, p["w"], (1,), "SAME", dimension_numbers=numbers)


@idiom("a closed-over graph", {"a": (4, 3), "b": (3, 2)}, a=(0,), b=(0,))
def _(p):
    graph = jnp.ones((16, 16)) / 16
    return jnp.mean(graph @ jax.nn.relu(graph @ (X @ p["a"])) @ p["b"])


@idiom("a graph as an argument", {"a": (4, 3), "b": (3, 2)}, f32(16, 16), a=(0,), b=(0,))
def _(p, graph):
    return jnp.mean(graph @ jax.nn.relu(graph @ (X @ p["a"])) @ p["b"])


@idiom("a recurrent network over a closed-over sequence", {"i": (4, 6), "h": (6, 6)},
       i=(0,), h=(0,))  # fmt: skip
def _(p):
    def step(h, x):
        return jnp.tanh(x @ p["i"] + h @ p["h"]), None

    return lax.scan(step, jnp.zeros(6), X)[0]
