"""Keras 3: the owner of a variable is the layer that lists it."""

from typing import Any

import jax
import numpy as np

from benchmarks.zoo.case import ByHand, Case, Right, completed
from benchmarks.zoo.oracles.rules import all_but_last, all_but_second_to_last, einsum_axes


def _spatial(shape) -> tuple[int, ...]:
    return tuple(range(len(shape) - 2))


def _conv(layer, shape):
    return all_but_last(shape)


def _depthwise(layer, shape):
    return _spatial(shape)


def _first(layer, shape):
    return (0,)


RULES: dict[str, Any] = {
    "Dense": {"kernel": _first},
    "EinsumDense": {"kernel": lambda layer, shape: einsum_axes(layer.equation, shape)},
    "BaseConv": {"kernel": _conv},
    "BaseConvTranspose": {"kernel": lambda layer, shape: all_but_second_to_last(shape)},
    "BaseDepthwiseConv": {"kernel": _depthwise},
    "BaseSeparableConv": {"depthwise_kernel": _depthwise, "pointwise_kernel": _conv},
    "LSTMCell": {"kernel": _first, "recurrent_kernel": _first},
    "GRUCell": {"kernel": _first, "recurrent_kernel": _first},
    "SimpleRNNCell": {"kernel": _first, "recurrent_kernel": _first},
    "ConvLSTMCell": {"kernel": _conv, "recurrent_kernel": _conv},
}
NO_AXES = {
    "Embedding",
    "BatchNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "RMSNormalization",
    "UnitNormalization",
    "PReLU",
}
NOT_SUMMED = {"bias", "gamma", "beta", "scale"}


def right_of(layer, leaf: str, shape, rules=None) -> Right | None:
    """What is right for a variable of a layer, or None if its type is not known."""
    for base in type(layer).__mro__:
        name = base.__name__
        known = (rules or {}).get(name, {}) | RULES.get(name, {})
        if leaf in known:
            return Right(known[leaf](layer, shape), type(layer).__name__)
        if name in NO_AXES or (name in RULES and leaf in NOT_SUMMED):
            return Right((), type(layer).__name__)
    return None


def case(model, *args, hand: ByHand = (), rules=None, loss: bool = False, **options) -> Case:
    """A built Keras model or layer, by `stateless_call`; its parameters are named by their paths.

    Args:
        model: A model or layer that has its weights.
        *args: Its inputs, of which arrays may be shapes.
        hand: What is right for variables without an owner of a known type.
        rules: For classes of a package: name and leaf to a function of layer and shape.
        loss: Whether to trace a scalar loss and not the outputs.
        **options: Passed to the model's call, such as `training`.
    """
    variables = model.trainable_variables
    names = [f"{i}:{v.path}" if _twice(v, variables) else v.path for i, v in enumerate(variables)]
    params: dict[str, Any] = {}
    for name, variable in zip(names, variables, strict=True):
        *above, leaf = name.split("/")
        place = params
        for part in above:
            place = place.setdefault(part, {})
        place[leaf] = jax.ShapeDtypeStruct(tuple(variable.shape), variable.dtype)
    owner = {}
    for layer in model._flatten_layers():
        for variable in layer._trainable_variables:
            owner[id(variable)] = layer
    found = {}
    for name, variable in zip(names, variables, strict=True):
        layer = owner.get(id(variable))
        right = right_of(layer, variable.name, tuple(variable.shape), rules)
        if right is not None:
            found[name] = right
    state = [np.asarray(variable) for variable in model.non_trainable_variables]

    def forward(params, state, *args):
        weights = []
        for name in names:
            place = params
            for part in name.split("/"):
                place = place[part]
            weights.append(place)
        outputs, _ = model.stateless_call(weights, state, *args, **options)
        return sum((x**2).mean() for x in jax.tree.leaves(outputs)) if loss else outputs

    return Case(forward, params, (state, *args), completed(found, params, hand))


def _twice(variable, variables) -> bool:
    return sum(other.path == variable.path for other in variables) > 1
