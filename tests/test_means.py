"""`_means`: each platform's way to write the mean gives the mean, and is lowered for it alone."""

import functools
import math
from typing import Any

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from gc_optax import _means
from tests.test_sharding import collectives, mesh_of

PLATFORMS = ("cuda", "rocm", "tpu", "default")
LARGE = (
    # Shapes of which a GPU sums in parts: along the first axis, a later one, between kept ones.
    ((3072, 64), (0,)),
    ((3, 3, 64, 48), (0, 1, 2)),
    ((7, 7, 3, 64), (0, 1, 2)),
    ((64, 2000), (1,)),
    ((2, 640, 4, 8), (1, 2)),
    ((64, 2, 300), (0, 2)),
    ((64, 300, 2), (1, 0)),  # in another order
    ((1031, 8), (0,)),  # a prime
)


@pytest.fixture(params=PLATFORMS)
def on_platform(request, monkeypatch):
    """Runs here what is meant for another platform."""

    def chosen(leaf, **functions):
        return functions[request.param](leaf)

    monkeypatch.setattr(jax.lax, "platform_dependent", chosen)
    compiled: Any = _means._mean
    compiled.clear_cache()
    yield request.param
    compiled.clear_cache()


def check(leaf: np.ndarray, axes: tuple[int, ...]) -> None:
    found = _means.minus_mean(jnp.asarray(leaf), axes)
    wide = leaf.astype(np.float64)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, leaf)
    error = np.asarray(found).astype(np.float64) - (wide - wide.mean(axes, keepdims=True))
    bound = 4 * float(jnp.finfo(leaf.dtype).eps) * max(1.0, np.abs(wide).max())
    assert np.abs(error).max() <= bound


@pytest.mark.parametrize(("shape", "axes"), LARGE)
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_large_leaves_lose_their_mean(on_platform, shape, axes, dtype):
    del on_platform
    check(np.random.default_rng(0).normal(1.0, 1.0, shape).astype(dtype), axes)


@given(st.data())
@settings(max_examples=60)
def test_the_parts_of_any_leaf_are_equal_and_leave_long_sums(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 5000), min_size=1, max_size=4)))
    chosen = data.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    axes = tuple(axis for axis, taken in enumerate(chosen) if taken) or (0,)
    axis, parts = _means._parts(shape, axes, is_split=False)
    assert axis in axes
    assert shape[axis] % parts == 0
    size = math.prod(shape[a] for a in axes)
    summed = size // parts // math.prod(shape[a] for a in axes if a < axis)
    # Each part sums so many entries, or the whole is summed at once.
    assert summed * 2 >= _means.SHORTEST_SUM or parts == 1


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((768, 3072), (0,), (0, 2)),
        ((3072, 768), (0,), (0, 8)),
        ((3, 3, 512, 512), (0, 1, 2), (2, 2)),
        ((12, 64, 768), (0, 1), (0, 12)),
        ((4096, 14336), (0,), (0, 1)),  # enough outputs
        ((32, 16), (0,), (0, 1)),  # too short
        ((1031, 8), (0,), (0, 1)),
    ],
)
def test_long_sums_with_few_outputs_are_taken_in_parts(shape, axes, expected):
    assert _means._parts(shape, axes, is_split=False) == expected


def lowered(platform: str) -> str:
    leaf = jax.ShapeDtypeStruct((3072, 64), jnp.float32)
    traced = jax.jit(functools.partial(_means.minus_mean, axes=(0,))).trace(leaf)
    return traced.lower(lowering_platforms=(platform,)).as_text()


def test_each_platform_gets_its_own():
    cpu, tpu, cuda = (lowered(platform) for platform in ("cpu", "tpu", "cuda"))
    assert "stablehlo.reshape" in cuda
    assert "stablehlo.reshape" not in cpu + tpu
    assert tpu.index("stablehlo.divide") < tpu.index("stablehlo.reduce")
    assert cpu.index("stablehlo.divide") > cpu.index("stablehlo.reduce")


@pytest.mark.parametrize("on_platform", ["cuda"], indirect=True)
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P("data", "model"), P(("data", "model")), P(None, "data")])
def test_sums_in_parts_gather_no_gradient_either(on_platform, kind, spec):
    del on_platform
    mesh = mesh_of(kind)
    leaf = np.random.default_rng(0).normal(size=(3072, 64)).astype(np.float32)
    with jax.set_mesh(mesh):
        placed = jax.device_put(leaf, NamedSharding(mesh, spec))
        compiled: Any = jax.jit(lambda g: _means.minus_mean(g, (0,))).lower(placed).compile()
        found = compiled(placed)
    np.testing.assert_allclose(found, leaf - leaf.mean(0, dtype=np.float64), atol=2e-6)
    sent = collectives(compiled.as_text())
    assert {one.kind for one in sent} <= {"all-reduce"}
    # At most the sums of the parts, of which there are 96.
    assert sum(one.elements for one in sent) <= 96 * 64 + 64
