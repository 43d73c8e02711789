"""Graph networks of `jraph` with Haiku's layers, equivariant layers of `e3nn-jax`."""

import e3nn_jax
import haiku as hk
import jax
import jax.numpy as jnp
import jraph
import numpy as np

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.haiku import case

PACKAGES = ["jraph", "e3nn-jax", "dm-haiku"]

GRAPH = jraph.GraphsTuple(
    nodes=jnp.ones((6, 5)),
    edges=jnp.ones((9, 4)),
    globals=jnp.ones((1, 3)),
    senders=jnp.arange(9) % 6,
    receivers=(jnp.arange(9) * 4 + 1) % 6,
    n_node=np.array([6]),
    n_edge=np.array([9]),
)


def update(width):
    """A perceptron on everything that comes in."""
    return jraph.concatenated_args(lambda x: hk.nets.MLP([8, width])(x))


def network(graph):
    """Edges, nodes and globals are updated, twice."""
    for _ in range(2):
        graph = jraph.GraphNetwork(update(4), update(5), update(3))(graph)
    return graph.nodes, graph.globals


def interaction(graph):
    """Edges and nodes see each other."""
    return jraph.InteractionNetwork(update(4), update(5))(graph).nodes


def relation(graph):
    """Edges are updated from their nodes, and summed."""
    return jraph.RelationNetwork(update(4), update(3))(graph).globals


def sets(graph):
    """Nodes and globals alone."""
    return jraph.DeepSets(update(5), update(3))(graph).globals


def convolution(graph):
    """Two graph convolutions."""
    graph = jraph.GraphConvolution(lambda x: hk.Linear(8)(x))(graph)
    return jraph.GraphConvolution(lambda x: hk.Linear(2)(jax.nn.relu(x)))(graph).nodes


def attention(graph):
    """Graph attention with one head."""
    logits = lambda s, r, e: hk.Linear(1)(jnp.concatenate([s, r, e], -1))  # noqa: E731
    layer = jraph.GAT(lambda x: hk.Linear(8)(x), logits, lambda x: jax.nn.elu(x))
    return layer(graph).nodes


def attention_network(graph):
    """A graph network whose edges have weights."""
    layer = jraph.GraphNetGAT(
        update(4),
        update(5),
        lambda edges, *rest: hk.Linear(1)(edges),
        lambda edges, weights: edges * jax.nn.sigmoid(weights),
        update(3),
    )
    return layer(graph).nodes


def mapped(graph):
    """Layers on each kind of feature by itself."""
    linear = lambda x: hk.Linear(7)(x)  # noqa: E731
    return jraph.GraphMapFeatures(linear, linear, linear)(graph).nodes


def equivariant(graph):
    """Linear maps of irreducible representations, messages along spherical harmonics."""
    x = e3nn_jax.IrrepsArray("5x0e", graph.nodes)
    along = e3nn_jax.IrrepsArray("1o", graph.edges[:, :3])
    harmonics = e3nn_jax.spherical_harmonics("0e + 1o", along, True)
    for irreps in ("4x0e + 3x1o", "2x0e"):
        x = e3nn_jax.haiku.Linear(irreps)(x)
        messages = e3nn_jax.tensor_product(x[graph.senders], harmonics)
        scales = e3nn_jax.haiku.MultiLayerPerceptron([8, messages.irreps.num_irreps], jax.nn.silu)
        messages = messages * scales(graph.edges)
        x = e3nn_jax.scatter_sum(messages, dst=graph.receivers, output_size=6)
    return e3nn_jax.haiku.Linear("0e")(x).array


HAND = ((r".*/w\[.*\].*|.*/w(_\d+)?", (0,), "(in, out) of one kind of representation"),)
FUNCTIONS = (
    network,
    interaction,
    relation,
    sets,
    convolution,
    attention,
    attention_network,
    mapped,
    equivariant,
)


def entry(fn) -> Entry:
    """One function of a graph, whose features are arguments and whose edges are constants."""
    return Entry(
        fn.__name__.replace("_", " "),
        lambda: case(
            lambda nodes, edges, whole: fn(GRAPH._replace(nodes=nodes, edges=edges, globals=whole)),
            *(GRAPH.nodes, GRAPH.edges, GRAPH.globals),
            hand=HAND,
        ),
    )


def entries() -> list[Entry]:
    """All of them."""
    return [entry(fn) for fn in FUNCTIONS]
