"""Wave functions of `netket`: Boltzmann machines, masked and symmetric layers."""

import jax.numpy as jnp
import netket as nk

from benchmarks.zoo.case import ALONE, Entry
from benchmarks.zoo.oracles.linen import case

PACKAGES = ["netket", "flax"]

CHAIN, SQUARE = nk.graph.Chain(6), nk.graph.Square(3)
SPINS = nk.hilbert.Spin(0.5, 6)
SIX, NINE = jnp.ones((4, 6)), jnp.ones((4, 9))

ORBIT = "each output sums over all features and places, in an order of its own"
DENSE = (r".*layers_\d+/kernel", (0,), "a masked matrix: (places in, places out)")
CONV = (r".*layers_\d+/kernel", (0, 1), "a causal convolution: (taps, in, out)")
FORM = (r"kernel", (0, 1), "a quadratic form", ((), (0,), (1,)))
SYMMETRIC = (r"(Dense|dense_symm|equivariant_layers_\d+)/kernel", (1, 2), ORBIT)
SPECTRAL = (*SYMMETRIC, ALONE)
BIAS = (r".*bias", (), "a bias, maybe one per place")

MODELS = {
    "RBM": (nk.models.RBM(alpha=2, param_dtype=float), SIX),
    "RBM, complex": (nk.models.RBM(alpha=2, param_dtype=complex), SIX),
    "RBM, modulus and phase": (nk.models.RBMModPhase(alpha=2), SIX),
    "RBM, several values": (nk.models.RBMMultiVal(n_classes=2, alpha=2), SIX),
    "RBM, symmetric": (
        nk.models.RBMSymm(symmetries=CHAIN.translation_group(), alpha=2),
        SIX,
        SYMMETRIC,
    ),
    "MLP": (nk.models.MLP(hidden_dims=(8, 4)), SIX),
    "Gaussian": (nk.models.Gaussian(), SIX, FORM),
    "density matrix": (nk.models.NDM(alpha=1, beta=1), jnp.ones((4, 12))),
    "autoregressive, dense": (
        nk.models.ARNNDense(hilbert=SPINS, layers=2, features=4),
        SIX,
        DENSE,
    ),
    "autoregressive, convolutions": (
        nk.models.ARNNConv1D(hilbert=SPINS, layers=2, features=4, kernel_size=3),
        SIX,
        CONV,
    ),
    "GCNN, spectral": (
        nk.models.GCNN(symmetries=SQUARE, layers=2, features=3, mode="fft"),
        NINE,
        SPECTRAL,
    ),
    "GCNN, irreducible": (
        nk.models.GCNN(symmetries=SQUARE, layers=2, features=3, mode="irreps"),
        NINE,
        SYMMETRIC,
    ),
}


def entries() -> list[Entry]:
    """All of the table."""
    return [
        Entry(name, lambda row=row: case(*row[:2], hand=(BIAS, *row[2:]), rngs=()))
        for name, row in MODELS.items()
    ]
