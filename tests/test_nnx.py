"""Any `wrt` of `nnx.Optimizer` with traced axes of the module."""

import re

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import gc_optax
from gc_optax import FanIn

pytestmark = pytest.mark.usefixtures("default_promotion")


class Delta(nnx.Variable):
    """A type of variable that NNX does not know."""


class Network(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.body = nnx.LoRALinear(6, 5, lora_rank=2, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.delta = Delta(jax.random.normal(rngs.params(), (5, 4)))
        self.head = nnx.Linear(5, 4, rngs=rngs)

    def __call__(self, x):
        x = jnp.tanh(self.norm(self.body(x)))
        return self.head(x) + x @ self.delta[...]


def loss(network, x):
    return jnp.mean((network(x) - 1.0) ** 2)


X = jax.random.normal(jax.random.key(0), (16, 6)) + 1.0
IS_HEAD = nnx.All(nnx.Param, nnx.PathContains("head"))
EXPECTED = {
    ("body", "kernel"): (0,),
    ("body", "lora", "lora_a"): (0,),
    ("body", "lora", "lora_b"): (0,),
    ("body", "lora_a"): (0,),
    ("body", "lora_b"): (0,),
    ("delta",): (0,),
    ("head", "kernel"): (0,),
}


def axes_of(fan_in):
    flat = nnx.to_flat_state(fan_in)
    return {path: spec.axes for path, spec in flat if spec.axes}


def weights_of(network):
    """The parameters and what else could be trained, by path."""
    state = nnx.as_pure(nnx.state(network, (nnx.Param, Delta)))
    return {path: jnp.copy(leaf) for path, leaf in nnx.to_flat_state(state)}


def check_one_step(fan_in, wrt):
    """One step of GC and SGD: the sums over the fan-in stay, and what is not `wrt` stays whole."""
    network = Network(nnx.Rngs(0))
    before = weights_of(network)
    optimizer = nnx.Optimizer(
        network, optax.chain(gc_optax.centralize(fan_in), optax.sgd(0.1)), wrt=wrt
    )
    optimizer.update(network, nnx.grad(loss, argnums=nnx.DiffState(0, wrt))(network, X))
    trained = {path for path, _ in nnx.to_flat_state(nnx.state(network, wrt))}
    moved = {
        path for path, leaf in weights_of(network).items() if jnp.abs(leaf - before[path]).max() > 0
    }
    assert moved
    assert moved <= trained
    for path in moved & EXPECTED.keys():
        leaf = weights_of(network)[path]
        chex.assert_trees_all_close(leaf.sum(0), before[path].sum(0), atol=1e-5)


@pytest.mark.parametrize(
    "wrt",
    [
        nnx.Param,
        nnx.LoRAParam,
        Delta,
        IS_HEAD,
        nnx.Any(nnx.LoRAParam, Delta),
        nnx.All(nnx.Param, nnx.Not(nnx.LoRAParam)),
    ],
    ids=["Param", "LoRAParam", "own type", "path filter", "Any", "All"],
)
def test_what_diff_state_chooses_is_traced_and_fits_the_optimizer(wrt):
    network = Network(nnx.Rngs(0))
    fan_in = gc_optax.fan_in_by_trace(loss, nnx.DiffState(0, wrt), network, X)
    chosen = dict(nnx.to_flat_state(nnx.as_pure(nnx.state(network, wrt))))
    assert dict(nnx.to_flat_state(fan_in)).keys() == chosen.keys()
    assert axes_of(fan_in) == {path: EXPECTED[path] for path in chosen if chosen[path].ndim == 2}
    check_one_step(fan_in, wrt)


@pytest.mark.parametrize("wrt", [nnx.Param, nnx.LoRAParam, IS_HEAD])
def test_the_tree_of_the_whole_module_serves_a_part_of_its_params(wrt):
    fan_in = gc_optax.fan_in_by_trace(loss, Network(nnx.Rngs(0)), X)
    check_one_step(fan_in, wrt)


def test_the_module_may_be_any_argument():
    def loss_last(x, network):
        return loss(network, x)

    network = Network(nnx.Rngs(0))
    fan_in = gc_optax.fan_in_by_trace(loss_last, nnx.DiffState(1, Delta), X, network)
    assert axes_of(fan_in) == {("delta",): (0,)}


def test_a_number_that_is_no_argument_is_an_error():
    text = (
        "`nnx.DiffState(1, ...)` takes the parameters from argument 1 of `fn`, and 1 are given. "
        "After it come all arguments of `fn`, the module among them: fan_in_by_trace(fn, "
        "nnx.DiffState(0, wrt), module, *args)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        gc_optax.fan_in_by_trace(loss, nnx.DiffState(1, Delta), Network(nnx.Rngs(0)))


def test_variables_that_were_not_traced_say_how_to():
    network = Network(nnx.Rngs(0))
    fan_in = gc_optax.fan_in_by_trace(loss, network, X)
    updates = nnx.as_pure(nnx.state(network, Delta))
    text = (
        "The FanIn tree does not fit: it has no FanIn for leaf `delta` of shape (5, 4). A module "
        "alone stands for its variables of type nnx.Param. For an optimizer with another `wrt`, "
        "build the tree by fan_in_by_trace(fn, nnx.DiffState(0, wrt), module, *args)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        gc_optax.centralize(fan_in).update(updates, optax.EmptyState())


@pytest.mark.parametrize(
    "use",
    [
        lambda module: gc_optax.centralize().update(module, optax.EmptyState()),
        lambda module: gc_optax.centralize(FanIn(())).update(module, optax.EmptyState()),
        gc_optax.diagnostics.mean_component,
        gc_optax.diagnostics.removed_fraction,
    ],
)
def test_a_module_is_no_gradient(use):
    text = (
        "The updates are an NNX module (Linear): give the gradients of its variables, as "
        "`nnx.grad` returns them."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        use(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
