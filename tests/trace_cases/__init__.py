"""Functions and real modules whose fan-in axes are known by hand, for the tests of tracing.

A case is a function that returns `(fn, params, args, expected)`: `expected` holds the axes of each
leaf that is to be centralized, by path, and with `(axes, batch_axes)` where copies are stacked.
All other leaves are to be left alone.
"""

from tests.trace_cases import (
    of_equinox,
    of_haiku,
    of_jax_functions,
    of_jax_layers,
    of_jax_stacks,
    of_jax_weights,
    of_linen,
    of_nnx,
)
from tests.trace_cases.registry import CASES

__all__ = [
    "CASES",
    "of_equinox",
    "of_haiku",
    "of_jax_functions",
    "of_jax_layers",
    "of_jax_stacks",
    "of_jax_weights",
    "of_linen",
    "of_nnx",
]
