"""Idioms of public code in plain JAX: agents, graphs, recurrences, references."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.zoo.case import ALONE
from benchmarks.zoo.oracles.stated import Idioms

PACKAGES = ["jax"]

X, SEQUENCE = (
    jnp.linspace(-1.0, 1.0, 48).reshape(8, 6),
    jnp.linspace(-1.0, 1.0, 84).reshape(2, 7, 6),
)
ACTIONS, EDGES = jnp.arange(8) % 3, (jnp.arange(12) % 8, (jnp.arange(12) * 3 + 1) % 8)
IN_OUT, BIAS = "stored (in, out), applied as x @ w", "a bias"


def kernels(**shapes):
    """What is right for kernels, and for vectors among them."""
    return {n: (s, (0,), IN_OUT) if len(s) == 2 else (s, (), "a vector") for n, s in shapes.items()}


idiom = Idioms()


@idiom("dueling, double Q", kernels(w=(6, 16), v=(16, 1), a=(16, 3)), X, ACTIONS, jnp.ones(8), X)
def dueling(p, x, action, reward, following):
    """The loss of a step, whose target is the same net without gradient."""

    def q(x):
        h = jax.nn.relu(x @ p["w"])
        advantage = h @ p["a"]
        return h @ p["v"] + advantage - advantage.mean(-1, keepdims=True)

    target = reward + 0.9 * lax.stop_gradient(q(following)).max(-1)
    chosen = jnp.take_along_axis(q(x), action[:, None], 1)[:, 0]
    return jnp.mean((chosen - target) ** 2)


@idiom("actor-critic", kernels(w=(6, 16), pi=(16, 3), v=(16, 1)), X, ACTIONS, jnp.ones(8))
def actor_critic(p, x, action, value):
    """PPO's clipped ratio, the critic's loss, an entropy."""
    h = jnp.tanh(x @ p["w"])
    logits = jax.nn.log_softmax(h @ p["pi"])
    v = (h @ p["v"])[:, 0]
    ratio = jnp.exp(
        logits[jnp.arange(8), action] - lax.stop_gradient(logits[jnp.arange(8), action])
    )
    gain = value - lax.stop_gradient(v)
    clipped = jnp.minimum(ratio * gain, jnp.clip(ratio, 0.8, 1.2) * gain)
    entropy = -(jnp.exp(logits) * logits).sum(-1)
    return jnp.mean((v - value) ** 2 - clipped - 0.01 * entropy)


@idiom(
    "soft actor-critic, two critics stacked",
    {
        "w": ((6, 4), (0,), IN_OUT),
        "q0": ((2, 8, 16), (1,), "(critics, in, out)"),
        "q1": ((2, 16, 1), (1,), "(critics, in, out)"),
    },
    *(X, jax.random.key(0)),
)
def sac(p, x, key):
    """A sampled action through both critics, and the smaller value."""
    mean, scale = jnp.split(x @ p["w"], 2, -1)
    action = jnp.tanh(mean + jnp.exp(scale) * jax.random.normal(key, mean.shape))
    critic = lambda q0, q1: jax.nn.relu(jnp.concatenate([x, action], -1) @ q0) @ q1  # noqa: E731
    return jax.vmap(critic)(p["q0"], p["q1"]).min(0).mean()


@idiom("QMIX", kernels(h1=(6, 12), h2=(6, 4), w=(6, 3)) | {"b": ((4,), (), BIAS)}, X)
def qmix(p, x):
    """A mixing net whose kernels are made from the state."""
    values = x @ p["w"]
    w1, w2 = jnp.abs(x @ p["h1"]).reshape(8, 3, 4), jnp.abs(x @ p["h2"])
    hidden = jax.nn.elu(jnp.einsum("bi,bio->bo", values, w1) + p["b"])
    return (hidden * w2).sum(-1)


@idiom("GCN, edges as arguments", kernels(w=(6, 9), u=(9, 3)), X, *EDGES)
def gcn(p, x, senders, receivers):
    """Messages are summed by segment."""
    gather = lambda x: jax.ops.segment_sum(x[senders], receivers, 8)  # noqa: E731
    return gather(jax.nn.relu(gather(x @ p["w"])) @ p["u"])


@idiom("GCN, a closed-over adjacency", kernels(w=(6, 9), u=(9, 3)), X)
def gcn_dense(p, x):
    """A constant matrix from the left."""
    adjacency = jnp.zeros((8, 8)).at[EDGES].set(0.5) + jnp.eye(8)
    return adjacency @ (jax.nn.relu(adjacency @ (x @ p["w"])) @ p["u"])


@idiom("GCN, features closed over too", kernels(w=(6, 9), u=(9, 3)))
def gcn_closed(p):
    """Full-batch training: nothing but parameters comes in."""
    adjacency = jnp.zeros((8, 8)).at[EDGES].set(0.5) + jnp.eye(8)
    logits = adjacency @ jax.nn.relu(adjacency @ X @ p["w"]) @ p["u"]
    return -jax.nn.log_softmax(logits)[jnp.arange(8), ACTIONS].mean()


@idiom(
    "GCN without features",
    {"table": ((8, 9), (), "a row per node"), "u": ((9, 3), (0,), IN_OUT)},
    *EDGES,
)
def gcn_table(p, senders, receivers):
    """Learned features of nodes, taken along edges."""
    return jax.ops.segment_sum(p["table"][senders], receivers, 8) @ p["u"]


@idiom(
    "GAT",
    kernels(w=(6, 8))
    | dict.fromkeys(("s", "r"), ((2, 4), (1,), "a score per head: (heads, in)", ALONE)),
    X,
    *EDGES,
)
def gat(p, x, senders, receivers):
    """Attention over edges with two heads."""
    h = (x @ p["w"]).reshape(8, 2, 4)
    scores = jnp.einsum("nhd,hd->nh", h, p["s"])[senders] + (h * p["r"]).sum(-1)[receivers]
    scores = jnp.exp(jax.nn.leaky_relu(scores))
    total = jax.ops.segment_sum(scores, receivers, 8)[receivers]
    return jax.ops.segment_sum((scores / total)[..., None] * h[senders], receivers, 8)


@idiom(
    "R-GCN, bases",
    {"bases": ((2, 6, 5), (1,), "mixed kernels", ALONE), "mix": ((3, 2), (), "weights of kernels")},
    X,
    *EDGES,
    jnp.arange(12) % 3,
)
def relational(p, x, senders, receivers, kind):
    """The kernel of a relation is a sum of bases."""
    w = jnp.einsum("rk,kio->rio", p["mix"], p["bases"])
    return jax.ops.segment_sum(jnp.einsum("ei,eio->eo", x[senders], w[kind]), receivers, 8)


@idiom("LSTM by scan", kernels(w=(6, 32), u=(8, 32), b=(32,)), SEQUENCE)
def lstm(p, x):
    """One kernel for four gates."""

    def step(state, x):
        h, c = state
        i, f, g, o = jnp.split(x @ p["w"] + h @ p["u"] + p["b"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    start = jnp.zeros((2, 8))
    return lax.scan(step, (start, start), x.swapaxes(0, 1))[0][0]


@idiom("RNN in a reference", kernels(w=(6, 8), u=(8, 8), h=(8,)), SEQUENCE)
def stateful(p, x):
    """The state is in a reference that the body of a loop writes."""
    state = jax.new_ref(jnp.zeros((2, 8)) + p["h"])

    def step(t, _):
        state[...] = jnp.tanh(x[:, t] @ p["w"] + state[...] @ p["u"])
        return _

    lax.fori_loop(0, 7, step, None)
    return state[...]


@idiom("kernel in a reference", kernels(w=(6, 8), b=(8,)), X)
def stored(p, x):
    """Parameters are put into references and read again."""
    refs = jax.tree.map(jax.new_ref, p)
    return jnp.tanh(x @ refs["w"][...] + refs["b"][...])


@idiom("universal transformer", kernels(q=(6, 6), k=(6, 6), v=(6, 6)), SEQUENCE)
def shared(p, x):
    """One layer applied until a norm is reached."""

    def body(state):
        i, x = state
        return i + 1, x + jax.nn.softmax((x @ p["q"]) @ (x @ p["k"]).mT) @ (x @ p["v"])

    return lax.while_loop(lambda s: (s[0] < 4) & (jnp.abs(s[1]).max() < 9), body, (0, x))[1]


entries = idiom.entries
