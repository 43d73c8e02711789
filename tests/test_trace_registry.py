"""The registry of rules names primitives that exist."""

import gc

import jax
import jax.extend.core
import pytest

from gc_optax._tracing.interpreter import DEFAULT, RULES, SPLAT_PRESERVING

# Primitives that only one end of the supported range of JAX has, or that another release renamed.
OF_OTHER_VERSIONS = {
    "bessel_i1e",
    "call_hi_primitive",
    "eq_to",
    "log2",
    "one_minus_square",
    "pbroadcast",
    "polynomial",
    "pvary",
    "stack",
    "tile",
    "unstack",
}


def installed_primitives() -> set[str]:
    """The names of all primitives that JAX has made by now."""
    jax.make_jaxpr(lambda x: jax.lax.ragged_dot(x, x[None], jax.numpy.array([3])))(
        jax.numpy.ones((3, 3))
    )
    return {o.name for o in gc.get_objects() if isinstance(o, jax.extend.core.Primitive)}


@pytest.mark.parametrize("name", sorted(set(RULES) - {DEFAULT}))
def test_registered_name_is_a_primitive_or_one_of_another_version(name):
    assert name in installed_primitives() | OF_OTHER_VERSIONS


def test_arithmetic_on_one_number_only_names_primitives_with_rules():
    assert set(RULES) >= SPLAT_PRESERVING
