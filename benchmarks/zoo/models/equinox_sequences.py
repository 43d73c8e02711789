"""Sequence models of `discretax`, whose layers are state spaces."""

import equinox as eqx
import jax
import jax.numpy as jnp
from discretax import encoder, heads, models

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.equinox import case

PACKAGES = ["discretax", "equinox"]

SEQUENCE = jnp.zeros((2, 16, 5))

HAND = (
    (r".*/(B|B_re|B_im|C_re|C_im)", (1,), "a layer stored (out, in), some with complex parts"),
    (r".*/C", (1,), "a layer stored (out, in, parts)", ((1, 2),)),
    (r".*/kernel/C", (1,), "sums over states, channel by channel", ((), (0,))),
    (r".*/(Lambda_re|Lambda_im|log_step|log_a_real|A_imag)", (), "poles and steps"),
)


class Whole(eqx.Module):
    """An encoder, blocks and a head, with the running statistics of their norms."""

    encoder: eqx.Module
    model: eqx.Module
    head: eqx.Module

    def __init__(self, make, head, key):
        one, two, three = jax.random.split(key, 3)
        self.encoder = encoder.LinearEncoder(in_features=5, out_features=8, use_bias=True, key=one)
        self.model = make(key=two)
        self.head = head(in_features=8, out_features=3, key=three)

    def __call__(self, x, state):
        """The outputs of one sequence, and the state."""
        x, state = self.encoder(x, state)
        x, state = self.model(x, state, jax.random.key(0))
        return self.head(x, state)


MIXERS = {
    "S5": (models.S5, {"ssm_blocks": 2, "state_dim": 8}),
    "S5, bilinear": (models.S5, {"discretization": "bilinear", "conj_sym": False}),
    "LRU": (models.LRU, {}),
    "LinOSS": (models.LinOSS, {}),
    "LinOSS, implicit, undamped": (models.LinOSS, {"discretization": "IM", "damping": False}),
    "DeltaNet": (models.DeltaNet, {"n_heads": 2, "head_dim": 4, "chunk_size": 8}),
}
SMALL = {"hidden_dim": 8, "num_blocks": 2, "state_dim": 6}


def whole(cls, options, head):
    """A model with its state filled in: batch norms see one batch."""

    def make(key):
        build = lambda key: cls(**SMALL | options, key=key)  # noqa: E731
        return eqx.nn.make_with_state(Whole)(build, head, key)

    return make


def call(made, x):
    """The outputs of a batch."""
    model, state = made
    batched = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    return batched(x, state)[0]


def entry(name: str, cls, options, head) -> Entry:
    """One model."""
    make = whole(cls, options, head)
    return Entry(name, lambda: case(make, SEQUENCE, call=call, hand=HAND, batch=False, real=True))


def entries() -> list[Entry]:
    """All of the table with a head for classes, and one with numbers."""
    return [
        *(entry(name, *row, heads.ClassificationHead) for name, row in MIXERS.items()),
        entry("LRU, regression", models.LRU, {}, heads.RegressionHead),
    ]
