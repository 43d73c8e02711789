"""Equivariant layers of `e3x`, whose features are (..., parity, degree, feature)."""

import e3x
import flax.linen as nn
import jax.numpy as jnp

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.linen import case

PACKAGES = ["e3x", "flax"]

FEATURES, VECTORS = jnp.ones((4, 2, 9, 6)), jnp.ones((5, 3))
SCALARS = jnp.ones((4, 1, 1, 6))
TARGETS, SOURCES = jnp.arange(5) % 4, jnp.arange(5) * 3 % 4


class Network(nn.Module):
    """Message passing between atoms, energies of each."""

    attention: bool = False

    @nn.compact
    def __call__(self, atoms, vectors):
        """One number per atom."""
        basis = e3x.nn.basis(vectors, num=6, max_degree=2, radial_fn=e3x.nn.reciprocal_bernstein)
        x = e3x.nn.Embed(10, 6)(atoms)
        for _ in range(2):
            if self.attention:
                y = e3x.nn.SelfAttention(num_heads=2)(x, basis, src_idx=SOURCES, dst_idx=TARGETS)
            else:
                y = e3x.nn.MessagePass()(x, basis, src_idx=SOURCES, dst_idx=TARGETS)
            x = e3x.nn.add(x, e3x.nn.Dense(6)(e3x.nn.silu(e3x.nn.Dense(6)(y))))
        return nn.Dense(1)(e3x.nn.change_max_degree_or_type(x, 0, False))


HAND = (
    (r".*(Tensor|tensor).*/kernel.*", (), "weights of products of degrees"),
    (r"kernel.*", (), "weights of products of degrees"),
    (r".*embedding", (), "a table of atoms"),
    (r".*/Dense_\d+/(kernel|.*kernel)", (0,), "(in, out)"),
)
ATOMS = jnp.arange(4)

MODELS = {
    "Dense": (e3x.nn.Dense(5), (FEATURES,)),
    "Tensor": (e3x.nn.Tensor(max_degree=2), (FEATURES, FEATURES)),
    "TensorDense": (e3x.nn.TensorDense(5, max_degree=2), (FEATURES,)),
    "message passing": (Network(), (ATOMS, VECTORS)),
    "attention": (Network(attention=True), (ATOMS, VECTORS)),
}


def entries() -> list[Entry]:
    """All of the table."""
    return [
        Entry(name, lambda row=row: case(row[0], *row[1], hand=HAND))
        for name, row in MODELS.items()
    ]
