"""The optimizers of the authors' code in float64 NumPy, and the chains that give their numbers.

Written from what their classes do, in PyTorch's layout `(out, in, ...)`: each reference takes the
arguments of the class that it stands for and gives back a function from weights and gradient to
the next weights. `ROWS` is the table of docs/migrating.md, whose cells the tests evaluate.
Source: github.com/Yonghongwei/Gradient-Centralization, folders `GC_code` and `algorithm-GC`.
"""

# ruff: noqa: N802 (the references have the names of the classes)

import functools
import math
import re
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

import gc_optax

Step = Callable[[np.ndarray, np.ndarray], np.ndarray]


def projection(use_gc=True, gc_conv_only=False) -> Callable[[np.ndarray], np.ndarray]:
    """GC as they do it: by rank, over all axes but the first."""
    lowest = 4 if gc_conv_only else 2

    def project(g):
        if not use_gc or g.ndim < lowest:
            return g
        return g - g.mean(tuple(range(1, g.ndim)), keepdims=True)

    return project


def momentum_step(project, lr, momentum, dampening, weight_decay, nesterov, decoupled) -> Step:
    velocity = None

    def step(w, g):
        nonlocal velocity
        g = project(g if decoupled else g + weight_decay * w)
        if velocity is None:  # the first gradient is not dampened
            velocity = g
        else:
            velocity = momentum * velocity + (1 - dampening) * g
        direction = g + momentum * velocity if nesterov else velocity
        return w - lr * (direction + (weight_decay * w if decoupled else 0.0))

    return step


def SGD(lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, **gc) -> Step:
    return momentum_step(
        projection(**gc), lr, momentum, dampening, weight_decay, nesterov, decoupled=False
    )


def SGDW(lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, **gc) -> Step:
    return momentum_step(
        projection(**gc), lr, momentum, dampening, weight_decay, nesterov, decoupled=True
    )


def moments_of(b1, b2):
    """A function from each gradient to the step's number and both moments, not corrected."""
    t, m, v = 0, 0.0, 0.0

    def moments(g):
        nonlocal t, m, v
        t, m, v = t + 1, b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        return t, m, v

    return moments


def Adam(
    lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, *, gc_loc=False, **gc
) -> Step:
    project, moments = projection(**gc), moments_of(*betas)
    largest = 0.0

    def step(w, g):
        nonlocal largest
        g = g + weight_decay * w
        t, m, v = moments(project(g) if gc_loc else g)
        largest = np.maximum(largest, v) if amsgrad else v
        c1, c2 = (1 - beta**t for beta in betas)
        direction = m / (np.sqrt(largest / c2) + eps)
        return w - lr / c1 * (direction if gc_loc else project(direction))

    return step


def AdamW(lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, *, gc_loc=True, **gc) -> Step:
    """Of `algorithm-GC`: decay is divided by Adam's first bias correction."""
    project, moments = projection(**gc), moments_of(*betas)

    def step(w, g):
        t, m, v = moments(project(g) if gc_loc else g)
        c1, c2 = (1 - beta**t for beta in betas)
        direction = m / (np.sqrt(v / c2) + eps) + weight_decay * w
        return w - lr / c1 * (direction if gc_loc else project(direction))

    return step


def AdamW_of_GC_code(
    lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, *, gc_loc=True, **gc
) -> Step:
    """Of `GC_code`: both bias corrections stand before step and decay, and not before epsilon."""
    project, moments = projection(**gc), moments_of(*betas)

    def step(w, g):
        t, m, v = moments(project(g) if gc_loc else g)
        c1, c2 = (1 - beta**t for beta in betas)
        direction = m / (np.sqrt(v) + eps) + weight_decay * w
        return w - lr * math.sqrt(c2) / c1 * (direction if gc_loc else project(direction))

    return step


