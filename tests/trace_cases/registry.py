"""What a case is, and where all of them are kept."""

from collections.abc import Callable
from typing import Any

import jax

Case = tuple[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]]
CASES: dict[str, Callable[[], Case]] = {}
KEY = jax.random.key(0)


def case(function: Callable[[], Case]) -> Callable[[], Case]:
    CASES[function.__name__] = function
    return function


def paths(expected: dict[str, Any]) -> dict[str, Any]:
    """Paths that were written as the names of arguments, with `__` for `/`."""
    return {name.replace("__", "/"): axes for name, axes in expected.items()}
