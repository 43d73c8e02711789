"""`benchmarks/reductions.py` compares formulations of the same mean."""

import json
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gc_optax
from tests.test_benchmarks_overhead import loaded

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "reductions.json"
pytestmark = pytest.mark.usefixtures("default_promotion")


@pytest.fixture(scope="module")
def reductions():
    return loaded("reductions")


@pytest.mark.parametrize("shape", [(16, 5), (3, 3, 8, 4)])
def test_all_formulations_give_the_mean_over_the_fan_in(reductions, shape):
    kernel = np.random.default_rng(0).standard_normal(shape, np.float32)
    expected = kernel.reshape(-1, shape[-1]).mean(0)
    assert reductions.TIMED_ALONE.keys() <= reductions.FORMULATIONS.keys() | {"rows"}
    for name, function in reductions.FORMULATIONS.items():
        found = function(jnp.asarray(kernel))
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)


def test_a_shape_is_measured_on_as_many_kernels_as_are_asked_for(reductions, monkeypatch):
    monkeypatch.setattr(loaded("overhead"), "SHORTEST_SAMPLE", 0.0)
    row = reductions.measure((16, 8), rounds=2, size=3 * 4 * 128)
    assert (row["kernels"], row["bytes"]) == (3, 3 * 4 * 128)
    assert row["seconds"].keys() == reductions.TIMED_ALONE.keys()
    assert row["over_mean"].keys() == reductions.TIMED_ALONE.keys() - {"mean"}
    json.dumps(row)


def test_with_each_formulation_a_tree_is_centralized_as_by_the_library(reductions):
    rng = np.random.default_rng(0)
    shapes = {"query": (8, 2, 3), "out": (2, 8, 5), "conv": (1, 1, 3, 4), "dense": (16, 4)}
    tree = {
        name: {"kernel": jnp.asarray(rng.standard_normal(shape, np.float32))}
        for name, shape in shapes.items()
    }
    tree["dense"]["bias"] = jnp.ones(4)
    expected, _ = gc_optax.centralize().update(tree, optax.EmptyState())
    for formulation in reductions.FORMULATIONS.values():
        found, _ = reductions.centralize(formulation).update(tree, optax.EmptyState())
        chex.assert_trees_all_close(found, expected, atol=1e-6)


@pytest.mark.slow
def test_an_update_is_measured_with_each_formulation(reductions):
    shapes = {"kernel": jax.ShapeDtypeStruct((1024, 512), jnp.float32)}
    row = reductions.measure_update(shapes, rounds=3)
    assert row["over_alone"].keys() == reductions.FORMULATIONS.keys()
    assert row["bytes_per_second_alone"] > 0
    json.dumps(row)


def test_the_committed_shapes_are_those_that_are_measured(reductions):
    content = json.loads(RESULTS.read_text())
    assert content["device"]["kind"]
    assert [tuple(row["shape"]) for row in content["shapes"]] == list(reductions.SHAPES)
    assert tuple(content["updates"]) == reductions.NETWORKS
