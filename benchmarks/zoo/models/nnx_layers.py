"""Flax NNX's layers, recurrent cells and stacks by `nnx.vmap` and `nnx.scan`."""

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.nnx import case

PACKAGES = ["flax"]

FLAT = jnp.zeros((2, 7))
SEQUENCE = jnp.zeros((2, 12, 6))
IMAGE = jnp.zeros((2, 16, 16, 4))
TOKENS = jnp.zeros((2, 12), "i4")


class Perceptron(nnx.Module):
    """Two linear layers."""

    def __init__(self, inputs, outputs, rngs, bias=True, norm=False):
        self.one = nnx.Linear(inputs, 16, use_bias=bias, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs) if norm else None
        self.two = nnx.Linear(16, outputs, use_bias=bias, rngs=rngs)

    def __call__(self, x):
        """The outputs."""
        x = self.one(x)
        return self.two(nnx.relu(x if self.norm is None else self.norm(x)))


class Block(nnx.Module):
    """A transformer block."""

    def __init__(self, width, rngs):
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(3, width, decode=False, rngs=rngs)
        self.perceptron = Perceptron(width, width, rngs)

    def __call__(self, x):
        """As `x`."""
        return x + self.perceptron(x + self.attention(self.norm(x)))


class Stack(nnx.Module):
    """Blocks made by `nnx.vmap` and run by `nnx.scan`."""

    def __init__(self, make, rngs, layers=3):
        split = nnx.split_rngs(splits=layers)
        self.blocks = split(nnx.vmap(make, in_axes=0, out_axes=0))(rngs)

    def __call__(self, x):
        """One block after the other."""
        step = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return step(x, self.blocks)


class Ensemble(nnx.Module):
    """Members made by `nnx.vmap` and run by it on the same inputs."""

    def __init__(self, make, rngs, members=3):
        self.members = nnx.split_rngs(splits=members)(nnx.vmap(make))(rngs)

    def __call__(self, x):
        """The outputs of all."""
        return nnx.vmap(lambda member, x: member(x), in_axes=(0, None))(self.members, x)


class Cnn(nnx.Module):
    """The example of the MNIST tutorial."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(4, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.conv2 = nnx.Conv(8, 8, (3, 3), feature_group_count=8, rngs=rngs)
        self.linear = nnx.Linear(8 * 4 * 4, 10, rngs=rngs)

    def __call__(self, x):
        """Logits."""
        x = nnx.avg_pool(nnx.relu(self.norm(self.conv1(x))), (2, 2), strides=(2, 2))
        x = nnx.avg_pool(nnx.relu(self.conv2(x)), (2, 2), strides=(2, 2))
        return self.linear(x.reshape(x.shape[0], -1))


class Gpt(nnx.Module):
    """A decoder with a tied or an untied head."""

    def __init__(self, rngs, tied):
        self.table = nnx.Embed(40, 18, rngs=rngs)
        self.positions = nnx.Embed(12, 18, rngs=rngs)
        self.blocks = nnx.List([Block(18, rngs) for _ in range(2)])
        self.head = None if tied else nnx.Linear(18, 40, use_bias=False, rngs=rngs)

    def __call__(self, tokens):
        """Logits."""
        x = self.table(tokens) + self.positions(jnp.arange(12))
        for block in self.blocks:
            x = block(x)
        return self.table.attend(x) if self.head is None else self.head(x)


class Recurrent(nnx.Module):
    """A cell over time."""

    def __init__(self, cell, rngs):
        self.rnn = nnx.RNN(cell, rngs=rngs)

    def __call__(self, x):
        """The outputs of every step."""
        return self.rnn(x)


class Both(nnx.Module):
    """Two cells in both directions."""

    def __init__(self, rngs):
        self.rnn = nnx.Bidirectional(
            nnx.RNN(nnx.LSTMCell(6, 8, rngs=rngs)), nnx.RNN(nnx.GRUCell(6, 8, rngs=rngs))
        )

    def __call__(self, x):
        """Concatenated."""
        return self.rnn(x)


class Adapted(nnx.Module):
    """A linear layer with a low-rank update, and one that is nothing else."""

    def __init__(self, rngs):
        self.one = nnx.LoRALinear(7, 16, lora_rank=2, rngs=rngs)
        self.two = nnx.LoRA(16, 2, 3, rngs=rngs)

    def __call__(self, x):
        """Three outputs."""
        return self.two(nnx.relu(self.one(x)))


class Vae(nnx.Module):
    """A variational autoencoder whose noise comes from the module's stream of keys."""

    def __init__(self, rngs):
        self.encoder = Perceptron(7, 8, rngs)
        self.decoder = Perceptron(4, 7, rngs)
        self.noise = rngs.fork()

    def __call__(self, x):
        """The reconstruction."""
        mean, scale = jnp.split(self.encoder(x), 2, -1)
        noise = jax.random.normal(self.noise.params(), mean.shape)
        return self.decoder(mean + jnp.exp(scale) * noise)


