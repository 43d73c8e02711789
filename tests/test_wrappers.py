"""`centralize` inside every wrapper that people put around an Optax transformation.

One battery: each wrapper makes an update (or new parameters) from the same parameters and
gradients, by the names of the leaves and by a tree of FanIn, eagerly and compiled, and the result
must be what is worked out by hand in NumPy.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState

import gc_optax
from gc_optax import FanIn

# Optax and Flax mix Python floats, integers and float32 in ways that strict promotion bars.
pytestmark = pytest.mark.usefixtures("default_promotion")

LR = 0.1
RNG = np.random.default_rng(0)
SHAPES = {
    "body": {"kernel": (4, 3), "bias": (3,)},
    "head": {"kernel": (3, 2), "bias": (2,)},
}


def draw():
    return jax.tree.map(
        lambda shape: jnp.asarray(RNG.normal(1.0, 1.0, shape), jnp.float32),
        SHAPES,
        is_leaf=lambda node: isinstance(node, tuple),
    )


PARAMS, GRADS, MORE_GRADS = draw(), draw(), draw()
FAN_IN = {
    "body": {"kernel": FanIn((0,)), "bias": FanIn(())},
    "head": {"kernel": FanIn((0,)), "bias": FanIn(())},
}


def times(scale, tree):
    return jax.tree.map(lambda leaf: np.float32(scale) * np.asarray(leaf), tree)


def plus(*trees):
    return jax.tree.map(lambda *leaves: np.sum(leaves, axis=0), *trees)


def by_hand(grads, *layers):
    """The gradients, centralized in the named layers (in all, if none is named)."""
    layers = layers or tuple(grads)

    def leaf(path, grad):
        layer, name = (key.key for key in path)
        grad = np.asarray(grad)
        return (
            grad - grad.mean(0, keepdims=True) if (layer in layers and name == "kernel") else grad
        )

    return jax.tree_util.tree_map_with_path(leaf, grads)


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))


def one_update(optimizer, compiled, grads=GRADS, params=PARAMS):
    state = optimizer.init(params)
    return compiled(optimizer.update)(grads, state, params)[0]


def chain(gc, compiled):
    optimizer = optax.chain(optax.clip(1e6), gc(), optax.sgd(LR))
    return one_update(optimizer, compiled), times(-LR, by_hand(GRADS))


def named_chain(gc, compiled):
    optimizer = optax.named_chain(("gc", gc()), ("sgd", optax.sgd(LR)))
    return one_update(optimizer, compiled), times(-LR, by_hand(GRADS))


def last_in_a_chain(gc, compiled):
    optimizer = optax.chain(optax.sgd(LR), gc())
    return one_update(optimizer, compiled), times(-LR, by_hand(GRADS))


def masked_by_a_tree(gc, compiled):
    mask = {"body": {"kernel": True, "bias": True}, "head": {"kernel": False, "bias": False}}
    return one_update(optax.masked(gc(), mask), compiled), by_hand(GRADS, "body")


def masked_by_a_prefix(gc, compiled):
    mask = {"body": True, "head": False}
    return one_update(optax.masked(gc(), mask), compiled), by_hand(GRADS, "body")


def masked_by_a_function(gc, compiled):
    def mask(params):
        return {layer: layer == "head" for layer in params}

    return one_update(optax.masked(gc(), mask), compiled), by_hand(GRADS, "head")


def masked_biases(gc, compiled):
    mask = jax.tree.map(lambda leaf: leaf.ndim > 1, PARAMS)
    return one_update(optax.masked(gc(), mask), compiled), by_hand(GRADS)


def partition_by_a_tree(gc, compiled):
    parts: Any = {"gc": optax.chain(gc(), optax.sgd(LR)), "plain": optax.sgd(10 * LR)}
    optimizer = optax.partition(parts, {"body": "gc", "head": "plain"})
    expected = {
        "body": times(-LR, by_hand(GRADS)["body"]),
        "head": times(-10 * LR, GRADS["head"]),
    }
    return one_update(optimizer, compiled), expected


def partition_by_a_function(gc, compiled):
    parts: Any = {"matrix": optax.chain(gc(), optax.sgd(LR)), "vector": optax.sgd(LR)}

    def labels(params):
        return jax.tree.map(lambda leaf: "matrix" if leaf.ndim > 1 else "vector", params)

    return one_update(optax.partition(parts, labels), compiled), times(-LR, by_hand(GRADS))


def multi_steps(gc, compiled):
    optimizer = optax.MultiSteps(optax.chain(gc(), optax.sgd(LR)), every_k_schedule=2)
    state = optimizer.init(PARAMS)
    first, state = compiled(optimizer.update)(GRADS, state, PARAMS)
    second, state = compiled(optimizer.update)(MORE_GRADS, state, PARAMS)
    mean = times(0.5, plus(GRADS, MORE_GRADS))
    return [first, second], [times(0.0, GRADS), times(-LR, by_hand(mean))]


def inject_hyperparams(gc, compiled):
    @optax.inject_hyperparams
    def build(learning_rate):
        return optax.chain(gc(), optax.sgd(learning_rate))

    optimizer = build(learning_rate=LR)
    state: Any = optimizer.init(PARAMS)
    state.hyperparams["learning_rate"] = jnp.float32(3 * LR)
    updates, _ = compiled(optimizer.update)(GRADS, state, PARAMS)
    return updates, times(-3 * LR, by_hand(GRADS))


def apply_if_finite(gc, compiled):
    optimizer = optax.apply_if_finite(optax.chain(gc(), optax.sgd(LR)), 3)
    broken = {**GRADS, "head": jax.tree.map(lambda leaf: leaf * jnp.nan, GRADS["head"])}
    updates = [one_update(optimizer, compiled), one_update(optimizer, compiled, broken)]
    return updates, [times(-LR, by_hand(GRADS)), times(0.0, GRADS)]


def lookahead(gc, compiled):
    optimizer = optax.lookahead(optax.chain(gc(), optax.sgd(LR)), 2, 0.5)
    params = optax.LookaheadParams.init_synced(PARAMS)
    state = optimizer.init(params)
    for grads in (GRADS, MORE_GRADS):
        updates, state = compiled(optimizer.update)(grads, state, params)
        params = optax.apply_updates(params, updates)
    fast = plus(PARAMS, times(-LR, by_hand(plus(GRADS, MORE_GRADS))))
    synced = plus(times(0.5, PARAMS), times(0.5, fast))
    return params, optax.LookaheadParams(synced, synced)


def sam_transparent(gc, compiled):
    adversary = optax.chain(gc(), optax.contrib.normalize(), optax.sgd(0.05))
    optimizer = optax.contrib.sam(optax.chain(gc(), optax.sgd(LR)), adversary)
    state = optimizer.init(PARAMS)
    params, ascended = PARAMS, []
    for grads in (GRADS, MORE_GRADS):
        updates, state = compiled(optimizer.update)(grads, state, params)
        params = optax.apply_updates(params, updates)
        ascended.append(params)
    ascent = times(0.05 / norm(by_hand(GRADS)), by_hand(GRADS))
    expected = [plus(PARAMS, ascent), plus(PARAMS, times(-LR, by_hand(MORE_GRADS)))]
    return ascended, expected


def sam_opaque(gc, compiled):
    adversary = optax.chain(gc(), optax.contrib.normalize(), optax.sgd(0.05))
    optimizer = optax.contrib.sam(optax.chain(gc(), optax.sgd(LR)), adversary, opaque_mode=True)

    def grad(params, step):
        del step
        return jax.tree.map(lambda p: p**3, params)

    def update(grads, state, params):
        return optimizer.update(grads, state, params, grad_fn=grad)

    updates, _ = compiled(update)(GRADS, optimizer.init(PARAMS), PARAMS)
    ascended = plus(PARAMS, times(0.05 / norm(by_hand(GRADS)), by_hand(GRADS)))
    there = jax.tree.map(lambda p: p**3, ascended)
    return updates, times(-LR, by_hand(there))


def per_example_gradients_by_vmap(gc, compiled):
    optimizer = optax.chain(gc(), optax.sgd(LR))
    state = optimizer.init(PARAMS)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), GRADS, MORE_GRADS)
    update = jax.vmap(lambda grads: optimizer.update(grads, state, PARAMS)[0])
    first, second = by_hand(GRADS), by_hand(MORE_GRADS)
    expected = times(-LR, jax.tree.map(lambda *leaves: np.stack(leaves), first, second))
    return compiled(update)(stacked), expected


def steps_by_scan(gc, compiled):
    optimizer = optax.chain(gc(), optax.sgd(LR))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), GRADS, MORE_GRADS)

    def step(carry, grads):
        params, state = carry
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    def train(params, grads):
        return jax.lax.scan(step, (params, optimizer.init(params)), grads)[0][0]

    total = by_hand(plus(GRADS, MORE_GRADS))
    return compiled(train)(PARAMS, stacked), plus(PARAMS, times(-LR, total))


def linen_train_state(gc, compiled):
    state = TrainState.create(
        apply_fn=nn.Dense(3).apply, params=PARAMS, tx=optax.chain(gc(), optax.sgd(LR))
    )
    state = compiled(lambda state, grads: state.apply_gradients(grads=grads))(state, GRADS)
    assert state.step == 1
    return state.params, plus(PARAMS, times(-LR, by_hand(GRADS)))


BATTERY = (
    chain,
    named_chain,
    last_in_a_chain,
    masked_by_a_tree,
    masked_by_a_prefix,
    masked_by_a_function,
    masked_biases,
    partition_by_a_tree,
    partition_by_a_function,
    multi_steps,
    inject_hyperparams,
    apply_if_finite,
    lookahead,
    sam_transparent,
    sam_opaque,
    per_example_gradients_by_vmap,
    steps_by_scan,
    linen_train_state,
)


@pytest.mark.parametrize("wrapper", BATTERY, ids=lambda wrapper: wrapper.__name__)
@pytest.mark.parametrize(
    ("how", "compiled"),
    [("by name", jax.jit), ("by a tree", jax.jit), ("by name", lambda function: function)],
    ids=["by name, jit", "by a tree, jit", "by name, eager"],
)
# Masks and parts may hide what tells that a leaf is no guess.
@pytest.mark.filterwarnings(r"ignore:`centralize\(\)` goes by names:UserWarning")
def test_inside_a_wrapper_the_result_is_the_one_worked_out_by_hand(wrapper, how, compiled):
    def gc():
        return gc_optax.centralize() if how == "by name" else gc_optax.centralize(FAN_IN)

    actual, expected = wrapper(gc, compiled)
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, jax.tree.map(jnp.asarray, expected))
    chex.assert_trees_all_close(actual, expected, atol=1e-6)


class Network(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.body = nnx.Linear(4, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.head = nnx.Linear(3, 1, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.tanh(self.norm(self.body(x))))


@pytest.mark.parametrize(
    ("how", "compiled"),
    [
        ("by name", nnx.jit),
        ("by a tree", nnx.jit),
        ("by the module's tree", nnx.jit),
        ("by name", lambda function: function),
    ],
    ids=["by name, jit", "by a tree, jit", "by the module's tree, jit", "by name, eager"],
)
def test_inside_an_nnx_optimizer_the_parameters_move_as_worked_out_by_hand(how, compiled):
    network = Network(nnx.Rngs(0))
    inputs = jnp.asarray(RNG.normal(1.0, 1.0, (16, 4)), jnp.float32)
    if how == "by name":
        gc = gc_optax.centralize()
    elif how == "by a tree":
        pure = nnx.as_pure(nnx.state(network, nnx.Param))
        gc = gc_optax.centralize(gc_optax.fan_in_by_name(pure))
    else:
        gc = gc_optax.centralize(gc_optax.fan_in_by_name(network))
    optimizer = nnx.Optimizer(network, optax.chain(gc, optax.sgd(LR)), wrt=nnx.Param)
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(network, nnx.Param)))

    @compiled
    def step(network, optimizer, inputs):
        grads = nnx.grad(lambda network: jnp.mean((network(inputs) - 2.0) ** 2))(network)
        optimizer.update(network, grads)
        return nnx.as_pure(grads)

    grads = nnx.to_pure_dict(step(network, optimizer, inputs))
    after = nnx.to_pure_dict(nnx.state(network, nnx.Param))
    assert np.abs(grads["head"]["kernel"].mean()) > 1e-3
    chex.assert_trees_all_close(after, plus(before, times(-LR, by_hand(grads))), atol=1e-6)


@pytest.mark.parametrize(
    "spec",
    [
        jax.sharding.PartitionSpec("x", None),
        jax.sharding.PartitionSpec(None, "x"),
        jax.sharding.PartitionSpec("x", "y"),
        jax.sharding.PartitionSpec(("x", "y"), None),
        jax.sharding.PartitionSpec(),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("axes", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_sharded_gradients_give_the_unsharded_result_and_stay_sharded(spec, dtype, axes):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axes,) * 2)
    sharding = jax.sharding.NamedSharding(mesh, spec)
    grads = {"kernel": jnp.asarray(RNG.normal(1.0, 1.0, (16, 8)), jnp.float32).astype(dtype)}
    sharded = jax.device_put(grads, sharding)
    optimizer = optax.chain(gc_optax.centralize(FanIn((0,))), optax.sgd(LR))
    state = optimizer.init(grads)
    updates: Any = jax.jit(optimizer.update)(sharded, state)[0]
    assert len(updates["kernel"].sharding.device_set) == 8
    assert updates["kernel"].sharding.is_equivalent_to(sharding, 2)
    expected, _ = optimizer.update(grads, state)
    tolerance = 1e-6 if dtype == jnp.float32 else 1e-2
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float32), updates),
        jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float32), expected),
        atol=tolerance,
    )
