"""`fan_in_by_name`: the fan-in axes as far as the names and ranks of the leaves can tell.

The rules are the table `RULES`, in the order in which they are tried.
"""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey, KeyPath

from gc_optax._arguments import params_tree
from gc_optax._fan_in import FanIn, fan_in_size, is_centralizable
from gc_optax._trees import FanInTree, PyTree, path_name

AXES = {
    "none": lambda rank: (),
    "first": lambda rank: (0,),
    "second to last": lambda rank: (rank - 2,),
    "all but the first": lambda rank: tuple(range(1, rank)),
    "all but the second to last": lambda rank: (*range(rank - 2), rank - 1),
    "all but the last": lambda rank: tuple(range(rank - 1)),
}


class Rule(NamedTuple):
    """One row: what the leaf and the module around it are called, and what follows."""

    leaf: str  # regular expression for the whole name of the leaf, in lower case
    module: str  # the same for the nearest module above it; "" where the leaf has none
    ranks: str  # "2", "3" or "4+"
    axes: str  # a key of AXES
    reason: str


EMBEDDING = r"(?!.*(unembed|patch)).*embed.*|wte|wpe"
HEADS = r"(q|k|v|query|key|value)(_?proj.*)?"
MERGE = r"(o|out|output)(_?proj.*)?"
DENSE = r".*(dense|linear|mlp|fc|proj).*"
LINEAR = r".*(dense|lin|mlp|fc|proj|head|layers).*"
CONV = r".*conv.*"
CONV_TRANSPOSE = r".*(conv.*transpose|transpose.*conv|deconv).*"

STACKED = "a guess: rank {rank} may be a stacked layer, split heads or a 1-D convolution"
TRANSPOSED = "conv transpose (a guess: with transpose_kernel=True the last two axes are swapped)"
BY_RANK = "conv (a guess from the rank)"
ANY_WEIGHT = "dense (a guess: an embedding or a scale may be called `weight` too)"
UNKNOWN = "a guess: no rule knows the name `{leaf}`"

RULES = (
    Rule(r".*bias.*|b|beta|offset", r".*", "2+", "none", "bias"),
    Rule(r"(.*_)?scale|gamma", r".*", "2+", "none", "scale"),
    Rule(rf"{EMBEDDING}|.*pos_?emb|cls|.*_token", r".*", "2+", "none", "embedding lookup"),
    # Flax Linen and NNX: (..., in, out).
    Rule(r"kernel", HEADS, "3", "first", "attention heads"),
    Rule(r"kernel", MERGE, "3", "all but the last", "attention output"),
    Rule(r"kernel", r".*conv_?local.*", "3+", "second to last", "local conv"),
    Rule(r"kernel", CONV_TRANSPOSE, "3+", "all but the last", TRANSPOSED),
    Rule(r"kernel", CONV, "3+", "all but the last", "conv"),
    Rule(r"kernel|lora_a|lora_b", r".*", "2", "first", "dense"),
    Rule(r"kernel", rf"{HEADS}|{MERGE}|{DENSE}", "3+", "all but the last", STACKED),
    Rule(r"kernel", r".*", "3", "all but the last", STACKED),
    Rule(r"kernel", r".*", "4+", "all but the last", BY_RANK),
    # Haiku: (..., in, out), but transposed convolutions (..., out, in).
    Rule(r"w", CONV_TRANSPOSE, "3+", "all but the second to last", "conv transpose"),
    Rule(r"w", CONV, "3+", "all but the last", "conv"),
    Rule(r"w|w_i|w_h", r".*", "2", "first", "dense"),
    Rule(r"w", r".*", "3", "all but the last", STACKED),
    Rule(r"w", r".*", "4+", "all but the last", BY_RANK),
    # Equinox, and whoever else stores as PyTorch does: (out, in, ...).
    Rule(r"weight", r".*norm.*", "2+", "none", "scale"),
    Rule(r"weight", EMBEDDING, "2+", "none", "embedding lookup"),
    Rule(r"weight", rf"{LINEAR}|{HEADS}|{MERGE}", "2", "all but the first", "dense"),
    Rule(r"weight_ih|weight_hh", r".*", "2", "all but the first", "dense"),
    Rule(r"weight", r".*", "2", "all but the first", ANY_WEIGHT),
    Rule(r"weight", CONV, "3+", "all but the first", "conv"),
    Rule(r"weight", rf"{LINEAR}|{HEADS}|{MERGE}", "3+", "all but the first", STACKED),
    Rule(r"weight", r".*", "3+", "all but the first", BY_RANK),
    Rule(r".*", r".*", "2+", "all but the last", UNKNOWN),
)


