"""Reads a Flax NNX module as `nnx.Optimizer` does, without depending on Flax."""

import sys

from gc_optax._trees import PyTree


def optimized_params(params: PyTree) -> PyTree:
    """The tree that `nnx.Optimizer(..., wrt=nnx.Param)` passes to `tx.update`, for a module.

    Anything else is returned as it is. Who holds a module has imported Flax.
    """
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(params, nnx.Module):
        return nnx.as_pure(nnx.state(params, nnx.Param))
    return params
