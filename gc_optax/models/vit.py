"""A small vision transformer."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gc_optax.models._layers import computation_dtype
from gc_optax.models._transformer import Block


class ViT(nnx.Module):
    """Cuts an image into square patches and treats them as a sequence; the head sees their mean.

    Width, heads and `mlp_ratio` are those of DeiT-Ti (arXiv 2012.12877), at half its depth. Kernels
    start as Xavier's uniform. Dosovitskiy et al., arXiv 2010.11929.

    Args:
        input_shape: The shape of one image, `(height, width, channels)`.
        classes: The number of logits.
        patch: The side of a patch in pixels. It must divide the height and the width of images.
        depth: The number of blocks.
        width: The number of features of each patch, a multiple of `heads`.
        heads: The number of attention heads.
        mlp_ratio: The number of hidden units of the dense layers, in multiples of `width`.
        dropout: The probability that a feature of the embedded patches, or of what attention or the
            dense layers add to them, is dropped in training.
        dtype: The dtype of the computation, float32 by default; parameters are float32.
        rngs: The source of the initial weights.

    Raises:
        ValueError: If `patch` does not divide the height and the width.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from gc_optax.models import ViT
        >>> network = nnx.eval_shape(lambda: ViT((32, 32, 3), 100, rngs=nnx.Rngs(0)))
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
        patch: int = 4,
        depth: int = 6,
        width: int = 192,
        heads: int = 3,
        mlp_ratio: int = 4,
        dropout: float = 0.1,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        height, breadth, channels = input_shape
        if height % patch or breadth % patch:
            raise ValueError(
                f"`patch` must divide the height and the width of the images: {patch} does not "
                f"divide {height} x {breadth}."
            )
        self.patch = patch
        self.dtype = computation_dtype(dtype)
        tokens = (height // patch) * (breadth // patch)
        xavier = nnx.initializers.xavier_uniform()
        options = {"dtype": self.dtype, "rngs": rngs}
        self.patch_dense = nnx.Linear(patch**2 * channels, width, kernel_init=xavier, **options)
        self.position_embedding = nnx.Param(
            nnx.initializers.normal(0.02)(rngs.params(), (tokens, width))
        )
        self.dropout = nnx.Dropout(dropout)
        self.blocks = nnx.List(
            Block(
                width,
                heads,
                mlp_ratio,
                dropout,
                causal=False,
                kernel_init=xavier,
                residual_init=xavier,
                **options,
            )
            for _ in range(depth)
        )
        self.norm = nnx.LayerNorm(width, dtype=jnp.float32, rngs=rngs)
        self.head = nnx.Linear(width, classes, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits of shape `(batch, classes)` for images `(batch, height, width, channels)`.

        In train mode `rngs.dropout` settles what is dropped.
        """
        x = self.patch_dense(_patches(x, self.patch))
        x = x + self.position_embedding[None].astype(self.dtype)
        x = self.dropout(x, rngs=rngs)
        for block in self.blocks:
            x = block(x, rngs)
        return self.head(self.norm(x).mean(1))


def _patches(x: jax.Array, side: int) -> jax.Array:
    """The squares of an image, row by row: `(batch, patches, side * side * channels)`."""
    batch, height, breadth, channels = x.shape
    x = x.reshape(batch, height // side, side, breadth // side, side, channels)
    return x.swapaxes(2, 3).reshape(batch, -1, side**2 * channels)
