"""Normalizing flows of `flowjax`."""

import jax.numpy as jnp
import paramax
from flowjax import bijections, distributions, flows

from benchmarks.zoo.case import ALONE, Entry
from benchmarks.zoo.oracles.equinox import case

PACKAGES = ["flowjax", "paramax", "equinox"]

X, CONDITION = jnp.zeros((5, 4)), jnp.zeros((5, 3))
SMALL = {"flow_layers": 2, "nn_width": 8}

HAND = (
    (r".*/masked_autoregressive_mlp/layers/\d+/weight/args/1", (2,), "masked (flows, out, in)"),
    (r".*/layers/\d+/0/weight/weight/args/0", (2,), "blocks of it make a determinant, too", ALONE),
    (r".*/triangular/weight/args/0", (2,), "solved with, and its diagonal taken", ALONE),
    (r".*/(scale/args/0|loc)", (), "scales and shifts"),
    (r".*/(x_pos|y_pos|derivatives)/.*", (), "knots of splines"),
    (r".*/bijections/0/params", (), "vectors in one array, of which each is a part"),
)


def base():
    """A normal distribution of four numbers."""
    return distributions.Normal(jnp.zeros(4))


def log_prob(model, *args):
    """The loss, with wrapped parameters made whole."""
    return paramax.unwrap(model).log_prob(*args)


MODELS = {
    "coupling": (lambda key: flows.coupling_flow(key, base_dist=base(), **SMALL), (X,)),
    "coupling, conditional": (
        lambda key: flows.coupling_flow(key, base_dist=base(), cond_dim=3, **SMALL),
        (X, CONDITION),
    ),
    "coupling, splines": (
        lambda key: flows.coupling_flow(
            key,
            base_dist=base(),
            transformer=bijections.RationalQuadraticSpline(knots=4, interval=3),
            **SMALL,
        ),
        (X,),
    ),
    "masked autoregressive": (
        lambda key: flows.masked_autoregressive_flow(key, base_dist=base(), **SMALL),
        (X,),
    ),
    "masked autoregressive, conditional, forward": (
        lambda key: flows.masked_autoregressive_flow(
            key, base_dist=base(), cond_dim=3, invert=False, **SMALL
        ),
        (X, CONDITION),
    ),
    "block neural autoregressive": (
        lambda key: flows.block_neural_autoregressive_flow(
            key, base_dist=base(), flow_layers=2, nn_block_dim=4
        ),
        (X,),
    ),
    "planar": (lambda key: flows.planar_flow(key, base_dist=base(), flow_layers=2), (X,)),
    "planar, conditional": (
        lambda key: flows.planar_flow(
            key, base_dist=base(), flow_layers=2, cond_dim=3, width_size=8, depth=1
        ),
        (X, CONDITION),
    ),
    "triangular splines": (
        lambda key: flows.triangular_spline_flow(key, base_dist=base(), flow_layers=2, knots=4),
        (X,),
    ),
}


def entries() -> list[Entry]:
    """All of the table."""
    return [
        Entry(name, lambda row=row: case(row[0], *row[1], call=log_prob, hand=HAND, real=True))
        for name, row in MODELS.items()
    ]
