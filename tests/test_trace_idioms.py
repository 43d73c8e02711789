"""Neighbors of small inputs on which tracing once went wrong, each in all the ways to write it."""

import contextlib
import importlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import pytest

import gc_optax
from tests.abstract import f32
from tests.trace_idioms_registry import IDIOMS, Idiom

for path in sorted(pathlib.Path(__file__).parent.glob("trace_idioms_*.py")):
    importlib.import_module(f"tests.{path.stem}")

pytestmark = pytest.mark.usefixtures("default_promotion")

SPELLINGS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda function: function,
    "jitted": jax.jit,
    "rematerialized": jax.checkpoint,
}

UNDER_FLAGS = [
    "a loss that closes over its batch",
    "features whose rows sum to one",
    "penalties beside a layer",
    "Bayes by backprop",
    "rows by `eye[index]` with constants",
    "an expert for each row, mapped",
    "Toeplitz matrices by `take`",
    "inner steps in a scan",
    "layers in a scan",
    "a learned initial state",
    "layers in a scan of checkpoints",
    "a state in a reference",
    "a gain for each tap",
    "a straight-through estimator with a derivative of its own",
    "layers with a derivative of their own",
    "layers with a tangent of their own",
    "an equilibrium with a root of its own",
    "activations that are recomputed",
]

FLAGS = [
    "jax_use_simplified_jaxpr_constants",
    "jax_custom_vjp3",
    "jax_custom_jvp3",
    "jax_remat3",
    "jax_scan3",
]


def check(idiom: Idiom, spelling: str) -> None:
    """What comes out for each leaf is right, in all that a `FanIn` says."""
    function = SPELLINGS[spelling](idiom.function)
    params = {leaf: f32(*shape) for leaf, shape in idiom.shapes.items()}
    said = contextlib.nullcontext()
    if idiom.conflict:
        said = pytest.warns(UserWarning, match="conflicting uses")
    with said:
        fan_in = gc_optax.fan_in_by_trace(function, params, *idiom.args)
    assert fan_in == idiom.right
    for leaf, found in fan_in.items():
        assert found.rank == len(idiom.shapes[leaf])
        assert (found.reason == "no use found") == (leaf in idiom.unused), leaf


@pytest.mark.parametrize("spelling", ["plain", "jitted"])
@pytest.mark.parametrize("name", IDIOMS)
def test_axes_are_right(name, spelling):
    check(IDIOMS[name], spelling)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, idiom in IDIOMS.items() if idiom.remat])
def test_axes_are_right_in_a_checkpoint(name):
    check(IDIOMS[name], "rematerialized")


@pytest.mark.parametrize("name", UNDER_FLAGS)
def test_axes_are_right_while_jax_checks_for_leaks(name):
    with jax.checking_leaks():
        check(IDIOMS[name], "plain")


@pytest.fixture(params=FLAGS)
def flag(request):
    """A flag of JAX that changes what functions become, switched on."""
    if not hasattr(jax.config, request.param):
        pytest.skip(f"This version of JAX has no {request.param}.")
    before = getattr(jax.config, request.param)
    jax.config.update(request.param, True)
    yield request.param
    jax.config.update(request.param, before)


@pytest.mark.parametrize("name", UNDER_FLAGS)
@pytest.mark.parametrize("spelling", ["plain", "jitted"])
@pytest.mark.usefixtures("flag")
def test_axes_are_right_under_a_flag(name, spelling):
    check(IDIOMS[name], spelling)
