"""Idioms of public code in plain JAX: experts, mixed kernels, heads of tasks."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.zoo.case import ALONE
from benchmarks.zoo.oracles.stated import Idioms

PACKAGES = ["jax"]

X, IDS = jnp.linspace(-1.0, 1.0, 48).reshape(8, 6), jnp.arange(8) % 3
IN_OUT = "stored (in, out), applied as x @ w"
GATE = {"gate": ((6, 3), (0,), IN_OUT)}
EXPERTS = {"w": ((3, 6, 5), (1,), "an expert's layer, stored (experts, in, out)")}
MIXED = {"w": ((3, 6, 5), (1,), "a mixed kernel's layer", ALONE)}

idiom = Idioms()


@idiom("experts by gather", GATE | EXPERTS, X)
def gathered(p, x):
    """The kernel of the best expert of each example."""
    logits = x @ p["gate"]
    best = logits.argmax(-1)
    weight = jnp.take_along_axis(jax.nn.softmax(logits), best[:, None], 1)
    return weight * jnp.einsum("bi,bio->bo", x, p["w"][best])


@idiom("experts by gather, vmapped", GATE | EXPERTS | {"b": ((3, 5), (), "biases")}, X)
def gathered_each(p, x):
    """The same on single examples."""

    def one(x):
        best = (x @ p["gate"]).argmax()
        return x @ p["w"][best] + p["b"][best]

    return jax.vmap(one)(x)


@idiom("experts by dynamic_slice", EXPERTS, X, jnp.int32(1))
def sliced(p, x, task):
    """The head of a task."""
    w = lax.dynamic_slice_in_dim(p["w"], task, 1, 0)[0]
    return x @ w + x @ lax.dynamic_index_in_dim(p["w"], task, keepdims=False)


@idiom("experts by one-hot dispatch", GATE | EXPERTS | {"v": ((3, 5, 6), (1,), IN_OUT)}, X)
def dispatched(p, x):
    """Mesh TensorFlow: tokens are sent to buffers of the experts and come back."""
    gates = jax.nn.softmax(x @ p["gate"])
    sent = jax.nn.one_hot(gates.argmax(-1), 3)
    place = jax.nn.one_hot((jnp.cumsum(sent, 0) * sent - 1).max(-1), 4)
    dispatch = jnp.einsum("be,bc->bec", sent, place)
    inputs = jnp.einsum("bec,bi->eci", dispatch, x)
    hidden = jax.nn.relu(jnp.einsum("eci,eio->eco", inputs, p["w"]))
    outputs = jnp.einsum("eco,eoi->eci", hidden, p["v"])
    return jnp.einsum("bec,eci->bi", dispatch * gates[..., None], outputs)


@idiom("experts, all of them", GATE | EXPERTS, X)
def soft(p, x):
    """All experts' outputs, weighted."""
    return jnp.einsum(
        "be,beo->bo", jax.nn.softmax(x @ p["gate"]), jnp.einsum("bi,eio->beo", x, p["w"])
    )


@idiom("experts, all in one einsum", GATE | MIXED, X)
def soft_einsum(p, x):
    """Gates, inputs and kernels at once: the order is JAX's."""
    return jnp.einsum("be,bi,eio->bo", jax.nn.softmax(x @ p["gate"]), x, p["w"])


@idiom("experts by scan", GATE | EXPERTS, X)
def looped(p, x):
    """One expert after the other."""
    gates = jax.nn.softmax(x @ p["gate"])
    step = lambda total, e: (total + e[1][:, None] * jax.nn.gelu(x @ e[0]), None)  # noqa: E731
    return lax.scan(step, jnp.zeros((8, 5)), (p["w"], gates.T))[0]


@idiom("experts by switch", dict.fromkeys("abc", ((6, 5), (0,), IN_OUT)), X, jnp.int32(1))
def switched(p, x, index):
    """Branches that close over one layer each."""
    branches = [lambda x, w=p[n]: jax.nn.relu(x @ w) for n in "abc"]
    return lax.switch(index, branches, x)


@idiom("experts by switch over a stack", EXPERTS, X, jnp.int32(1))
def switched_stack(p, x, index):
    """Branches that take their kernel out of a stack."""
    return lax.switch(index, [lambda x, i=i: x @ p["w"][i] for i in range(3)], x)


@idiom("experts by switch, the kernel", EXPERTS, X, jnp.int32(1))
def switched_kernel(p, x, index):
    """Branches that give a kernel."""
    w = lax.switch(index, [lambda i=i: p["w"][i] for i in range(3)])
    return x @ w


