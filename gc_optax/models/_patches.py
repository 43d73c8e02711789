"""Convolution as one matrix product, for training on CPUs.

XLA runs convolutions slowly there in two cases that a compiled epoch has: inside a loop, where the
gradient of one for its kernel took 20 times as long as outside, and under `jax.vmap` over kernels
(many networks side by side), which makes it a grouped convolution. The price is memory: the patches
are as many times larger than the input as the kernel has taps.

Where a convolution with stride 1 does not add channels, the patches are along the columns only, the
product is with all rows of the kernel at once, and what belongs to an output is then added up over
rows. That moves half as much memory, which is what bounds small networks: ResNet-8 trained 1.2 to
1.5 times as fast on two cores. Where it adds channels, the products are larger than the patches.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

MANY_ROWS = 8
"""Of an output: with fewer, the product of its padded rows costs more than the patches."""


def convolve_by_patches(
    inputs: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    feature_group_count: int = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type=None,
    **layout,
) -> jax.Array:
    """Stands in for `jax.lax.conv_general_dilated` in a two-dimensional `nnx.Conv`.

    `inputs` are `(batch, height, width, in)`, `kernel` is `(height, width, in / groups, out)`.
    Dilation is not supported.
    """
    del layout  # nnx.Conv always passes the layout above
    if any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ()))):
        raise NotImplementedError(
            "convolve_by_patches does not support dilation: leave `conv_general_dilated` of that "
            "nnx.Conv at its default."
        )
    rows, columns, depth, features = kernel.shape
    down, across = window_strides
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(inputs.shape[1:3], (rows, columns), window_strides, padding)
    padded = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
    height = (padded.shape[1] - rows) // down + 1
    width = (padded.shape[2] - columns) // across + 1
    options = {"precision": precision, "preferred_element_type": preferred_element_type}
    smaller = features <= depth and height >= MANY_ROWS
    if smaller and feature_group_count == down == across == 1:
        return _by_rows(padded, kernel, height, width, options)
    # Along the rows first and then along the columns takes half the time of all taps at once.
    across_rows = _taps(padded, columns, across, width, axis=2)
    patches = _taps(across_rows, rows, down, height, axis=1)
    # The patches hold (row, column, channel) in the order of the kernel's first three axes, and the
    # channels hold (group, channel of the group).
    groups, taps = feature_group_count, rows * columns
    if groups == 1:  # the general product takes twice as long
        product = jnp.dot(
            patches.reshape(-1, taps * depth), kernel.reshape(-1, features), **options
        )
    else:
        product = jnp.einsum(
            "ptgc,tcgf->pgf",
            patches.reshape(-1, taps, groups, depth),
            kernel.reshape(taps, depth, groups, features // groups),
            **options,
        )
    return product.reshape(inputs.shape[0], height, width, features)


def _by_rows(
    padded: jax.Array, kernel: jax.Array, height: int, width: int, options: dict[str, Any]
) -> jax.Array:
    """Stride 1: patches along the columns, and a sum over the rows of the kernel."""
    rows, columns, depth, features = kernel.shape
    patches = _taps(padded, columns, 1, width, axis=2)
    # All rows of the kernel side by side, each `(column, channel) -> feature`.
    kernels = kernel.transpose(1, 2, 0, 3).reshape(columns * depth, rows * features)
    product = jnp.dot(patches.reshape(-1, columns * depth), kernels, **options)
    product = product.reshape(*patches.shape[:3], rows, features)
    return sum(
        (product[:, row : row + height, :, row] for row in range(1, rows)),
        start=product[:, :height, :, 0],
    )


def _taps(inputs: jax.Array, taps: int, stride: int, size: int, axis: int) -> jax.Array:
    """What each of `size` windows of `taps` sees along `axis`, side by side in the last axis."""
    last = (size - 1) * stride + 1
    seen = [
        lax.slice_in_dim(inputs, tap, tap + last, stride=stride, axis=axis) for tap in range(taps)
    ]
    return jnp.concatenate(seen, axis=-1)
