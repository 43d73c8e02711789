"""`centralize` on every kind of tree that an optimizer may meet, those of frameworks included."""

import dataclasses
from typing import Any, NamedTuple

import chex
import equinox as eqx
import flax.core
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import gc_optax
from gc_optax import FanIn


class PairTuple(NamedTuple):
    kernel: object
    bias: object


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class PairDataclass:
    kernel: object
    bias: object


class PairModule(eqx.Module):
    kernel: object
    bias: object


def pure_state(kernel, bias):
    return nnx.State({"kernel": kernel, "bias": bias})


def state_of_params(kernel, bias):
    return nnx.State({"kernel": nnx.Param(kernel), "bias": nnx.Param(bias)})


def frozen_dict(kernel, bias):
    return flax.core.freeze({"layer": {"kernel": kernel, "bias": bias}})


@pytest.mark.parametrize(
    "build",
    [PairTuple, PairDataclass, PairModule, pure_state, state_of_params, frozen_dict],
    ids=lambda build: build.__name__,
)
@pytest.mark.parametrize("how", ["by name", "tree"])
def test_the_structure_of_the_updates_is_preserved(centralized, build, how):
    grads = build(jnp.array([[1.0, 2.0], [3.0, 6.0]]), jnp.ones(2))
    fan_in = gc_optax.fan_in_by_name
    if how == "tree":
        fan_in = fan_in(grads)
        chex.assert_trees_all_equal_structs(fan_in, grads)
    updates = centralized(fan_in, grads)
    expected = build(jnp.array([[-1.0, -2.0], [1.0, 2.0]]), jnp.ones(2))
    chex.assert_trees_all_equal_structs(updates, expected)
    chex.assert_trees_all_close(updates, expected)


class CallableModule(eqx.Module):
    weight: object

    def __call__(self, x):
        raise AssertionError("a module that holds FanIns is a tree of them, not a function")


def test_an_equinox_module_of_fan_ins_is_a_tree_and_is_not_called():
    updates: Any = CallableModule(jnp.array([[1.0, 3.0]]))
    fan_in: Any = CallableModule(FanIn((1,)))
    result, _ = gc_optax.centralize(fan_in).update(updates, optax.EmptyState())
    assert isinstance(result, CallableModule)
    chex.assert_trees_all_close(result.weight, jnp.array([[-1.0, 1.0]]))
