"""The arms of a comparison as Optax chains, and their learning rate over time.

Where GC stands is the paper's: `placement="gradient"` gives SGD_GC, Adam_GC and AdamW_GC, and
`placement="update"` Adam_GC2 and AdamW_GC2. Weight decay is an L2 penalty before GC for SGD and
Adam, and decoupled for AdamW and Muon.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

import gc_optax

FanInTree = Any


class Arm(NamedTuple):
    """One way to centralize: how it is written, what it does, and how to make it.

    `make` gets the tree of `fan_in_by_trace`, which only the arms that are `traced` look at; it is
    None for the arms without centralization.
    """

    code: str
    meaning: str
    make: Callable[[FanInTree], optax.GradientTransformation] | None
    traced: bool = False


class Link(NamedTuple):
    """One transformation of a chain, and how it is written."""

    code: str
    transformation: optax.GradientTransformation


BASELINE = "none"
MATRICES = "muon-traced"

ARMS = {
    BASELINE: Arm("", "no centralization", None),
    "gc": Arm(
        "gc_optax.centralize()",
        "over the fan-in of each layer, by the names of the parameters",
        lambda _: gc_optax.centralize(),
    ),
    "traced": Arm(
        "gc_optax.centralize(fan_in)",
        "over the fan-in of each layer, read from the computation by fan_in_by_trace",
        lambda fan_in: gc_optax.centralize(fan_in),
        traced=True,
    ),
    "gcc": Arm(
        "gc_optax.centralize(gc_optax.convolutions_only(gc_optax.fan_in_by_name))",
        "over the fan-in of each convolution, other layers left alone",
        lambda _: gc_optax.centralize(gc_optax.convolutions_only(gc_optax.fan_in_by_name)),
    ),
    "optax": Arm(
        "optax.centralize()",
        "over axes 1 and up of each array, whatever the layer",
        lambda _: optax.centralize(),
    ),
    MATRICES: Arm(
        "",
        "no centralization; muon takes for matrices what fan_in_by_trace finds",
        None,
        traced=True,
    ),
}
OPTIMIZERS = ("sgd", "adam", "adamw", "muon")
DECOUPLED = ("adamw", "muon")
PLACEMENTS = ("gradient", "update")

SCHEDULES = ("constant", "step", "one-cycle")
WARMUP = 0.3  # the part of a run in which one-cycle rises

LearningRate = float | jax.Array


def schedule(
    name: str, learning_rate: LearningRate, *, steps: int, decay_steps: int | None = None
) -> optax.ScalarOrSchedule:
    """The learning rate as a number, or as a function of the step.

    Args:
        name: `"constant"`; `"step"`, a tenth after every `decay_steps` steps; or `"one-cycle"`: up
            from a 25th in the first 30% of the steps and down to nearly 0, along a cosine
            (Smith and Topin, arXiv 1708.07120).
        learning_rate: The highest rate; it may be traced.
        steps: The number of steps of the run.
        decay_steps: Of `"step"` only.
    """
    if name == "constant":
        return learning_rate
    if name == "step":
        if not decay_steps:
            raise ValueError("`decay_steps` must be given for the schedule 'step'.")
        shape = optax.exponential_decay(1.0, decay_steps, 0.1, staircase=True)
    elif name == "one-cycle":
        shape = optax.cosine_onecycle_schedule(steps, peak_value=1.0, pct_start=WARMUP)
    else:
        raise ValueError(f"`name` must be one of {', '.join(SCHEDULES)}, got {name!r}.")
    return lambda count: learning_rate * shape(count)


def links(
    arm: str,
    optimizer: str,
    placement: str,
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float | None = None,
    weight_decay: float | None = None,
    fan_in: FanInTree = None,
) -> list[Link]:
    """The links of the chain of `arm`, in order.

    `learning_rate` may be traced; `fan_in` is the traced tree, for the arms that need it.
    """
    if arm == MATRICES:
        numbers = gc_optax.muon_dimension_numbers(fan_in)
        code = "muon_weight_dimension_numbers=gc_optax.muon_dimension_numbers(fan_in)"
        chain = [_muon(learning_rate, weight_decay or 0.0, code, numbers)]
    else:
        chain = [_optimizer(optimizer, learning_rate, momentum, weight_decay)]
    if (make := ARMS[arm].make) is not None:
        link = Link(ARMS[arm].code, make(fan_in))
        chain = [link, *chain] if placement == "gradient" else [*chain, link]
    if weight_decay and optimizer not in DECOUPLED:
        code = f"optax.add_decayed_weights({weight_decay})"
        chain.insert(0, Link(code, optax.add_decayed_weights(weight_decay)))
    return chain


def chain(links: list[Link]) -> optax.GradientTransformation:
    """The links as one transformation."""
    return optax.chain(*(link.transformation for link in links))


def written(links: list[Link], schedule: str = "constant") -> str:
    """The links as people write them."""
    code = ", ".join(link.code for link in links)
    return code if schedule == "constant" else code.replace("(learning_rate", "(schedule")


def _optimizer(
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    momentum: float | None,
    weight_decay: float | None,
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
    if name == "muon":
        return _muon(learning_rate, weight_decay or 0.0)
    raise ValueError(f"`name` must be one of {', '.join(OPTIMIZERS)}, got {name!r}.")


def _muon(
    learning_rate: optax.ScalarOrSchedule, decay: float, numbers_code: str = "", numbers: Any = None
) -> Link:
    """Muon, and Adam for what is not a matrix; both decay, so that only the choice differs."""
    arguments = [f"weight_decay={decay}", f"adam_weight_decay={decay}"] if decay else []
    code = ", ".join(["learning_rate", *arguments, *filter(None, [numbers_code])])
    return Link(
        f"optax.contrib.muon({code})",
        optax.contrib.muon(
            learning_rate,
            weight_decay=decay,
            adam_weight_decay=decay,
            muon_weight_dimension_numbers=numbers,
        ),
    )
