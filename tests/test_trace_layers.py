"""Tracing on real layers: the axes are those known by hand, and those that numbers show."""

import jax
import pytest

import gc_optax
from gc_optax._trees import path_name
from tests.trace_cases import CASES

pytestmark = pytest.mark.usefixtures("default_promotion")


@pytest.mark.parametrize("name", CASES)
def test_traced_axes_are_those_known_by_hand(name):
    fn, params, args, expected = CASES[name]()
    fan_in = gc_optax.fan_in_by_trace(fn, params, *args)
    found = {path_name(path): spec for path, spec in jax.tree_util.tree_leaves_with_path(fan_in)}
    assert set(expected) <= set(found), found
    for path, spec in found.items():
        axes = expected.get(path, ())
        axes, batch = axes if axes and isinstance(axes[0], tuple) else (axes, ())
        assert (spec.axes, spec.batch_axes) == (axes, batch), (path, spec)
