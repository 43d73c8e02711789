"""Where GC stands in a chain: the two tables of docs/chain.md.

`CHAINS` is those tables: the transformations as the page writes them, what becomes of the mean
of each unit's weights, and for chains that are no class of the authors (those are in
`tests/test_authors.py`) a float64 reference.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.authors import ROWS, SETTINGS, RAdam, Row, Step, lookahead, moments_of, projection
from tests.test_authors import (
    STEPS,
    chain_of,
    difference,
    initial_params_and_grads,
    weights_by,
    weights_here,
)

LR, WD = SETTINGS["lr"], 0.1
AXES = {"Conv_0": (0, 1, 2), "Dense_0": (0,)}


class Chain(NamedTuple):
    row: Row
    mean: str  # "preserved", "decays" or "moves"
    reference: Callable[..., Step] | None = None  # of the flags of GC

    def build(self) -> optax.GradientTransformation:
        return chain_of(self.row, WD, gc_conv_only=False)


def theirs(there: str) -> Row:
    return next(row for row in ROWS if row.there == there)


def nothing(update):
    return update


def adamw(before=nothing, between=nothing, after=nothing) -> Step:
    moments = moments_of(0.9, 0.999)

    def step(w, g):
        t, m, v = moments(before(g))
        direction = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        return w + after(-LR * (between(direction) + WD * w))

    return step


def adagrad(before=nothing, after=nothing) -> Step:
    squares = 0.1

    def step(w, g):
        nonlocal squares
        g = before(g)
        squares = squares + g**2
        return w - LR * after(g / np.sqrt(squares + 1e-7))

    return step


def radam_last(**gc) -> Step:
    return RAdam(LR, alias=False, **gc)


def ranger_last(**gc) -> Step:
    return lookahead(RAdam(LR, (0.95, 0.999), 1e-5, alias=False, **gc), 6, 0.5)


THEIRS = {
    "SGD_GC": Chain(theirs("SGD_GC(lr, momentum, weight_decay=wd)"), "preserved"),
    "SGDW_GC": Chain(theirs("SGDW_GC(lr, momentum, weight_decay=wd)"), "decays"),
    "Adam_GC": Chain(theirs("Adam_GC(lr, weight_decay=wd)"), "moves"),
    "Adam_GC2": Chain(theirs("Adam_GC2(lr, weight_decay=wd)"), "preserved"),
    "AdamW_GC": Chain(theirs("AdamW_GC(lr, weight_decay=wd)"), "moves"),
    "AdamW_GC2": Chain(theirs("AdamW_GC2(lr, weight_decay=wd)"), "preserved"),
    "Adagrad_GC": Chain(theirs("Adagrad_GC(lr, weight_decay=wd)"), "moves"),
    "RAdam, `gc_loc=True`, without decay, in float64": Chain(
        theirs("RAdam(lr, use_gc=True, gc_loc=True)"), "moves"
    ),
    "Ranger, `gc_loc=True`, without decay, in float64": Chain(
        theirs("Ranger(lr, use_gc=True, gc_loc=True)"), "moves"
    ),
    "Lookahead of SGD, after its first step": Chain(
        theirs("Lookahead(SGD(lr, momentum, weight_decay=wd, use_gc=True))"), "preserved"
    ),
    "Lookahead of Adam, after its first step": Chain(
        theirs("Lookahead(Adam(lr, weight_decay=wd, use_gc=True))"), "preserved"
    ),
}
"""By the authors' names."""

OURS = {
    "AdamW, first": Chain(
        Row("", "centralize(), adamw(lr, weight_decay=wd)", ""),
        "moves",
        lambda **gc: adamw(before=projection(**gc)),
    ),
    "AdamW, last": Chain(
        Row("", "adamw(lr, weight_decay=wd), centralize()", ""),
        "preserved",
        lambda **gc: adamw(after=projection(**gc)),
    ),
    "AdamW, before decay": Chain(
        Row(
            "",
            "scale_by_adam(), centralize(), add_decayed_weights(wd), scale_by_learning_rate(lr)",
            "",
        ),
        "decays",
        lambda **gc: adamw(between=projection(**gc)),
    ),
    "Adagrad, first": Chain(
        Row("", "centralize(), adagrad(lr)", ""),
        "moves",
        lambda **gc: adagrad(before=projection(**gc)),
    ),
    "Adagrad, last": Chain(
        Row("", "adagrad(lr), centralize()", ""),
        "preserved",
        lambda **gc: adagrad(after=projection(**gc)),
    ),
    "RAdam, last": Chain(
        Row("", "radam(lr), centralize()", ""),
        "preserved",
        radam_last,
    ),
    "Ranger, last": Chain(
        Row("", "lookahead(chain(radam(lr, b1=0.95, eps=1e-5), centralize()), 6, 0.5)", ""),
        "preserved",
        ranger_last,
    ),
}
"""With Optax's own decay and constants."""

CHAINS = {**THEIRS, **OURS}


@pytest.fixture(params=[False, True], ids=["GC", "GCC"], scope="module")
def convolutions_only(request):
    return request.param


@pytest.mark.parametrize("name", OURS)
def test_50_steps_follow_the_update_rule_in_float64(name, convolutions_only):
    row, _, reference = OURS[name]
    assert reference is not None
    expected = weights_by(lambda: reference(gc_conv_only=convolutions_only))
    assert difference(weights_here(row, convolutions_only, WD), expected) <= 1e-5
    initial, _ = initial_params_and_grads()
    assert difference(initial, expected) > 0.05, "50 steps should change weights"


@pytest.mark.parametrize("name", CHAINS)
def test_the_mean_of_each_units_weights_does_what_the_table_says(name, convolutions_only):
    row, mean, _ = CHAINS[name]
    params, _ = initial_params_and_grads()
    result = weights_here(row, convolutions_only, WD)
    for layer, axes in AXES.items():
        before = params[layer]["kernel"].astype(np.float64).mean(axes)
        after = result[layer]["kernel"].astype(np.float64).mean(axes)
        left_alone = convolutions_only and layer == "Dense_0"
        if left_alone or mean == "moves":
            assert np.abs(after - before).max() > 1e-4
        elif mean == "decays":
            np.testing.assert_allclose(after, before * (1 - LR * WD) ** STEPS, atol=1e-5)
            assert np.abs(after - before).max() > 1e-2
        else:
            np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.usefixtures("default_promotion")  # Optax's Adam needs it
@pytest.mark.parametrize("name", ["SGD_GC", "SGDW_GC", "Adam_GC", "AdamW_GC2", "Adagrad, last"])
def test_over_many_steps_a_chain_is_traced_once(name):
    chex.clear_trace_counter()
    optimizer = CHAINS[name].build()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params, grads = jax.tree.map(jnp.asarray, initial_params_and_grads())
    state = optimizer.init(params)
    for _ in range(10):
        grads = jax.tree.map(lambda grad: grad[1:], grads)
        params, state = step(params, state, jax.tree.map(lambda grad: grad[0], grads))
