"""Haiku: owners are recorded by `haiku.intercept_methods` while the model runs."""

from typing import Any

import haiku as hk
import jax

from benchmarks.zoo.case import ByHand, Case, Right, completed, leaves_of, stacked
from benchmarks.zoo.oracles.rules import all_but_last, all_but_second_to_last

RULES: dict[str, Any] = {
    "Linear": {"w": lambda module: ("dense", 2)},
    "ConvND": {"w": lambda module: ("conv", module.num_spatial_dims + 2)},
    "DepthwiseConv1D": {"w": lambda module: ("conv", 3)},
    "DepthwiseConv2D": {"w": lambda module: ("conv", 4)},
    "DepthwiseConv3D": {"w": lambda module: ("conv", 5)},
    "ConvNDTranspose": {"w": lambda module: ("transpose", module.num_spatial_dims + 2)},
    "GRU": {"w_i": lambda module: ("dense", 2), "w_h": lambda module: ("dense", 2)},
}
NO_AXES = {"Embed", "LayerNorm", "BatchNorm", "GroupNorm", "InstanceNorm", "RMSNorm", "Bias"}
AXES = {"dense": lambda s: (0,), "conv": all_but_last, "transpose": all_but_second_to_last}


def _right(module, leaf, shape) -> Right | None:
    for base in type(module).__mro__:
        if base.__name__ in NO_AXES or (base.__name__ in RULES and leaf == "b"):
            return Right((), base.__name__)
        if leaf in RULES.get(base.__name__, {}):
            kind, rank = RULES[base.__name__][leaf](module)
            extra = len(shape) - rank
            return Right(stacked(AXES[kind](shape[extra:]), extra), type(module).__name__)
    return None


def case(fn, *args, hand: ByHand = (), loss: bool = False) -> Case:
    """A function that calls Haiku modules, transformed with state."""
    model = hk.transform_with_state(fn)
    key = jax.random.key(0)
    params, state = jax.eval_shape(lambda a: model.init(key, *a), args)
    modules: dict[str, Any] = {}

    def interceptor(next_fun, args, kwargs, context):
        result = next_fun(*args, **kwargs)
        modules.setdefault(context.module.module_name, context.module)
        return result

    def forward(params, state, *args):
        outputs, _ = model.apply(params, state, key, *args)
        return sum((x**2).mean() for x in jax.tree.leaves(outputs)) if loss else outputs

    with hk.intercept_methods(interceptor):
        jax.eval_shape(lambda p, s, a: forward(p, s, *a), params, state, args)
    found = {}
    for path, leaf in leaves_of(params).items():
        name, _, last = path.rpartition("/")
        if name.startswith("__layer_stack"):  # inside of the loop modules lack this prefix
            name = name.partition("/")[2]
        right = _right(modules[name], last, leaf.shape) if name in modules else None
        if right is not None:
            found[path] = right
    return Case(forward, params, (state, *args), completed(found, params, hand))
