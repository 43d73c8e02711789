"""Residual networks for small images."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gc_optax.models._layers import ConvNorm, computation_dtype, global_mean, projection


class ResNet(nnx.Module):
    """Stages of residual blocks, each stage half as large and twice as wide as the one before.

    The form for CIFAR: the stem is one 3x3 convolution, and there is no max pooling. `resnet8` and
    `resnet20` are the three narrow stages that He et al. train on CIFAR (arXiv 1512.03385, section
    4.2); `resnet18` and `resnet101` are their depths for ImageNet. Where the shape changes, the
    shortcut is a 1x1 convolution with batch normalization (their option B).

    Args:
        input_shape: The shape of one image, `(height, width, channels)`.
        classes: The number of logits.
        depths: The number of blocks of each stage.
        bottleneck: Whether blocks are of three convolutions (1x1, 3x3, 1x1 with four times the
            channels) rather than of two (3x3, 3x3).
        width: The number of channels of the stem and of the 3x3 convolutions of the first stage.
        dtype: The dtype of the computation, float32 by default; parameters are float32.
        rngs: The source of the initial weights.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from gc_optax.models import ResNet
        >>> nnx.eval_shape(
        ...     lambda: ResNet((32, 32, 3), 100, rngs=nnx.Rngs(0))(jnp.zeros((2, 32, 32, 3)))
        ... ).shape
        (2, 100)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        *,
        depths: Sequence[int] = (2, 2, 2, 2),
        bottleneck: bool = False,
        width: int = 64,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        dtype = computation_dtype(dtype)
        self.stem = ConvNorm(input_shape[-1], width, 3, dtype=dtype, rngs=rngs)
        block = _Bottleneck if bottleneck else _BasicBlock
        self.blocks = nnx.List()
        channels = width
        for stage, depth in enumerate(depths):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                self.blocks.append(
                    block(channels, width * 2**stage, stride, dtype=dtype, rngs=rngs)
                )
                channels = width * 2**stage * block.expansion
        self.head = nnx.Linear(channels, classes, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits of shape `(batch, classes)` for images `(batch, height, width, channels)`."""
        del rngs  # nothing is dropped
        x = nnx.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(global_mean(x))


class _BasicBlock(nnx.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(
        self, in_channels: int, width: int, stride: int, *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        self.layer1 = ConvNorm(in_channels, width, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.layer2 = ConvNorm(width, width, 3, dtype=dtype, rngs=rngs)
        self.shortcut = projection(in_channels, width, stride, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.layer1(x))
        y = self.layer2(y)
        return nnx.relu(y + self.shortcut(x))


class _Bottleneck(nnx.Module):
    """A 3x3 convolution between two 1x1 convolutions, beside a shortcut."""

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        channels = self.expansion * width
        self.layer1 = ConvNorm(in_channels, width, 1, dtype=dtype, rngs=rngs)
        self.layer2 = ConvNorm(width, width, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.layer3 = ConvNorm(width, channels, 1, dtype=dtype, rngs=rngs)
        self.shortcut = projection(in_channels, channels, stride, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.layer1(x))
        y = nnx.relu(self.layer2(y))
        y = self.layer3(y)
        return nnx.relu(y + self.shortcut(x))


resnet8 = functools.partial(ResNet, depths=(1, 1, 1), width=16)
"""`ResNet` with 8 layers, three narrow stages: 83,892 parameters for RGB images of 100 classes."""

resnet20 = functools.partial(ResNet, depths=(3, 3, 3), width=16)
"""`ResNet` with 20 layers, three narrow stages: 278,324 parameters for RGB images of 100 classes.

For 10 classes it has 272,474. He et al. have shortcuts without parameters (option A), which makes
it 269,722; they publish 0.27 million.
"""

resnet18 = functools.partial(ResNet, depths=(2, 2, 2, 2), bottleneck=False)
"""`ResNet` with 18 layers: 11,220,132 parameters for RGB images of 100 classes."""

resnet101 = functools.partial(ResNet, depths=(3, 4, 23, 3), bottleneck=True)
"""`ResNet` with 101 layers: 42,697,380 parameters for RGB images of 100 classes."""
