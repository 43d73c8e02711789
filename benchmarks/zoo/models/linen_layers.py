"""Flax Linen's layers, recurrent cells and lifted transforms."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.linen import case

PACKAGES = ["flax"]

FLAT = jnp.zeros((2, 7))
SEQUENCE = jnp.zeros((2, 12, 6))
IMAGE = jnp.zeros((2, 16, 16, 4))


class Block(nn.Module):
    """A transformer block that can be scanned over."""

    heads: int = 3
    bias: bool = True

    @nn.compact
    def __call__(self, x, _=None):
        """The carry, and nothing beside it."""
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, use_bias=self.bias)(y, y)
        y = nn.RMSNorm()(x)
        x = x + nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(24, use_bias=self.bias)(y)))
        return x, None


class ConvBlock(nn.Module):
    """A residual block of convolutions."""

    @nn.compact
    def __call__(self, x, _=None):
        """The carry, and nothing beside it."""
        y = nn.Conv(x.shape[-1], (3, 3), use_bias=False)(x)
        y = nn.relu(nn.GroupNorm(2)(y))
        y = nn.Conv(x.shape[-1], (1, 1))(y)
        return x + y, None


def stack(block, layers=3, axis=0, remat=False, unroll=1, **fields):
    """Layers of one kind by `nn.scan`."""
    block = nn.remat(block, prevent_cse=False) if remat else block

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            scanned = nn.scan(
                block,
                variable_axes={"params": axis},
                split_rngs={"params": True, "dropout": True},
                length=layers,
                unroll=unroll,
            )
            return scanned(**fields)(x, None)[0]

    return Stack()


def ensemble(block, *fields, members=3, axis=0, inputs=None, **named):
    """Members of an ensemble by `nn.vmap`, over the same inputs or each over its own."""

    class Ensemble(nn.Module):
        @nn.compact
        def __call__(self, x):
            lifted = nn.vmap(
                block,
                variable_axes={"params": axis},
                split_rngs={"params": True},
                in_axes=inputs,
                axis_size=members,
            )
            return lifted(*fields, **named)(x)

    return Ensemble()


class Perceptron(nn.Module):
    """Two dense layers."""

    width: int = 16
    bias: bool = True

    @nn.compact
    def __call__(self, x):
        """Three outputs."""
        return nn.Dense(3, use_bias=self.bias)(nn.relu(nn.Dense(self.width, use_bias=self.bias)(x)))


class DenseGeneral2(nn.Module):
    """Two axes in, two axes out, one batch axis."""

    @nn.compact
    def __call__(self, x):
        """Per step."""
        x = nn.DenseGeneral((3, 4), axis=(-2, -1))(x[:, None] * jnp.ones((1, 5, 1, 1)))
        return nn.DenseGeneral(6, axis=-1, batch_dims=(0,))(x)


class Both(nn.Module):
    """A recurrent layer in both directions."""

    @nn.compact
    def __call__(self, x):
        """Concatenated."""
        return nn.Bidirectional(nn.RNN(nn.LSTMCell(8)), nn.RNN(nn.GRUCell(8)))(x)


CELLS = {
    "LSTMCell": nn.LSTMCell(8),
    "OptimizedLSTMCell": nn.OptimizedLSTMCell(8),
    "GRUCell": nn.GRUCell(8),
    "MGUCell": nn.MGUCell(8),
    "SimpleCell": nn.SimpleCell(8, residual=True),
}

MODELS = {
    "Dense": (nn.Dense(5), FLAT),
    "Dense of one output": (nn.Dense(1), FLAT),
    "MLP": (Perceptron(), FLAT),
    "MLP without bias": (Perceptron(bias=False), FLAT),
    "DenseGeneral": (DenseGeneral2(), SEQUENCE),
    "Einsum": (nn.Einsum((6, 3, 4), "btd,dhk->bthk"), SEQUENCE),
    "Conv, one dimension": (nn.Conv(8, (3,)), SEQUENCE),
    "Conv": (nn.Conv(8, (3, 3), kernel_dilation=2), IMAGE),
    "Conv, groups": (nn.Conv(8, (3, 3), feature_group_count=2), IMAGE),
    "Conv, depthwise": (nn.Conv(4, (3, 3), feature_group_count=4), IMAGE),
    "Conv, circular": (nn.Conv(8, (3, 3), padding="CIRCULAR"), IMAGE),
    "Conv, no bias": (nn.Conv(8, (3, 3), use_bias=False), IMAGE),
    "ConvTranspose": (nn.ConvTranspose(8, (3, 3), (2, 2)), IMAGE),
    "ConvTranspose, transposed kernel": (
        nn.ConvTranspose(8, (3, 3), (2, 2), transpose_kernel=True),
        IMAGE,
    ),
    "ConvLocal": (nn.ConvLocal(8, (3,)), SEQUENCE),
    "PReLU": (nn.Sequential([nn.Dense(5), nn.PReLU(), nn.Dense(3)]), FLAT),
    "Bidirectional": (Both(), SEQUENCE),
    "MultiHeadDotProductAttention": (
        nn.Sequential([nn.MultiHeadDotProductAttention(3)]),
        SEQUENCE,
    ),
    "MultiHeadDotProductAttention, normed": (
        nn.Sequential([nn.MultiHeadDotProductAttention(3, normalize_qk=True, use_bias=False)]),
        SEQUENCE,
    ),
    "SelfAttention, one head": (nn.SelfAttention(1), SEQUENCE),
    "WeightNorm(Dense)": (nn.Sequential([nn.WeightNorm(nn.Dense(5))]), FLAT),
    "WeightNorm(Conv)": (nn.Sequential([nn.WeightNorm(nn.Conv(5, (3, 3)))]), IMAGE),
    "blocks": (nn.Sequential([Block(), lambda x, _: x]), SEQUENCE),
    "scan": (stack(Block), SEQUENCE),
    "scan without biases": (stack(Block, bias=False), SEQUENCE),
    "scan with remat": (stack(Block, remat=True), SEQUENCE),
    "scan, unrolled": (stack(Block, layers=4, unroll=2), SEQUENCE),
    "scan of convolutions": (stack(ConvBlock), IMAGE),
    "vmap, ensemble": (ensemble(Perceptron), FLAT),
    "vmap, inputs of their own": (ensemble(Perceptron, members=2, inputs=0), FLAT),
    "vmap, ensemble of convolutions": (ensemble(nn.Conv, 8, (3, 3)), IMAGE),
}

LAST = {
    "scan over the last axis but one": (stack(Block, axis=1), SEQUENCE),
    "vmap over the second axis": (ensemble(nn.Dense, 5, axis=1), FLAT),
}


def entry(name: str, module, x, **options) -> Entry:
    """One module."""
    return Entry(name, lambda: case(module, x, **options))


def spectral(layer, x) -> Entry:
    """A layer with spectral normalization, which takes a flag."""

    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.SpectralNorm(layer.copy())(x, update_stats=True)

    return Entry(f"SpectralNorm({type(layer).__name__})", lambda: case(Normed(), x))


def entries() -> list[Entry]:
    """All of the tables."""
    return [
        *(entry(name, module, x) for name, (module, x) in MODELS.items()),
        *(entry(name, module, x, stack_axis=1) for name, (module, x) in LAST.items()),
        *(entry(f"RNN({name})", nn.RNN(cell), SEQUENCE) for name, cell in CELLS.items()),
        entry("RNN(ConvLSTMCell)", nn.RNN(nn.ConvLSTMCell(4, (3,))), jnp.zeros((2, 5, 8, 3))),
        spectral(nn.Dense(5), FLAT),
        spectral(nn.Conv(5, (3, 3)), IMAGE),
        Entry("MLP, loss", lambda: case(Perceptron(), FLAT, loss=True)),
        Entry("scan, loss, jitted", lambda: jitted(case(stack(Block), SEQUENCE, loss=True))),
    ]


def jitted(found):
    """The same case under `jit` and `remat`."""
    return type(found)(jax.jit(jax.checkpoint(found.fn)), found.params, found.args, found.right)
