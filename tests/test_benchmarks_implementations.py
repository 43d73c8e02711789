"""`benchmarks/implementations.py`: what a step tells of the axes, and the committed outcomes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import implementations  # pyright: ignore[reportMissingImports]

GRADIENT = np.arange(24.0).reshape(2, 3, 4) ** 2


@pytest.mark.parametrize(
    ("axes", "right", "what"),
    [
        ((0,), (0,), ("axis 0", True)),
        ((0, 2), (0, 2), ("axes 0, 2", True)),
        ((1,), (0,), ("axis 1", False)),
        ((), (), ("left alone", True)),
        ((), (1,), ("left alone", False)),
    ],
)
def test_the_axes_are_found_from_the_step(axes, right, what):
    mean = GRADIENT.mean(axes, keepdims=True) if axes else 0
    leaf = implementations.Leaf(GRADIENT.shape, right)
    assert implementations.outcome(leaf, GRADIENT, GRADIENT - mean) == what


def test_axes_of_size_1_make_no_difference():
    gradient = GRADIENT.reshape(2, 1, 12)
    step = gradient - gradient.mean(2, keepdims=True)
    for right in ((2,), (1, 2)):
        assert implementations.outcome(
            implementations.Leaf(gradient.shape, right), gradient, step
        ).right


def test_a_step_of_nothing_is_a_frozen_leaf():
    leaf = implementations.Leaf((3, 1), ())
    assert implementations.outcome(leaf, np.ones((3, 1)), np.zeros((3, 1))) == ("frozen", False)


def test_a_step_that_subtracts_no_mean_is_an_error():
    with pytest.raises(ValueError, match="less a mean"):
        implementations.outcome(implementations.Leaf((2, 3, 4), ()), GRADIENT, 2 * GRADIENT)


def test_the_committed_outcomes_of_jax_are_those_of_today():
    committed = json.loads((BENCHMARKS / "results" / "implementations.json").read_text())
    by_name = {each["name"]: each["outcomes"] for each in committed}
    for name, _, outcomes in implementations.by_jax():
        assert {kind: each._asdict() for kind, each in outcomes.items()} == by_name[name], name
    assert len(by_name) == 10
