"""How well ResNet-8 recognizes brighter and darker images, with GC and without.

    python benchmarks/brightness.py RATE --data-dir DATA [--seeds 3] [--output brightness.json]

Trains the preset `resnet8-30` (CIFAR-100) at a learning rate, from the initial weights and from the
same with their sums taken out (`center_weights`), and tests it on brighter and darker images. A
number is added to their pixels, which run from 0 to 1: to each channel in proportion to its
standard deviation, by which the network divides, and without clipping, so that all inputs of the
first layer move alike. At its borders, which are padded with zeros, it sees the shift all the same.

What is there in the output is not run again: give the same command after an interruption. The plot
is written beside it.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import gc_optax.diagnostics
from gc_optax.experiments.data import Dataset, load
from gc_optax.experiments.execution import record as _record
from gc_optax.experiments.execution.networks import network_of
from gc_optax.experiments.execution.trainer import Trainer
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.settings.presets import settings
from gc_optax.experiments.training.epoch import State, eval_batches, evaluation_function

SHIFTS = tuple(round(0.05 * step, 2) for step in range(-4, 5))
PROTOCOL = "resnet8-30"
ARMS = ("none", "gc")
STARTS = ("as drawn", "centered")
LOOKS = {
    ("none", "as drawn"): {"color": "#555555", "linestyle": "--", "marker": "s"},
    ("none", "centered"): {"color": "#999999", "linestyle": ":", "marker": "D"},
    ("gc", "as drawn"): {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    ("gc", "centered"): {"color": "#009E73", "linestyle": "-.", "marker": "^"},
}


def shifted(dataset: Dataset, shift: float) -> Dataset:
    """The data set with `shift`, on average over the channels, added to its test images."""
    assert dataset.std is not None
    of_channels = 255 * shift * dataset.std / dataset.std.mean()
    inputs = dataset.test.inputs.astype(np.float32) + of_channels.astype(np.float32)
    return dataset._replace(test=dataset.test._replace(inputs=inputs))


def initial(trainer: Trainer, arm: str, start: str, seed: int) -> State:
    """One seed's state before training; its leaves lead with an axis of size 1."""
    state = trainer.initial_state(arm, [seed])
    if start == "centered":
        centered = jax.jit(jax.vmap(gc_optax.diagnostics.center_weights))(state.params)
        state = state._replace(params=centered)
    return state


def trained(trainer: Trainer, arm: str, start: str, seed: int, rate: float) -> State:
    """The state after the last epoch."""
    state = initial(trainer, arm, start, seed)
    for now, result in trainer.run(arm, rate, [seed], state):
        accuracy = float(result.metrics.test_accuracy[0])
        print(f"{arm}, {start}, seed {seed}: {accuracy:.2%}", flush=True)
        state = now
    return state


def accuracies(config: Config, dataset: Dataset, state: State) -> dict[str, float]:
    """The test accuracy at each shift."""
    network, _ = network_of(config, dataset)
    evaluate = jax.jit(evaluation_function(network))
    one = jax.tree.map(lambda leaf: leaf[0], state._replace(opt_state=None))
    at_once = eval_batches(len(dataset.test.labels), min(1000, len(dataset.test.labels)))
    return {
        f"{shift:g}": float(
            evaluate(one, at_once, jax.tree.map(jnp.asarray, shifted(dataset, shift)))[1]
        )
        for shift in SHIFTS
    }


def missing(rows: list[dict], seeds: int) -> Iterator[tuple[int, str, str]]:
    """Seeds, arms and starts that are not among the rows, seed by seed."""
    there = {(row["seed"], row["arm"], row["start"]) for row in rows}
    for seed in range(seeds):
        for arm in ARMS:
            for start in STARTS:
                if (seed, arm, start) not in there:
                    yield seed, arm, start


def draw(rows: list[dict], path: Path):
    """Accuracy against the shift: means over the seeds, one standard error to each side."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for (arm, start), look in LOOKS.items():
        values = 100 * np.array([
            [row["accuracy"][f"{shift:g}"] for shift in SHIFTS]
            for row in rows
            if (row["arm"], row["start"]) == (arm, start)
        ])  # fmt: skip
        if len(values):
            error = values.std(0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else None
            label = f"{arm}, {start} ({len(values)} seed{'s' if len(values) > 1 else ''})"
            axes.errorbar(SHIFTS, values.mean(0), error, label=label, capsize=2, **look)
    axes.set(xlabel="added to all pixels, which run from 0 to 1", ylabel="test accuracy [%]")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150, format="png")


def main(arguments: list[str] | None = None):
    """Trains what is missing, and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rate", type=float, help="the learning rate")
    parser.add_argument("--data-dir", type=Path, help="the folder of CIFAR-100's Parquet files")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0")
    parser.add_argument("--epochs", type=int, help="fewer or more than the preset's")
    parser.add_argument("--batch-size", type=int, help="another than the preset's")
    parser.add_argument("--output", type=Path, default=Path("brightness.json"), help="a JSON file")
    options = parser.parse_args(arguments)
    given = {"epochs": options.epochs, "batch_size": options.batch_size}
    given = {name: value for name, value in given.items() if value is not None}
    config = Config(**settings(PROTOCOL, {"arms": ARMS, "learning_rate": (options.rate,), **given}))
    content = {
        "protocol": PROTOCOL,
        "learning_rate": options.rate,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "rows": [],
    }
    if options.output.exists():
        before = json.loads(options.output.read_text(encoding="utf-8"))
        if {**before, "rows": []} != content:
            raise SystemExit(f"{options.output} has another run: move it away first.")
        content = before
    left = list(missing(content["rows"], options.seeds))
    if not left:
        return
    dataset = load("cifar100", options.data_dir)
    trainer = Trainer(config, dataset)
    made = {"versions": _record.versions(), "device": _record.device(jax.devices()[:1])}
    for seed, arm, start in left:
        state = trained(trainer, arm, start, seed, options.rate)
        accuracy = accuracies(config, dataset, state)
        row = {"seed": seed, "arm": arm, "start": start, "accuracy": accuracy, **made}
        content["rows"].append(row)
        beside = options.output.with_suffix(".part")
        beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        beside.replace(options.output)
        draw(content["rows"], options.output.with_suffix(".png"))
        print(accuracy, flush=True)


if __name__ == "__main__":
    main()
