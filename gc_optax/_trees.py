"""Trees of arrays and trees of `FanIn`: their types, and how their leaves are called."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import KeyPath, SequenceKey

from gc_optax._fan_in import FanIn, is_array

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


def is_function(fan_in: FanInTree | FanInFn) -> bool:
    """Whether `fan_in` is a function, and not a tree that can be called (an Equinox module)."""
    if isinstance(fan_in, type):  # `FanIn` itself, where one was meant
        return False
    is_node = not jax.tree_util.all_leaves([fan_in])
    return callable(fan_in) and (not is_node or isinstance(fan_in, jax.tree_util.Partial))


def flatten_fan_in(fan_in: FanInTree) -> dict[KeyPath, FanIn]:
    """The `FanIn` of each path; raises `TypeError` where the tree has any other leaf."""
    specs = dict(jax.tree_util.tree_leaves_with_path(fan_in))
    for path, spec in specs.items():
        if not isinstance(spec, FanIn):
            where = f"Leaf `{path_name(path)}` of the FanIn tree" if path else "`fan_in`"
            remedy = (
                f"write axes as gc_optax.FanIn({_axes_meant(path, specs)})"
                if _is_integer(spec)
                else "give a tree of FanIn, such as gc_optax.fan_in_by_name(params), or a function "
                "that returns one"
            )
            raise TypeError(f"{where} is {_short(spec)}, not a gc_optax.FanIn: {remedy}.")
    return specs


def _axes_meant(path: KeyPath, specs: dict[KeyPath, Any]) -> tuple[int, ...]:
    """The integer at `path`, with those beside it if it stands in a tuple or list."""
    if not path or not isinstance(path[-1], SequenceKey):
        return (specs[path],)
    beside = [spec for other, spec in specs.items() if other[:-1] == path[:-1]]
    return tuple(spec for spec in beside if _is_integer(spec))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value) -> str:
    if is_array(value):
        return f"an array of shape {value.shape}"
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:37] + '...'} ({type(value).__name__})"
