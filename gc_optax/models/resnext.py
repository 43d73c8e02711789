"""A residual network with grouped convolutions, for small images."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gc_optax.models._layers import ConvNorm, computation_dtype, global_mean, projection


class ResNeXt(nnx.Module):
    """Three stages of bottleneck blocks whose 3x3 convolution is split into groups.

    The form for CIFAR: a stem of one 3x3 convolution with 64 filters, then stages that give out
    256, 512 and 1024 channels. With three blocks a stage it is ResNeXt-29, by default 4x64d: in
    the first stage 4 groups of 64 channels. Xie et al., arXiv 1611.05431, section 5.3.

    Args:
        input_shape: The shape of one image, `(height, width, channels)`.
        classes: The number of logits.
        depths: The number of blocks of each stage.
        cardinality: The number of groups.
        group_width: The number of channels of each group in the first stage; it doubles with each
            stage.
        width: The number of filters of the stem; the first stage gives out four times as many.
        dtype: The dtype of the computation, float32 by default; parameters are float32.
        rngs: The source of the initial weights.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from gc_optax.models import ResNeXt
        >>> nnx.eval_shape(
        ...     lambda: ResNeXt((32, 32, 3), 100, rngs=nnx.Rngs(0))(jnp.zeros((2, 32, 32, 3)))
        ... ).shape
        (2, 100)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        *,
        depths: Sequence[int] = (3, 3, 3),
        cardinality: int = 4,
        group_width: int = 64,
        width: int = 64,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        dtype = computation_dtype(dtype)
        self.stem = ConvNorm(input_shape[-1], width, 3, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List()
        in_channels = width
        for stage, depth in enumerate(depths):
            inner = cardinality * group_width * 2**stage
            channels = 4 * width * 2**stage
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                self.blocks.append(
                    _GroupedBottleneck(
                        in_channels, inner, channels, stride, cardinality, dtype=dtype, rngs=rngs
                    )
                )
                in_channels = channels
        self.head = nnx.Linear(in_channels, classes, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits of shape `(batch, classes)` for images `(batch, height, width, channels)`."""
        del rngs  # nothing is dropped
        x = nnx.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(global_mean(x))


class _GroupedBottleneck(nnx.Module):
    """A grouped 3x3 convolution between two 1x1 convolutions, beside a shortcut."""

    def __init__(
        self,
        in_channels: int,
        inner: int,
        channels: int,
        stride: int,
        groups: int,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        self.layer1 = ConvNorm(in_channels, inner, 1, **options)
        self.layer2 = ConvNorm(inner, inner, 3, stride=stride, groups=groups, **options)
        self.layer3 = ConvNorm(inner, channels, 1, **options)
        self.shortcut = projection(in_channels, channels, stride, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.layer1(x))
        y = nnx.relu(self.layer2(y))
        y = self.layer3(y)
        return nnx.relu(y + self.shortcut(x))
