"""`muon_dimension_numbers`: the fan-in axes as the dimension numbers of Optax's Muon."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax.contrib
from jax.tree_util import KeyPath

from gc_optax._arguments import params_tree
from gc_optax._fan_in import FanIn, fan_in_size, is_centralizable, normalized_axes
from gc_optax._matching import map_with_fan_in
from gc_optax._trees import FanInFn, FanInTree, PyTree, leaf_name


def muon_dimension_numbers(fan_in: FanInTree | FanInFn | None, params: PyTree = None) -> Any:
    """Which axes of each leaf `optax.contrib.muon` treats as the two sides of a matrix.

    Muon orthogonalizes the update of a matrix of shape (fan-in, fan-out). By default it treats
    every rank-2 leaf as a matrix, embedding tables too, and leaves attention and convolution
    kernels to Adam. Here the fan-in axes become the reduction axes, and all others except the
    batch axes become the output axes. None, which leaves a leaf to Adam, is used for

    - what `centralize` leaves alone, such as the output head with `exclude(fan_in, "^head/")`;
    - grouped convolutions, including depthwise ones, whose kernels are as many matrices as
      there are groups, and convolutions whose groups are unknown. Tracing finds the groups;
    - guesses.

    Args:
        fan_in: As for `centralize`. A traced tree also has the batch axes of stacked layers and
            experts, and the groups of convolutions.
        params: A tree of arrays or `jax.ShapeDtypeStruct` of any shapes, or an NNX module.
            Without it the result is a function of the parameters.

    Returns:
        A tree of `optax.contrib.MuonDimensionNumbers` or None, with the structure of `params`;
        without `params`, a function that returns it. Either can be passed as
        `muon_weight_dimension_numbers`; for an Equinox module pass the function, because Optax
        would call the module.

    Raises:
        ValueError: An axis is out of range or repeated, or the tree does not fit `params`.
        TypeError: Something that is not a `FanIn` stands where one is expected.

    Examples:
        >>> import gc_optax, jax.numpy as jnp, optax
        >>> params = {"query": {"kernel": jnp.ones((64, 4, 16)), "bias": jnp.zeros((4, 16))}}
        >>> numbers = gc_optax.muon_dimension_numbers(gc_optax.fan_in_by_name)
        >>> numbers(params)["query"]["kernel"]
        MuonDimensionNumbers(reduction_axis=(0,), output_axis=(1, 2))
        >>> optimizer = optax.contrib.muon(0.02, muon_weight_dimension_numbers=numbers)

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """
    if params is None:
        return _function_of_params(fan_in)
    return map_with_fan_in(_dimension_numbers, fan_in, params_tree(params))


def _function_of_params(fan_in: FanInTree | FanInFn | None) -> Callable[[PyTree], Any]:
    """`muon_dimension_numbers(fan_in, params)` as a function of `params`.

    Optax calls it with all parameters, and then with those that are Muon's alone: names without
    the biases beside them would be guesses. So what was said of all holds for this part of them.
    """
    last: dict[tuple[KeyPath, tuple[int, ...]], Any] = {}

    def of_params(params: PyTree) -> Any:
        leaves, structure = jax.tree_util.tree_flatten_with_path(params_tree(params))
        names = [(path, getattr(leaf, "shape", ())) for path, leaf in leaves]
        if names != [name for name, numbers in last.items() if numbers is not None]:
            numbers = structure.flatten_up_to(muon_dimension_numbers(fan_in, params))
            last.clear()
            last.update(zip(names, numbers, strict=True))
        return jax.tree.unflatten(structure, [last[name] for name in names])

    return of_params


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
    is_one_matrix = fan_in.kind != "conv" or fan_in.groups == 1
    if fan_in_size(axes, shape) <= 1 or not output or not is_one_matrix or fan_in.guess:
        return None
    return optax.contrib.MuonDimensionNumbers(reduction_axis=axes, output_axis=output)
