"""Every example network trains, with and without Gradient Centralization, by the command."""

import json
import math

import jax
import pytest

from gc_optax.experiments import main
from gc_optax.models import MODELS

SMALL = ("mlp", "cnn", "vit", "gpt")


@pytest.fixture(autouse=True)
def quick_compilation():
    """Compiling takes most of the time, and optimizing most of that."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.slow
@pytest.mark.usefixtures("default_promotion")
@pytest.mark.parametrize("model", MODELS)
def test_a_network_trains_one_epoch_with_and_without_gc(
    model, tiny_cifar100, tiny_text, tmp_path, capsys
):
    if model == "gpt":
        data = ["--dataset", "shakespeare", "--data-dir", str(tiny_text), "--optimizer", "adamw"]
    else:
        data = ["--dataset", "cifar100", "--data-dir", str(tiny_cifar100), "--augmentation"]
        data += ["crop-flip", "--learning-rate", "0.001"]
    arms = ["none", "gc", "traced"] if model in SMALL else ["none", "gc"]
    command = ["compare", "--model", model, *data, "--arms", *arms]
    command += "--batch-size 4 --epochs 1 --seeds 1 --devices 1 --output".split()
    assert main([*command, str(tmp_path / "run")]) == 0
    capsys.readouterr()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["complete"] is True
    cells = {cell["arm"]: cell for cell in record["results"]}
    assert all(math.isfinite(c["test_loss"]["mean"][0]) for c in cells.values())
    trained = {arm: cell["test_loss"]["mean"][0] for arm, cell in cells.items()}
    assert trained["gc"] != trained["none"]
    if model in SMALL:
        # Names and shapes tell as much as the trace, of stacked kernels too.
        assert trained["gc"] == trained["traced"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet18", "vit", "gpt"])
@pytest.mark.usefixtures("default_promotion")
def test_a_network_trains_in_bfloat16(model, tiny_cifar100, tiny_text, tmp_path, capsys):
    text = model == "gpt"
    data = ["--dataset", "shakespeare" if text else "cifar100"]
    data += ["--data-dir", str(tiny_text if text else tiny_cifar100), "--dtype", "bfloat16"]
    command = ["compare", "--model", model, *data, "--arms", "gc", "--learning-rate", "0.001"]
    command += "--batch-size 4 --epochs 1 --seeds 2 --devices 1 --output".split()
    assert main([*command, str(tmp_path / "run")]) == 0
    capsys.readouterr()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert math.isfinite(record["results"][0]["test_loss"]["mean"][0])
