"""A densely connected convolutional network, for small images."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gc_optax.models._layers import (
    BatchNorm,
    computation_dtype,
    convolution,
    global_mean,
    mean_pool,
)


class DenseNet(nnx.Module):
    """Blocks in which every layer sees what all layers before it have given.

    By default DenseNet-BC-121, and in the form for CIFAR: the stem is one 3x3 convolution that a
    norm does not follow, and there is no max pooling. Norms and ReLUs come before convolutions.
    Huang et al., arXiv 1608.06993.

    Args:
        input_shape: The shape of one image, `(height, width, channels)`; 8 x 8 pixels or more.
        classes: The number of logits.
        depths: The number of layers of each block.
        growth: The number of channels that each layer adds.
        bottleneck: The number of channels inside a layer, in multiples of `growth`.
        compression: The share of its channels that a transition between blocks keeps.
        dtype: The dtype of the computation, float32 by default; parameters are float32.
        rngs: The source of the initial weights.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from gc_optax.models import DenseNet
        >>> def logits():
        ...     network = DenseNet((32, 32, 3), 100, depths=(2, 2), rngs=nnx.Rngs(0))
        ...     return network(jnp.zeros((2, 32, 32, 3)))
        >>> nnx.eval_shape(logits).shape
        (2, 100)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        *,
        depths: Sequence[int] = (6, 12, 24, 16),
        growth: int = 32,
        bottleneck: int = 4,
        compression: float = 0.5,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        dtype = computation_dtype(dtype)
        channels = 2 * growth
        self.stem_conv = convolution(input_shape[-1], channels, 3, dtype=dtype, rngs=rngs)
        self.blocks, self.transitions = nnx.List(), nnx.List()
        for number, depth in enumerate(depths, 1):
            layers = nnx.List()
            for _ in range(depth):
                layers.append(_Layer(channels, bottleneck * growth, growth, dtype=dtype, rngs=rngs))
                channels += growth
            self.blocks.append(layers)
            if number < len(depths):
                kept = int(compression * channels)
                self.transitions.append(_Transition(channels, kept, dtype=dtype, rngs=rngs))
                channels = kept
        self.norm = BatchNorm(channels, rngs=rngs)
        self.head = nnx.Linear(channels, classes, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits of shape `(batch, classes)` for images `(batch, height, width, channels)`."""
        del rngs  # nothing is dropped
        x = self.stem_conv(x)
        for number, block in enumerate(self.blocks):
            for layer in block:
                x = jnp.concatenate([x, layer(x)], axis=-1)
            if number < len(self.transitions):
                x = self.transitions[number](x)
        return self.head(global_mean(nnx.relu(self.norm(x))))


class _Layer(nnx.Module):
    """A 1x1 convolution to `inner` channels, then a 3x3 one to `growth` channels."""

    def __init__(
        self, in_channels: int, inner: int, growth: int, *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        self.norm1 = BatchNorm(in_channels, rngs=rngs)
        self.conv1 = convolution(in_channels, inner, 1, dtype=dtype, rngs=rngs)
        self.norm2 = BatchNorm(inner, rngs=rngs)
        self.conv2 = convolution(inner, growth, 3, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv1(nnx.relu(self.norm1(x)))
        return self.conv2(nnx.relu(self.norm2(x)))


class _Transition(nnx.Module):
    """A 1x1 convolution to fewer channels, then means over squares of 2 x 2 pixels."""

    def __init__(self, in_channels: int, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.norm = BatchNorm(in_channels, rngs=rngs)
        self.conv = convolution(in_channels, channels, 1, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return mean_pool(self.conv(nnx.relu(self.norm(x))))
