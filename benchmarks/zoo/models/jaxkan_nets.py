"""Kolmogorov-Arnold networks of `jaxkan`."""

import jax.numpy as jnp
from flax import nnx
from jaxkan.models.ActNet import ActNet
from jaxkan.models.KAN import KAN
from jaxkan.models.KKAN import KKAN
from jaxkan.models.RGAKAN import RGAKAN

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.nnx import case

PACKAGES = ["jaxkan", "flax"]

X = jnp.zeros((5, 3))
DIMS = [3, 7, 2]

HAND = (
    (r".*/(c_basis|c_cos|c_sin)", (1, 2), "y_o = sum c[o, i, k] f_k(x_i)", ((2,),)),
    (r".*/c_res", (1,), "y_o = sum c[o, i] f(x_i)"),
    (r".*/(c_ext|c_spl)", (1,), "a scale of each edge, summed over inputs", ((),)),
    (r".*/(omega|phase)", (), "of each basis function"),
    (r"layers/\d+/beta", (1,), "sums over basis functions: (out, basis)"),
    (r".*/Lambda", (1,), "sums over inputs: (out, in)"),
    (r"(.*/)?v", (0,), "a kernel without its scale: (in, out)"),
    (r"OutBasis", (1, 2), "sums over hidden units and basis functions", ((2,), (1,))),
    (r"(.*/)?B", (0,), "frequencies: x @ B"),
)


def kan(kind, **options):
    """A network of one kind of layer."""
    return lambda rngs: KAN(DIMS, kind, options)


MODELS = {
    "splines": kan("spline", k=3, G=3),
    "splines without residual": kan("spline", k=3, G=3, residual=None, external_weights=False),
    "Chebyshev": kan("chebyshev", D=4),
    "Chebyshev, recursive": kan("chebyshev", D=4, flavor="default", residual=nnx.silu),
    "Legendre": kan("legendre", D=4, external_weights=True),
    "Fourier": kan("fourier", D=4),
    "radial": kan("rbf", D=4, residual=nnx.silu),
    "sines": kan("sine", D=4),
    "ActNet": lambda rngs: ActNet(DIMS, N=4),
    "ActNet, projections": lambda rngs: ActNet(DIMS, N=4, use_projections=True),
    "KKAN": lambda rngs: KKAN(3, 2, m=6, D_e=3, H=5, L=2),
    "RGAKAN": lambda rngs: RGAKAN(3, 2, 6, num_blocks=2, D=3, sine_D=4),
}


def entries() -> list[Entry]:
    """All of the table, and layers that store one row per edge."""
    edges = (r".*/c_basis", (1,), "one row per edge: (in * out, basis)"), *HAND
    edges = (r".*/(c_spl|c_res|c_ext)", (), "one number per edge"), *edges
    rows = [(name, make, HAND) for name, make in MODELS.items()]
    rows += [("splines, one by one", kan("base", k=3, G=3), edges)]
    return [
        Entry(name, lambda make=make, hand=hand: case(make, X, hand=hand, real=True))
        for name, make, hand in rows
    ]
