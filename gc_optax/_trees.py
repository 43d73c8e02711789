"""Pairs the leaves of a parameter tree with the `FanIn` that a tree (or a prefix) has for them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import KeyPath

from gc_optax._fan_in import FanIn

PyTree = Any
"""A tree of arrays: parameters, gradients or updates."""

FanInTree = Any
"""A `FanIn`, or a tree of them that is a prefix of the parameters' tree."""

FanInFn = Callable[[PyTree], FanInTree]
"""A function from parameters or updates to a tree of `FanIn`."""


def path_name(path: KeyPath) -> str:
    """The path as people write it: `Dense_0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaf_name(path: KeyPath, leaf) -> str:
    """The leaf in a sentence: its path and shape."""
    name = f"leaf `{path_name(path)}`" if path else "the only leaf"
    return f"{name} of shape {jnp.shape(leaf)}"


def resolve(fan_in: FanInTree | FanInFn, tree: PyTree) -> FanInTree:
    """The tree of `FanIn`, whether given as such or as a function of `tree`."""
    return fan_in(tree) if is_function(fan_in) else fan_in


def is_function(fan_in: FanInTree | FanInFn) -> bool:
    """Whether `fan_in` is a function, and not a tree that can be called (an Equinox module)."""
    if isinstance(fan_in, type):  # `FanIn` itself, where one was meant
        return False
    is_node = not jax.tree_util.all_leaves([fan_in])
    return callable(fan_in) and (not is_node or isinstance(fan_in, jax.tree_util.Partial))


def map_with_fan_in(
    function: Callable[[KeyPath, FanIn, Any], Any], fan_in: FanInTree, tree: PyTree
) -> PyTree:
    """Maps `function(path, fan_in, leaf)` over the leaves of `tree`.

    Leaves are matched by path: the `FanIn` of a leaf is the one that stands at its path or above
    it. So a prefix serves all that is below it, and `None` or `optax.MaskedNode` on the side of
    `tree` (which are nodes without leaves) may stand for whole subtrees.
    """
    specs = flatten_fan_in(fan_in)
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    used: set[KeyPath] = set()
    results = []
    for path, leaf in leaves:
        prefix = next((path[:n] for n in range(len(path) + 1) if path[:n] in specs), None)
        if prefix is None:
            raise ValueError(
                f"The FanIn tree does not fit: it has no FanIn for {leaf_name(path, leaf)}. "
                "Build it from this tree, or add FanIn(()) there to leave the leaf alone."
            )
        used.add(prefix)
        results.append(function(path, specs[prefix], leaf))
    if len(used) < len(specs):
        _check_unused(set(specs) - used, tree)
    return jax.tree.unflatten(structure, results)


def flatten_fan_in(fan_in: FanInTree) -> dict[KeyPath, FanIn]:
    """The `FanIn` of each path; raises `TypeError` where the tree has any other leaf."""
    specs = dict(jax.tree_util.tree_leaves_with_path(fan_in))
    for path, spec in specs.items():
        if not isinstance(spec, FanIn):
            where = f"Leaf `{path_name(path)}` of the FanIn tree" if path else "`fan_in`"
            raise TypeError(
                f"{where} is {_short(spec)}, not a gc_optax.FanIn: give a tree of FanIn, such as "
                "gc_optax.fan_in_by_name(params), or a function that returns one."
            )
    return specs


def _check_unused(unused: set[KeyPath], tree: PyTree) -> None:
    """Raises for a `FanIn` that serves no leaf, unless `tree` is empty at its path or above."""
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


def _short(value) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {value.shape}"
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:37] + '...'} ({type(value).__name__})"
