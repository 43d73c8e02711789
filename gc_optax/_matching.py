"""Lays a tree of `FanIn` over the tree of arrays that it is for."""

from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import DictKey, KeyPath

from gc_optax._fan_in import FanIn, is_array
from gc_optax._names import fan_in_by_name
from gc_optax._nnx import is_module, is_state
from gc_optax._trees import (
    FanInFn,
    FanInTree,
    PyTree,
    flatten_fan_in,
    is_function,
    leaf_name,
    path_name,
)


def resolve(fan_in: FanInTree | FanInFn | None, tree: PyTree) -> FanInTree:
    """The tree of `FanIn`: given as such, or as a function of `tree`; None means by name."""
    if fan_in is None:
        return fan_in_by_name(tree)
    return fan_in(tree) if is_function(fan_in) else fan_in


def map_with_fan_in(
    function: Callable[[KeyPath, FanIn, Any], Any],
    fan_in: FanInTree | FanInFn | None,
    tree: PyTree,
    shapes: PyTree = None,
) -> PyTree:
    """Maps `function(path, fan_in, leaf)` over the leaves of `tree`.

    Leaves are matched by path: the `FanIn` of a leaf is the one that stands at its path or above
    it. So a prefix serves all that is below it, and `None` or `optax.MaskedNode` on the side of
    `tree` (which are nodes without leaves) may stand for whole subtrees. What is no array, such as
    the activation function of an Equinox module, needs no `FanIn`.

    Args:
        function: What to do with each leaf.
        fan_in: A tree of `FanIn`, a prefix of one, a function to one, or None for by name.
        tree: The arrays.
        shapes: What `fan_in`, if it is a function, sees in the place of `tree`.
    """
    if is_module(tree):
        raise TypeError(
            f"The updates are an NNX module ({type(tree).__name__}): give the gradients of its "
            "variables, as `nnx.grad` returns them."
        )
    specs = flatten_fan_in(resolve(fan_in, tree if shapes is None else shapes))
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    used: set[KeyPath] = set()
    results = []
    for path, leaf in leaves:
        prefix = _server(specs, path)
        if prefix is not None:
            used.add(prefix)
            results.append(function(path, specs[prefix], leaf))
        elif not is_array(leaf):
            results.append(function(path, FanIn((), "not an array"), leaf))
        else:
            raise ValueError(
                f"The FanIn tree does not fit: it has no FanIn for {leaf_name(path, leaf)}. "
                + _remedy(specs, path, tree, is_computed=is_function(fan_in))
            )
    if len(used) < len(specs):
        _check_unused(set(specs) - used, tree)
    return jax.tree.unflatten(structure, results)


def _server(specs: dict[KeyPath, FanIn], path: KeyPath) -> KeyPath | None:
    """The path of the `FanIn` that stands at `path` or above it."""
    return next((path[:n] for n in range(len(path) + 1) if path[:n] in specs), None)


def _remedy(specs: dict[KeyPath, FanIn], path: KeyPath, tree: PyTree, is_computed: bool) -> str:
    """What to do where `specs` has nothing for the leaf at `path`."""
    for key in dict.fromkeys(spec[0] for spec in specs if spec):
        if isinstance(key, DictKey) and _server(specs, (key, *path)) not in (None, ()):
            return f'Its paths begin with `{key.key}/`: use `fan_in["{key.key}"]`.'
    if is_computed:
        return "`fan_in` is a function: return a FanIn for each leaf, FanIn(()) to leave it alone."
    if is_state(tree):
        return (
            "A module alone stands for its variables of type nnx.Param. For an optimizer with "
            "another `wrt`, build the tree by fan_in_by_trace(fn, nnx.DiffState(0, wrt), module, "
            "*args)."
        )
    return "Build it from this tree, or add FanIn(()) there to leave the leaf alone."


def _check_unused(unused: set[KeyPath], tree: PyTree) -> None:
    """Raises for a `FanIn` that serves no leaf, unless `tree` is empty at its path or above."""
    if is_state(tree):  # what the filter of `nnx.Optimizer` drops leaves no hole
        return
    # `None`, MaskedNode and empty containers become leaves here, and only those.
    empty = [
        path
        for path, node in jax.tree_util.tree_leaves_with_path(
            tree, is_leaf=lambda node: jax.tree.structure(node).num_leaves == 0
        )
        if jax.tree.structure(node).num_leaves == 0
    ]
    for path in sorted(unused, key=path_name):
        if not any(path[: len(e)] == e or e[: len(path)] == path for e in empty):
            raise ValueError(
                f"The FanIn tree does not fit: it has a FanIn for `{path_name(path)}`, where the "
                "updates have no leaf. Build the FanIn tree from the parameters being updated."
            )
