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

import gc_optax

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


def places():
    return loaded("_places")


@pytest.mark.parametrize("place", places().PLACES)
def test_an_update_is_measured_in_all_variants(overhead, place, monkeypatch):
    monkeypatch.setattr(loaded("_timing"), "SHORTEST_SAMPLE", 0.0)
    row = overhead.measure_update(SHAPES, places().PLACES[place].chain, rounds=3)
    assert (row["parameters"], row["centralized"], row["leaves"]) == (2056, 2048, 2)
    low, high = row["over_none"]["gc"]["quartiles"]
    assert 0 < low <= row["over_none"]["gc"]["median"] <= high
    assert row["over_none"].keys() == row["seconds"].keys() == row["temporary_bytes"].keys()
    assert {"none", "gc", "optax", "gc, scheduled"} <= row["seconds"].keys()
    json.dumps(row)


@pytest.mark.parametrize("name", [*places().PLACES, *places().OTHER_CHAINS])
def test_every_chain_updates_with_and_without_gc(name):
    place = places().PLACES.get(name)
    chain = place.chain if place else places().OTHER_CHAINS[name]
    weights = {"kernel": jnp.ones((4, 2)), "bias": jnp.zeros(2)}
    grads = {"kernel": jnp.arange(8.0).reshape(4, 2), "bias": jnp.ones(2)}
    params = places().params_of(name, weights)
    found = []
    for gc in places().variants(gc_optax.fan_in_by_name(weights)).values():
        optimizer = optax.chain(*chain(gc))
        updates: Any = optimizer.update(grads, optimizer.init(params), params)[0]
        kernel = updates["kernel"] if params is weights else updates.fast["kernel"]
        found.append(np.asarray(kernel))
    none, gc, _ = found
    assert not np.allclose(none, gc)


def test_the_optimizer_alone_copies_no_donated_buffer(overhead):
    links = places().PLACES["centralize, adam"].chain(optax.identity())
    compiled, _ = loaded("_updates").compiled_update(SHAPES, SHAPES, links)
    analysis = compiled.memory_analysis()
    assert analysis.alias_size_in_bytes >= 3 * 4 * 2056
    assert analysis.temp_size_in_bytes < 1024


def test_a_row_that_is_there_is_not_measured_again(overhead, monkeypatch, tmp_path, capsys):
    output = tmp_path / "overhead.json"
    measured = []

    def rows(names, rounds, has_torch):
        del names, rounds, has_torch

        def measure():
            measured.append(1)
            return {"gc_over_none": {"median": 1.0}}

        yield {"tree": "training step of something"}, measure

    monkeypatch.setattr(overhead, "measurements", rows)
    monkeypatch.setattr(overhead, "use_threads", lambda number: None)
    monkeypatch.setattr(sys, "argv", ["overhead.py", "--output", str(output)])
    overhead.main()
    overhead.main()
    assert len(measured) == 1
    assert "1.000 times without GC" in capsys.readouterr().out
    assert list(json.loads(output.read_text())) == ["1"]


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


def test_ratios_are_taken_within_a_round(overhead):
    # The second round was slow for all: its ratio is that of the others.
    taken = {
        "alone": {"wall": np.array([1.0, 50.0, 1.0])},
        "gc": {"wall": np.array([1.5, 75.0, 1.5])},
    }
    assert loaded("_timing").ratio(taken, "gc", "alone") == {"median": 1.5, "quartiles": [1.5, 1.5]}


def test_every_call_is_made_equally_often(overhead, monkeypatch):
    monkeypatch.setattr(loaded("_timing"), "SHORTEST_SAMPLE", 0.0)
    made = {"a": 0, "b": 0}

    def call(name):
        made[name] += 1

    taken = loaded("_timing").samples(
        {name: lambda name=name: call(name) for name in made}, rounds=4
    )
    assert made == {"a": 6, "b": 6}
    assert all(seconds["wall"].shape == (4,) for seconds in taken.values())


@pytest.mark.slow  # importing PyTorch takes seconds
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
def test_in_pytorch_gradients_lose_their_mean_over_all_axes_but_the_first(overhead):
    del overhead
    torch_updates = loaded("_torch_updates")
    torch = sys.modules["torch"]
    for place in places().PLACES:
        for call in torch_updates.calls(SHAPES, place, fused=False).values():
            call()
    tensor = torch.arange(24.0).reshape(3, 4, 2)
    mean = tensor.mean(dim=(1, 2), keepdim=True)
    expected = tensor - mean
    torch_updates.centralize(tensor)
    assert torch.equal(tensor, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "batch"), [("resnet_step", 2), ("gpt_step", 2)])
def test_a_training_step_is_measured_with_and_without(overhead, step, batch):
    row = overhead.measure_step(getattr(loaded("_training_steps"), step), batch, rounds=2)
    assert row["parameters"] == {"resnet_step": 11_220_132, "gpt_step": 466_176}[step]
    assert row["update"]["centralized"] > 0.9 * row["parameters"]
    assert row["gc_over_none"]["median"] > 0
    # A step is more than its update.
    assert row["seconds"]["none"]["median"] > row["update"]["seconds"]["none"]["median"]


@pytest.mark.slow
def test_the_command_prints_its_rows_and_writes_the_numbers(tmp_path):
    output = tmp_path / "overhead.json"
    command = [sys.executable, "-W", "error", str(BENCHMARKS / "overhead.py"), "--rounds", "2"]
    command += ["--threads", "1", "--only", "small GPT", "--output", str(output)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "training step of small GPT: " in shown.stdout
    (row,) = json.loads(output.read_text())["1"]["rows"]
    assert row["tree"] == "training step of small GPT"


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_committed_numbers_are_complete(threads):
    content = json.loads(RESULTS.read_text())[threads]
    assert content["device"]["kind"]
    chains = {(row["tree"], row["chain"]) for row in content["rows"] if "chain" in row}
    trees = loaded("_architectures").TREES
    assert {(tree, place) for tree in trees for place in places().PLACES} <= chains
    assert {("ResNet-50", chain) for chain in places().OTHER_CHAINS} <= chains
