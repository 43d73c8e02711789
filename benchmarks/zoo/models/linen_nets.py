"""Small nets written with Flax Linen as public code writes them."""

import flax.linen as nn
import jax.numpy as jnp

from benchmarks.zoo.case import Entry
from benchmarks.zoo.models.linen_layers import IMAGE, SEQUENCE, Block, stack
from benchmarks.zoo.oracles.linen import case

PACKAGES = ["flax"]

TOKENS = jnp.zeros((2, 12), "i4")


class Gpt(nn.Module):
    """A small decoder with learned positions and a tied or untied head."""

    tied: bool = True

    @nn.compact
    def __call__(self, tokens):
        """Logits."""
        table = nn.Embed(40, 18)
        x = table(tokens) + nn.Embed(12, 18, name="positions")(jnp.arange(12))
        x, _ = Block()(x)
        x, _ = Block()(x)
        x = nn.LayerNorm()(x)
        return table.attend(x) if self.tied else nn.Dense(40, use_bias=False)(x)


class Vit(nn.Module):
    """Patches, a class token, learned positions."""

    @nn.compact
    def __call__(self, x):
        """Logits."""
        x = nn.Conv(18, (4, 4), strides=(4, 4))(x).reshape(x.shape[0], -1, 18)
        token = self.param("cls", nn.initializers.zeros, (1, 1, 18))
        x = jnp.concatenate([jnp.tile(token, (x.shape[0], 1, 1)), x], 1)
        x = x + self.param("pos_embedding", nn.initializers.normal(0.02), (1, x.shape[1], 18))
        x = stack(Block, 2)(x)
        return nn.Dense(10, kernel_init=nn.initializers.zeros)(x[:, 0])


class Experts(nn.Module):
    """A softly gated mixture of perceptrons with bare parameters."""

    @nn.compact
    def __call__(self, x):
        """As wide as `x`."""
        gates = nn.softmax(nn.Dense(4, name="router")(x))
        up = self.param("wi", nn.initializers.lecun_normal(batch_axis=(0,)), (4, 6, 24))
        down = self.param("wo", nn.initializers.lecun_normal(batch_axis=(0,)), (4, 24, 6))
        y = nn.gelu(jnp.einsum("btd,edf->btef", x, up))
        return jnp.einsum("btef,efd,bte->btd", y, down, gates)


class SqueezeExcite(nn.Module):
    """A gate per channel from 1x1 convolutions."""

    @nn.compact
    def __call__(self, x):
        """As `x`."""
        y = x.mean((1, 2), keepdims=True)
        return x * nn.sigmoid(nn.Conv(4, (1, 1))(nn.relu(nn.Conv(2, (1, 1))(y))))


MODELS = {
    "GPT, tied": (Gpt(), TOKENS),
    "GPT, untied": (Gpt(tied=False), TOKENS),
    "ViT": (Vit(), IMAGE),
    "mixture of experts": (Experts(), SEQUENCE),
    "squeeze and excite": (SqueezeExcite(), IMAGE),
}

HAND = (
    (r".*cls|.*pos_embedding", (), "learned tokens and positions"),
    (r"wi|wo", (1,), "experts in front, stored (experts, in, out)"),
)


def entries() -> list[Entry]:
    """All of the table."""
    return [Entry(n, lambda r=row: case(*r, hand=HAND)) for n, row in MODELS.items()]
