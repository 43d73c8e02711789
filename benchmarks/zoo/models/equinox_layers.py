"""Equinox's layers, stacks by `filter_vmap` and the idioms of its examples."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from equinox import nn

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.equinox import case

PACKAGES = ["equinox", "diffrax"]

FLAT = jnp.zeros((2, 7))
SEQUENCE = jnp.zeros((2, 12, 6))
CHANNELS = jnp.zeros((2, 6, 12))
IMAGE = jnp.zeros((2, 4, 16, 16))
VOLUME = jnp.zeros((2, 2, 8, 8, 8))
TOKENS = jnp.zeros((2, 12), "i4")


def unrolled(cell, x):
    """A GRU or LSTM cell over time."""
    state = jnp.zeros(cell.hidden_size)
    state = (state, state) if isinstance(cell, nn.LSTMCell) else state
    return jax.lax.scan(lambda state, x: (cell(x, state), None), state, x)[0]


class Block(eqx.Module):
    """A transformer block."""

    norm: nn.LayerNorm
    attention: nn.MultiheadAttention
    perceptron: nn.MLP

    def __init__(self, width, key):
        one, two = jax.random.split(key)
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(3, width, use_output_bias=True, key=one)
        self.perceptron = nn.MLP(width, width, 16, 1, key=two)

    def __call__(self, x):
        """As `x`."""
        y = jax.vmap(self.norm)(x)
        return x + jax.vmap(self.perceptron)(x + self.attention(y, y, y))


class Stack(eqx.Module):
    """Blocks made by `filter_vmap` and run by `lax.scan`."""

    blocks: Block

    def __init__(self, make, key, layers=3):
        self.blocks = eqx.filter_vmap(make)(jax.random.split(key, layers))

    def __call__(self, x):
        """One block after the other."""
        arrays, static = eqx.partition(self.blocks, eqx.is_array)
        return jax.lax.scan(lambda x, one: (eqx.combine(one, static)(x), None), x, arrays)[0]


class Ensemble(eqx.Module):
    """Members made by `filter_vmap` and run by it on the same inputs."""

    members: nn.MLP

    def __init__(self, make, key, members=3):
        self.members = eqx.filter_vmap(make)(jax.random.split(key, members))

    def __call__(self, x):
        """The outputs of all."""
        return eqx.filter_vmap(lambda member, x: member(x), in_axes=(eqx.if_array(0), None))(
            self.members, x
        )


class Gpt(eqx.Module):
    """A decoder with a tied or an untied head."""

    table: nn.Embedding
    positions: jax.Array
    block: Block
    head: nn.Linear | None

    def __init__(self, tied, key):
        keys = jax.random.split(key, 4)
        self.table = nn.Embedding(40, 18, key=keys[0])
        self.positions = jax.random.normal(keys[1], (12, 18))
        self.block = Block(18, keys[2])
        self.head = None if tied else nn.Linear(18, 40, use_bias=False, key=keys[3])

    def __call__(self, tokens):
        """Logits."""
        x = self.block(jax.vmap(self.table)(tokens) + self.positions)
        return x @ self.table.weight.T if self.head is None else jax.vmap(self.head)(x)


class NeuralOde(eqx.Module):
    """A perceptron as a vector field, solved by diffrax."""

    field: nn.MLP
    adjoint: diffrax.AbstractAdjoint = eqx.field(static=True)

    def __init__(self, adjoint, key):
        self.field = nn.MLP(7, 7, 16, 2, activation=jnp.tanh, key=key)
        self.adjoint = adjoint

    def __call__(self, y):
        """The state at the end."""
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: args(y)),
            diffrax.Tsit5(),
            0.0,
            1.0,
            0.1,
            y,
            args=self.field,
            adjoint=self.adjoint,
            stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-6),
        ).ys


class NeuralCde(eqx.Module):
    """A hidden state driven by an interpolated path."""

    initial: nn.MLP
    field: nn.MLP
    readout: nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.initial = nn.MLP(6, 8, 16, 1, key=keys[0])
        self.field = nn.MLP(8, 8 * 6, 16, 1, final_activation=jnp.tanh, key=keys[1])
        self.readout = nn.Linear(8, 1, key=keys[2])

    def __call__(self, xs):
        """One number per path."""
        ts = jnp.linspace(0.0, 1.0, xs.shape[0])
        control = diffrax.LinearInterpolation(ts, xs)
        field = lambda t, y, args: self.field(y).reshape(8, 6)  # noqa: E731
        term = diffrax.ControlTerm(field, control).to_ode()
        y0 = self.initial(xs[0])
        found = diffrax.diffeqsolve(term, diffrax.Heun(), 0.0, 1.0, 0.1, y0)
        return self.readout(found.ys[-1])


def sequential(*makes):
    """Layers that are made from one key, one after the other."""

    def make(key):
        keys = jax.random.split(key, len(makes))
        return nn.Sequential([layer(key=k) for layer, k in zip(makes, keys, strict=True)])

    return make


def layer(cls, *args, **options):
    """A function of a key that makes a layer."""
    return lambda key: cls(*args, key=key, **options)


def perceptron(key):
    """The usual one."""
    return nn.MLP(7, 3, 16, 2, key=key)


MODELS = {
    "Linear": (layer(nn.Linear, 7, 5), FLAT),
    "Linear of one scalar": (layer(nn.Linear, 7, "scalar"), FLAT),
    "MLP": (perceptron, FLAT),
    "Conv1d": (layer(nn.Conv1d, 6, 8, 3), CHANNELS),
    "Conv2d": (layer(nn.Conv2d, 4, 8, 3), IMAGE),
    "Conv2d, groups": (layer(nn.Conv2d, 4, 8, 3, groups=2), IMAGE),
    "Conv2d, depthwise": (layer(nn.Conv2d, 4, 4, 3, groups=4), IMAGE),
    "Conv2d, square": (layer(nn.Conv2d, 4, 4, 3, use_bias=False), IMAGE),
    "Conv3d": (layer(nn.Conv3d, 2, 4, 3), VOLUME),
    "ConvTranspose1d": (layer(nn.ConvTranspose1d, 6, 8, 3), CHANNELS),
    "ConvTranspose2d": (layer(nn.ConvTranspose2d, 4, 8, 3, stride=2), IMAGE),
    "ConvTranspose3d": (layer(nn.ConvTranspose3d, 2, 4, 3), VOLUME),
    "MultiheadAttention": (
        layer(nn.MultiheadAttention, 3, 6),
        SEQUENCE,
        lambda m, x: m(x, x, x),
    ),
    "MultiheadAttention, biases": (
        layer(nn.MultiheadAttention, 3, 6, use_query_bias=True, use_output_bias=True),
        SEQUENCE,
        lambda m, x: m(x, x, x),
    ),
    "GRUCell": (layer(nn.GRUCell, 6, 8), SEQUENCE, unrolled),
    "GRUCell without bias": (layer(nn.GRUCell, 6, 8, use_bias=False), SEQUENCE, unrolled),
    "LSTMCell": (layer(nn.LSTMCell, 6, 8), SEQUENCE, unrolled),
    "WeightNorm(Linear)": (
        lambda key: nn.WeightNorm(nn.Linear(7, 5, key=key), axis=0),
        FLAT,
    ),
    "WeightNorm(Conv2d)": (
        lambda key: nn.WeightNorm(nn.Conv2d(4, 8, 3, key=key), axis=0),
        IMAGE,
    ),
    "CNN": (
        sequential(
            layer(nn.Conv2d, 4, 8, 3),
            lambda key: nn.Lambda(jax.nn.relu),
            layer(nn.Conv2d, 8, 8, 3, stride=2),
            lambda key: nn.Lambda(jnp.ravel),
            layer(nn.Linear, 8 * 36, 10),
        ),
        IMAGE,
    ),
    "Block": (lambda key: Block(6, key), SEQUENCE),
    "stack": (lambda key: Stack(lambda key: Block(6, key), key), SEQUENCE),
    "ensemble": (lambda key: Ensemble(perceptron, key), FLAT),
    "ensemble of convolutions": (
        lambda key: Ensemble(layer(nn.Conv2d, 4, 8, 3), key),
        IMAGE,
    ),
    "GPT, tied": (lambda key: Gpt(tied=True, key=key), TOKENS),
    "GPT, untied": (lambda key: Gpt(tied=False, key=key), TOKENS),
    "PReLU": (sequential(layer(nn.Linear, 7, 5), lambda key: nn.Lambda(nn.PReLU())), FLAT),
    "neural ODE": (lambda key: NeuralOde(diffrax.RecursiveCheckpointAdjoint(), key), FLAT),
    "neural ODE, direct": (lambda key: NeuralOde(diffrax.DirectAdjoint(), key), FLAT),
    "neural ODE, backsolve": (lambda key: NeuralOde(diffrax.BacksolveAdjoint(), key), FLAT),
    "neural CDE": (NeuralCde, SEQUENCE),
}

HAND = (
    (r"positions", (), "learned positions"),
    (r"g", (), "the gain of a weight norm"),
)


def entry(name: str, make, x, call=None, **options) -> Entry:
    """One module."""
    return Entry(name, lambda: case(make, x, call=call, hand=HAND, **options))


def entries() -> list[Entry]:
    """All of the table, and a loss."""
    return [
        *(entry(name, *row) for name, row in MODELS.items()),
        entry("MLP, loss", perceptron, FLAT, loss=True),
    ]