@idiom("experts with top two", GATE | EXPERTS, X)
def top_two(p, x):
    """Two experts for each example."""
    weights, best = lax.top_k(jax.nn.softmax(x @ p["gate"]), 2)
    return jnp.einsum("bk,bi,bkio->bo", weights, x, p["w"][best])


@idiom("experts by ragged_dot", GATE | EXPERTS, X)
def ragged(p, x):
    """Tokens sorted by their expert."""
    best = (x @ p["gate"]).argmax(-1)
    order = jnp.argsort(best)
    outputs = lax.ragged_dot(x[order], p["w"], jnp.bincount(best, length=3))
    return outputs[jnp.argsort(order)]


@idiom("experts by masks", GATE | EXPERTS, X)
def masked(p, x):
    """Every expert on all, and `where` picks."""
    best = (x @ p["gate"]).argmax(-1)
    return sum(jnp.where((best == e)[:, None], x @ p["w"][e], 0.0) for e in range(3))


@idiom("mixed kernels", GATE | MIXED, X)
def conditional(p, x):
    """CondConv, dynamic filters: a kernel per example is a weighted sum of kernels."""
    kernel = jnp.einsum("be,eio->bio", jax.nn.softmax(x @ p["gate"]), p["w"])
    return jnp.einsum("bi,bio->bo", x, kernel)


@idiom(
    "CondConv",
    {"gate": ((4, 3), (0,), IN_OUT), "w": ((3, 3, 3, 4, 5), (1, 2, 3), "mixed HWIO", ALONE)},
    jnp.ones((2, 8, 8, 4)),
)
def condconv(p, x):
    """Mixed kernels of a convolution, example by example."""

    def one(x):
        gates = jax.nn.sigmoid(x.mean((0, 1)) @ p["gate"])
        kernel = jnp.tensordot(gates, p["w"], 1)
        dimensions = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x[None], kernel, (1, 1), "SAME", dimension_numbers=dimensions
        )

    return jax.vmap(one)(x)


@idiom("models' soup", {"w": ((3, 6, 5), (1,), "x @ w of each", ALONE), "a": ((3,), (), "")}, X)
def soup(p, x):
    """A learned mixture of kernels that data do not choose."""
    return x @ jnp.tensordot(jax.nn.softmax(p["a"]), p["w"], 1)


@idiom("mixture density network", {"w": ((6, 9), (0,), IN_OUT)}, X, jnp.ones((8, 1)))
def density(p, x, y):
    """One layer for weights, means and scales."""
    logits, mean, scale = jnp.split(x @ p["w"], 3, -1)
    terms = jax.nn.log_softmax(logits) - 0.5 * ((y - mean) / jnp.exp(scale)) ** 2 - scale
    return -jax.nn.logsumexp(terms, -1)


@idiom(
    "multi-task heads", {"w": ((6, 5), (0,), IN_OUT), "heads": ((3, 5, 2), (1,), "a head")}, X, IDS
)
def heads(p, x, task):
    """A trunk, and for each example the head of its task by one-hot."""
    outputs = jnp.einsum("bi,tio->bto", jax.nn.relu(x @ p["w"]), p["heads"])
    return jnp.einsum("bto,bt->bo", outputs, jax.nn.one_hot(task, 3))


@idiom("one-hot chooses the head", {"heads": ((3, 6, 2), (1,), "a head")}, X, IDS)
def chosen(p, x, task):
    """The kernel is chosen first."""
    kernel = jnp.tensordot(jax.nn.one_hot(task, 3), p["heads"], 1)
    return jnp.einsum("bi,bio->bo", x, kernel)


@idiom(
    "highway, maxout", {"w": ((6, 5, 3), (0,), "(in, out, pieces)"), "t": ((6, 5), (0,), IN_OUT)}, X
)
def maxout(p, x):
    """The largest of three pieces, gated."""
    return jax.nn.sigmoid(x @ p["t"]) * jnp.einsum("bi,iok->bok", x, p["w"]).max(-1)


@idiom("bilinear", {"w": ((6, 5, 4), (0, 2), "y = x w z", ((), (0,), (2,)))}, X, jnp.ones((8, 4)))
def bilinear(p, x, z):
    """A form of two inputs."""
    return jnp.einsum("bi,iok,bk->bo", x, p["w"], z)


idiom("mixed kernels on closed-over inputs", GATE | MIXED)(lambda p: conditional(p, X))
idiom("experts in one einsum on closed-over inputs", GATE | MIXED)(lambda p: soft_einsum(p, X))


entries = idiom.entries
