"""`muon_dimension_numbers`: the fan-in axes as the dimension numbers of Optax's Muon."""

from typing import Any

import jax.numpy as jnp
import optax.contrib
from jax.tree_util import KeyPath

from gc_optax._fan_in import FanIn, fan_in_size, is_centralizable, normalized_axes
from gc_optax._nnx import optimized_params
from gc_optax._trees import FanInFn, FanInTree, PyTree, leaf_name, map_with_fan_in, resolve


def muon_dimension_numbers(fan_in: FanInTree | FanInFn, params: PyTree) -> Any:
    """Which axes of each leaf `optax.contrib.muon` treats as the two sides of a matrix.

    Muon orthogonalizes the update of a matrix of shape (fan-in, fan-out). Its default takes every
    leaf of rank 2 for one, embedding tables too, and leaves attention and convolution kernels to
    Adam. The fan-in axes become the reduction axes, all others but the batch axes the output
    axes; leaves that `centralize` leaves alone go to Adam.

    Args:
        fan_in: A tree of `FanIn`, a prefix of one, or a function from `params` to one. Traced
            ones also know the batch axes of stacked layers and experts.
        params: A tree of arrays or `jax.ShapeDtypeStruct` of any shapes, or an NNX module.

    Returns:
        A tree with the structure of `params`, of `optax.contrib.MuonDimensionNumbers` or None,
        for the argument `muon_weight_dimension_numbers`.

    Raises:
        ValueError: An axis is out of range or repeated, or the tree does not fit `params`.
        TypeError: Something that is not a `FanIn` stands where one is due.

    Examples:
        >>> import gc_optax, jax.numpy as jnp, optax
        >>> params = {"query": {"kernel": jnp.ones((64, 4, 16)), "bias": jnp.zeros((4, 16))}}
        >>> numbers = gc_optax.muon_dimension_numbers(gc_optax.fan_in_by_name, params)
        >>> numbers["query"]["kernel"]
        MuonDimensionNumbers(reduction_axis=(0,), output_axis=(1, 2))
        >>> optimizer = optax.contrib.muon(0.02, muon_weight_dimension_numbers=numbers)

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """
    params = optimized_params(params)
    return map_with_fan_in(_dimension_numbers, resolve(fan_in, params), params)


def _dimension_numbers(
    path: KeyPath, fan_in: FanIn, leaf: Any
) -> optax.contrib.MuonDimensionNumbers | None:
    if not fan_in.axes or not is_centralizable(leaf):
        return None
    shape = jnp.shape(leaf)
    where = leaf_name(path, leaf)
    axes = normalized_axes(fan_in, shape, where)
    batch = normalized_axes(FanIn(fan_in.batch_axes), shape, where)
    output = tuple(axis for axis in range(len(shape)) if axis not in axes + batch)
    if fan_in_size(axes, shape) <= 1 or not output:
        return None
    return optax.contrib.MuonDimensionNumbers(reduction_axis=axes, output_axis=output)
