"""Networks whose operations `qwix` replaces: quantized training, low-rank updates."""

import flax.linen as nn
import jax.numpy as jnp
import qwix
from flax import nnx

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles import linen
from benchmarks.zoo.oracles import nnx as of_nnx

PACKAGES = ["qwix", "flax"]

X, IMAGE, TOKENS = jnp.ones((4, 7)), jnp.ones((4, 8, 8, 3)), jnp.arange(12).reshape(2, 6) % 9


class Perceptron(nn.Module):
    """Two layers of Linen."""

    @nn.compact
    def __call__(self, x):
        """Three numbers."""
        return nn.Dense(3)(nn.relu(nn.Dense(8)(x)))


class Convolutional(nn.Module):
    """Convolutions of Linen, of which one has groups."""

    @nn.compact
    def __call__(self, x):
        """Three numbers."""
        x = nn.relu(nn.Conv(6, (3, 3))(x))
        x = nn.relu(nn.Conv(6, (3, 3), feature_group_count=3)(x))
        return nn.Dense(3)(x.mean((1, 2)))


class Attention(nn.Module):
    """A table, attention, and a tied head."""

    @nn.compact
    def __call__(self, tokens):
        """Logits."""
        table = nn.Embed(9, 8)
        x = table(tokens)
        x = x + nn.MultiHeadDotProductAttention(2)(x)
        return table.attend(nn.LayerNorm()(x))


class Layers(nnx.Module):
    """Two layers of NNX."""

    def __init__(self, rngs):
        self.one = nnx.Linear(7, 8, rngs=rngs)
        self.two = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        """Three numbers."""
        return self.two(nnx.relu(self.one(x)))


HAND = (
    (r".*lora_a", (0,), "x @ a"),
    (r".*lora_b", (0,), "(x @ a) @ b"),
)
TRAINED = qwix.QtProvider(
    [qwix.QtRule(weight_qtype=jnp.int8, act_qtype=jnp.int8, bwd_qtype=jnp.int8)]
)
UPDATED = qwix.LoraProvider(rank=2, alpha=4.0)


def quantized(module, x, provider=TRAINED) -> linen.Case:
    """A module of Linen with its operations replaced."""
    return linen.case(qwix.quantize_model(module, provider), x, hand=HAND)


def replaced(x, provider, **options):
    """A module of NNX with its operations replaced."""
    make = lambda rngs: qwix.quantize_model(Layers(rngs), provider, x, rngs=rngs)  # noqa: E731
    return of_nnx.case(make, x, hand=HAND, real=True, **options)


def entries() -> list[Entry]:
    """Quantized training in both, low-rank updates beside a frozen module of NNX."""
    return [
        Entry("perceptron, int8", lambda: quantized(Perceptron(), X)),
        Entry("convolutions, int8", lambda: quantized(Convolutional(), IMAGE)),
        Entry("attention, int8", lambda: quantized(Attention(), TOKENS)),
        Entry("NNX, int8", lambda: replaced(X, TRAINED)),
        Entry("NNX, low-rank updates", lambda: replaced(X, UPDATED, wrt=nnx.LoRAParam)),
    ]
