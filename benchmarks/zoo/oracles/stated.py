"""Bare parameters: the entry states the axes by hand, with its reason."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.zoo.case import Case, Right, leaves_of


def case(fn, stated: Mapping[str, tuple], *args: Any) -> Case:
    """A function of a flat dict of parameters.

    Args:
        fn: The function of parameters and `args`.
        stated: By name: the shape, the axes, why these, and True where to leave the leaf alone is
            right, too.
        *args: The data.
    """
    params = {name: jax.ShapeDtypeStruct(row[0], jnp.float32) for name, row in stated.items()}
    right = {
        name: Right(axes, f"by hand: {why}", *alone)
        for name, (_, axes, why, *alone) in stated.items()
    }
    return Case(fn, params, args, {path: right[path] for path in leaves_of(params)})
