"""What is given by mistake for parameters or a function gets one clear sentence."""

import re
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

import gc_optax
from gc_optax import FanIn

pytestmark = pytest.mark.usefixtures("default_promotion")

PARAMS = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
X = jnp.ones((4, 3))


def centralized(fan_in, updates) -> Any:
    return gc_optax.centralize(fan_in).update(updates, optax.EmptyState())[0]


def loss(params, x):
    return jnp.sum((x @ params["kernel"] + params["bias"]) ** 2)


ORDER = " The order is `fan_in_by_trace(fn, params, *args)`."
LINEN = ' Of a Linen module, give the parameters: module.init(key, inputs)["params"].'
NOT_A_TREE = "`params` must be a tree of arrays, got "
DENSE = f"{NOT_A_TREE}an object of type flax.linen.linear.Dense.{LINEN}"


@pytest.mark.parametrize(
    ("fn", "params", "text"),
    [
        (PARAMS, loss, f"`fn` must be a function, got an object of type dict.{ORDER}"),
        (None, PARAMS, f"`fn` must be a function, got an object of type NoneType.{ORDER}"),
        (
            eqx.nn.Linear(3, 2, key=jax.random.key(0)),
            loss,
            f"{NOT_A_TREE}an object of type function.{ORDER}",
        ),
        (loss, nn.Dense(2), DENSE),
        (loss, "params", f"{NOT_A_TREE}an object of type str.{ORDER}"),
    ],
)
def test_fan_in_by_trace_says_which_of_its_arguments_is_none_of_its_own(fn, params, text):
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        gc_optax.fan_in_by_trace(fn, params, X)


@pytest.mark.parametrize(
    "use",
    [
        gc_optax.summary,
        gc_optax.fan_in_by_name,
        gc_optax.centralize().init,
        gc_optax.diagnostics.weight_means,
        lambda module: gc_optax.muon_dimension_numbers(gc_optax.fan_in_by_name, module),
    ],
)
def test_a_linen_module_has_no_parameters(use):
    with pytest.raises(TypeError, match=f"^{re.escape(DENSE)}$"):
        use(nn.Dense(3))


def test_a_function_has_no_parameters():
    with pytest.raises(TypeError, match=rf"^{re.escape(NOT_A_TREE)}an object of type function\.$"):
        gc_optax.summary(loss)


@pytest.mark.parametrize("value", [1.5, None, jnp.float32(2.0)])
def test_numbers_and_empty_trees_are_trees(value):
    assert gc_optax.summary(value).centralized == 0


def test_functions_in_a_tree_are_shown_as_no_arrays():
    model = eqx.nn.MLP(3, 1, 8, 1, key=jax.random.key(0))
    arrays = eqx.filter(model, eqx.is_inexact_array)
    for fan_in in (None, gc_optax.fan_in_by_name(arrays), gc_optax.fan_in_by_name(model)):
        rows = {row.path: row for row in gc_optax.summary(model, fan_in).rows}
        assert rows["activation"].reason in ("not an array", "not a float array")
        assert rows["activation"].axes == ()
        assert rows["layers/0/weight"].axes == (1,)


def test_an_unfiltered_equinox_module_is_traced_summarized_and_centralized():
    model = eqx.nn.MLP(3, 1, 8, 1, key=jax.random.key(0))
    fan_in = gc_optax.fan_in_by_trace(lambda model, x: jax.vmap(model)(x), model, X)
    assert gc_optax.summary(model, fan_in).centralized == 32
    updates = centralized(fan_in, model)
    assert updates.activation is model.activation


def test_what_is_no_array_needs_no_fan_in():
    updates = {**PARAMS, "activation": jax.nn.relu, "rate": 0.5}
    updates = centralized({"kernel": FanIn((0,)), "bias": FanIn(())}, updates)
    assert updates["activation"] is jax.nn.relu
    assert updates["rate"] == 0.5


# Axis names.


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.BatchNorm(use_running_average=False, axis_name="batch")(x))


def test_a_layer_with_an_axis_name_is_traced_in_the_mapped_function():
    model, images = Normalized(), jnp.ones((4, 8, 3))
    variables = model.init(jax.random.key(0), images[0])

    def loss(params, x):
        out, _ = model.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(out**2)

    with pytest.raises(NameError, match=r"unbound axis name: batch.*Trace the function that maps"):
        gc_optax.fan_in_by_trace(loss, variables["params"], images)
    mapped = jax.vmap(loss, in_axes=(None, 0), axis_name="batch")
    fan_in = gc_optax.fan_in_by_trace(mapped, variables["params"], images)
    assert fan_in["Dense_0"]["kernel"].axes == (0,)


def test_another_name_error_of_the_function_stays_as_it_is():
    with pytest.raises(NameError, match=r"^name 'undefined' is not defined") as raised:
        gc_optax.fan_in_by_trace(lambda params: undefined, PARAMS)  # noqa: F821 # pyright: ignore
    assert "Trace the function" not in str(raised.value)