def Adagrad(
    lr, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10, **gc
) -> Step:
    project = projection(**gc)
    t, squares = 0, initial_accumulator_value

    def step(w, g):
        nonlocal t, squares
        g = project(g + weight_decay * w)
        squares = squares + g**2
        rate = lr / (1 + t * lr_decay)
        t += 1
        return w - rate * g / (np.sqrt(squares) + eps)

    return step


def RAdam(
    lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, *, gc_loc=False, alias=True, **gc
) -> Step:
    """In steps without rectification the update *is* the array of the momentum.

    So decay and the second place of GC change that array in place, `alias`. Without it: what the
    steps after them do, from the first on.
    """
    project, (b1, b2) = projection(**gc), betas
    t, m, v = 0, 0.0, 0.0
    rho_max = 2 / (1 - b2) - 1

    def step(w, g):
        nonlocal t, m, v
        t += 1
        g = project(g) if gc_loc else g
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        c1, c2 = 1 - b1**t, 1 - b2**t
        rho = rho_max - 2 * t * b2**t / c2
        size, direction = 1 / c1, m
        if rho >= 5:
            rectification = (rho - 4) / (rho_max - 4) * (rho - 2) / rho * rho_max / (rho_max - 2)
            size, direction = math.sqrt(c2 * rectification) / c1, m / (np.sqrt(v) + eps)
        direction = direction + weight_decay * w
        direction = direction if gc_loc else project(direction)
        if alias and rho < 5:
            m = direction
        return w - lr * size * direction

    return step


def PlainRAdam(lr, *args, **kwargs) -> Step:
    """The learning rate is multiplied twice."""
    return RAdam(lr * lr, *args, **kwargs)


def Ranger(lr, alpha=0.5, k=6, betas=(0.95, 0.999), eps=1e-5, weight_decay=0.0, **flags) -> Step:
    return lookahead(RAdam(lr, betas, eps, weight_decay, **flags), k, alpha)


def lookahead(fast: Step, k: int, alpha: float) -> Step:
    """As in Optax and in Ranger: the slow weights start where the fast ones do."""
    t, slow = 0, None

    def step(w, g):
        nonlocal t, slow
        slow = w if slow is None else slow
        t, w = t + 1, fast(w, g)
        if t % k == 0:
            w = slow = slow + alpha * (w - slow)
        return w

    return step


def Lookahead(fast: Step, k=5, alpha=0.5) -> Step:
    """The slow weights start at the fast ones after the first step."""
    first, rest = True, lookahead(fast, k, alpha)

    def step(w, g):
        nonlocal first
        now, first = (fast if first else rest), False
        return now(w, g)

    return step


def of_gc_code(rule, **flags):
    """The class for all layers, and the one for convolutions."""
    return [functools.partial(rule, gc_conv_only=only, **flags) for only in (False, True)]


CLASSES = {
    **{rule.__name__: rule for rule in (SGD, Adam, AdamW, RAdam, PlainRAdam, Ranger, Lookahead)},
    **dict(zip(("SGD_GC", "SGD_GCC"), of_gc_code(SGD), strict=True)),
    **dict(zip(("SGDW_GC", "SGDW_GCC"), of_gc_code(SGDW), strict=True)),
    **dict(zip(("Adam_GC", "Adam_GCC"), of_gc_code(Adam, gc_loc=True), strict=True)),
    **dict(zip(("Adam_GC2", "Adam_GCC2"), of_gc_code(Adam, gc_loc=False), strict=True)),
    **dict(zip(("AdamW_GC", "AdamW_GCC"), of_gc_code(AdamW_of_GC_code), strict=True)),
    **dict(
        zip(("AdamW_GC2", "AdamW_GCC2"), of_gc_code(AdamW_of_GC_code, gc_loc=False), strict=True)
    ),
    **dict(zip(("Adagrad_GC", "Adagrad_GCC"), of_gc_code(Adagrad), strict=True)),
}
"""By the names of the classes."""


# What the chains need besides Optax: docs/migrating.md shows these functions.


