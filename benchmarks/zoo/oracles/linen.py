"""Flax Linen: owners are recorded by `flax.linen.intercept_methods` while the model runs."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from benchmarks.zoo.case import UNUSED, ByHand, Case, Right, completed, leaves_of, stacked
from benchmarks.zoo.oracles.rules import all_but_last, all_but_second_to_last, einsum_axes

NOT_SUMMED = {"bias", "scale", "negative_slope"}


def _dense_general(module, shape):
    count = lambda axes: len(axes) if hasattr(axes, "__len__") else 1  # noqa: E731
    batch = count(module.batch_dims)
    return tuple(range(batch, batch + count(module.axis)))


RULES: dict[str, Any] = {
    "Dense": lambda module, shape: (0,),
    "DenseParams": lambda module, shape: (0,),
    "DenseGeneral": _dense_general,
    "Einsum": lambda module, shape: einsum_axes(module.einsum_str, shape),
    "_Conv": lambda module, shape: (
        (len(shape) - 2,) if not module.shared_weights else all_but_last(shape)
    ),
    "ConvTranspose": lambda module, shape: (
        all_but_second_to_last(shape) if module.transpose_kernel else all_but_last(shape)
    ),
}
"""By the name of a class (or of one that it inherits from): the axes of its `kernel`."""

NO_AXES = {"BatchNorm", "LayerNorm", "GroupNorm", "RMSNorm", "InstanceNorm", "WeightNorm", "PReLU"}


def axes_of(module: nn.Module, methods: set[str], leaf: str, shape, rules) -> Any:
    """The axes of one leaf of a module, or None if its type is not known."""
    for base in type(module).__mro__:
        if base.__name__ in rules:
            return rules[base.__name__](module, leaf, shape)
        if base.__name__ in NO_AXES or (base.__name__ in RULES and leaf in NOT_SUMMED):
            return ()
        if base.__name__ in RULES and leaf == "kernel":
            return RULES[base.__name__](module, shape)
        if base.__name__ == "Embed":
            return (1,) if methods == {"attend"} else ()
    return None


def owners(run, params, *args, stack_axis: int = 0, rules: Mapping | None = None):
    """What is right for each leaf of `params`, found while `run(params, *args)` is shaped."""
    leaves = leaves_of(params)
    methods: dict[str, set[str]] = {}
    found: dict[str, Right] = {}

    def interceptor(next_fun, args, kwargs, context):
        result = next_fun(*args, **kwargs)
        module = context.module
        own = module.variables.get("params", {}) if module.scope is not None else {}
        for leaf, value in own.items():
            path = "/".join((*module.path, leaf))
            if isinstance(value, Mapping) or path not in leaves:
                continue
            shape, whole = value.shape, leaves[path].shape
            extra = len(whole) - len(shape)
            if whole[:stack_axis] + whole[stack_axis + extra :] != tuple(shape):
                continue  # another module of this path: one applied by itself inside
            called = methods.setdefault(path, set())
            called.add(context.method_name)
            axes = axes_of(module, called, leaf, shape, rules or {})
            if axes is not None:
                owner = type(module).__name__ + " in a stack" * (extra > 0)
                found[path] = Right(stacked(axes, extra, stack_axis), owner)
        return result

    with nn.intercept_methods(interceptor):
        jax.eval_shape(lambda p, a: run(p, *a), params, args)
    unused = {path: Right((), UNUSED) for path in leaves if path not in methods}
    return unused | found


def case(
    module: nn.Module,
    *args,
    hand: ByHand = (),
    rules: Mapping | None = None,
    stack_axis: int = 0,
    loss: bool = False,
    rngs: tuple[str, ...] = ("dropout",),
    **options,
) -> Case:
    """A Linen module applied to `args`, with its other collections as arguments.

    Args:
        module: The module.
        *args: Its inputs, of which arrays may be shapes.
        hand: What is right for leaves without an owner of a known type.
        rules: For classes of a package: name to a function of module, leaf and shape.
        stack_axis: Where the axis of stacked layers stands.
        loss: Whether to trace a scalar loss and not the outputs.
        rngs: Streams of random numbers besides `params`.
        **options: Passed to the module's call as they are.
    """
    keys = {name: jax.random.key(i) for i, name in enumerate(("params", *rngs))}
    variables = jax.eval_shape(lambda a: module.init(keys, *a, **options), args)
    state = {name: value for name, value in variables.items() if name != "params"}
    params = nn.meta.unbox(variables["params"])

    def forward(params, state, *args):
        outputs, _ = module.apply(
            {"params": params, **state},
            *args,
            **options,
            rngs={name: keys[name] for name in rngs},
            mutable=list(state),
        )
        return sum((x**2).mean() for x in jax.tree.leaves(outputs)) if loss else outputs

    found = owners(forward, params, state, *args, stack_axis=stack_axis, rules=rules)
    return Case(forward, params, (state, *args), completed(found, params, hand))
