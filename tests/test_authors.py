"""The chains of docs/migrating.md give the numbers of the authors' classes."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gc_optax import centralize, convolutions_only, fan_in_by_name
from tests.authors import CLASSES, NAMES_HERE, ROWS, SETTINGS, WITHOUT_THE_ALIAS, Row, Step

STEPS = 50
SHAPES = {
    "Conv_0": {"kernel": (3, 3, 2, 5), "bias": (5,)},
    "Dense_0": {"kernel": (6, 4), "bias": (4,)},
}


def map_leaves(function, *trees):
    return {
        layer: {name: function(*(tree[layer][name] for tree in trees)) for name in leaves}
        for layer, leaves in SHAPES.items()
    }


def initial_params_and_grads():
    rng = np.random.default_rng(0)
    params = map_leaves(lambda s: rng.normal(0.5, 1.0, s).astype(np.float32), SHAPES)
    grads = map_leaves(lambda s: rng.normal(0.3, 1.0, (STEPS, *s)).astype(np.float32), SHAPES)
    return params, grads


def settings(row: Row) -> dict[str, float]:
    """PlainRAdam, which multiplies by it twice, gets a larger learning rate."""
    return {**SETTINGS, "lr": 0.5} if row.there.startswith("PlainRAdam") else SETTINGS


def chain_of(row: Row, wd, gc_conv_only: bool):
    """The transformation that the row's cell stands for."""
    gc = centralize(convolutions_only(fan_in_by_name)) if gc_conv_only else centralize()
    names = {**NAMES_HERE, **settings(row), "centralize": lambda: gc, "wd": wd}
    chain = eval(f"({row.chain},)", names)
    return chain[0] if len(chain) == 1 else optax.chain(*chain)


def train(row: Row, gc_conv_only: bool, params, grads, wd):
    """The weights after as many steps as there are gradients."""
    optimizer = chain_of(row, wd, gc_conv_only)
    paired = row.chain.startswith("lookahead(")

    def step(carry, grads):
        params, state, start = carry
        updates, state = cast(Any, optimizer.update(grads, state, params))
        params = cast(Any, optax.apply_updates(params, updates))
        if row.takes_one_step_first():  # before the slow weights start and their steps count
            slow = jax.tree.map(lambda *pair: jnp.where(start, *pair), params.fast, params.slow)
            params = params._replace(slow=slow)
            count = jnp.where(start, 0, state.steps_since_sync)
            state = state._replace(steps_since_sync=count)
        return (params, state, jnp.zeros_like(start)), None

    params = optax.LookaheadParams.init_synced(params) if paired else params
    carry = params, optimizer.init(params), jnp.ones((), bool)
    (params, _, _), _ = jax.lax.scan(step, carry, grads)
    return params.fast if paired else params


@functools.cache
def compiled(row: Row, gc_conv_only: bool):
    return jax.jit(functools.partial(train, row, gc_conv_only))


def weights_here(row: Row, gc_conv_only: bool, wd: float, *, wide: bool | None = None):
    params, grads = initial_params_and_grads()
    wide = "radam(" in row.chain if wide is None else wide
    # With b2=0.999 Optax's rectification cancels most digits in float32: RAdam runs in float64.
    # Optax's Adam raises a Python float to an integer array's power, which strict promotion bars.
    with jax.enable_x64(wide), jax.numpy_dtype_promotion("standard"):
        dtype = np.float64 if wide else np.float32
        params, grads = jax.tree.map(lambda a: jnp.asarray(a, dtype), (params, grads))
        weights = jax.tree.map(np.asarray, compiled(row, gc_conv_only)(params, grads, dtype(wd)))
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(weights))
    return weights


def to_theirs(leaf):
    """The output axis, which is the last, comes first."""
    return np.moveaxis(leaf.astype(np.float64), -1, 0)


def weights_by(make_step: Callable[[], Step]):
    """The weights after all steps of a reference."""

    def train(w, grads):
        step, w = make_step(), to_theirs(w)
        for g in grads:
            w = step(w, to_theirs(g))
        return np.moveaxis(w, 0, -1)

    return map_leaves(train, *initial_params_and_grads())


def weights_there(row: Row, gc_conv_only: bool, wd: float, *, mended: bool):
    names = {**CLASSES, **settings(row), "wd": wd}
    if mended:
        for name in ("RAdam", "PlainRAdam", "Ranger"):
            names[name] = functools.partial(CLASSES[name], alias=False)
    return weights_by(lambda: eval(row.their_code(gc_conv_only), names))


