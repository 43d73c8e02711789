"""`benchmarks/overhead.py` measures what it says, shown at small sizes."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESULTS = BENCHMARKS / "results" / "overhead.json"
SHAPES = {
    "kernel": jax.ShapeDtypeStruct((256, 8), jnp.float32),
    "bias": jax.ShapeDtypeStruct((8,), jnp.float32),
}
pytestmark = pytest.mark.usefixtures("default_promotion")


@pytest.fixture(scope="module")
def overhead():
    return loaded("overhead")


def loaded(name):
    """A module of the folder `benchmarks`, which is a script beside its helpers."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_the_trees_have_the_published_number_of_parameters():
    architectures = loaded("_architectures")
    for shapes, published in architectures.TREES.values():
        assert architectures.count(shapes()) == published


@pytest.mark.parametrize(("name", "arrays"), [("adam", 7), ("sgd", 5)])
def test_an_update_is_measured_in_all_variants(overhead, name, arrays, monkeypatch):
    monkeypatch.setattr(overhead, "SHORTEST_SAMPLE", 0.0)
    row = overhead.measure_update(SHAPES, name, rounds=3)
    assert (row["parameters"], row["centralized"], row["leaves"]) == (2056, 2048, 2)
    # One more read, of the gradients that are centralized.
    assert row["byte_limit"] == pytest.approx(1 + 2048 / (arrays * 2056))
    # XLA's own count sees the same: one more array, beside what the means themselves take.
    added = row["bytes_by_xla"]["gc"] - row["bytes_by_xla"]["alone"]
    assert 4 * 2048 <= added <= 4 * (2048 + 20 * 8 + 64)
    low, high = row["gc_over_alone"]["quartiles"]
    assert 0 < low <= row["gc_over_alone"]["median"] <= high
    assert all(seconds["median"] > 0 for seconds in row["seconds"].values())
    json.dumps(row)


def test_the_optimizer_alone_copies_no_donated_buffer(overhead):
    compiled, _ = overhead.compiled_update(SHAPES, overhead.variants()["alone"], _adam(overhead))
    analysis = compiled.memory_analysis()
    assert analysis.alias_size_in_bytes >= 3 * 4 * 2056
    assert analysis.temp_size_in_bytes < 1024


def test_donated_buffers_in_another_order_than_they_come_back_in_are_copied():
    optimizer = optax.sgd(0.1, momentum=0.9)

    def copied(step, *arguments) -> int:
        compiled: Any = jax.jit(step, donate_argnums=(0, 1)).lower(*arguments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    def update(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.eval_shape(optimizer.init, SHAPES)
    assert copied(update, SHAPES, state, SHAPES) < 1024
    swapped = lambda state, params, grads: update(params, state, grads)  # noqa: E731
    assert copied(swapped, state, SHAPES, SHAPES) >= 4 * 2048


def _adam(overhead):
    return overhead.OPTIMIZERS["adam"][0]()


def test_ratios_are_taken_within_a_round(overhead):
    # The second round was slow for all: its ratio is that of the others.
    taken = {
        "alone": {"wall": np.array([1.0, 50.0, 1.0])},
        "gc": {"wall": np.array([1.5, 75.0, 1.5])},
    }
    assert overhead.ratio(taken, "gc", "alone") == {"median": 1.5, "quartiles": [1.5, 1.5]}


def test_every_call_is_made_equally_often(overhead, monkeypatch):
    monkeypatch.setattr(overhead, "SHORTEST_SAMPLE", 0.0)
    made = {"a": 0, "b": 0}

    def call(name):
        made[name] += 1

    taken = overhead.samples({name: lambda name=name: call(name) for name in made}, rounds=4)
    assert made == {"a": 6, "b": 6}
    assert all(seconds["wall"].shape == (4,) for seconds in taken.values())


@pytest.mark.slow  # importing PyTorch takes seconds
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
def test_in_pytorch_gradients_lose_their_mean_over_all_axes_but_the_first(overhead):
    torch_updates = loaded("_torch_updates")
    torch = sys.modules["torch"]
    for fused in (False, True):
        for call in torch_updates.calls(SHAPES, "adam", fused=fused).values():
            call()
    param = torch.zeros(3, 4, 2, requires_grad=True)
    param.grad = torch.arange(24.0).reshape(3, 4, 2)
    torch_updates.centralize([param])
    expected = torch.arange(8.0).reshape(1, 4, 2).expand(3, 4, 2) - 3.5
    assert torch.equal(param.grad, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "batch"), [("resnet_step", 2), ("gpt_step", 2)])
def test_a_training_step_is_measured_with_and_without(overhead, step, batch):
    row = overhead.measure_step(getattr(overhead, step), batch, rounds=2)
    assert row["parameters"] == {"resnet_step": 11_220_132, "gpt_step": 466_176}[step]
    assert row["update"]["centralized"] > 0.9 * row["parameters"]
    assert row["gc_over_alone"]["median"] > 0
    # A step is more than its update.
    assert row["seconds"]["alone"]["median"] > row["update"]["seconds"]["alone"]["median"]


@pytest.mark.slow
def test_the_command_prints_its_tables_and_writes_the_numbers(tmp_path):
    output = tmp_path / "overhead.json"
    command = [sys.executable, "-W", "error", str(BENCHMARKS / "overhead.py"), "--rounds", "2"]
    command += ["--compilations", "1", "--only", "small GPT", "--output", str(output)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "Whole training steps" in shown.stdout
    assert list(json.loads(output.read_text())["steps"]) == ["small GPT"]


def test_the_committed_numbers_are_complete():
    content = json.loads(RESULTS.read_text())
    assert content["device"]["kind"]
    assert {row["tree"] for row in content["updates"]} == set(loaded("_architectures").TREES)
    for row in content["updates"]:
        low, high = row["gc_over_alone"]["quartiles"]
        assert low <= row["gc_over_alone"]["median"] <= high
