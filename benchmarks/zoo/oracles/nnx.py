"""Flax NNX: the owner of a leaf is the module of the graph that holds it."""

from typing import Any

import jax
from flax import nnx

from benchmarks.zoo.case import ByHand, Case, Right, completed, stacked
from benchmarks.zoo.oracles.rules import all_but_last, all_but_second_to_last, einsum_axes


def _length(value) -> int:
    return len(value) if hasattr(value, "__len__") else 1


def _linear_general(module, shape):
    batch = len(module.batch_axis)
    return tuple(range(batch, batch + _length(module.in_features)))


def _conv_rank(module) -> int:
    return _length(module.kernel_size) + 2


RULES: dict[str, Any] = {
    "Linear": {"kernel": (lambda m: 2, lambda m, s: (0,))},
    "LinearGeneral": {
        "kernel": (
            lambda m: len(m.batch_axis) + _length(m.in_features) + _length(m.out_features),
            _linear_general,
        )
    },
    "Einsum": {
        "kernel": (lambda m: len(m.kernel_shape), lambda m, s: einsum_axes(m.einsum_str, s))
    },
    "Conv": {"kernel": (_conv_rank, lambda m, s: all_but_last(s))},
    "ConvTranspose": {
        "kernel": (
            _conv_rank,
            lambda m, s: all_but_second_to_last(s) if m.transpose_kernel else all_but_last(s),
        )
    },
    "LoRA": {
        "lora_a": (lambda m: 2, lambda m, s: (0,)),
        "lora_b": (lambda m: 2, lambda m, s: (0,)),
    },
}
"""By class and leaf: the rank for one layer, and the axes of a kernel of this shape."""

NO_AXES = {"Embed", "BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm", "PReLU"}


def right_of(module, leaf: str, shape, stack_axis: int = 0, rules=None) -> Right | None:
    """What is right for the leaf of a module, or None if its type is not known."""
    for base in type(module).__mro__:
        name = base.__name__
        if rules and leaf in rules.get(name, {}):
            return Right(rules[name][leaf](module, shape), name)
        if leaf in RULES.get(name, {}):
            rank, axes = RULES[name][leaf]
            extra = len(shape) - rank(module)
            one = shape[:stack_axis] + shape[stack_axis + extra :]
            return Right(stacked(axes(module, one), extra, stack_axis), name)
        if name in NO_AXES or (name in RULES and leaf == "bias"):
            return Right((), name)
    return None


def case(
    make,
    *args,
    call=None,
    wrt=nnx.Param,
    hand: ByHand = (),
    rules=None,
    stack_axis: int = 0,
    loss: bool = False,
    real: bool = False,
) -> Case:
    """The module that `make(rngs)` gives, called on `args`.

    Args:
        make: A function of `nnx.Rngs`.
        *args: Inputs, of which arrays may be shapes.
        call: A function of module and inputs in place of the module's call.
        wrt: The type of Variable that is optimized.
        hand: What is right for leaves without an owner of a known type.
        rules: For classes of a package: name and leaf to a function of module and shape.
        stack_axis: Where the axis of stacked layers stands.
        loss: Whether to trace a scalar loss and not the outputs.
        real: Whether to compute the weights: for modules that look into their arrays.
    """
    model = make(nnx.Rngs(0)) if real else nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    graph, params, rest = nnx.split(model, wrt, ...)
    call = call or (lambda model, *args: model(*args))

    def forward(params, *args):
        outputs = call(nnx.merge(graph, params, concrete(rest)), *args)
        return sum((x**2).mean() for x in jax.tree.leaves(outputs)) if loss else outputs

    tree = nnx.to_pure_dict(params)
    found = {}
    for path, node in nnx.iter_graph(model):
        for leaf, value in vars(node).items() if isinstance(node, nnx.Module) else ():
            shape = getattr(value, "shape", None) if isinstance(value, wrt) else None
            right = right_of(node, leaf, shape, stack_axis, rules) if shape is not None else None
            if right is not None:
                found["/".join(map(str, (*path, leaf)))] = right
    return Case(
        lambda tree, *args: forward(_filled(params, tree), *args),
        tree,
        args,
        completed(found, tree, hand),
    )


def _filled(params, tree):
    """The state `params` with the arrays of a pure dict."""
    state = jax.tree.map(lambda leaf: leaf, params)
    nnx.replace_by_pure_dict(state, tree)
    return state


def concrete(rest):
    """The other arrays of a module (keys, statistics) as arrays: they are small."""

    def array(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            keys = jax.random.split(jax.random.key(0), leaf.shape) if leaf.shape else None
            return jax.random.key(0) if keys is None else keys
        return jax.numpy.ones(leaf.shape, leaf.dtype)

    return jax.tree.map(array, rest)
