"""`benchmarks/reductions.py` compares formulations of the same mean."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.test_benchmarks_overhead import loaded

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "reductions.json"
pytestmark = pytest.mark.usefixtures("default_promotion")


@pytest.fixture(scope="module")
def reductions():
    return loaded("reductions")


@pytest.mark.parametrize("shape", [(16, 5), (3, 3, 8, 4)])
def test_all_formulations_but_rows_give_the_mean_over_the_fan_in(reductions, shape):
    kernel = np.random.default_rng(0).standard_normal(shape, np.float32)
    expected = kernel.reshape(-1, shape[-1]).mean(0)
    for name, function in reductions.FORMULATIONS.items():
        found = function(jnp.asarray(kernel))
        if name == "rows":
            expected = kernel.mean(-1)
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)


def test_a_shape_is_measured_on_as_many_kernels_as_are_asked_for(reductions, monkeypatch):
    monkeypatch.setattr(loaded("overhead"), "SHORTEST_SAMPLE", 0.0)
    row = reductions.measure((16, 8), rounds=2, size=3 * 4 * 128)
    assert (row["kernels"], row["bytes"]) == (3, 3 * 4 * 128)
    assert row["seconds"].keys() == reductions.FORMULATIONS.keys()
    assert row["over_mean"].keys() == reductions.FORMULATIONS.keys() - {"mean"}
    json.dumps(row)


def test_the_committed_shapes_are_those_that_are_measured(reductions):
    content = json.loads(RESULTS.read_text())
    assert content["device"]["kind"]
    assert [tuple(row["shape"]) for row in content["shapes"]] == list(reductions.SHAPES)
