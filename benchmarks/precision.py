"""How exact `centralize` is, for every width of floats and a fan-in of up to ten million.

    python benchmarks/precision.py [--output precision.json]

Every gradient is noise around an offset, rounded to its dtype; the noise is wide enough for the
dtype to tell entries apart. The result is compared with the mean taken and subtracted in float64
from the same numbers. All errors are in units in the last place (ulp) of the largest entry of the
gradient, in its dtype: an input that was rounded to its dtype is itself off by up to half of that.
"""

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import gc_optax
from gc_optax.experiments.execution import record as _record

DTYPES = ("float32", "bfloat16", "float16", "float8_e5m2", "float8_e4m3fn")
FAN_INS = (1_000, 100_000, 10_000_000)
OFFSETS = (0.0, 1.0, 100.0, 10_000.0)
OUTPUTS = 4
WIDE = (10_000, 1_024)
"""A fan-in and outputs whose gradient is as large as the largest of the others, nearly square."""


class Case(NamedTuple):
    """One gradient: its entries are `offset` plus normal noise, over `axis` is its fan-in."""

    dtype: str
    fan_in: int
    outputs: int
    offset: float
    axis: int


def cases(largest: int) -> Iterator[Case]:
    """All gradients with a fan-in of up to `largest`, except offsets that a dtype cannot hold."""
    shapes = [(fan_in, OUTPUTS) for fan_in in FAN_INS if fan_in <= largest]
    if WIDE[0] * WIDE[1] <= largest * OUTPUTS:
        shapes.append(WIDE)
    for dtype in DTYPES:
        for fan_in, outputs in shapes:
            for offset in OFFSETS:
                # Noise has room for four of its deviations.
                if offset + 4 * deviation(dtype, offset) < float(jnp.finfo(dtype).max):
                    for axis in (0, 1):
                        yield Case(dtype, fan_in, outputs, offset, axis)


def deviation(dtype: str, offset: float) -> float:
    """1, or as much as the dtype needs to tell entries around the offset apart."""
    return max(1.0, 4 * ulp(offset, dtype))


def ulp(value: float, dtype: str) -> float:
    """The unit in the last place of `value` in the dtype."""
    info = jnp.finfo(dtype)
    smallest = float(info.smallest_subnormal)
    if value == 0:
        return smallest
    _, exponent = np.frexp(abs(value))
    return max(float(np.ldexp(float(info.eps), int(exponent) - 1)), smallest)


def gradient(case: Case) -> np.ndarray:
    """The gradient in its dtype."""
    rng = np.random.default_rng(0)
    shape = (case.fan_in, case.outputs) if case.axis == 0 else (case.outputs, case.fan_in)
    noise = rng.standard_normal(shape, np.float32).clip(-4, 4)
    noise *= np.float32(deviation(case.dtype, case.offset))
    noise += np.float32(case.offset)
    return noise.astype(jnp.dtype(case.dtype))


@partial(jax.jit, static_argnums=1)
def centralized(grads: jax.Array, axis: int) -> jax.Array:
    """What is measured."""
    transformation = gc_optax.centralize(gc_optax.FanIn((axis,)))
    updates, _ = transformation.update(grads, optax.EmptyState())
    assert isinstance(updates, jax.Array)
    return updates


def measure(case: Case) -> dict[str, float]:
    """Errors in units in the last place of the largest entry of the gradient, in its dtype."""
    grads, axis = gradient(case), case.axis
    wide = grads.astype(np.float64)
    unit = ulp(np.abs(wide).max(), case.dtype)
    mean = wide.mean(axis, keepdims=True)
    exact = wide - mean
    once = centralized(jnp.asarray(grads), axis)
    result = np.asarray(once).astype(np.float64)
    twice = np.asarray(centralized(once, axis)).astype(np.float64)
    rounded = exact.astype(np.float32).astype(grads.dtype).astype(np.float64)

    def error(value: np.ndarray) -> float:
        return float(np.abs(value - exact).max() / unit)

    def residual(value: np.ndarray) -> float:
        return float(np.abs(value.mean(axis)).max() / unit)

    return {
        "residual_mean": residual(result),
        "residual_mean_of_exact_rounded_once": residual(rounded),
        "error": error(result),
        "error_of_exact_rounded_once": error(rounded),
        "error_of_two_passes": error(twice),
        "half_ulp_of_result": ulp(np.abs(exact).max(), case.dtype) / 2 / unit,
        "ulp_of_float32": ulp(np.abs(wide).max(), "float32") / unit,
        "mean_error_one_by_one_in_float32": one_by_one(grads, axis, np.float32, mean) / unit,
        "mean_error_one_by_one_in_dtype": one_by_one(grads, axis, grads.dtype, mean) / unit,
    }


