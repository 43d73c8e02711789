"""Convolution as one matrix product, for training on CPUs.

XLA runs convolutions slowly there in two cases that a compiled epoch has: inside a loop, where the
gradient of one for its kernel took 20 times as long as outside, and under `jax.vmap` over kernels
(many networks side by side), which makes it a grouped convolution. The price is memory: the patches
are as many times larger than the input as the kernel has taps.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax


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
    patches = jnp.concatenate(
        [
            padded[
                :, i : i + (height - 1) * down + 1 : down, j : j + (width - 1) * across + 1 : across
            ]
            for i in range(rows)
            for j in range(columns)
        ],
        axis=-1,
    )
    # The patches hold (row, column, channel) in the order of the kernel's first three axes, and the
    # channels hold (group, channel of the group).
    groups = feature_group_count
    product = jnp.einsum(
        "ptgc,tcgf->pgf",
        patches.reshape(-1, rows * columns, groups, depth),
        kernel.reshape(rows * columns, depth, groups, features // groups),
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    return product.reshape(inputs.shape[0], height, width, features)