def adamw_gc_decay(wd, b1=0.9, b2=0.999):
    """Of AdamW_GC and AdamW_GC2."""
    return lambda count: wd * jnp.sqrt(1 - b2 ** (count + 1)) / (1 - b1 ** (count + 1))


def adamw_decay(wd, b1=0.9):
    """Of AdamW in algorithm-GC."""
    return lambda count: wd / (1 - b1 ** (count + 1))


def radam_decay(wd, b1=0.9, b2=0.999):
    """Of RAdam, PlainRAdam and Ranger."""
    rho_max = 2 / (1 - b2) - 1

    def decay(count):
        t = count + 1
        rho = rho_max - 2 * t * b2**t / (1 - b2**t)
        squared = (rho - 4) * (rho - 2) * rho_max / ((rho_max - 4) * (rho_max - 2) * rho)
        size = jnp.where(rho >= 5, jnp.sqrt(squared * (1 - b2**t)), 1.0)
        return wd * size / (1 - b1**t)

    return decay


def dampened(dampening):
    """For `scale_by_schedule`: the first gradient counts in full."""
    return lambda count: jnp.where(count == 0, 1.0, 1 - dampening)


def decreasing(lr, lr_decay):
    """The learning rate of Adagrad_GC."""
    return lambda count: lr / (1 + lr_decay * count)


HELPERS = (adamw_gc_decay, adamw_decay, radam_decay, dampened, decreasing)


class Row(NamedTuple):
    """A row of the table: what stands there, the chain that gives its numbers, Optax's own."""

    there: str
    chain: str
    own: str
    mended: bool = False
    """Whether the chain is what their class would be without the alias of RAdam."""

    def code(self) -> str:
        return f"chain({self.chain})"

    def their_code(self, gc_conv_only: bool) -> str:
        """The call in the authors' code, of the class or with the flag for convolutions."""
        if not gc_conv_only:
            return self.there
        flag = self.there.replace("use_gc=True", "use_gc=True, gc_conv_only=True")
        return re.sub(r"_GC(2?)\(", r"_GCC\1(", flag)

    def takes_one_step_first(self) -> bool:
        return self.there.startswith("Lookahead")


SAME = "the same"
DAMPENING = "no dampening: leave `scale_by_schedule` out"
L2 = "the same; for decoupled decay `adamw`"
ADAMW = "`adamw(lr, weight_decay=wd)`: decays by `lr * wd` at each step"
ADAGRAD = "`adagrad(lr)`: accumulator from 0.1, epsilon 1e-7 inside the root"
RADAM = "`add_decayed_weights(wd)`: decays by `lr * wd` at each step"
PLAIN = "`lr` instead of `lr**2`"
PLAIN_DECAY = f"{PLAIN}; {RADAM}"
RANGER = "the same; `radam` alone has `b1=0.9` and `eps=1e-8`"
LOOKAHEAD = "the same without the offset: slow weights from before the first step"

