"""`benchmarks/brightness.py`: what is shifted, and a run that goes on."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import gc_optax.diagnostics
from gc_optax.experiments.data import load
from gc_optax.experiments.execution.trainer import Trainer
from gc_optax.experiments.settings.config import Config

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import brightness  # pyright: ignore[reportMissingImports]


def test_a_shift_moves_all_inputs_of_the_network_alike_and_is_not_clipped(tiny_cifar100):
    dataset = load("cifar100", tiny_cifar100)
    assert dataset.std is not None
    brighter = brightness.shifted(dataset, 0.2)
    moved = brighter.test.inputs - dataset.test.inputs.astype(np.float32)
    np.testing.assert_allclose(moved.mean(), 51.0, rtol=1e-5)  # a fifth of 255
    np.testing.assert_allclose(moved / dataset.std, 51.0 / dataset.std.mean(), rtol=1e-5)
    assert brighter.train is dataset.train
    assert (brighter.test.labels == dataset.test.labels).all()


def test_what_is_there_is_not_missing():
    there = [{"seed": 0, "arm": "none", "start": "as drawn"}]
    missing = list(brightness.missing(there, 2))
    assert missing[0] == (0, "none", "centered")
    assert len(missing) == 2 * 4 - 1


@pytest.mark.slow
@pytest.mark.usefixtures("default_promotion")
def test_a_centered_start_has_no_sums_and_one_as_drawn_has(tiny_cifar100):
    config = Config(dataset="cifar100", model="resnet8", arms=("gc",), seeds=1, batch_size=4)
    trainer = Trainer(config, load("cifar100", tiny_cifar100))
    largest = {}
    for start in brightness.STARTS:
        params = brightness.initial(trainer, "gc", start, 0).params
        means = jax.vmap(gc_optax.diagnostics.weight_means)(params)
        largest[start] = max(float(abs(leaf).max()) for leaf in jax.tree.leaves(means))
    assert largest["centered"] < 1e-6 < 1e-3 < largest["as drawn"]


@pytest.mark.slow
@pytest.mark.usefixtures("default_promotion")
def test_a_run_goes_on_where_it_was_and_refuses_another(tiny_cifar100, tmp_path, monkeypatch):
    output = tmp_path / "brightness.json"
    options = ["0.1", "--data-dir", str(tiny_cifar100), "--epochs", "1", "--batch-size", "4"]
    options += ["--seeds", "1", "--output", str(output)]
    brightness.main(options)
    rows = json.loads(output.read_text())["rows"]
    assert [(row["arm"], row["start"]) for row in rows] == [
        (arm, start) for arm in brightness.ARMS for start in brightness.STARTS
    ]
    assert all(list(row["accuracy"]) == [f"{s:g}" for s in brightness.SHIFTS] for row in rows)
    assert output.with_suffix(".png").exists()
    monkeypatch.setattr(brightness, "trained", pytest.fail)
    brightness.main(options)
    with pytest.raises(SystemExit, match="has another run: move it away first"):
        brightness.main(["0.2", *options[1:]])
