"""The block that the two transformers are made of."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike


class Block(nnx.Module):
    """Attention, then two dense layers, each normalized before and added to its input.

    The residual stream has the dtype of the computation; the norms compute in float32.
    Vaswani et al., arXiv 1706.03762, with the norms where arXiv 2002.04745 wants them.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: int,
        dropout: float,
        *,
        causal: bool,
        kernel_init: nnx.Initializer,
        residual_init: nnx.Initializer,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.causal = causal
        self.norm1 = nnx.LayerNorm(width, dtype=jnp.float32, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            heads,
            width,
            decode=False,
            attention_fn=_attend,
            kernel_init=kernel_init,
            out_kernel_init=residual_init,
            dtype=dtype,
            rngs=rngs,
        )
        self.norm2 = nnx.LayerNorm(width, dtype=jnp.float32, rngs=rngs)
        options = {"dtype": dtype, "rngs": rngs}
        hidden = mlp_ratio * width
        self.dense1 = nnx.Linear(width, hidden, kernel_init=kernel_init, **options)
        self.dense2 = nnx.Linear(hidden, width, kernel_init=residual_init, **options)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """`x` is `(batch, length, width)`, and so is what comes out."""
        y = self.attention(self.norm1(x), is_causal=self.causal)
        x = x + self.dropout(y, rngs=rngs)
        y = self.dense2(nnx.gelu(self.dense1(self.norm2(x))))
        return x + self.dropout(y, rngs=rngs)


def _attend(query: jax.Array, key: jax.Array, value: jax.Array, *, is_causal: bool, **unused):
    """Each query's mean of the values, by the softmax of its products with the keys, in float32.

    All are `(batch, length, heads, head_dim)`. Flax's own mixes dtypes where it computes in
    bfloat16, so it fails under JAX's strict promotion. What else Flax passes is for masks and for
    dropping attention weights, which the networks do not use.
    """
    del unused
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
    scores = scores / math.sqrt(query.shape[-1])
    if is_causal:
        seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        scores = jnp.where(seen[None, None], scores, -jnp.inf)
    weights = jax.nn.softmax(scores).astype(value.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)
