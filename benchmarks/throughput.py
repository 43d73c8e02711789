"""How fast `gc-optax compare` trains: beside a loop in Python, and with many seeds at once.

    python benchmarks/throughput.py [--output throughput.json]

The network, the batch and the optimizer are the same, and so are the arms: each step centralizes.
The images are noise, since speed does not depend on what is on them. All variants are timed in
turn, several times, in one process: read the ratios.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.table import Table

import gc_optax
from gc_optax.experiments.data import SOURCES, Dataset, Split
from gc_optax.experiments.execution import record as _record
from gc_optax.experiments.execution.trainer import Trainer
from gc_optax.experiments.settings.config import Config
from gc_optax.models import MODELS

SEEDS = 8
ARM = "gc"
CASES = {
    # data set, network, batch size, steps that are timed
    "CNN on digits": ("digits", "cnn", 64, 120),
    "CNN on Fashion-MNIST": ("fashion_mnist", "cnn", 64, 24),
    "MLP on digits": ("digits", "mlp", 64, 400),
}


def noise(name: str, examples: int) -> Dataset:
    """Images of noise in the shape of a data set."""
    source, rng = SOURCES[name], np.random.default_rng(0)
    images = rng.integers(0, 256, (examples, *source.shape), np.uint8)
    labels = rng.integers(0, source.classes, examples, np.int32)
    channels = source.shape[-1]
    moments = np.full(channels, 128, np.float32), np.full(channels, 74, np.float32)
    return Dataset(Split(images, labels), Split(images[:64], labels[:64]), source.classes, *moments)


def python_loop(config: Config, dataset: Dataset) -> Callable[[], float]:
    """Flax as its documentation writes it: a compiled step, called batch after batch."""
    shape = dataset.train.inputs.shape[1:]
    model = MODELS[config.network](shape, dataset.classes, rngs=nnx.Rngs(0))
    chain = optax.chain(gc_optax.centralize(), optax.sgd(0.05, momentum=0.9))
    optimizer = nnx.Optimizer(model, chain, wrt=nnx.Param)
    images = ((dataset.train.inputs - np.float32(128)) / np.float32(74)).astype(np.float32)
    labels = dataset.train.labels

    @nnx.jit
    def train_step(model, optimizer, images, labels):
        def loss_fn(model):
            logits = model(images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        loss, grads = nnx.value_and_grad(loss_fn)(model)
        optimizer.update(model, grads)
        return loss

    rng = np.random.default_rng(0)

    def epoch() -> float:
        start = time.perf_counter()
        order = rng.permutation(len(labels)).reshape(-1, config.batch_size)
        losses = [train_step(model, optimizer, images[rows], labels[rows]) for rows in order]
        jax.block_until_ready((losses, nnx.state(model)))
        return time.perf_counter() - start

    return epoch


def command(config: Config, dataset: Dataset) -> tuple[Callable[[], float], Trainer]:
    """What the command does: all groups of seeds, one epoch each."""
    trainer = Trainer(config, dataset)
    runs = [iter(trainer.run(ARM, 0.05, seeds)) for seeds in trainer.groups]
    return lambda: sum(next(run)[1].seconds.training for run in runs), trainer


def measure(case: str, repetitions: int) -> dict:
    """Medians over the repetitions: images per second, and seconds per epoch and to compile."""
    name, network, batch_size, steps = CASES[case]
    examples = batch_size * steps
    dataset = noise(name, examples)

    def config(**settings) -> Config:
        return Config(
            dataset=name,
            model=network,
            arms=(ARM,),
            batch_size=batch_size,
            epochs=repetitions + 1,
            devices=1,
            **settings,
        )

    chosen, chooser = command(config(seeds=SEEDS), dataset)
    one, trainer = command(config(seeds=1), dataset)
    side_by_side, _ = command(config(seeds=SEEDS, seeds_at_once=SEEDS), dataset)
    variants = {
        "Python loop, 1 seed": (python_loop(config(seeds=1), dataset), 1),
        "command, 1 seed": (one, 1),
        f"command, {SEEDS} seeds side by side": (side_by_side, SEEDS),
        f"command, {SEEDS} seeds as it chooses ({len(chooser.groups[0])} at once)": (chosen, SEEDS),
    }
    for epoch, _ in variants.values():
        epoch()  # compiles
    seconds = {variant: [] for variant in variants}
    for _ in range(repetitions):
        for variant, (epoch, _) in variants.items():
            seconds[variant].append(epoch())
    results = {}
    base, single = (np.median(seconds[v]) for v in ("Python loop, 1 seed", "command, 1 seed"))
    for variant, (_, seeds) in variants.items():
        taken = np.array(seconds[variant])
        epoch = float(np.median(taken))
        results[variant] = {
            "images_per_second": seeds * examples / epoch,
            "epoch_seconds": epoch,
            "epoch_seconds_quartiles": np.percentile(taken, [25, 75]).tolist(),
            "speed_over_python_loop": float(seeds * base / epoch),
            "time_over_one_seed": float(epoch / single),
        }
    compiling = trainer.compile_seconds[ARM], chooser.compile_seconds[ARM]
    return {
        "batch_size": batch_size,
        "images": examples,
        "compile_seconds": {"1 seed": compiling[0], f"{SEEDS} seeds": compiling[1]},
        "variants": results,
    }


def shown(case: str, result: dict) -> Table:
    """One case as a table."""
    table = Table(title=f"{case}, batches of {result['batch_size']}", title_justify="left")
    for column in ("", "images/s", "over the Python loop", "time over one seed"):
        table.add_column(column, justify="left" if not column else "right")
    for variant, values in result["variants"].items():
        table.add_row(
            variant,
            f"{values['images_per_second']:,.0f}",
            f"{values['speed_over_python_loop']:.2f}",
            f"{values['time_over_one_seed']:.2f}",
        )
    return table


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--output", type=Path, help="a JSON file for the numbers")
    options = parser.parse_args()
    console = Console()
    results = {}
    for case in CASES:
        results[case] = measure(case, options.repetitions)
        console.print(shown(case, results[case]))
    content = {
        "versions": _record.versions(),
        "device": _record.device(jax.devices()[:1]),
        "repetitions": options.repetitions,
        "cases": results,
    }
    if options.output:
        options.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
