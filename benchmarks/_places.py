"""Where GC stands in a chain, and what an update must then move to and from memory."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import optax

import gc_optax

SGD, ADAM = partial(optax.sgd, 0.1, momentum=0.9), partial(optax.adam, 1e-3)
ADAMW = partial(optax.adamw, 1e-3, weight_decay=0.1)
RADAM = partial(optax.radam, 1e-3)
DECAY, RATE = partial(optax.add_decayed_weights, 5e-4), partial(optax.scale_by_learning_rate, 0.1)
Links = tuple[optax.GradientTransformation, ...]


def scheduled_decay() -> optax.GradientTransformation:
    """The decay of AdamW_GC and AdamW_GC2, which changes from step to step."""
    return optax.inject_hyperparams(optax.add_decayed_weights)(
        lambda count: 0.01 * jnp.sqrt(1 - 0.999 ** (count + 1)) / (1 - 0.9 ** (count + 1))
    )


def lookahead(*links: optax.GradientTransformation) -> Links:
    """Of a chain; it updates pairs of weights."""
    return (optax.lookahead(optax.chain(*links), 5, 0.5),)


class Place(NamedTuple):
    """A chain with a place for GC, and what its update moves, in arrays.

    Without GC that is the gradient and `others`. The mean must be known before the first entry is
    written, so with GC the update reads the gradient again, if `gradient_again`, and moves `more`.
    """

    chain: Callable[[optax.GradientTransformation], Links]
    others: int
    gradient_again: bool
    more: int = 0


PLACES = {
    # The parameters, two moments: read and written.
    "centralize, adam": Place(lambda gc: (gc, ADAM()), 6, True),
    # The parameters, one moment.
    "centralize, sgd": Place(lambda gc: (gc, SGD()), 4, True),
    # The mean is that of the gradient and of the parameters.
    "add_decayed_weights, centralize, sgd": Place(lambda gc: (DECAY(), gc, SGD()), 4, True, 1),
    # The step, or both moments in its place, is known at the end of a first pass over everything:
    # it is written and read again, and the parameters are, or the moments are, read again, too.
    "adamw, centralize": Place(lambda gc: (ADAMW(), gc), 6, False, 3),
}

OTHER_CHAINS: dict[str, Callable[[optax.GradientTransformation], Links]] = {
    # The other chains of the tables in docs/chain.md.
    "centralize, trace, add_decayed_weights": lambda gc: (gc, optax.trace(0.9), DECAY(), RATE()),
    "add_decayed_weights, centralize, adam": lambda gc: (DECAY(), gc, ADAM()),
    "add_decayed_weights, adam, centralize": lambda gc: (DECAY(), ADAM(), gc),
    "centralize, scale_by_adam, add_decayed_weights (scheduled)": lambda gc: (
        *(gc, optax.scale_by_adam(), scheduled_decay(), RATE()),
    ),
    "scale_by_adam, add_decayed_weights (scheduled), centralize": lambda gc: (
        *(optax.scale_by_adam(), scheduled_decay(), gc, RATE()),
    ),
    "centralize, adamw": lambda gc: (gc, ADAMW()),
    "scale_by_adam, centralize, add_decayed_weights": lambda gc: (
        *(optax.scale_by_adam(), gc, DECAY(), RATE()),
    ),
    "centralize, adagrad": lambda gc: (gc, optax.adagrad(0.1)),
    "adagrad, centralize": lambda gc: (optax.adagrad(0.1), gc),
    "centralize, radam": lambda gc: (gc, RADAM()),
    "radam, centralize": lambda gc: (RADAM(), gc),
    "lookahead(centralize, radam)": lambda gc: lookahead(gc, RADAM()),
    "lookahead(radam, centralize)": lambda gc: lookahead(RADAM(), gc),
    "lookahead(add_decayed_weights, centralize, sgd)": lambda gc: lookahead(DECAY(), gc, SGD()),
    "lookahead(add_decayed_weights, adam, centralize)": lambda gc: lookahead(DECAY(), ADAM(), gc),
}


def params_of(chain: str, params):
    """What a chain updates: under Lookahead, pairs of weights."""
    return optax.LookaheadParams.init_synced(params) if chain.startswith("lookahead") else params


def variants(fan_in) -> dict[str, optax.GradientTransformation]:
    """What may stand in the place of GC."""
    return {
        "none": optax.identity(),
        "gc": gc_optax.centralize(fan_in),
        "optax": optax.centralize(),
    }
