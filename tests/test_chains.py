"""Where GC stands in a chain: each row of the README's table against a float64 reference.

`CHAINS` is that table: the names of the authors' code, the transformations as the README writes
them, and what becomes of the mean of each unit's weights.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gc_optax

LR, WD, MOMENTUM, STEPS = 0.05, 0.1, 0.9, 20

Project = Callable[[np.ndarray], np.ndarray]

NAMESPACE = {
    **vars(optax),
    **vars(gc_optax),  # after Optax's, so that `centralize` is ours
    # With b2=0.999 RAdam's rectification cancels all but two digits in float32, in Optax itself.
    "radam": functools.partial(optax.radam, b2=0.99),
    "lr": LR,
    "wd": WD,
    "momentum": MOMENTUM,
}


class Chain(NamedTuple):
    code: tuple[str, ...]  # the transformations, in order
    reference: Callable[[np.ndarray, np.ndarray, Project], np.ndarray]
    mean: str  # "preserved", "decays" or "moves"

    def build(self, convolutions_only: bool = False) -> optax.GradientTransformation:
        code = ", ".join(self.code)
        if convolutions_only:
            code = code.replace("centralize()", "centralize(convolutions_only(fan_in_by_name))")
        return eval(f"chain({code})" if len(self.code) > 1 else code, NAMESPACE)


# The update rules, one leaf at a time: initial weights, gradients, and the projection P.


def sgd_gc(w, grads, project):
    velocity = np.zeros_like(w)
    for g in grads:
        velocity = MOMENTUM * velocity + project(g + WD * w)
        w = w - LR * velocity
    return w


def sgdw_gc(w, grads, project):
    velocity = np.zeros_like(w)
    for g in grads:
        velocity = MOMENTUM * velocity + project(g)
        w = w - LR * (velocity + WD * w)
    return w


def adam_directions(grads, b1=0.9, b2=0.999, eps=1e-8):
    """A function from each gradient in turn to Adam's direction."""
    m = v = 0.0
    t = 0

    def direction(g):
        nonlocal m, v, t
        t += 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        return (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)

    return direction


def adam_gc(w, grads, project):
    direction = adam_directions(grads)
    for g in grads:
        w = w - LR * direction(project(g + WD * w))
    return w


def adam_gc2(w, grads, project):
    direction = adam_directions(grads)
    for g in grads:
        w = w + project(-LR * direction(g + WD * w))
    return w


def adamw_gc(w, grads, project):
    direction = adam_directions(grads)
    for g in grads:
        w = w - LR * (direction(project(g)) + WD * w)
    return w


def adamw_gc2(w, grads, project):
    direction = adam_directions(grads)
    for g in grads:
        w = w + project(-LR * (direction(g) + WD * w))
    return w


def adamw_before_decay(w, grads, project):
    direction = adam_directions(grads)
    for g in grads:
        w = w - LR * (project(direction(g)) + WD * w)
    return w


def adagrad(w, grads, before, after):
    squares = np.full_like(w, 0.1)
    for g in grads:
        g = before(g)
        squares = squares + g**2
        w = w - LR * after(g / np.sqrt(squares + 1e-7))
    return w


