"""A small GPT: a causal transformer over characters, its blocks stacked and scanned."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gc_optax.models._layers import computation_dtype
from gc_optax.models._transformer import Block


class GPT(nnx.Module):
    """Gives for each token the logits of the next one, from it and the tokens before.

    The blocks are one module whose parameters lead with an axis of layers: kernels are
    `(layers, in, out)`, those of attention `(layers, in, heads, out)` and
    `(layers, heads, in, out)`. Compiling takes as long as for one block. Over which axes these are
    summed their names alone do not tell, but the shapes of their biases do.

    Kernels start as in GPT-2: normal of deviation 0.02, which for those that end in the residual
    stream is divided by the square root of their number. Radford et al., "Language models are
    unsupervised multitask learners", 2019; the causal transformer is that of arXiv 1706.03762 and
    its pre-norm form that of arXiv 1904.10509. The head is a matrix of its own rather than the
    transposed table of tokens, and attention weights are not dropped.

    Args:
        input_shape: `(length,)`, the largest number of tokens in a sequence.
        classes: The number of different tokens.
        layers: The number of blocks.
        width: The number of features of each token, a multiple of `heads`.
        heads: The number of attention heads.
        mlp_ratio: The number of hidden units of the dense layers, in multiples of `width`.
        dropout: The probability that a feature of the embedded tokens, or of what attention or the
            dense layers add to them, is dropped in training.
        dtype: The dtype of the computation, float32 by default; parameters are float32.
        rngs: The source of the initial weights.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from gc_optax.models import GPT
        >>> network = nnx.eval_shape(lambda: GPT((64,), 65, rngs=nnx.Rngs(0)))
        >>> tokens = jnp.zeros((2, 64), jnp.int32)
        >>> nnx.eval_shape(lambda network, x: network(x), network, tokens).shape
        (2, 64, 65)
        >>> network.blocks.attention.query.kernel.shape
        (4, 96, 4, 24)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        *,
        layers: int = 4,
        width: int = 96,
        heads: int = 4,
        mlp_ratio: int = 4,
        dropout: float = 0.0,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        (self.length,) = input_shape
        self.layers = layers
        self.dtype = computation_dtype(dtype)
        normal = nnx.initializers.normal(0.02)
        self.token_embedding = nnx.Embed(
            classes, width, embedding_init=normal, dtype=self.dtype, rngs=rngs
        )
        self.position_embedding = nnx.Param(normal(rngs.params(), (self.length, width)))
        self.dropout = nnx.Dropout(dropout)

        @nnx.split_rngs(splits=layers)
        @nnx.vmap
        def stacked(rngs: nnx.Rngs) -> Block:
            return Block(
                width,
                heads,
                mlp_ratio,
                dropout,
                causal=True,
                kernel_init=normal,
                # Each block adds to the stream twice.
                residual_init=nnx.initializers.normal(0.02 / math.sqrt(2 * layers)),
                dtype=self.dtype,
                rngs=rngs,
            )

        self.blocks = stacked(rngs)
        self.norm = nnx.LayerNorm(width, dtype=jnp.float32, rngs=rngs)
        head = {"use_bias": False, "kernel_init": normal, "dtype": jnp.float32}
        self.head = nnx.Linear(width, classes, rngs=rngs, **head)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits of shape `(batch, length, classes)` for tokens `(batch, length)`.

        In train mode with dropout, `rngs.dropout` settles what is dropped.
        """
        length = x.shape[1]
        if length > self.length:
            raise ValueError(
                f"A sequence may have {self.length} tokens, as `input_shape` says; got {length}."
            )
        x = self.token_embedding(x)
        x = x + self.position_embedding[None, :length].astype(self.dtype)
        x = self.dropout(x, rngs=rngs)
        keys = None if rngs is None else jax.random.split(rngs.dropout(), self.layers)
        x = _through(self.blocks, x, keys)
        return self.head(self.norm(x))


@nnx.scan(in_axes=(0, nnx.Carry, 0), out_axes=nnx.Carry)
def _through(block: Block, x: jax.Array, key: jax.Array | None) -> jax.Array:
    return block(x, None if key is None else nnx.Rngs(dropout=key))
