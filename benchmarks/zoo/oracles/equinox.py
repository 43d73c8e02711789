"""Equinox: the owner of a leaf stands on its path through the module."""

from typing import Any

import equinox as eqx
import jax
from jax.tree_util import DictKey, GetAttrKey, SequenceKey

from benchmarks.zoo.case import ByHand, Case, Right, completed, key_of, stacked
from benchmarks.zoo.oracles.rules import all_but_first

RULES: dict[str, Any] = {
    "Linear": {"weight": lambda module: 2},
    "Conv": {"weight": lambda module: module.num_spatial_dims + 2},
    "ConvTranspose": {"weight": lambda module: module.num_spatial_dims + 2},
    "GRUCell": {"weight_ih": lambda module: 2, "weight_hh": lambda module: 2},
    "LSTMCell": {"weight_ih": lambda module: 2, "weight_hh": lambda module: 2},
}
"""By class and leaf: the rank of the kernel of one layer. All are stored (out, in, ...)."""

NO_AXES = {"Embedding", "LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm", "PReLU"}


def right_of(module, leaf: str, shape, rules=None) -> Right | None:
    """What is right for the attribute `leaf` of a module, or None if its type is not known."""
    for base in type(module).__mro__:
        name = base.__name__
        if rules and leaf in rules.get(name, {}):
            return Right(rules[name][leaf](module, shape), name)
        if name in NO_AXES or (name in RULES and "bias" in leaf):
            return Right((), name)
        if leaf in RULES.get(name, {}):
            extra = len(shape) - RULES[name][leaf](module)
            return Right(stacked(all_but_first(shape[extra:]), extra), name)
    return None


def owner_of(model, path) -> tuple[Any, str]:
    """The module that has the leaf as an attribute (or in a list or dict that is one)."""
    owner, leaf, value = None, "", model
    for key in path:
        match key:
            case GetAttrKey(name):
                owner, leaf, value = value, name, getattr(value, name)
            case SequenceKey(index):
                value = value[index]
            case DictKey(name):
                value = value[name]
            case _:
                break
    return owner, leaf


def case(
    make,
    *args,
    call=None,
    hand: ByHand = (),
    rules=None,
    loss: bool = False,
    batch: bool = True,
    real: bool = False,
) -> Case:
    """The module that `make(key)` gives, called on `args`.

    Args:
        make: A function of a key.
        *args: Inputs, of which arrays may be shapes; with `batch` they have a leading batch axis.
        call: A function of module and inputs in place of the module's call.
        hand: What is right for leaves without an owner of a known type.
        rules: For classes of a package: name and leaf to a function of module and shape.
        loss: Whether to trace a scalar loss and not the outputs.
        batch: Whether to vmap over the inputs.
        real: Whether to compute the weights: for modules that look into their arrays.
    """
    shaped = (lambda make, key: make(key)) if real else eqx.filter_eval_shape
    model = shaped(make, jax.random.key(0))
    params, static = eqx.partition(model, lambda leaf: _is_float(leaf))
    call = call or (lambda model, *args: model(*args))

    def forward(params, *args):
        whole = eqx.combine(params, static)
        one = lambda *args: call(whole, *args)  # noqa: E731
        outputs = (jax.vmap(one) if batch else one)(*args)
        return sum((x**2).mean() for x in jax.tree.leaves(outputs)) if loss else outputs

    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        right = right_of(*owner_of(model, path), leaf.shape, rules)
        if right is not None:
            found[key_of(path)] = right
    return Case(forward, params, args, completed(found, params, hand))


def _is_float(leaf) -> bool:
    return eqx.is_inexact_array(leaf) or (
        isinstance(leaf, jax.ShapeDtypeStruct)
        and jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact)
    )