GC_CODE = (
    Row(
        "SGD_GC(lr, momentum, weight_decay=wd)",
        "add_decayed_weights(wd), centralize(), sgd(lr, momentum)",
        SAME,
    ),
    Row(
        "SGD_GC(lr, momentum, weight_decay=wd, nesterov=True)",
        "add_decayed_weights(wd), centralize(), sgd(lr, momentum, nesterov=True)",
        SAME,
    ),
    Row(
        "SGD_GC(lr, momentum, dampening, weight_decay=wd)",
        "add_decayed_weights(wd), centralize(), scale_by_schedule(dampened(dampening)), "
        "sgd(lr, momentum)",
        DAMPENING,
    ),
    Row(
        "SGDW_GC(lr, momentum, weight_decay=wd)",
        "centralize(), trace(momentum), add_decayed_weights(wd), scale_by_learning_rate(lr)",
        SAME,
    ),
    Row(
        "SGDW_GC(lr, momentum, weight_decay=wd, nesterov=True)",
        "centralize(), trace(momentum, nesterov=True), add_decayed_weights(wd), "
        "scale_by_learning_rate(lr)",
        SAME,
    ),
    Row(
        "SGDW_GC(lr, momentum, dampening, weight_decay=wd)",
        "centralize(), scale_by_schedule(dampened(dampening)), trace(momentum), "
        "add_decayed_weights(wd), scale_by_learning_rate(lr)",
        DAMPENING,
    ),
    Row(
        "Adam_GC(lr, weight_decay=wd)",
        "add_decayed_weights(wd), centralize(), adam(lr)",
        L2,
    ),
    Row(
        "Adam_GC2(lr, weight_decay=wd)",
        "add_decayed_weights(wd), adam(lr), centralize()",
        L2,
    ),
    Row(
        "AdamW_GC(lr, weight_decay=wd)",
        "centralize(), scale_by_adam(), "
        "inject_hyperparams(add_decayed_weights)(adamw_gc_decay(wd)), "
        "scale_by_learning_rate(lr)",
        ADAMW,
    ),
    Row(
        "AdamW_GC2(lr, weight_decay=wd)",
        "scale_by_adam(), inject_hyperparams(add_decayed_weights)(adamw_gc_decay(wd)), "
        "centralize(), "
        "scale_by_learning_rate(lr)",
        ADAMW,
    ),
    Row(
        "Adagrad_GC(lr, weight_decay=wd)",
        "add_decayed_weights(wd), centralize(), adagrad(lr, 0.0, 1e-20)",
        ADAGRAD,
    ),
    Row(
        "Adagrad_GC(lr, lr_decay, wd, initial)",
        "add_decayed_weights(wd), centralize(), adagrad(decreasing(lr, lr_decay), initial, 1e-20)",
        ADAGRAD,
    ),
)

ALGORITHM_GC = (
    Row(
        "SGD(lr, momentum, weight_decay=wd, use_gc=True)",
        "add_decayed_weights(wd), centralize(), sgd(lr, momentum)",
        SAME,
    ),
    Row(
        "SGD(lr, momentum, weight_decay=wd, nesterov=True, use_gc=True)",
        "add_decayed_weights(wd), centralize(), sgd(lr, momentum, nesterov=True)",
        SAME,
    ),
    Row(
        "SGD(lr, momentum, dampening, wd, use_gc=True)",
        "add_decayed_weights(wd), centralize(), scale_by_schedule(dampened(dampening)), "
        "sgd(lr, momentum)",
        DAMPENING,
    ),
    Row(
        "Adam(lr, weight_decay=wd, use_gc=True, gc_loc=True)",
        "add_decayed_weights(wd), centralize(), adam(lr)",
        L2,
    ),
    Row(
        "Adam(lr, weight_decay=wd, use_gc=True)",
        "add_decayed_weights(wd), adam(lr), centralize()",
        L2,
    ),
    Row(
        "AdamW(lr, weight_decay=wd, use_gc=True)",
        "centralize(), scale_by_adam(), inject_hyperparams(add_decayed_weights)(adamw_decay(wd)), "
        "scale_by_learning_rate(lr)",
        ADAMW,
    ),
    Row(
        "AdamW(lr, weight_decay=wd, use_gc=True, gc_loc=False)",
        "scale_by_adam(), inject_hyperparams(add_decayed_weights)(adamw_decay(wd)), centralize(), "
        "scale_by_learning_rate(lr)",
        ADAMW,
    ),
    Row("RAdam(lr, use_gc=True, gc_loc=True)", "centralize(), radam(lr)", SAME),
    Row("PlainRAdam(lr, use_gc=True, gc_loc=True)", "centralize(), radam(lr**2)", PLAIN),
    Row(
        "Ranger(lr, use_gc=True, gc_loc=True)",
        "lookahead(chain(centralize(), radam(lr, b1=0.95, eps=1e-5)), 6, 0.5)",
        RANGER,
    ),
    Row(
        "Lookahead(SGD(lr, momentum, weight_decay=wd, use_gc=True))",
        "lookahead(chain(add_decayed_weights(wd), centralize(), sgd(lr, momentum)), 5, 0.5)",
        LOOKAHEAD,
    ),
    Row(
        "Lookahead(Adam(lr, weight_decay=wd, use_gc=True, gc_loc=True))",
        "lookahead(chain(add_decayed_weights(wd), centralize(), adam(lr)), 5, 0.5)",
        LOOKAHEAD,
    ),
    Row(
        "Lookahead(Adam(lr, weight_decay=wd, use_gc=True))",
        "lookahead(chain(add_decayed_weights(wd), adam(lr), centralize()), 5, 0.5)",
        LOOKAHEAD,
    ),
    Row(
        "Lookahead(AdamW(lr, weight_decay=wd, use_gc=True))",
        "lookahead(chain(centralize(), scale_by_adam(), "
        "inject_hyperparams(add_decayed_weights)(adamw_decay(wd)), "
        "scale_by_learning_rate(lr)), 5, 0.5)",
        LOOKAHEAD,
    ),
)

