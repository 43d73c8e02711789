"""What is given by mistake for parameters and functions: each mistake gets a sentence."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gc_optax._fan_in import is_array
from gc_optax._nnx import as_function_of_params, is_diff_state, is_module, optimized_params
from gc_optax._trees import PyTree


def params_tree(params: PyTree) -> PyTree:
    """The tree of arrays that `params` is or stands for; raises where it is none."""
    if is_module(params):
        return optimized_params(params)
    _check_not_a_count(params)
    _check_params(params)
    return params


def traced_arguments(
    fn: Callable[..., Any], params: PyTree, args: tuple[Any, ...]
) -> tuple[Callable[..., Any], PyTree, tuple[PyTree, ...], tuple[Any, ...]]:
    """The arguments of `fan_in_by_trace` as `as_function_of_params` gives them; raises for others.

    The function explains the error of JAX for an axis name that only a mapped function knows.
    """
    order = " The order is `fan_in_by_trace(fn, params, *args)`."
    if not callable(fn):
        raise TypeError(f"`fn` must be a function, got {_type_name(fn)}.{order}")
    if is_diff_state(params):
        _check_diff_state(params, args)
    elif not is_module(params):
        _check_params(params, order)
    fn, params, state, args = as_function_of_params(fn, params, args)

    @functools.wraps(fn)
    def explained(*args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        except NameError as error:
            if "unbound axis name" not in str(error):
                raise
            raise NameError(
                f"{error} A layer of `fn` (such as BatchNorm with `axis_name`) works across the "
                "examples of a mapped axis. Trace the function that maps it: "
                "fan_in_by_trace(jax.vmap(fn, in_axes=(None, 0), axis_name=...), params, batch)."
            ) from error

    return explained, params, state, args


def _check_not_a_count(params: PyTree) -> None:
    if isinstance(params, jax.Array) and params.shape == () and params.dtype == jnp.int32:
        raise TypeError(
            "A function that gives the axes was called with a single integer and not with "
            "parameters. `optax.inject_hyperparams` calls a function among the hyperparameters as "
            "a schedule, with the number of the step: name its argument in `static_args`, as in "
            'optax.inject_hyperparams(factory, static_args=("fan_in",)).'
        )


def _check_params(params: PyTree, advice: str = "") -> None:
    """Raises for one object that is no array: a function, a module of Linen, a string."""
    if not jax.tree_util.all_leaves([params]) or is_array(params):
        return
    if isinstance(params, bool | int | float | complex):
        return
    linen = sys.modules.get("flax.linen")
    if linen is not None and isinstance(params, linen.Module):
        advice = ' Of a Linen module, give the parameters: module.init(key, inputs)["params"].'
    raise TypeError(f"`params` must be a tree of arrays, got {_type_name(params)}.{advice}")


def _check_diff_state(diff_state: Any, args: tuple[Any, ...]) -> None:
    place = diff_state.argnum
    if not 0 <= place < len(args):
        raise ValueError(
            f"`nnx.DiffState({place}, ...)` takes the parameters from argument {place} of `fn`, "
            f"and {len(args)} are given. After it come all arguments of `fn`, the module among "
            "them: fan_in_by_trace(fn, nnx.DiffState(0, wrt), module, *args)."
        )


def _type_name(value: Any) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"an object of type {module}{kind.__qualname__}"
