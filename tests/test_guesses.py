"""The default of `centralize`: by name, with one warning in `init` that lists what is guessed."""

import warnings
from typing import Any

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import gc_optax
from gc_optax import FanIn, diagnostics

# Optax and Flax mix Python floats, integers and float32 in ways that strict promotion bars.
pytestmark = pytest.mark.usefixtures("default_promotion")

KNOWN = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
UNKNOWN = {"layer": KNOWN, "mystery": jnp.arange(60.0).reshape(3, 4, 5)}


def warnings_of(function, *args):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*args)
    return caught


def test_init_lists_the_guesses_in_one_warning():
    (warning,) = warnings_of(gc_optax.centralize().init, UNKNOWN)
    assert warning.category is UserWarning
    assert str(warning.message) == (
        "`centralize()` goes by names and shapes, which do not tell over which axes these leaves "
        "are summed, so it guesses: leaf `mystery` of shape (3, 4, 5) over axes (0, 1). Have the "
        "axes read from the computation, centralize(fan_in_by_trace(loss, params, batch)), or give "
        "each such leaf a FanIn. To accept the guesses, write centralize(fan_in_by_name). "
        "`gc_optax.summary(params)` marks them."
    )


def test_one_axis_is_called_an_axis():
    (warning,) = warnings_of(gc_optax.centralize().init, {"mystery": jnp.ones((4, 5))})
    assert "leaf `mystery` of shape (4, 5) over axis 0." in str(warning.message)


def test_no_more_than_eight_are_listed():
    params = {f"mystery_{i}": jnp.ones((3, 4, 5)) for i in range(11)}
    (warning,) = warnings_of(gc_optax.centralize().init, params)
    text = str(warning.message)
    assert text.count("leaf `mystery_") == 8
    assert "; and 3 more. Have the axes read" in text


@pytest.mark.parametrize(
    "params",
    [
        KNOWN,
        None,
        {},
        {"mystery": jnp.ones((1, 4))},
        {"mystery": jnp.ones((3, 4), jnp.int32)},
        {"mystery": optax.MaskedNode(), **KNOWN},
    ],
)
def test_nothing_is_said_where_nothing_is_guessed(params):
    assert not warnings_of(gc_optax.centralize().init, params)


@pytest.mark.parametrize("fan_in", [gc_optax.fan_in_by_name, gc_optax.fan_in_by_name(UNKNOWN)])
def test_who_gives_the_guesses_accepts_them(fan_in):
    optimizer = gc_optax.centralize(fan_in)
    assert not warnings_of(lambda: optimizer.update(UNKNOWN, optimizer.init(UNKNOWN)))


def test_update_says_nothing_and_centralizes_the_guesses():
    update = gc_optax.centralize().update
    assert not warnings_of(update, UNKNOWN, optax.EmptyState())
    updates: Any = update(UNKNOWN, optax.EmptyState())[0]
    mystery = UNKNOWN["mystery"]
    expected = mystery - mystery.mean((0, 1), keepdims=True)
    chex.assert_trees_all_close(updates["mystery"], expected)


@pytest.mark.parametrize(
    "init",
    [
        lambda optimizer: optimizer.init(UNKNOWN),
        lambda optimizer: jax.jit(optimizer.init)(UNKNOWN),
        lambda optimizer: jax.eval_shape(optimizer.init, UNKNOWN),
        lambda optimizer: optax.chain(optax.clip(1.0), optimizer).init(UNKNOWN),
        lambda optimizer: optax.masked(optimizer, {"layer": False, "mystery": True}).init(UNKNOWN),
        lambda optimizer: optax.MultiSteps(optimizer, 2).init(UNKNOWN),
        lambda optimizer: optax.inject_hyperparams(
            lambda learning_rate: optax.chain(optimizer, optax.sgd(learning_rate))
        )(0.1).init(UNKNOWN),
    ],
)
def test_the_warning_points_to_the_line_that_calls_init_and_comes_once(init):
    (warning,) = warnings_of(init, gc_optax.centralize())
    assert warning.filename == __file__
    assert "leaf `mystery` of shape (3, 4, 5)" in str(warning.message)


def test_the_warning_points_to_the_line_that_makes_the_optimizer_of_a_module():
    model = nnx.Dict(mystery=nnx.Param(jnp.ones((3, 4, 5))))
    (warning,) = warnings_of(
        lambda: nnx.Optimizer(model, optax.chain(gc_optax.centralize()), wrt=nnx.Param)
    )
    assert warning.filename == __file__
    assert "mystery" in str(warning.message)


