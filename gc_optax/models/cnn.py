"""A small convolutional network with group normalization."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gc_optax.models._layers import computation_dtype, mean_pool


class CNN(nnx.Module):
    """Two 3x3 convolutions, each normalized, rectified and pooled by 2; two dense layers.

    Args:
        input_shape: The shape of one image, `(height, width, channels)`; 4 x 4 pixels or more.
        classes: The number of logits.
        channels: The number of filters of the first convolution, a multiple of 4; the second has
            twice as many.
        width: The number of units of the hidden dense layer.
        dtype: The dtype of the computation, float32 by default; parameters are float32.
        rngs: The source of the initial weights.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from gc_optax.models import CNN
        >>> CNN((8, 8, 1), 10, rngs=nnx.Rngs(0))(jnp.zeros((2, 8, 8, 1))).shape
        (2, 10)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        *,
        channels: int = 16,
        width: int = 64,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        dtype = computation_dtype(dtype)
        height, breadth, depth = input_shape
        flat = (height // 4) * (breadth // 4) * 2 * channels
        # The norm has a bias of its own, which would make the convolution's redundant.
        conv = {"use_bias": False, "dtype": dtype, "rngs": rngs}
        norm = {"num_groups": 4, "dtype": jnp.float32, "rngs": rngs}
        self.conv1 = nnx.Conv(depth, channels, (3, 3), **conv)
        self.norm1 = nnx.GroupNorm(channels, **norm)
        self.conv2 = nnx.Conv(channels, 2 * channels, (3, 3), **conv)
        self.norm2 = nnx.GroupNorm(2 * channels, **norm)
        self.dense = nnx.Linear(flat, width, dtype=dtype, rngs=rngs)
        self.head = nnx.Linear(width, classes, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits of shape `(batch, classes)` for images `(batch, height, width, channels)`."""
        del rngs  # nothing is dropped
        x = mean_pool(nnx.relu(self.norm1(self.conv1(x))))
        x = mean_pool(nnx.relu(self.norm2(self.conv2(x))))
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(self.dense(x))
        return self.head(x)
