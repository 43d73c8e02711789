"""What constants of a program are, where that decides: index arrays, matrices that choose rows.

Constants that the function closes over are known. Those that it makes (`iota`, comparisons of
positions, the weights of an interpolation) are computed here when a rule asks for them.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gc_optax._tracing.values import Value

LARGEST = 2**24
"""Up to how many entries a constant is looked at."""


def known(value: Value) -> Any:
    """The NumPy array, or None where it depends on keys or loops, or is too large to look at."""
    if callable(value.array):
        make, value.array = value.array, None
        value.array = make()
    return value.array


def made_by(eqn: Any, operands: list[Value], index: int) -> Any:
    """What computes an output of an equation from the values of its operands."""

    def make() -> np.ndarray | None:
        if np.prod(eqn.outvars[index].aval.shape, dtype=float) > LARGEST:
            return None
        arrays = [known(value) for value in operands]
        if any(array is None for array in arrays):
            return None
        with jax.ensure_compile_time_eval():
            out = eqn.primitive.bind(*arrays, **eqn.params)
        return np.asarray(out[index] if eqn.primitive.multiple_results else out)

    return make


def closed_array(array: Any) -> np.ndarray | None:
    """An array of the program as it is; None for keys, and for what is too large."""
    if jnp.issubdtype(jnp.result_type(array), jax.dtypes.extended) or np.size(array) > LARGEST:
        return None
    return np.asarray(array)


def is_permutation(value: Value, size: int) -> bool:
    """Whether this is known to be an index array that has every row once."""
    array = known(value)
    return array is not None and np.array_equal(np.sort(array, axis=None), np.arange(size))


def is_permutation_matrix(value: Value) -> bool:
    """Whether this is known to be a matrix that has a single 1 in each row and column."""
    array = known(value)
    if array is None or array.ndim != 2 or array.shape[0] != array.shape[1]:
        return False
    is_one = array == 1
    return bool(
        is_one.sum() == np.count_nonzero(array)
        and (is_one.sum(0) == 1).all()
        and (is_one.sum(1) == 1).all()
    )


def sums_to_one(value: Value, dims: Any) -> bool:
    """Whether a constant takes weighted means over these dimensions, or chooses along them."""
    array = known(value)
    if array is None or not dims or not np.issubdtype(array.dtype, np.number):
        return False
    return bool(np.allclose(array.sum(tuple(dims), dtype=np.float64), 1, rtol=0, atol=1e-4))
