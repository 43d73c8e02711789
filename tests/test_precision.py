"""`centralize` is as exact as the dtype allows, measured by `benchmarks/precision.py`."""

import json
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESULTS = BENCHMARKS / "results" / "precision.json"
sys.path.insert(0, str(BENCHMARKS))
try:
    import precision  # pyright: ignore[reportMissingImports]
finally:
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("dtype", "offset"), sorted({(case.dtype, case.offset) for case in precision.cases(1_000)})
)
@pytest.mark.parametrize("axis", [0, 1])
def test_the_error_is_that_of_rounding_the_result_and_a_float32_mean(dtype, offset, axis):
    for fan_in in (27, 1_000, 10_000):
        values = precision.measure(precision.Case(dtype, fan_in, 4, offset, axis))
        assert values["error"] <= precision.bound(values), fan_in
        assert values["residual_mean"] <= precision.bound(values), fan_in


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e5m2", "float8_e4m3fn"])
def test_narrow_floats_come_out_as_the_exact_result_rounded_once(dtype):
    values = precision.measure(precision.Case(dtype, 20_000, 4, 1.0, 0))
    assert values["error"] <= values["error_of_exact_rounded_once"] * 1.01
    # Added up in the dtype itself the mean would be wrong by more than the result's rounding.
    assert values["mean_error_one_by_one_in_dtype"] > 2 * values["error"]


def test_a_sum_in_float32_entry_after_entry_would_break_the_bound():
    # So the bound does say something about the order in which XLA adds.
    values = precision.measure(precision.Case("float32", 100_000, 4, 100.0, 0))
    assert values["mean_error_one_by_one_in_float32"] > 5 * precision.bound(values)


def test_a_second_pass_removes_what_the_rounding_of_the_mean_left():
    values = precision.measure(precision.Case("float32", 1_000, 4, 100.0, 0))
    assert values["error_of_two_passes"] < 0.1 * values["error"]


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [(1.0, "float32", 2.0**-23), (1.5, "bfloat16", 2.0**-7), (1000.0, "float16", 0.5)],
)
def test_the_unit_is_that_of_the_dtype(value, dtype, expected):
    assert precision.ulp(value, dtype) == expected


def test_the_unit_is_the_distance_to_the_next_number():
    for value in (0.0, 1e-6, 0.3, 1.0, 7.0, 60_000.0):
        expected = float(np.spacing(np.float16(value)))
        assert precision.ulp(value, "float16") == expected


@pytest.mark.parametrize("dtype", precision.DTYPES)
def test_gradients_are_finite_and_their_entries_differ(dtype):
    for case in precision.cases(1_000):
        if case.dtype == dtype:
            grads = precision.gradient(case)
            assert np.isfinite(grads.astype(np.float32)).all()
            assert len(np.unique(grads.astype(np.float32))) > 10


def test_float8_of_1e4_is_left_out_only_where_it_cannot_be_held():
    offsets = {case.dtype: set() for case in precision.cases(1_000)}
    for case in precision.cases(1_000):
        offsets[case.dtype].add(case.offset)
    assert offsets["float8_e4m3fn"] == {0.0, 1.0, 100.0}
    assert float(jnp.finfo(jnp.float8_e4m3fn).max) < 1e4
    assert all(len(seen) == 4 for dtype, seen in offsets.items() if dtype != "float8_e4m3fn")


@pytest.mark.slow
def test_the_command_prints_its_table_and_writes_the_numbers(tmp_path):
    output = tmp_path / "precision.json"
    command = [sys.executable, "-W", "error", str(BENCHMARKS / "precision.py")]
    command += ["--largest", "1000", "--output", str(output)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    content = json.loads(output.read_text())
    cases = content["cases"]
    assert f"Within what it may be: {len(cases)} of {len(cases)}." in shown.stdout
    assert len(cases) == sum(1 for _ in precision.cases(1_000))


def test_all_committed_errors_are_within_their_bounds():
    cases = json.loads(RESULTS.read_text())["cases"]
    assert max(case["fan_in"] for case in cases) == 10_000_000
    assert all(case["error"] <= case["bound"] for case in cases)
