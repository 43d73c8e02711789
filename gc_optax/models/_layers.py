"""What the example networks share: convolutions with batch normalization, and the dtypes.

Every network takes a `dtype` for its computation. Parameters, the statistics of norms and the last
dense layer are float32 whatever it is, so logits are too.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

HE_NORMAL = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
"""Keeps the variance of gradients through layers with ReLU (arXiv 1502.01852)."""


def computation_dtype(dtype: DTypeLike | None) -> DTypeLike:
    """`dtype`, by default float32, also where the inputs have another."""
    return jnp.float32 if dtype is None else dtype


def convolution(
    in_channels: int,
    channels: int,
    size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A square kernel without bias, padded so that stride 1 keeps the size of the image."""
    return nnx.Conv(
        in_channels,
        channels,
        (size, size),
        strides=stride,
        padding=size // 2,
        feature_group_count=groups,
        use_bias=False,
        kernel_init=HE_NORMAL,
        dtype=dtype,
        rngs=rngs,
    )


class BatchNorm(nnx.BatchNorm):
    """Normalizes in float32 and gives back the dtype of its input (arXiv 1502.03167)."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        # 0.9 of the old statistics and 0.1 of the batch's, which PyTorch calls a momentum of 0.1.
        super().__init__(channels, momentum=0.9, epsilon=1e-5, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array, *args, **kwargs) -> jax.Array:
        return super().__call__(x, *args, **kwargs).astype(x.dtype)


class ConvNorm(nnx.Module):
    """A convolution and the batch normalization of what it gives."""

    def __init__(self, in_channels: int, channels: int, size: int, *, rngs: nnx.Rngs, **options):
        # The norm has a bias of its own, which would make the convolution's redundant.
        self.conv = convolution(in_channels, channels, size, rngs=rngs, **options)
        self.norm = BatchNorm(channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


def projection(in_channels: int, channels: int, stride: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
    """The shortcut: a 1x1 convolution where the shape changes, else the identity."""
    if stride == 1 and in_channels == channels:
        return nnx.identity
    return ConvNorm(in_channels, channels, 1, stride=stride, dtype=dtype, rngs=rngs)


def global_mean(x: jax.Array) -> jax.Array:
    """The mean over the pixels of each image, in float32: `(batch, channels)`."""
    return x.mean((1, 2), dtype=jnp.float32)


def mean_pool(x: jax.Array) -> jax.Array:
    """Averages over squares of 2 x 2 pixels; an odd last row or column is dropped."""
    batch, height, breadth, channels = x.shape
    height, breadth = height // 2, breadth // 2
    squares = x[:, : 2 * height, : 2 * breadth].reshape(batch, height, 2, breadth, 2, channels)
    return squares.mean((2, 4))
