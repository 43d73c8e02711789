"""A multi-layer perceptron: two hidden layers, no normalization."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gc_optax.models._layers import computation_dtype


class MLP(nnx.Module):
    """Flattens its input; two hidden layers with ReLU; a linear head.

    Args:
        input_shape: The shape of one example, such as `(8, 8, 1)`.
        classes: The number of logits.
        width: The number of units of each hidden layer.
        dtype: The dtype of the computation, float32 by default; parameters are float32.
        rngs: The source of the initial weights.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from gc_optax.models import MLP
        >>> MLP((8, 8, 1), 10, rngs=nnx.Rngs(0))(jnp.zeros((2, 8, 8, 1))).shape
        (2, 10)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        *,
        width: int = 128,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        dtype = computation_dtype(dtype)
        self.dense1 = nnx.Linear(math.prod(input_shape), width, dtype=dtype, rngs=rngs)
        self.dense2 = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.head = nnx.Linear(width, classes, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits of shape `(batch, classes)` for `x` of shape `(batch, *input_shape)`."""
        del rngs  # nothing is dropped
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(self.dense1(x))
        x = nnx.relu(self.dense2(x))
        return self.head(x)
