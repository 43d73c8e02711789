"""Reads a Flax NNX module as `nnx.Optimizer` does, without depending on Flax."""

import sys
from collections.abc import Callable
from typing import Any

import jax

from gc_optax._trees import PyTree


def optimized_params(params: PyTree) -> PyTree:
    """The tree that `nnx.Optimizer(..., wrt=nnx.Param)` passes to `tx.update`, for a module.

    Anything else is returned as it is. Who holds a module has imported Flax.
    """
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(params, nnx.Module):
        return nnx.as_pure(nnx.state(params, nnx.Param))
    return params


def as_function_of_params(
    fn: Callable[..., Any], params: PyTree
) -> tuple[Callable[..., Any], PyTree, tuple[PyTree, ...]]:
    """`fn(module, ...)` as a function `(params, *state, ...)` of arrays, and those two.

    The state is what else the module holds: batch statistics, random keys. If `params` is not a
    module, `fn` and `params` come back as they are, with no state.
    """
    nnx = sys.modules.get("flax.nnx")
    if nnx is None or not isinstance(params, nnx.Module):
        return fn, params, ()
    definition, variables, state = nnx.split(params, nnx.Param, ...)
    structure = jax.tree.structure(variables)  # alone, so that the function does not keep arrays

    def of_params(pure: PyTree, state: PyTree, *args: Any, **kwargs: Any) -> Any:
        filled = jax.tree.unflatten(structure, jax.tree.leaves(pure))
        return fn(nnx.merge(definition, filled, state), *args, **kwargs)

    return of_params, nnx.as_pure(variables), (state,)
