"""`fan_in_by_trace`: the fan-in axes, read from the computation itself."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gc_optax._arguments import traced_arguments
from gc_optax._fan_in import FanIn
from gc_optax._tracing import layout as lay
from gc_optax._tracing.interpreter import Interpreter, constant, open_jaxpr, shape_of
from gc_optax._tracing.records import Record
from gc_optax._tracing.values import Evidence, Value, activation
from gc_optax._tracing.verdict import relevance, verdict
from gc_optax._trees import FanInTree, PyTree, leaf_name


def fan_in_by_trace(
    fn: Callable[..., Any], params: PyTree, /, *args: Any, **kwargs: Any
) -> FanInTree:
    """The fan-in axes of each leaf, read from the computation `fn(params, *args, **kwargs)`.

    Traces the function to a jaxpr and follows every parameter through it (reshapes, transposes,
    casts, loops, custom derivatives, `vmap`, `shard_map`) to where it is contracted with data.
    The axes that are summed over there are its fan-in. No names or layouts are assumed, so
    it works with any JAX code and any framework. Nothing is computed or allocated.

    Some parameters are left alone, with the reason: those that are looked up (embeddings), added
    or multiplied (biases, scales); those with a rank below 2 or a fan-in of 1; those contracted
    in ways that disagree (a tied autoencoder; one warning names the leaf and the places) or
    allow two readings (`x @ (A @ B)`, kernels mixed by data); and those that pass through an
    unknown primitive before they are contracted.

    Args:
        fn: The forward pass, or the loss that you differentiate, with or without its auxiliary
            outputs. Not its gradient: the backward pass uses each parameter transposed.
        params: The parameters that you differentiate with respect to: a tree of arrays or
            `jax.ShapeDtypeStruct` of any shapes, or an NNX module, which is passed to `fn` as a
            module and stands for its `nnx.Param`. For other variables, pass
            `nnx.DiffState(argnum, wrt)` here, as to `nnx.grad`, and all arguments of `fn` after it.
        *args: Further arguments of `fn`. Arrays and `jax.ShapeDtypeStruct` in them stand for
            data, apart from PRNG keys; anything else (flags, strings, functions) is passed
            unchanged. Arrays that `fn` closes over or creates are data for the parameters that are
            contracted with them and with no argument; combined elementwise they are masks and
            frozen weights.
        **kwargs: The same, by keyword.

    Returns:
        A tree of `FanIn` with the structure of `params`; for an NNX module the `nnx.State` that
        fits what `nnx.Optimizer` passes on.

    Raises:
        Exception: Whatever `fn` raises when it is traced.

    Examples:
        >>> import gc_optax, jax, jax.numpy as jnp
        >>> def loss(params, x):  # heads are split off the first axis of the kernel
        ...     return jnp.sum(jnp.einsum("nd,hdk->nhk", x, params["kernel"]) ** 2)
        >>> params = {"kernel": jax.ShapeDtypeStruct((8, 512, 64), jnp.float32)}
        >>> fan_in = gc_optax.fan_in_by_trace(loss, params, jnp.ones((4, 512)))
        >>> fan_in["kernel"]
        FanIn(axes=(1,), reason='dense', kind='dense', rank=3)

    Source: fan-in as in arXiv 2004.01461, section 3; the method of finding it is new here.
    """
    fn, params, state, args = traced_arguments(fn, params, args)
    closed, outputs = _traced(fn, ((params, *state, *args), kwargs))
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    records, levels = _interpreted(
        closed,
        [index for index, (_, leaf) in enumerate(leaves) if _is_array(leaf)],
        sum(map(_is_array, jax.tree.leaves(state))),
        outputs.n_main,
    )
    are_gradients = outputs.look_like_gradients and any(
        record.is_backward for found in records.values() for record in found
    )
    results: list[FanIn] = []
    conflicts: list[str] = []
    for index, (path, leaf) in enumerate(leaves):
        if not _is_array(leaf):
            results.append(FanIn((), "not an array"))
            continue
        fan_in, conflict = verdict(leaf.shape, records.get(index, []), levels)
        if conflict:
            conflicts.append(f"{leaf_name(path, leaf)} has {conflict}")
        elif fan_in.axes and are_gradients:
            fan_in = FanIn((), "not known, since `fn` seems to return gradients")
        results.append(fan_in)
    _warn(conflicts, are_gradients)
    return jax.tree.unflatten(structure, results)


class _Outputs:
    """What was learnt about the outputs of `fn` while it was traced."""

    def __init__(self, outputs: Any, leaves: Sequence[Any], params: PyTree):
        is_loss_and_aux = (
            isinstance(outputs, tuple)
            and len(outputs) == 2
            and _is_output(outputs[0])
            and jnp.shape(outputs[0]) == ()
        )
        self.n_main = 1 if is_loss_and_aux else len(leaves)
        # Auxiliary outputs may hold gradients, since only the loss decides.
        shapes = [leaf.shape for leaf in jax.tree.leaves(params) if _is_array(leaf)]
        given = [jnp.shape(leaf) for leaf in leaves[: self.n_main]]
        self.look_like_gradients = any(
            given[i : i + len(shapes)] == shapes for i in range(len(given) - len(shapes) + 1)
        )


def _traced(fn: Callable[..., Any], arguments: PyTree) -> tuple[Any, _Outputs]:
    """The jaxpr of `fn(*args, **kwargs)`, with the arrays of the arguments as its inputs."""
    leaves, structure = jax.tree.flatten(arguments)
    seen: list[_Outputs] = []

    def of_arrays(arrays: list[jax.Array]) -> list[jax.Array]:
        rest = iter(arrays)
        args, kwargs = jax.tree.unflatten(
            structure, [next(rest) if _is_array(leaf) else leaf for leaf in leaves]
        )
        outputs = fn(*args, **kwargs)
        flat = [leaf for leaf in jax.tree.leaves(outputs) if _is_output(leaf)]
        seen.append(_Outputs(outputs, flat, args[0]))
        return flat

    jaxpr = jax.make_jaxpr(of_arrays)([leaf for leaf in leaves if _is_array(leaf)])
    return jaxpr, seen[-1]


def _interpreted(
    closed, indices: Sequence[int], n_state: int, n_main: int
) -> tuple[dict[int, list[Record]], dict[Value, int]]:
    """The records of each leaf, and how relevant the places are where they were made.

    Args:
        closed: The jaxpr of the function, the leaves of the parameters first among its inputs.
        indices: The numbers of these leaves.
        n_state: How many inputs after these are the other arrays of a module. They stay on the side
            of the parameters: masks, frozen weights.
        n_main: How many outputs are not auxiliary.
    """
    interpreter = Interpreter()
    variables = open_jaxpr(closed).invars
    inputs = [
        Value(layouts={index: lay.identity(shape_of(variable))}, splat=_is_one(variable))
        for index, variable in zip(indices, variables, strict=False)
    ]
    n_fixed = len(indices) + n_state
    inputs += [constant(v, Evidence.MADE) for v in variables[len(indices) : n_fixed]]
    inputs += map(_argument, variables[n_fixed:])
    outputs = interpreter.run(closed, inputs)
    for output in outputs:
        interpreter.recorder.remark(output, "returned without meeting data", output)
    records: dict[int, list[Record]] = {}
    for record in interpreter.recorder.records:
        records.setdefault(record.leaf, []).append(record)
    return records, relevance(outputs[:n_main], outputs[n_main:])


def _argument(variable: Any) -> Value:
    """An argument is data, but a key is not, nor what is drawn by it."""
    if jnp.issubdtype(variable.aval.dtype, jax.dtypes.prng_key):
        return constant(variable, Evidence.MADE)
    return activation([], splat=_is_one(variable))


def _is_one(variable: Any) -> bool:
    return all(size == 1 for size in shape_of(variable))


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _is_output(leaf: Any) -> bool:
    return _is_array(leaf) or isinstance(leaf, bool | int | float | complex)


def _warn(conflicts: Sequence[str], are_gradients: bool) -> None:
    """One warning for all that was left alone for want of a single answer."""
    if not conflicts and not are_gradients:
        return
    sentences = []
    if conflicts:
        shown = "; ".join(conflicts)
        sentences.append(
            "A parameter can only be centralized over one set of axes, so this is left alone: "
            f"{shown}."
        )
    if are_gradients:
        sentences.append(
            "`fn` seems to return gradients, whose computation uses each parameter transposed: "
            "trace the forward pass or the loss instead."
        )
    else:
        sentences.append("If one of the uses is the layer, give its axes in a FanIn of your own.")
    warnings.warn(" ".join(sentences), UserWarning, stacklevel=3)
