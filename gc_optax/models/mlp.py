"""A multi-layer perceptron: two hidden layers, no normalisation."""

import math
from collections.abc import Sequence

import jax
from flax import nnx


class MLP(nnx.Module):
    """Flattens its input; two hidden layers with ReLU; a linear head.

    Args:
        input_shape: The shape of one example, such as `(8, 8, 1)`.
        classes: The number of logits.
        width: The number of units of each hidden layer.
        rngs: The source of the initial weights.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from gc_optax.models import MLP
        >>> MLP((8, 8, 1), 10, rngs=nnx.Rngs(0))(jnp.zeros((2, 8, 8, 1))).shape
        (2, 10)
    """

    def __init__(
        self, input_shape: Sequence[int], classes: int, *, width: int = 128, rngs: nnx.Rngs
    ):
        self.dense1 = nnx.Linear(math.prod(input_shape), width, rngs=rngs)
        self.dense2 = nnx.Linear(width, width, rngs=rngs)
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of shape `(batch, classes)` for `x` of shape `(batch, *input_shape)`."""
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(self.dense1(x))
        x = nnx.relu(self.dense2(x))
        return self.head(x)