def one_by_one(grads: np.ndarray, axis: int, dtype: np.dtype | type, mean: np.ndarray) -> float:
    """The largest error of a mean whose sum is added up entry after entry in `dtype`."""
    rows = np.moveaxis(grads, axis, 0)
    if np.dtype(dtype) == np.float32:
        # Over the first axis NumPy adds row after row; over the last it would add in pairs.
        total = np.add.reduce(np.ascontiguousarray(rows, np.float32), axis=0)
    else:
        total = np.zeros(rows.shape[1:], dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for part in np.array_split(np.ascontiguousarray(rows), max(1, len(rows) // 4096)):
                total = np.add.accumulate(np.concatenate([total[None], part]), axis=0)[-1]
    # Not a finite number after an overflow.
    return float(np.abs(total.astype(np.float64) / len(rows) - mean.ravel()).max())


def bound(values: dict[str, float]) -> float:
    """What the error may be: one rounding of the result, and six units of float32 for the mean.

    Half a unit is the rounding of the mean itself, the rest that of a sum in float32, which no
    longer grows with the fan-in when it is added up in a tree.
    """
    return values["half_ulp_of_result"] + 6 * values["ulp_of_float32"]


def shown(results: list[dict]) -> Table:
    """All cases, the worse of the two axes each."""
    table = Table(title="In ulp of the largest entry of the gradient", title_justify="left")
    columns = (
        "residual mean",
        "error",
        "exact, rounded once",
        "may be",
        "after a second pass",
        "mean, added one by one in float32",
        "in the dtype",
    )
    for column in ("dtype", "fan-in", "outputs", "offset", *columns):
        table.add_column(column, justify="left" if column == "dtype" else "right")
    for values in worse_axis(results):
        table.add_row(
            values["dtype"],
            f"{values['fan_in']:,}",
            f"{values['outputs']:,}",
            f"{values['offset']:g}",
            *(
                f"{values[key]:.2g}"
                for key in (
                    "residual_mean",
                    "error",
                    "error_of_exact_rounded_once",
                    "bound",
                    "error_of_two_passes",
                    "mean_error_one_by_one_in_float32",
                    "mean_error_one_by_one_in_dtype",
                )
            ),
        )
    return table


def worse_axis(results: list[dict]) -> list[dict]:
    """For each gradient the larger of the numbers over its two axes."""
    merged: dict[tuple, dict] = {}
    for values in results:
        key = tuple(values[name] for name in ("dtype", "fan_in", "outputs", "offset"))
        other = merged.get(key, values)
        merged[key] = {
            name: value if isinstance(value, str) else max(value, other[name])
            for name, value in values.items()
        }
    return list(merged.values())


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--largest", type=int, default=FAN_INS[-1], help="the largest fan-in")
    parser.add_argument("--output", type=Path, help="a JSON file for the numbers")
    options = parser.parse_args()
    results = []
    for case in cases(options.largest):
        values = measure(case)
        results.append({**case._asdict(), **values, "bound": bound(values)})
    console = Console()
    console.print(shown(results))
    within = sum(values["error"] <= values["bound"] for values in results)
    console.print(f"Within what it may be: {within} of {len(results)}.")
    content = {
        "versions": _record.versions(),
        "device": _record.device(jax.devices()[:1]),
        "unit": "ulp of the largest entry of the gradient, in its dtype",
        "cases": [
            # JSON has no infinity.
            {k: v if isinstance(v, str) or np.isfinite(v) else None for k, v in values.items()}
            for values in results
        ],
    }
    if options.output:
        options.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