WITHOUT_THE_ALIAS = (
    Row(
        "RAdam(lr, weight_decay=wd, use_gc=True, gc_loc=True)",
        "centralize(), scale_by_radam(), inject_hyperparams(add_decayed_weights)(radam_decay(wd)), "
        "scale_by_learning_rate(lr)",
        RADAM,
        mended=True,
    ),
    Row(
        "RAdam(lr, weight_decay=wd, use_gc=True)",
        "scale_by_radam(), inject_hyperparams(add_decayed_weights)(radam_decay(wd)), centralize(), "
        "scale_by_learning_rate(lr)",
        RADAM,
        mended=True,
    ),
    Row(
        "PlainRAdam(lr, weight_decay=wd, use_gc=True, gc_loc=True)",
        "centralize(), scale_by_radam(), inject_hyperparams(add_decayed_weights)(radam_decay(wd)), "
        "scale_by_learning_rate(lr**2)",
        PLAIN_DECAY,
        mended=True,
    ),
    Row(
        "PlainRAdam(lr, weight_decay=wd, use_gc=True)",
        "scale_by_radam(), inject_hyperparams(add_decayed_weights)(radam_decay(wd)), centralize(), "
        "scale_by_learning_rate(lr**2)",
        PLAIN_DECAY,
        mended=True,
    ),
    Row(
        "Ranger(lr, weight_decay=wd, use_gc=True, gc_loc=True)",
        "lookahead(chain(centralize(), scale_by_radam(b1=0.95, eps=1e-5), "
        "inject_hyperparams(add_decayed_weights)(radam_decay(wd, 0.95)), "
        "scale_by_learning_rate(lr)), 6, 0.5)",
        RADAM,
        mended=True,
    ),
    Row(
        "Ranger(lr, weight_decay=wd, use_gc=True)",
        "lookahead(chain(scale_by_radam(b1=0.95, eps=1e-5), "
        "inject_hyperparams(add_decayed_weights)(radam_decay(wd, 0.95)), centralize(), "
        "scale_by_learning_rate(lr)), "
        "6, 0.5)",
        RADAM,
        mended=True,
    ),
)

ROWS = (*GC_CODE, *ALGORITHM_GC, *WITHOUT_THE_ALIAS)

SETTINGS = {"lr": 0.03, "momentum": 0.9, "dampening": 0.3, "lr_decay": 0.02, "initial": 0.2}
"""What the names in the cells stand for, besides the decay `wd`."""

NAMES_HERE = {
    **vars(optax),
    **vars(gc_optax),  # after Optax's, so that `centralize` is ours
    **{helper.__name__: helper for helper in HELPERS},
    **SETTINGS,
}
"""What the chains are written with."""