def fan_in_by_name(params: PyTree) -> FanInTree:
    """The fan-in axes of each leaf, by its name, the name of the module around it, and its rank.

    Knows what Flax (Linen and NNX), Haiku and Equinox call their parameters, by the table of
    rules in `gc_optax/_names.py`, also shown in the documentation. Where the names cannot tell
    (stacked layers, unknown names), the leaf gets the plain rule, all axes but the last, and its
    reason says that this is a guess. Leaves of rank below 2, of fan-in 1, empty ones and those
    that are not floats are left alone.

    Args:
        params: Parameters, gradients or updates of any shapes: a tree of arrays or
            `jax.ShapeDtypeStruct`. An NNX module stands for the `nnx.State` of pure arrays that
            `nnx.Optimizer` passes on.

    Returns:
        A tree of `FanIn` with the structure of `params`. It raises no error: for what it does
        not know, see above.

    Examples:
        >>> import gc_optax, jax.numpy as jnp
        >>> fan_in = gc_optax.fan_in_by_name({"Conv_0": {"kernel": jnp.ones((3, 3, 8, 16))}})
        >>> fan_in["Conv_0"]["kernel"]
        FanIn(axes=(0, 1, 2), reason='conv', kind='conv', rank=4)

    Source: the parameters' layouts are those of flax 0.12, dm-haiku 0.0.16 and equinox 0.13.
    """
    return jax.tree_util.tree_map_with_path(_fan_in_of_leaf, params_tree(params))


def _fan_in_of_leaf(path: KeyPath, leaf) -> FanIn:
    if not is_centralizable(leaf):
        return FanIn((), "not a float array")
    shape = jnp.shape(leaf)
    rank = len(shape)
    if rank < 2:
        return FanIn((), "rank below 2", rank=rank)
    if 0 in shape:
        return FanIn((), "empty", rank=rank)
    name, module = _names(path)
    rule = next(rule for rule in RULES if _matches(rule, name, module, rank))
    axes = AXES[rule.axes](rank)
    if axes and fan_in_size(axes, shape) == 1:
        return FanIn((), "fan-in of 1", rank=rank)
    reason = rule.reason.format(leaf=name, rank=rank)
    kind = "other"
    if axes:
        kind = "conv" if "conv" in rule.reason.split("(")[0] else "dense"
    return FanIn(axes, reason, kind=kind, guess="guess" in reason, rank=rank)


def _names(path: KeyPath) -> tuple[str, str]:
    """The lower-case names of the leaf and of the nearest module above it."""
    if path and path[-1] == GetAttrKey("value"):
        path = path[:-1]  # an NNX variable around the array
    # Haiku's module names hold slashes; numbers only count the layers of a list.
    *above, leaf = path_name(path).lower().split("/")
    return leaf, next((name for name in reversed(above) if not name.isdigit()), "")


def _matches(rule: Rule, leaf: str, module: str, rank: int) -> bool:
    lowest = int(rule.ranks.rstrip("+"))
    return (
        (rank >= lowest if rule.ranks.endswith("+") else rank == lowest)
        and re.fullmatch(rule.leaf, leaf) is not None
        and re.fullmatch(rule.module, module) is not None
    )
