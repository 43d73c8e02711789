"""Reads a Flax NNX module as `nnx.Optimizer` does, without depending on Flax."""

import sys
from collections.abc import Callable
from typing import Any

import jax

from gc_optax._trees import PyTree


def is_module(value: Any) -> bool:
    """Whether this is an NNX module. If so, Flax has been imported."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(value, nnx.Module)


def is_state(value: Any) -> bool:
    """Whether this is an `nnx.State`, which has no trace of the variables that a filter dropped."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(value, nnx.State)


def is_diff_state(value: Any) -> bool:
    """Whether this is an `nnx.DiffState`: the number of a module and which variables of it."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(value, nnx.DiffState)


def optimized_params(module: Any) -> PyTree:
    """The tree that `nnx.Optimizer(module, ..., wrt=nnx.Param)` passes to `tx.update`."""
    nnx = sys.modules["flax.nnx"]
    return nnx.as_pure(nnx.state(module, nnx.Param))


def as_function_of_params(
    fn: Callable[..., Any], params: PyTree, args: tuple[Any, ...] = ()
) -> tuple[Callable[..., Any], PyTree, tuple[PyTree, ...], tuple[Any, ...]]:
    """`fn(module, *args)` as a function `(params, *state, *args)` of arrays, and all of these.

    A module stands for its variables of type `nnx.Param`. An `nnx.DiffState` says which variables
    of which of the `args` are the parameters, as it does for `nnx.grad`. The state is what else
    the module holds: batch statistics, random keys, frozen weights. For any other `params`
    everything comes back as it is, with no state.
    """
    if is_module(params):
        nnx = sys.modules["flax.nnx"]
        args, params = (params, *args), nnx.DiffState(0, nnx.Param)
    if not is_diff_state(params):
        return fn, params, (), args
    nnx = sys.modules["flax.nnx"]
    place, wrt = params.argnum, params.filter
    definition, variables, state = nnx.split(args[place], wrt, ...)
    structure = jax.tree.structure(variables)  # alone, so that the function does not keep arrays

    def of_params(pure: PyTree, state: PyTree, *args: Any, **kwargs: Any) -> Any:
        filled = jax.tree.unflatten(structure, jax.tree.leaves(pure))
        module = nnx.merge(definition, filled, state)
        return fn(*args[:place], module, *args[place:], **kwargs)

    return of_params, nnx.as_pure(variables), (state,), (*args[:place], *args[place + 1 :])