def difference(weights, expected) -> float:
    """The largest over the leaves, relative to the largest weight of the leaf."""
    return max(
        jax.tree.leaves(
            map_leaves(lambda a, b: np.abs(a - b).max() / np.abs(b).max(), weights, expected)
        )
    )


CASES = [
    pytest.param(row, only, wd, id=f"{row.their_code(only)}, wd={wd}")
    for row in ROWS
    for only in (False, True)
    for wd in ((0.0, 0.1) if "wd" in row.there else (0.0,))
]


def test_there_are_enough_cases():
    assert len(CASES) >= 100


@pytest.mark.parametrize(("row", "gc_conv_only", "wd"), CASES)
def test_50_steps_of_the_chain_are_those_of_the_authors_class(row, gc_conv_only, wd):
    expected = weights_there(row, gc_conv_only, wd, mended=row.mended)
    assert difference(weights_here(row, gc_conv_only, wd), expected) <= 1e-5
    initial, _ = initial_params_and_grads()
    assert difference(initial, expected) > 0.05, "50 steps should change weights"


@pytest.mark.parametrize(
    "row", [row for row in WITHOUT_THE_ALIAS if "Plain" not in row.there], ids=lambda row: row.there
)
def test_the_alias_makes_a_difference_of_a_tenth_with_decay_and_of_a_thousandth_without(row):
    with_decay, without = (
        difference(*(weights_there(row, False, wd, mended=mended) for mended in (True, False)))
        for wd in (0.1, 0.0)
    )
    assert 0.1 < with_decay < 0.12
    assert without == 0 if "gc_loc=True" in row.there else 5e-4 < without < 2e-3


@pytest.mark.parametrize(
    ("there", "own", "least"),
    [
        ("AdamW_GC(lr, weight_decay=wd)", "centralize(), adamw(lr, weight_decay=wd)", 0.1),
        (
            "AdamW(lr, weight_decay=wd, use_gc=True)",
            "centralize(), adamw(lr, weight_decay=wd)",
            0.1,
        ),
        (
            "Adagrad_GC(lr, weight_decay=wd)",
            "add_decayed_weights(wd), centralize(), adagrad(lr)",
            0.02,
        ),
        (
            "SGD(lr, momentum, 0.3, wd, use_gc=True)",
            "add_decayed_weights(wd), centralize(), sgd(lr, momentum)",
            0.1,
        ),
    ],
)
def test_optaxs_own_chains_are_other_optimizers(there, own, least):
    row = Row(there, own, "")
    expected = weights_there(row, False, 0.1, mended=False)
    assert difference(weights_here(row, False, 0.1), expected) > least


@pytest.mark.parametrize(("beta", "largest"), [(0.999, 4e-5), (0.99, 1e-5)])
def test_in_float32_optax_rounds_the_rectification(beta, largest):
    row = Row(
        f"RAdam(lr, (0.9, {beta}), use_gc=True, gc_loc=True)",
        f"centralize(), radam(lr, b2={beta})",
        "",
    )
    expected = weights_there(row, False, 0.0, mended=False)
    assert difference(weights_here(row, False, 0.0, wide=False), expected) <= largest


AMSGRAD = Row(
    "Adam(lr, (0.9, 0.9), 1e-8, wd, True, use_gc=True)",
    "add_decayed_weights(wd), scale_by_amsgrad(b2=0.9, bias_correction_nu=False), "
    "scale_by_schedule(lambda count: (1 - 0.9 ** (count + 1)) ** 0.5), "
    "centralize(), scale_by_learning_rate(lr)",
    "add_decayed_weights(wd), amsgrad(lr, b2=0.9), centralize()",
)


@pytest.mark.skipif(
    "bias_correction_nu" not in inspect.signature(optax.scale_by_amsgrad).parameters,
    reason="This Optax takes the largest second moment after the bias correction only.",
)
def test_newer_versions_of_optax_have_the_authors_amsgrad():
    expected = weights_there(AMSGRAD, False, 0.1, mended=False)
    assert difference(weights_here(AMSGRAD, False, 0.1), expected) <= 1e-5
    own = AMSGRAD._replace(chain=AMSGRAD.own)
    assert difference(weights_here(own, False, 0.1), expected) > 0.01
    plain = AMSGRAD._replace(there=AMSGRAD.there.replace("True, use", "False, use"))
    assert difference(weights_there(plain, False, 0.1, mended=False), expected) > 0.01
