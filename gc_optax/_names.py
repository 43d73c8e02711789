"""`fan_in_by_name`: the fan-in axes as far as names and shapes can tell.

Names choose a rule, which lists the layouts that a layer of that name can have. Those that the
shapes of the leaf, of its bias and of what stands around it allow are its readings. Where all sum
over the same axes, that is the answer. Where they do not, the first is, as a guess.
"""

import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey, KeyPath

from gc_optax._arguments import params_tree
from gc_optax._fan_in import FanIn, fan_in_size, is_array, is_centralizable
from gc_optax._layouts import CONV_TRANSPOSE, DEPTHWISE, Layout, Reading, Shape, readings
from gc_optax._name_rules import CONV, POINTWISE, rule_for
from gc_optax._surroundings import Leaf, Surroundings
from gc_optax._trees import FanInTree, PyTree, path_name

RANK_IN_NAME = re.compile(r"conv_?([123])_?d(?![a-z])")


def fan_in_by_name(params: PyTree) -> FanInTree:
    """The fan-in axes of each leaf, from names and shapes: its own, its bias's, its neighbors'.

    Knows how Flax (Linen and NNX), Haiku, Equinox and Keras name and store their parameters, from
    the table of rules in the documentation. The bias next to a kernel shows which axes are its
    outputs, and neighboring scales and biases show whether layers are stacked. So pass the whole
    tree of parameters: leaves that `optax.masked` removes are no evidence.

    If names and shapes allow several answers, the leaf gets the likeliest one, with `guess=True`.
    Leaves that have a rank below 2 or a fan-in of 1, are empty, or are not floats are left alone.

    Args:
        params: Parameters, gradients or updates of any shapes: a tree of arrays or
            `jax.ShapeDtypeStruct`. An NNX module stands for the `nnx.State` of pure arrays that
            `nnx.Optimizer` passes on.

    Returns:
        A tree of `FanIn` with the structure of `params`. It raises no error: what it does not
        know is handled as above.

    Examples:
        >>> import gc_optax, jax.numpy as jnp
        >>> conv = {"kernel": jnp.ones((3, 3, 8, 16)), "bias": jnp.ones(16)}
        >>> gc_optax.fan_in_by_name({"Conv_0": conv})["Conv_0"]["kernel"]
        FanIn(axes=(0, 1, 2), reason='conv', kind='conv', rank=4)

        Without its bias it could also be three one-dimensional convolutions:

        >>> alone = {"Conv_0": {"kernel": jnp.ones((3, 3, 8, 16))}}
        >>> gc_optax.fan_in_by_name(alone)["Conv_0"]["kernel"].reason
        'a guess: conv; or conv, stacked'

    Source: the parameters' layouts are those of flax 0.12, dm-haiku 0.0.16, equinox 0.13 and
    keras 3.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params_tree(params))
    named = {path: Leaf(_names(path), jnp.shape(leaf)) for path, leaf in leaves if is_array(leaf)}
    around = Surroundings(named.values())
    return jax.tree.unflatten(
        structure,
        [
            _fan_in(named[path], around) if is_centralizable(leaf) else _NO_FLOATS
            for path, leaf in leaves
        ],
    )


_NO_FLOATS = FanIn((), "not a float array")


def _names(path: KeyPath) -> tuple[str, ...]:
    """The names on the path. Haiku's, and Keras' paths, hold several in one."""
    if path and path[-1] == GetAttrKey("value"):
        path = path[:-1]  # an NNX variable around the array
    return tuple(path_name(path).split("/"))


def _fan_in(leaf: Leaf, around: Surroundings) -> FanIn:
    rank = len(leaf.shape)
    if rank < 2:
        return FanIn((), "rank below 2", rank=rank)
    if 0 in leaf.shape:
        return FanIn((), "empty", rank=rank)
    rule = rule_for(leaf)
    if not rule.layouts:
        return _by_rank(rank, f"a guess: no rule knows the name `{leaf.name}`")
    bias = around.bias(leaf)
    found = _readings(rule.layouts, leaf, bias)
    if bias is not None and not found:
        found = _readings(rule.by_bias, leaf, bias)
    stacked = around.stacked(leaf)
    found = [reading for reading in found if _allows(stacked, reading)]
    found = _with_norm_beside(found, leaf, around)
    if not found:
        return _by_rank(rank, "a guess: no layer of that name has this shape, beside its bias")
    known = stacked or bias is not None or any(reading.copies == 1 for reading in found)
    agree = len({reading.summed for reading in found}) == 1
    named = not rule.guess and not around.has_strangers(leaf) and _fits_name(found, leaf)
    if known and agree and (named or _is_bias_of_w(leaf, around)):
        return _as_fan_in(found[0], found[0].reason, guess=False)
    reasons = dict.fromkeys(reading.reason for reading in found)
    return _as_fan_in(found[0], f"a guess: {'; or '.join(reasons)}", guess=True)


def _fits_name(found: Sequence[Reading], leaf: Leaf) -> bool:
    """Whether the name speaks for a transposed convolution, where only that would fit.

    So rare a layout under any other name may as well be a layer that is not known.
    """
    only = all(reading.layout is CONV_TRANSPOSE for reading in found)
    return not only or re.search(r"conv|transpos", leaf.module) is not None


def _by_rank(rank: int, reason: str) -> FanIn:
    """All axes but the last: what most frameworks sum over."""
    return FanIn(tuple(range(rank - 1)), reason, guess=True, rank=rank)


def _as_fan_in(reading: Reading, reason: str, guess: bool) -> FanIn:
    rank = len(reading.shape)
    axes = reading.axes
    if not guess and axes and fan_in_size(axes, reading.shape) == 1:
        return FanIn((), "fan-in of 1", rank=rank)
    if not axes:
        return FanIn((), reason, guess=guess, rank=rank)
    kind = reading.layout.kind
    return FanIn(axes, reason, reading.batch_axes, kind=kind, guess=guess, rank=rank)


def _readings(layouts: Sequence[Layout], leaf: Leaf, bias: Shape | None) -> list[Reading]:
    """Convolutions have as many window axes as the name says, if it does."""
    found = [reading for layout in layouts for reading in readings(layout, leaf.shape, bias)]
    rank = RANK_IN_NAME.search(leaf.module)
    if rank is None:
        return found
    return [reading for reading in found if len(reading.window) in (0, int(rank[1]))]


def _allows(stacked: bool | None, reading: Reading) -> bool:
    if stacked is None or reading.layout.kernel == "...":
        return True
    return reading.stacked > 0 if stacked else reading.copies == 1


def _with_norm_beside(found: list[Reading], leaf: Leaf, around: Surroundings) -> list[Reading]:
    """Of a convolution before or after a norm that is not stacked, the readings that fit that.

    The window must be as high as it is wide: a stack of as many one-dimensional convolutions as
    each has taps (where outputs come first, inputs), beside a norm for all, is not looked for.
    """
    norms = around.norms_beside(leaf)
    if not re.fullmatch(CONV, leaf.module) or re.fullmatch(POINTWISE, leaf.module):
        return found
    fits = any(
        not reading.stacked
        and len(reading.window) <= 2
        and len(set(reading.window)) == 1
        and not norms.isdisjoint(reading.features - {1})
        for reading in found
    )
    if not fits:
        return found
    found = [reading for reading in found if not reading.stacked]
    # Keras' depthwise kernels end in (channels, outputs of each): if both are as large as a norm,
    # it may stand before such a layer as well as behind an ordinary one.
    square = leaf.shape[-1] == leaf.shape[-2]
    by_outputs = {reading.layout for reading in found if reading.outputs in norms and not square}
    if around.keras_norm_beside(leaf) and (DEPTHWISE in by_outputs or not by_outputs):
        return found
    return [reading for reading in found if reading.layout is not DEPTHWISE]


def _is_bias_of_w(leaf: Leaf, around: Surroundings) -> bool:
    """Whether Haiku's `b` is the bias of the `w` beside it: LoRA's factor has that name, too."""
    kernel = around.kernel_of(leaf) if leaf.name == "b" else None
    if kernel is None:
        return False
    rule = rule_for(kernel)
    return bool(_readings((*rule.layouts, *rule.by_bias), kernel, leaf.shape))
