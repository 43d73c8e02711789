"""What one model of the zoo is, and what its leaves should get."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax


class Right(NamedTuple):
    """The axes that a leaf's layer sums over, and who says so; None where no oracle knows.

    What is in `also` is right, too: to leave a spread of noise on a weight alone, say, which has
    that weight's axes but is not it.
    """

    axes: tuple[int, ...] | None
    owner: str
    also: tuple[tuple[int, ...], ...] = ()


ALONE = ((),)
"""For `Right.also`: to leave the leaf alone is right, too."""

NO_ORACLE = Right(None, "no oracle")
UNUSED = "unused"
"""Said of a leaf that the traced function never reads: no axes are wrong, and none are missing."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A function of parameters, with what is right for each leaf.

    Attributes:
        fn: The forward pass or the loss.
        params: Its first argument: a tree of shapes (or of arrays).
        args: The other arguments.
        right: What is right, by the path of the leaf.
        named: The tree for `fan_in_by_name`; None for `params`.
    """

    fn: Callable[..., Any]
    params: Any
    args: tuple[Any, ...]
    right: Mapping[str, Right]
    named: Any = None


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model of the zoo by name; it is built when it is its turn."""

    name: str
    build: Callable[[], Case]


ByHand = Sequence[tuple]
"""Regular expression for the whole path of a leaf, its axes, why these, and `Right.also`."""


def key_of(path) -> str:
    """The path of a leaf as it stands in the tables."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaves_of(tree) -> dict[str, Any]:
    """The arrays of a tree by path."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {key_of(path): leaf for path, leaf in found if hasattr(leaf, "shape")}


def by_hand(path: str, rules: ByHand) -> Right | None:
    """What an entry states itself about a leaf that no module of a known type owns."""
    for pattern, axes, why, *also in rules:
        if re.fullmatch(pattern, path):
            return Right(axes, why if why == UNUSED else f"by hand: {why}", *also)
    return None


def completed(found: Mapping[str, Right], tree, rules: ByHand = ()) -> dict[str, Right]:
    """What is right for all leaves of `tree`: by hand, by the owner, or since it is a vector."""
    right = {}
    for path, leaf in leaves_of(tree).items():
        stated = by_hand(path, rules) or found.get(path)
        if stated is None and len(leaf.shape) < 2:
            stated = Right((), "vector")
        right[path] = stated or NO_ORACLE
    return right


def stacked(axes: Iterable[int], extra: int, at: int = 0) -> tuple[int, ...]:
    """Axes of one layer as axes of a stack of them, whose `extra` axes were put in at `at`."""
    return tuple(axis + extra if axis >= at else axis for axis in axes)
