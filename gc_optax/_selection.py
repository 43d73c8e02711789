"""`convolutions_only` and `exclude`: choose among the leaves of a `FanIn` tree."""

import re
from collections.abc import Callable
from typing import TypeVar, cast

import jax
from jax.tree_util import KeyPath

from gc_optax._fan_in import FanIn
from gc_optax._trees import FanInTree, flatten_fan_in, is_function, path_name

FanInOrFn = TypeVar("FanInOrFn")
"""A tree of `FanIn`, or a function to one."""


def convolutions_only(fan_in: FanInOrFn) -> FanInOrFn:
    """Keeps the convolutions and leaves everything else alone: the paper's GCC.

    A convolution is a leaf whose `FanIn.kind` is "conv", 1-D ones included. In your own
    trees, write `FanIn((0, 1, 2), kind="conv")`.

    Args:
        fan_in: A tree of `FanIn`, or a function from parameters or updates to one.

    Returns:
        The same kind: a tree for a tree, a function for a function.

    Raises:
        TypeError: A leaf of the tree is not a `FanIn`.

    Examples:
        >>> import gc_optax, optax
        >>> fan_in = gc_optax.convolutions_only(gc_optax.fan_in_by_name)
        >>> optimizer = optax.chain(gc_optax.centralize(fan_in), optax.sgd(0.1, momentum=0.9))

    Source: arXiv 2004.01461, section 4 (GC only on convolution layers, for Adagrad and Adam, and
    the option `gc_conv_only` in the authors' code).
    """
    return _replace(
        fan_in,
        lambda path, leaf: (
            leaf if leaf.kind == "conv" else FanIn((), "not a convolution", rank=leaf.rank)
        ),
    )


def exclude(fan_in: FanInOrFn, *patterns: str | re.Pattern[str]) -> FanInOrFn:
    """Leaves alone the leaves whose path matches one of the regular expressions.

    A pattern is searched for (`re.search`) in the path as `summary` shows it, names joined by
    slashes: `"head"` matches `head/kernel` and `overhead/kernel`, `"^head/"` only the first.

    Args:
        fan_in: A tree of `FanIn`, or a function from parameters or updates to one.
        *patterns: Regular expressions.

    Returns:
        The same kind: a tree for a tree, a function for a function.

    Raises:
        ValueError: A pattern matches no leaf, or is not a regular expression. For a function,
            a missing match is found when it is called; for a tree, immediately.
        TypeError: A leaf of the tree is not a `FanIn`, or the patterns are in a list.

    Examples:
        >>> import gc_optax, jax.numpy as jnp
        >>> params = {"body": {"kernel": jnp.ones((8, 8))}, "head": {"kernel": jnp.ones((8, 1))}}
        >>> gc_optax.exclude(gc_optax.fan_in_by_name, "^head/")(params)["head"]["kernel"]
        FanIn(axes=(), reason='excluded', rank=2)

    Source: added by gc_optax; not in the paper.
    """
    compiled = [_compile(pattern) for pattern in patterns]
    # Checked on the whole tree, since no single leaf can tell that a pattern is unused.
    return _replace(
        fan_in,
        lambda path, leaf: (
            FanIn((), "excluded", rank=leaf.rank)
            if any(p.search(path_name(path)) for p in compiled)
            else leaf
        ),
        check=lambda paths: _check_patterns(compiled, paths),
    )


def _replace(
    fan_in: FanInOrFn,
    function: Callable[[KeyPath, FanIn], FanIn],
    check: Callable[[list[str]], None] = lambda paths: None,
) -> FanInOrFn:
    if fan_in is None:
        raise TypeError(
            "`fan_in` is None: give a tree of FanIn or a function to one, such as "
            "gc_optax.fan_in_by_name."
        )

    def of_tree(tree: FanInTree) -> FanInTree:
        check([path_name(path) for path in flatten_fan_in(tree)])
        return jax.tree_util.tree_map_with_path(function, tree)

    if is_function(fan_in):
        function_of_tree = cast(Callable, fan_in)
        return cast(FanInOrFn, lambda tree: of_tree(function_of_tree(tree)))
    return of_tree(fan_in)


def _compile(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    if isinstance(pattern, list | tuple | set):
        raise TypeError(
            f"`exclude` takes its patterns one by one and not in a {type(pattern).__name__}: write "
            f"exclude(fan_in, {', '.join(map(repr, pattern))})."
        )
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}.") from None


def _check_patterns(patterns: list[re.Pattern[str]], paths: list[str]) -> None:
    for pattern in patterns:
        if not any(pattern.search(path) for path in paths):
            if not paths:
                raise ValueError(
                    f"The pattern {pattern.pattern!r} matches no leaf, for the FanIn tree has "
                    "none: give the parameters' own tree, or no pattern."
                )
            shown = ", ".join(f"`{path}`" for path in paths[:5])
            more = ", ..." if len(paths) > 5 else ""
            raise ValueError(
                f"The pattern {pattern.pattern!r} matches no leaf. The leaves are {shown}{more}: "
                "`gc_optax.summary(params)` shows them all."
            )