class Vit(nnx.Module):
    """Patches, a class token and positions as bare parameters."""

    def __init__(self, rngs):
        self.patches = nnx.Conv(4, 18, (4, 4), strides=(4, 4), rngs=rngs)
        self.cls = nnx.Param(jnp.zeros((1, 1, 18)))
        self.pos = nnx.Param(jax.random.normal(rngs.params(), (1, 17, 18)))
        self.block = Block(18, rngs)
        self.head = nnx.Linear(18, 10, rngs=rngs)

    def __call__(self, x):
        """Logits."""
        x = self.patches(x).reshape(x.shape[0], -1, 18)
        x = jnp.concatenate([jnp.tile(self.cls[...], (x.shape[0], 1, 1)), x], 1) + self.pos[...]
        return self.head(self.block(x)[:, 0])


CELLS = {
    "LSTMCell": nnx.LSTMCell,
    "OptimizedLSTMCell": nnx.OptimizedLSTMCell,
    "GRUCell": nnx.GRUCell,
    "SimpleCell": nnx.SimpleCell,
}

MODELS = {
    "Linear": (lambda r: nnx.Linear(7, 5, rngs=r), FLAT),
    "Linear of one output": (lambda r: nnx.Linear(7, 1, rngs=r), FLAT),
    "LinearGeneral": (lambda r: nnx.LinearGeneral(6, (3, 4), rngs=r), SEQUENCE),
    "LinearGeneral, two axes in": (
        lambda r: nnx.LinearGeneral((12, 6), 5, axis=(-2, -1), rngs=r),
        SEQUENCE,
    ),
    "LinearGeneral, batch axis": (
        lambda r: nnx.LinearGeneral(6, 5, batch_axis={0: 2}, rngs=r),
        SEQUENCE,
    ),
    "Einsum": (lambda r: nnx.Einsum("btd,dhk->bthk", (6, 3, 4), (3, 4), rngs=r), SEQUENCE),
    "Conv, one dimension": (lambda r: nnx.Conv(6, 8, (3,), rngs=r), SEQUENCE),
    "Conv": (lambda r: nnx.Conv(4, 8, (3, 3), strides=2, rngs=r), IMAGE),
    "Conv, groups": (lambda r: nnx.Conv(4, 8, (3, 3), feature_group_count=2, rngs=r), IMAGE),
    "Conv, no bias": (lambda r: nnx.Conv(4, 8, (3, 3), use_bias=False, rngs=r), IMAGE),
    "ConvTranspose": (lambda r: nnx.ConvTranspose(4, 8, (3, 3), strides=2, rngs=r), IMAGE),
    "ConvTranspose, transposed kernel": (
        lambda r: nnx.ConvTranspose(4, 8, (3, 3), transpose_kernel=True, rngs=r),
        IMAGE,
    ),
    "MLP": (lambda r: Perceptron(7, 3, r), FLAT),
    "MLP without bias": (lambda r: Perceptron(7, 3, r, bias=False), FLAT),
    "MLP with BatchNorm": (lambda r: Perceptron(7, 3, r, norm=True), FLAT),
    "CNN": (Cnn, IMAGE),
    "MultiHeadAttention": (
        lambda r: nnx.MultiHeadAttention(3, 6, qkv_features=12, decode=False, rngs=r),
        SEQUENCE,
    ),
    "Block": (lambda r: Block(6, r), SEQUENCE),
    "stack": (lambda r: Stack(lambda r: Block(6, r), r), SEQUENCE),
    "stack without biases": (
        lambda r: Stack(lambda r: Perceptron(6, 6, r, bias=False), r),
        SEQUENCE,
    ),
    "ensemble": (lambda r: Ensemble(lambda r: Perceptron(7, 3, r), r), FLAT),
    "ensemble of convolutions": (
        lambda r: Ensemble(lambda r: nnx.Conv(4, 8, (3, 3), rngs=r), r),
        IMAGE,
    ),
    "GPT, tied": (lambda r: Gpt(r, tied=True), TOKENS),
    "GPT, untied": (lambda r: Gpt(r, tied=False), TOKENS),
    "Bidirectional": (Both, SEQUENCE),
    "VAE": (Vae, FLAT),
    "ViT": (Vit, IMAGE),
    "PReLU": (lambda r: nnx.Sequential(nnx.Linear(7, 5, rngs=r), nnx.PReLU()), FLAT),
    "GroupNorm": (
        lambda r: nnx.Sequential(nnx.Conv(4, 8, (3, 3), rngs=r), nnx.GroupNorm(8, 4, rngs=r)),
        IMAGE,
    ),
}

HAND = ((r"cls|pos", (), "learned tokens and positions"),)


def entry(name: str, make, x, **options) -> Entry:
    """One module."""
    return Entry(name, lambda: case(make, x, hand=HAND, **options))


def entries() -> list[Entry]:
    """All of the tables, and fine-tuning by low-rank updates alone."""
    return [
        *(entry(name, make, x) for name, (make, x) in MODELS.items()),
        *(
            entry(f"RNN({name})", lambda r, c=cell: Recurrent(c(6, 8, rngs=r), r), SEQUENCE)
            for name, cell in CELLS.items()
        ),
        entry("LoRA, wrt=LoRAParam", Adapted, FLAT, wrt=nnx.LoRAParam),
        entry("MLP, loss", lambda r: Perceptron(7, 3, r), FLAT, loss=True),
    ]
