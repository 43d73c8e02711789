"""Example networks in Flax NNX, each readable in one sitting.

They need the extra `experiments`: `pip install "gc-optax[experiments]"`. Every network is made by
`Network(input_shape, classes, rngs=...)` and maps a batch `(batch, *input_shape)` to logits
`(batch, classes)`.
"""

from collections.abc import Callable

from flax import nnx

from gc_optax.models.cnn import CNN as CNN
from gc_optax.models.mlp import MLP as MLP

MODELS: dict[str, Callable[..., nnx.Module]] = {"mlp": MLP, "cnn": CNN}
"""The networks by the names that `gc-optax` knows them by."""
