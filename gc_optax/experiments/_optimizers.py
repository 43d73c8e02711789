"""The arms of a comparison as Optax chains.

Where GC stands is the paper's: `placement="gradient"` gives SGD_GC, Adam_GC and AdamW_GC, and
`placement="update"` Adam_GC2 and AdamW_GC2. Weight decay is an L2 penalty before GC for SGD and
Adam, and decoupled for AdamW.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

import gc_optax


class Arm(NamedTuple):
    """One way to centralize: how it is written, what it does, and how to make it."""

    code: str
    meaning: str
    make: Callable[[], optax.GradientTransformation]


class Link(NamedTuple):
    """One transformation of a chain, and how it is written."""

    code: str
    transformation: optax.GradientTransformation


BASELINE = "none"

ARMS = {
    BASELINE: Arm("", "no centralization", optax.identity),
    "gc": Arm(
        "gc_optax.centralize()", "over the fan-in of each layer", lambda: gc_optax.centralize()
    ),
    "gcc": Arm(
        "gc_optax.centralize(gc_optax.convolutions_only(gc_optax.fan_in_by_name))",
        "over the fan-in of each convolution, other layers left alone",
        lambda: gc_optax.centralize(gc_optax.convolutions_only(gc_optax.fan_in_by_name)),
    ),
    "optax": Arm(
        "optax.centralize()",
        "over axes 1 and up of each array, whatever the layer",
        optax.centralize,
    ),
}
OPTIMIZERS = ("sgd", "adam", "adamw")
PLACEMENTS = ("gradient", "update")

LearningRate = float | jax.Array


def links(
    arm: str,
    optimizer: str,
    placement: str,
    learning_rate: LearningRate,
    *,
    momentum: float | None = None,
    weight_decay: float | None = None,
) -> list[Link]:
    """The links of the chain of `arm`, in order. `learning_rate` may be traced."""
    chain = [_optimizer(optimizer, learning_rate, momentum, weight_decay)]
    if arm != BASELINE:
        link = Link(ARMS[arm].code, ARMS[arm].make())
        chain = [link, *chain] if placement == "gradient" else [*chain, link]
    if weight_decay and optimizer != "adamw":
        code = f"optax.add_decayed_weights({weight_decay})"
        chain.insert(0, Link(code, optax.add_decayed_weights(weight_decay)))
    return chain


def chain(links: list[Link]) -> optax.GradientTransformation:
    """The links as one transformation."""
    return optax.chain(*(link.transformation for link in links))


def written(links: list[Link]) -> str:
    """The links as people write them."""
    return ", ".join(link.code for link in links)


def _optimizer(
    name: str, learning_rate: LearningRate, momentum: float | None, weight_decay: float | None
) -> Link:
    if name == "sgd":
        code = f"optax.sgd(learning_rate, momentum={momentum})"
        return Link(code, optax.sgd(learning_rate, momentum=momentum))
    if name == "adam":
        return Link("optax.adam(learning_rate)", optax.adam(learning_rate))
    if name == "adamw":
        decay = weight_decay or 0.0
        code = f"optax.adamw(learning_rate, weight_decay={decay})"
        return Link(code, optax.adamw(learning_rate, weight_decay=decay))
    raise ValueError(f"`name` must be one of {', '.join(OPTIMIZERS)}, got {name!r}.")
