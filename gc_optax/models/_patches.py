"""Convolution as one matrix product, for kernels that are mapped over.

`jax.vmap` over the kernel of a convolution (many networks trained side by side) makes it a grouped
convolution, which XLA runs slowly on CPUs: on two cores, an epoch of eight small networks took
eight times as long as with this function. The price is memory: the patches are as many times
larger than the input as the kernel has taps.
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

    `inputs` are `(batch, height, width, in)`, `kernel` is `(height, width, in, out)`. Dilation and
    groups are not supported.
    """
    del layout  # nnx.Conv always passes the layout above
    if feature_group_count != 1 or any(
        d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ()))
    ):
        raise NotImplementedError(
            "convolve_by_patches supports neither dilation nor feature groups: leave "
            "`conv_general_dilated` of that nnx.Conv at its default."
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
    # The patches hold (row, column, channel) in the order of the kernel's first three axes.
    product = jnp.dot(
        patches.reshape(-1, rows * columns * depth),
        kernel.reshape(-1, features),
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    return product.reshape(inputs.shape[0], height, width, features)
