"""A plain deep convolutional network with batch normalization, for small images."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gc_optax.models._layers import HE_NORMAL, ConvNorm, computation_dtype, global_mean


class VGG(nnx.Module):
    """3x3 convolutions, with max pooling between stages, and three dense layers with dropout.

    By default VGG-11, configuration A of the paper, with batch normalization and as it is usual for
    CIFAR: 32 x 32 pixels are pooled to a single one, so that 512 features enter the dense layers.
    Of larger images the mean over what pixels are left enters them, and smaller ones are not pooled
    further once they are a single pixel. Simonyan and Zisserman, arXiv 1409.1556.

    Args:
        input_shape: The shape of one image, `(height, width, channels)`.
        classes: The number of logits.
        stages: The numbers of filters of the convolutions, by stage.
        width: The number of units of the two hidden dense layers.
        dropout: The probability that the output of a hidden dense unit is dropped in training.
        dtype: The dtype of the computation, float32 by default; parameters are float32.
        rngs: The source of the initial weights.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from gc_optax.models import VGG
        >>> network = nnx.eval_shape(lambda: VGG((32, 32, 3), 100, rngs=nnx.Rngs(0)))
        >>> network.eval()  # in train mode, a call takes `rngs`
        >>> images = jnp.zeros((2, 32, 32, 3))
        >>> nnx.eval_shape(lambda network, x: network(x), network, images).shape
        (2, 100)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        *,
        stages: Sequence[Sequence[int]] = ((64,), (128,), (256, 256), (512, 512), (512, 512)),
        width: int = 4096,
        dropout: float = 0.5,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        dtype = computation_dtype(dtype)
        in_channels = input_shape[-1]
        self.stages = nnx.List()
        for stage in stages:
            layers = nnx.List()
            for channels in stage:
                layers.append(ConvNorm(in_channels, channels, 3, dtype=dtype, rngs=rngs))
                in_channels = channels
            self.stages.append(layers)
        dense = {"kernel_init": HE_NORMAL, "dtype": dtype, "rngs": rngs}
        self.dense1 = nnx.Linear(in_channels, width, **dense)
        self.dense2 = nnx.Linear(width, width, **dense)
        self.dropout = nnx.Dropout(dropout)
        self.head = nnx.Linear(width, classes, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits of shape `(batch, classes)` for images `(batch, height, width, channels)`.

        In train mode `rngs.dropout` settles what is dropped.
        """
        for stage in self.stages:
            for layer in stage:
                x = nnx.relu(layer(x))
            # With this padding an odd last row is pooled by itself, and a single pixel stays.
            x = nnx.max_pool(x, (2, 2), strides=(2, 2), padding="SAME")
        x = global_mean(x)
        x = self.dropout(nnx.relu(self.dense1(x)), rngs=rngs)
        x = self.dropout(nnx.relu(self.dense2(x)), rngs=rngs)
        return self.head(x)