def test_inside_shard_map_the_whole_shapes_are_looked_at():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = {"mystery": jax.sharding.PartitionSpec(None, "x")}
    params = {"mystery": jnp.ones((3, 4, 5))}
    init = gc_optax.centralize(specs=specs).init
    mapped = jax.shard_map(
        init, mesh=mesh, in_specs=(specs,), out_specs=jax.sharding.PartitionSpec()
    )
    for function in (mapped, jax.jit(mapped), init):
        (warning,) = warnings_of(function, params)
        assert "leaf `mystery` of shape (3, 4, 5)" in str(warning.message)


# Hyperparameters.


def one_update(optimizer):
    grads = {**KNOWN, "kernel": jnp.array([[1.0, 2.0], [3.0, 6.0], [5.0, 1.0]])}
    state = optimizer.init(grads)
    return jax.jit(optimizer.update)(grads, state, grads)[0]["kernel"]


CENTRALIZED = jnp.array([[-2.0, -1.0], [0.0, 3.0], [2.0, -2.0]])


def factory(learning_rate, fan_in=None):
    return optax.chain(gc_optax.centralize(fan_in), optax.sgd(learning_rate))


def test_the_hyperparameters_of_centralize_can_be_injected():
    updates = one_update(optax.inject_hyperparams(gc_optax.centralize)())
    chex.assert_trees_all_close(updates, CENTRALIZED)


@pytest.mark.parametrize(
    "fan_in",
    [None, gc_optax.fan_in_by_name(KNOWN), {"kernel": FanIn((0,)), "bias": FanIn(())}],
    ids=["by name", "tree by name", "tree by hand"],
)
def test_a_tree_of_fan_in_among_hyperparameters_is_used(fan_in):
    optimizer = optax.inject_hyperparams(factory)(learning_rate=1.0, fan_in=fan_in)
    chex.assert_trees_all_close(one_update(optimizer), -CENTRALIZED)


def test_one_fan_in_among_hyperparameters_is_used():
    optimizer = optax.inject_hyperparams(factory)(learning_rate=1.0, fan_in=FanIn((0,)))
    grads = {"kernel": CENTRALIZED + 1.0}
    updates: Any = optimizer.update(grads, optimizer.init(grads), grads)[0]
    chex.assert_trees_all_close(updates["kernel"], -CENTRALIZED)


@pytest.mark.parametrize(
    "fan_in",
    [
        gc_optax.fan_in_by_name,
        gc_optax.exclude(gc_optax.fan_in_by_name, "bias"),
        gc_optax.convolutions_only(gc_optax.fan_in_by_name),
    ],
)
def test_a_function_among_hyperparameters_must_be_static(fan_in):
    optimizer = optax.inject_hyperparams(factory)(learning_rate=1.0, fan_in=fan_in)
    with pytest.raises(TypeError) as raised:
        optimizer.init(KNOWN)
    assert str(raised.value) == (
        "A function that gives the axes was called with a single integer and not with parameters. "
        "`optax.inject_hyperparams` calls a function among the hyperparameters as a schedule, with "
        "the number of the step: name its argument in `static_args`, as in "
        'optax.inject_hyperparams(factory, static_args=("fan_in",)).'
    )


def test_a_function_among_static_hyperparameters_is_used():
    inject = optax.inject_hyperparams(factory, static_args=("fan_in",))
    updates = one_update(inject(learning_rate=1.0, fan_in=gc_optax.fan_in_by_name))
    chex.assert_trees_all_close(updates, -CENTRALIZED)


# The same default elsewhere.


def test_elsewhere_the_default_is_the_same_and_silent():
    by_name = gc_optax.fan_in_by_name
    for default, explicit in [
        (diagnostics.mean_component(UNKNOWN), diagnostics.mean_component(UNKNOWN, by_name)),
        (diagnostics.removed_fraction(UNKNOWN), diagnostics.removed_fraction(UNKNOWN, by_name)),
        (diagnostics.weight_means(UNKNOWN), diagnostics.weight_means(UNKNOWN, by_name)),
        (diagnostics.drift(UNKNOWN, UNKNOWN), diagnostics.drift(UNKNOWN, UNKNOWN, by_name)),
        (diagnostics.center_weights(UNKNOWN), diagnostics.center_weights(UNKNOWN, by_name)),
    ]:
        chex.assert_trees_all_equal(default, explicit)
    assert repr(gc_optax.summary(UNKNOWN)) == repr(gc_optax.summary(UNKNOWN, by_name))


def test_an_unfiltered_equinox_module_may_be_given_to_init():
    model: Any = eqx.nn.MLP(3, 2, 8, 1, key=jax.random.key(0))
    assert gc_optax.centralize(FanIn(())).init(model) == optax.EmptyState()
    for warning in warnings_of(gc_optax.centralize().init, model):
        assert "activation" not in str(warning.message)
