"""Where GC stands in a chain, and what an update must then move to and from memory."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import optax

import gc_optax

SGD, ADAM = partial(optax.sgd, 0.1, momentum=0.9), partial(optax.adam, 1e-3)
ADAMW = partial(optax.adamw, 1e-3, weight_decay=0.1)
DECAY, RATE = partial(optax.add_decayed_weights, 5e-4), partial(optax.scale_by_learning_rate, 0.1)
Links = tuple[optax.GradientTransformation, ...]


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
    # Other chains of the README, without schedules and Lookahead.
    "centralize, trace, add_decayed_weights": lambda gc: (gc, optax.trace(0.9), DECAY(), RATE()),
    "add_decayed_weights, centralize, adam": lambda gc: (DECAY(), gc, ADAM()),
    "add_decayed_weights, adam, centralize": lambda gc: (DECAY(), ADAM(), gc),
    "centralize, adamw": lambda gc: (gc, ADAMW()),
    "scale_by_adam, centralize, add_decayed_weights": lambda gc: (
        *(optax.scale_by_adam(), gc, DECAY(), RATE()),
    ),
    "centralize, adagrad": lambda gc: (gc, optax.adagrad(0.1)),
    "adagrad, centralize": lambda gc: (optax.adagrad(0.1), gc),
    "centralize, radam": lambda gc: (gc, optax.radam(1e-3)),
    "radam, centralize": lambda gc: (optax.radam(1e-3), gc),
}


def variants(fan_in) -> dict[str, optax.GradientTransformation]:
    """What may stand in the place of GC."""
    return {
        "none": optax.identity(),
        "gc": gc_optax.centralize(fan_in),
        "optax": optax.centralize(),
    }
