"""`convolutions_only` and `exclude`."""

import re

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

import gc_optax
from gc_optax import FanIn

PARAMS = {
    "Conv_0": {"kernel": jnp.ones((3, 3, 2, 4)), "bias": jnp.ones(4)},
    "Conv_1": {"kernel": jnp.ones((3, 2, 4))},
    "ConvTranspose_0": {"kernel": jnp.ones((3, 3, 2, 4))},
    "Dense_0": {"kernel": jnp.ones((4, 5))},
    "head": {"kernel": jnp.ones((5, 2))},
}
FAN_IN = gc_optax.fan_in_by_name(PARAMS)


def kinds():
    """The same knowledge as a tree and as a function, each with how to get the tree out."""
    return [
        pytest.param(FAN_IN, lambda fan_in: fan_in, id="tree"),
        pytest.param(gc_optax.fan_in_by_name, lambda fan_in: fan_in(PARAMS), id="function"),
    ]


@pytest.mark.parametrize(("fan_in", "tree_of"), kinds())
def test_convolutions_only_keeps_convolutions_and_empties_the_rest(fan_in, tree_of):
    result = tree_of(gc_optax.convolutions_only(fan_in))
    assert result == {
        "Conv_0": {"kernel": FAN_IN["Conv_0"]["kernel"], "bias": FanIn((), "not a convolution")},
        "Conv_1": {"kernel": FanIn((0, 1), kind="conv")},
        "ConvTranspose_0": {"kernel": FAN_IN["ConvTranspose_0"]["kernel"]},
        "Dense_0": {"kernel": FanIn((), "not a convolution")},
        "head": {"kernel": FanIn((), "not a convolution")},
    }
    assert result["Conv_0"]["kernel"] == FanIn((0, 1, 2), kind="conv")
    assert result["head"]["kernel"].reason == "not a convolution"


@pytest.mark.parametrize("reason", ["given", "conv", "depthwise conv", "converted by hand"])
def test_the_reason_does_not_tell_a_convolution(reason):
    conv, dense = FanIn((0, 1), reason, kind="conv"), FanIn((0, 1), reason, kind="dense")
    assert gc_optax.convolutions_only([conv, dense, FanIn((0, 1), reason)]) == [
        conv,
        FanIn(()),
        FanIn(()),
    ]


def test_the_rank_of_what_is_left_alone_is_kept():
    assert gc_optax.convolutions_only(FanIn((0,), rank=2)).rank == 2
    assert gc_optax.exclude({"head": FanIn((0,), rank=2)}, "head")["head"].rank == 2


@pytest.mark.parametrize(("fan_in", "tree_of"), kinds())
def test_exclude_empties_the_leaves_whose_path_matches(fan_in, tree_of):
    result = tree_of(gc_optax.exclude(fan_in, r"^head/", re.compile("Conv_[0-9]/kernel")))
    expected = jax.tree.map(lambda leaf: leaf, FAN_IN)
    for name in ("head", "Conv_0", "Conv_1"):
        expected[name]["kernel"] = FanIn((), "excluded")
    assert result == expected


def test_a_pattern_is_searched_for_anywhere_in_the_path():
    result = gc_optax.exclude(FAN_IN, "nse_0/k")
    assert result["Dense_0"]["kernel"] == FanIn((), "excluded")
    assert result["head"]["kernel"] == FanIn((0,), kind="dense")


def test_exclude_without_patterns_changes_nothing():
    assert gc_optax.exclude(FAN_IN) == FAN_IN


def test_the_given_tree_is_not_changed():
    before = jax.tree.map(lambda leaf: leaf, FAN_IN)
    gc_optax.convolutions_only(FAN_IN)
    gc_optax.exclude(FAN_IN, "head")
    assert before == FAN_IN


def test_selections_combine():
    select = gc_optax.exclude(gc_optax.convolutions_only(gc_optax.fan_in_by_name), "Conv_0")
    axes = jax.tree.map(lambda leaf: leaf.axes, select(PARAMS))
    assert [axes[name]["kernel"] for name in PARAMS] == [(), (0, 1), (0, 1, 2), (), ()]


def test_a_prefix_stays_a_prefix():
    fan_in = gc_optax.exclude({"body": FanIn((0,)), "head": FanIn((0,))}, "head")
    assert fan_in == {"body": FanIn((0,)), "head": FanIn((), "excluded")}
    assert gc_optax.convolutions_only(FanIn((0,), kind="conv")) == FanIn((0,), kind="conv")


@pytest.mark.parametrize("kind", ["tree", "function"])
def test_centralize_takes_what_they_give(kind):
    fan_in = FAN_IN if kind == "tree" else gc_optax.fan_in_by_name
    optimizer = gc_optax.centralize(gc_optax.convolutions_only(fan_in))
    grads = jax.tree.map(lambda p: jnp.arange(p.size, dtype=p.dtype).reshape(p.shape), PARAMS)
    updates, _ = jax.jit(optimizer.update)(grads, optax.EmptyState())
    chex.assert_trees_all_equal(updates["Dense_0"], grads["Dense_0"])
    kernel = grads["Conv_0"]["kernel"]
    centralized = kernel - kernel.mean((0, 1, 2), keepdims=True)
    chex.assert_trees_all_close(updates["Conv_0"]["kernel"], centralized)