def radam_directions(b1=0.9, b2=0.99, eps=1e-8, threshold=5.0):
    m = v = 0.0
    t = 0
    rho_inf = 2 / (1 - b2) - 1

    def direction(g):
        nonlocal m, v, t
        t += 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        mean = m / (1 - b1**t)
        rho = rho_inf - 2 * t * b2**t / (1 - b2**t)
        if rho < threshold:
            return mean
        rectification = np.sqrt(
            (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
        )
        return rectification * mean / (np.sqrt(v / (1 - b2**t)) + eps)

    return direction


def radam(w, grads, before, after):
    direction = radam_directions()
    for g in grads:
        w = w - LR * after(direction(before(g)))
    return w


def lookahead_radam(w, grads, before, after):
    direction = radam_directions()
    fast = slow = w
    for t, g in enumerate(grads, start=1):
        fast = fast - LR * after(direction(before(g)))
        if t % 6 == 0:
            fast = slow = slow + 0.5 * (fast - slow)
    return fast


def first(rule):
    return lambda w, grads, project: rule(w, grads, project, lambda update: update)


def last(rule):
    return lambda w, grads, project: rule(w, grads, lambda g: g, project)


CHAINS = {
    "SGD_GC": Chain(
        ("add_decayed_weights(wd)", "centralize()", "sgd(lr, momentum)"), sgd_gc, "preserved"
    ),
    "SGDW_GC": Chain(
        (
            "centralize()",
            "trace(momentum)",
            "add_decayed_weights(wd)",
            "scale_by_learning_rate(lr)",
        ),
        sgdw_gc,
        "decays",
    ),
    "Adam_GC": Chain(("add_decayed_weights(wd)", "centralize()", "adam(lr)"), adam_gc, "moves"),
    "Adam_GC2": Chain(
        ("add_decayed_weights(wd)", "adam(lr)", "centralize()"), adam_gc2, "preserved"
    ),
    "AdamW_GC": Chain(("centralize()", "adamw(lr, weight_decay=wd)"), adamw_gc, "moves"),
    "AdamW_GC2": Chain(("adamw(lr, weight_decay=wd)", "centralize()"), adamw_gc2, "preserved"),
    "AdamW, before decay": Chain(
        (
            "scale_by_adam()",
            "centralize()",
            "add_decayed_weights(wd)",
            "scale_by_learning_rate(lr)",
        ),
        adamw_before_decay,
        "decays",
    ),
    "Adagrad_GC, first": Chain(("centralize()", "adagrad(lr)"), first(adagrad), "moves"),
    "Adagrad_GC, last": Chain(("adagrad(lr)", "centralize()"), last(adagrad), "preserved"),
    "RAdam, first": Chain(("centralize()", "radam(lr)"), first(radam), "moves"),
    "RAdam, last": Chain(("radam(lr)", "centralize()"), last(radam), "preserved"),
    "Ranger, first": Chain(
        ("lookahead(chain(centralize(), radam(lr)), 6, 0.5)",), first(lookahead_radam), "moves"
    ),
    "Ranger, last": Chain(
        ("lookahead(chain(radam(lr), centralize()), 6, 0.5)",),
        last(lookahead_radam),
        "preserved",
    ),
}

SHAPES = {
    "Conv_0": {"kernel": (3, 3, 2, 5), "bias": (5,)},
    "Dense_0": {"kernel": (6, 4), "bias": (4,)},
}
AXES = {
    "Conv_0": {"kernel": (0, 1, 2), "bias": ()},
    "Dense_0": {"kernel": (0,), "bias": ()},
}
CONV_AXES = {**AXES, "Dense_0": {"kernel": (), "bias": ()}}


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


def projection(axes):
    if not axes:
        return lambda g: g
    return lambda g: g - g.mean(axes, keepdims=True)


def run(optimizer, params, grads, lookahead):
    def step(carry, grads):
        params, state = carry
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    params, grads = jax.tree.map(jnp.asarray, (params, grads))
    if lookahead:
        params = optax.LookaheadParams.init_synced(params)
    # Optax's Adam raises a Python float to an integer array's power, which strict promotion bars.
    with jax.numpy_dtype_promotion("standard"):
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), grads)
    return jax.tree.map(np.asarray, params.fast if lookahead else params)


@pytest.fixture(params=[False, True], ids=["GC", "GCC"], scope="module")
def convolutions_only(request):
    return request.param


@pytest.fixture(params=CHAINS, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def result(name, convolutions_only):
    params, grads = initial_params_and_grads()
    return run(CHAINS[name].build(convolutions_only), params, grads, name.startswith("Ranger"))


def test_20_steps_in_float32_follow_the_update_rule_in_float64(name, convolutions_only, result):
    def expected(w, grads, axes):
        wide = w.astype(np.float64), grads.astype(np.float64)
        return CHAINS[name].reference(*wide, projection(axes))

    params, grads = initial_params_and_grads()
    axes = CONV_AXES if convolutions_only else AXES
    reference = map_leaves(expected, params, grads, axes)

    def check(actual, reference, initial):
        assert actual.dtype == np.float32
        scale = np.abs(reference).max()
        assert np.abs(actual - reference).max() <= 1e-5 * scale
        assert np.abs(reference - initial).max() > 0.05 * scale, "20 steps should change weights"

    map_leaves(check, result, reference, params)


def test_the_mean_of_each_units_weights_does_what_the_table_says(name, convolutions_only, result):
    params, _ = initial_params_and_grads()
    for layer in SHAPES:
        axes = AXES[layer]["kernel"]
        before = params[layer]["kernel"].astype(np.float64).mean(axes)
        after = result[layer]["kernel"].astype(np.float64).mean(axes)
        left_alone = convolutions_only and layer == "Dense_0"
        if left_alone or CHAINS[name].mean == "moves":
            assert np.abs(after - before).max() > 1e-3
        elif CHAINS[name].mean == "decays":
            np.testing.assert_allclose(after, before * (1 - LR * WD) ** STEPS, atol=1e-5)
            assert np.abs(after - before).max() > 1e-2
        else:
            np.testing.assert_allclose(after, before, atol=1e-5)
