"""`gc-optax inspect`: over which axes each parameter of an example network is centralized."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.tree_util import keystr, tree_leaves_with_path

import gc_optax
from gc_optax.experiments.data import SOURCES
from gc_optax.models import MODELS

# The data set that a network is shown for; the others are for the one of the paper.
DATASETS = {"mlp": "digits", "cnn": "digits", "gpt": "shakespeare"}


def inspect(model: str) -> str:
    """The traced table of `gc_optax.summary`, and where the names would have it otherwise.

    The network is abstract, so nothing is allocated.
    """
    source = SOURCES[DATASETS.get(model, "cifar100")]
    network = nnx.eval_shape(lambda: MODELS[model](source.shape, source.classes, rngs=nnx.Rngs(0)))
    network.eval()
    dtype = jnp.int32 if source.kind == "text" else jnp.float32
    inputs = jax.ShapeDtypeStruct((2, *source.shape), dtype)
    traced = gc_optax.fan_in_by_trace(lambda network, x: network(x), network, inputs)
    named = gc_optax.fan_in_by_name(network)
    params = nnx.as_pure(nnx.state(network, nnx.Param))
    return f"{gc_optax.summary(network, traced)}\n\n{_differences(params, traced, named)}"


def _differences(params, traced, named) -> str:
    """The leaves whose axes tracing and names disagree on, one a line.

    Axes of size 1 do not count: with or without them the mean is the same.
    """
    leaves = zip(
        tree_leaves_with_path(params), jax.tree.leaves(traced), jax.tree.leaves(named), strict=True
    )
    lines = [
        f"  {keystr(path, simple=True, separator='/')}: traced {trace.axes}, by name {name.axes} "
        f"({name.reason})"
        for (path, leaf), trace, name in leaves
        if {a for a in trace.axes if leaf.shape[a] > 1}
        != {a for a in name.axes if leaf.shape[a] > 1}
    ]
    if not lines:
        return "Axes by trace; by name they are the same."
    return "\n".join(["Axes by trace; by name they differ here:", *lines])
