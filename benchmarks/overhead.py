"""What `centralize` adds to an update step, and to a whole training step.

    python benchmarks/overhead.py [--output overhead.json]

Update steps are those of ResNet-50, GPT-2 small, ViT-B/16 and 1,000 tiny leaves, under Adam and
under SGD with momentum: the optimizer alone, after `gc_optax.centralize()`, and after
`optax.centralize()` (which takes the mean over other axes). All variants update the same donated
buffers, in one process, in a random order in each round; a ratio is the median over rounds, within
which it is taken.

The least that an update moves to and from memory: Adam reads the gradient, two moments and the
parameters and writes the last three, 7 arrays; SGD with momentum does with 5. The mean must be
known before the first entry is centralized, so GC reads the gradients that it centralizes once
more. Where it centralizes all, that is 8/7 and 6/5. It is a yardstick rather than a bound: XLA
moves 10 arrays for Adam and 6 for SGD, since it reads again what it has just written.

With PyTorch (the extra `benchmarks`), the same updates are timed there, after the JAX ones.
"""

import argparse
import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _architectures import TREES, count
from flax import nnx
from rich.console import Console
from rich.table import Table

import gc_optax
from gc_optax.experiments import _record
from gc_optax.models import GPT, resnet18

OPTIMIZERS = {
    # the optimizer, and how many arrays it moves at least
    "adam": (partial(optax.adam, 1e-3), 7),
    "sgd": (partial(optax.sgd, 0.1, momentum=0.9), 5),
}
SHORTEST_SAMPLE = 0.02
"""Seconds; shorter calls are repeated until they take about as long."""

Call = Callable[[], Any]


def samples(calls: dict[str, Call], rounds: int) -> dict[str, dict[str, np.ndarray]]:
    """Wall and processor seconds of every call in every round, after two rounds to warm up."""
    for call in calls.values():
        call()
    start = time.perf_counter()
    for call in calls.values():
        call()
    once = (time.perf_counter() - start) / len(calls)
    repeats = max(1, math.ceil(SHORTEST_SAMPLE / once))
    names, rng = list(calls), np.random.default_rng(0)
    taken = {name: {"wall": np.empty(rounds), "processor": np.empty(rounds)} for name in names}
    for index in range(rounds):
        for name in (names[i] for i in rng.permutation(len(names))):
            wall, processor = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                calls[name]()
            taken[name]["wall"][index] = (time.perf_counter() - wall) / repeats
            taken[name]["processor"][index] = (time.process_time() - processor) / repeats
    return taken


def spread(values: np.ndarray) -> dict[str, Any]:
    """The median and the quartiles."""
    low, middle, high = np.percentile(values, [25, 50, 75]).tolist()
    return {"median": middle, "quartiles": [low, high]}


def ratio(taken, name: str, to: str, clock: str = "wall") -> dict[str, Any]:
    """One variant's time over another's in the same round."""
    return spread(taken[name][clock] / taken[to][clock])


def variants(fan_in=gc_optax.fan_in_by_name) -> dict[str, optax.GradientTransformation]:
    """What stands before the optimizer."""
    return {
        "alone": optax.identity(),
        "gc": gc_optax.centralize(fan_in),
        "optax": optax.centralize(),
    }


def compiled_update(shapes, transformation, optimizer) -> tuple[Any, float]:
    """The update step on donated parameters and state, and the seconds to compile it."""
    chain: Any = optax.chain(transformation, optimizer)

    # Donated buffers must be passed in the order in which they come back: with parameters and
    # state swapped XLA would copy both, since it pairs buffers of one shape in turn.
    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params, state, grads):
        # The transformations before the optimizer have no state, so all variants share theirs.
        updates, (_, state) = chain.update(grads, (optax.EmptyState(), state), params)
        return optax.apply_updates(params, updates), state

    start = time.perf_counter()
    lowered = update.lower(shapes, jax.eval_shape(optimizer.init, shapes), shapes)
    compiled = lowered.compile()
    return compiled, time.perf_counter() - start


def update_calls(compiled: dict[str, Any], shapes, optimizer) -> dict[str, Call]:
    """Calls of the compiled update steps, which update the same donated buffers in turn."""
    rng = np.random.default_rng(0)
    # Speed does not depend on what is in them, as long as it is a normal number.
    grads = jax.tree.map(
        lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape, np.float32), leaf.dtype), shapes
    )
    params = jax.tree.map(jnp.zeros_like, shapes)
    held = [(params, optimizer.init(params))]

    def call(name: str) -> None:
        held[0] = jax.block_until_ready(compiled[name](*held[0], grads))

    return {name: partial(call, name) for name in compiled}


def measure_update(
    shapes, name: str, rounds: int, compilations: int = 1, fan_in=None
) -> dict[str, Any]:
    """The update step of one tree under one optimizer, in all variants."""
    make, arrays = OPTIMIZERS[name]
    optimizer = make()
    if fan_in is None:
        fan_in = gc_optax.fan_in_by_name(shapes)
    seconds: dict[str, list[float]] = {variant: [] for variant in variants()}
    compiled = {}
    for _ in range(compilations):
        for variant, transformation in variants(fan_in).items():
            compiled[variant], taken_to_compile = compiled_update(shapes, transformation, optimizer)
            seconds[variant].append(taken_to_compile)

    taken = samples(update_calls(compiled, shapes, optimizer), rounds)
    centralized = gc_optax.summary(shapes, fan_in=fan_in).centralized
    limit = 1 + centralized / (arrays * count(shapes))
    with_gc = ratio(taken, "gc", "alone")
    return {
        "parameters": count(shapes),
        "centralized": centralized,
        "leaves": len(jax.tree.leaves(shapes)),
        "seconds": {variant: spread(taken[variant]["wall"]) for variant in taken},
        "gc_over_alone": with_gc,
        "optax_over_alone": ratio(taken, "optax", "alone"),
        "gc_over_optax": ratio(taken, "gc", "optax"),
        "byte_limit": limit,
        "gc_over_byte_limit": with_gc["median"] / limit,
        # Says the same as the ratio of the times where other programs take the cores now and then.
        "gc_over_alone_processor": ratio(taken, "gc", "alone", "processor"),
        "gc_over_optax_processor": ratio(taken, "gc", "optax", "processor"),
        "bytes_by_xla": {
            variant: _bytes_accessed(executable) for variant, executable in compiled.items()
        },
        "compile_seconds": {variant: spread(np.array(each)) for variant, each in seconds.items()},
        "temporary_bytes": {
            variant: executable.memory_analysis().temp_size_in_bytes
            for variant, executable in compiled.items()
        },
    }


def _bytes_accessed(compiled) -> float | None:
    """What the compiled program reads and writes, as XLA counts it."""
    costs = compiled.cost_analysis()
    return costs.get("bytes accessed") if costs else None


def measure_torch(shapes, name: str, rounds: int) -> dict[str, Any]:
    """The same update in PyTorch, by its default optimizer and by the fused one."""
    import _torch_updates

    calls = {
        f"{kind} {variant}": call
        for kind, fused in (("default", False), ("fused", True))
        for variant, call in _torch_updates.calls(shapes, name, fused=fused).items()
    }
    taken = samples(calls, rounds)
    return {
        kind: {
            "seconds": spread(taken[f"{kind} alone"]["wall"]),
            "gc_over_alone": ratio(taken, f"{kind} gc", f"{kind} alone"),
            "gc_over_alone_processor": ratio(taken, f"{kind} gc", f"{kind} alone", "processor"),
        }
        for kind in ("default", "fused")
    }


def resnet_step(batch: int) -> tuple[nnx.Module, jax.Array, jax.Array, str]:
    """ResNet-18 on images of CIFAR's size."""
    images = jax.random.normal(jax.random.key(0), (batch, 32, 32, 3))
    labels = jax.random.randint(jax.random.key(1), (batch,), 0, 100)
    return resnet18((32, 32, 3), 100, rngs=nnx.Rngs(0)), images, labels, "sgd"


def gpt_step(batch: int) -> tuple[nnx.Module, jax.Array, jax.Array, str]:
    """The small GPT on 64 characters."""
    tokens = jax.random.randint(jax.random.key(0), (batch, 65), 0, 65)
    return GPT((64,), 65, rngs=nnx.Rngs(0)), tokens[:, :-1], tokens[:, 1:], "adam"


STEPS = {
    # name, what makes it, the batch
    "ResNet-18": (resnet_step, 128),
    "small GPT": (gpt_step, 32),
}


def measure_step(step, batch: int, rounds: int) -> dict[str, Any]:
    """A whole training step with and without GC, and its update step on its own."""
    model, inputs, targets, name = step(batch)
    optimizer = OPTIMIZERS[name][0]()
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    params, rest = nnx.as_pure(params), nnx.as_pure(rest)

    def loss_fn(params, rest, inputs, targets):
        model = nnx.merge(graph, params, rest)
        logits = model(inputs)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
        return loss, nnx.as_pure(nnx.state(model, nnx.Not(nnx.Param)))

    fan_in = gc_optax.fan_in_by_trace(
        lambda *args: loss_fn(*args)[0], params, rest, inputs, targets
    )

    def compiled(transformation):
        chain: Any = optax.chain(transformation, optimizer)

        @partial(jax.jit, donate_argnums=(0, 1, 2))
        def train_step(params, state, rest, inputs, targets):
            grads, rest = jax.grad(loss_fn, has_aux=True)(params, rest, inputs, targets)
            updates, (_, state) = chain.update(grads, (optax.EmptyState(), state), params)
            return optax.apply_updates(params, updates), state, rest

        state = jax.eval_shape(optimizer.init, params)
        return train_step.lower(params, state, rest, inputs, targets).compile()

    shapes = jax.eval_shape(lambda: params)
    executables = {
        variant: compiled(transformation)
        for variant, transformation in variants(fan_in).items()
        if variant != "optax"
    }
    held = [(params, optimizer.init(params), rest)]

    def call(variant: str) -> None:
        held[0] = jax.block_until_ready(executables[variant](*held[0], inputs, targets))

    calls: dict[str, Call] = {variant: partial(call, variant) for variant in executables}
    taken = samples(calls, rounds)
    update = measure_update(shapes, name, rounds, fan_in=fan_in)
    whole = spread(taken["alone"]["wall"])
    added = update["gc_over_alone"]["median"] - 1
    return {
        "optimizer": name,
        "batch": batch,
        "parameters": count(shapes),
        "seconds": {variant: spread(taken[variant]["wall"]) for variant in taken},
        "gc_over_alone": ratio(taken, "gc", "alone"),
        # The whole step differs from run to run by more than GC adds, so it is also counted
        # from what GC adds to the update step.
        "share_of_step": added * update["seconds"]["alone"]["median"] / whole["median"],
        "update": update,
    }


def with_quartiles(value: dict[str, Any]) -> str:
    """As in `1.08 (1.07-1.09)`."""
    low, high = value["quartiles"]
    return f"{value['median']:.2f} ({low:.2f}-{high:.2f})"


def table(title: str, *columns: str) -> Table:
    """An empty table whose first columns are words."""
    result = Table(title=title, title_justify="left")
    for column in columns:
        result.add_column(column, justify="left" if column in ("", "optimizer") else "right")
    return result


def shown_times(updates: list[dict]) -> Table:
    """How long the update steps take."""
    result = table(
        "Time of an update step (quartiles in brackets)",
        *("", "optimizer", "alone, ms", "with GC / alone", "byte limit", "over the limit"),
        *("optax.centralize() / alone", "with GC / optax.centralize()", "processor time"),
    )
    for row in updates:
        result.add_row(
            row["tree"],
            row["optimizer"],
            f"{1e3 * row['seconds']['alone']['median']:.1f}",
            with_quartiles(row["gc_over_alone"]),
            f"{row['byte_limit']:.2f}",
            f"{row['gc_over_byte_limit']:.2f}",
            with_quartiles(row["optax_over_alone"]),
            with_quartiles(row["gc_over_optax"]),
            with_quartiles(row["gc_over_alone_processor"]),
        )
    return result


def shown_resources(updates: list[dict]) -> Table:
    """What compiling takes, and the temporary memory."""
    result = table(
        "Compilation, and temporary memory as XLA plans it",
        *("", "optimizer", "leaves", "compile alone, s", "with GC", "optax.centralize()"),
        *("temporary alone, MiB", "with GC", "optax.centralize()", "gradients, MiB"),
    )
    for row in updates:
        compiling, memory = row["compile_seconds"], row["temporary_bytes"]
        result.add_row(
            row["tree"],
            row["optimizer"],
            str(row["leaves"]),
            *(f"{compiling[variant]['median']:.2f}" for variant in variants()),
            *(f"{memory[variant] / 2**20:.2f}" for variant in variants()),
            f"{4 * row['parameters'] / 2**20:.0f}",
        )
    return result


def shown_torch(updates: list[dict]) -> Table:
    """The same in PyTorch; columns stay empty without it."""
    result = table(
        "The same updates in PyTorch, gradients centralized as the authors' code does",
        *("", "optimizer", "JAX: alone, ms", "with GC / alone"),
        *("PyTorch: alone, ms", "with GC / alone", "fused: alone, ms", "with GC / alone"),
    )
    for row in updates:
        cells = []
        for kind in ("default", "fused"):
            values = row["torch"] and row["torch"][kind]
            cells.append(f"{1e3 * values['seconds']['median']:.1f}" if values else "")
            cells.append(with_quartiles(values["gc_over_alone"]) if values else "")
        result.add_row(
            row["tree"],
            row["optimizer"],
            f"{1e3 * row['seconds']['alone']['median']:.1f}",
            with_quartiles(row["gc_over_alone"]),
            *cells,
        )
    return result


def shown_steps(steps: dict[str, dict]) -> Table:
    """Whole training steps."""
    result = table(
        "Whole training steps",
        *("", "optimizer", "batch", "without GC, ms", "with GC / without"),
        *("its update: with GC / alone", "byte limit", "what GC adds to the update / step"),
    )
    for name, row in steps.items():
        low, high = row["gc_over_alone"]["quartiles"]
        result.add_row(
            name,
            row["optimizer"],
            str(row["batch"]),
            f"{1e3 * row['seconds']['alone']['median']:.1f}",
            f"{row['gc_over_alone']['median']:.3f} ({low:.3f}-{high:.3f})",
            with_quartiles(row["update"]["gc_over_alone"]),
            f"{row['update']['byte_limit']:.2f}",
            f"{row['share_of_step']:.2%}",
        )
    return result


def console() -> Console:
    """Wide enough for the tables where the width is not that of a terminal."""
    return Console(width=None if sys.stdout.isatty() else 180)


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="samples of each variant")
    parser.add_argument("--compilations", type=int, default=3, help="times to compile each")
    parser.add_argument(
        "--only", nargs="*", choices=[*TREES, *STEPS], default=[*TREES, *STEPS], metavar="NAME"
    )
    parser.add_argument("--output", type=Path, help="a JSON file for the numbers")
    options = parser.parse_args()
    screen = console()
    has_torch = importlib.util.find_spec("torch") is not None
    if not has_torch:
        screen.print("PyTorch is not installed (the extra `benchmarks`): its columns stay empty.")
    updates = []
    for tree, (shapes, published) in TREES.items():
        if tree not in options.only:
            continue
        if count(shapes()) != published:
            raise ValueError(f"{tree} has {count(shapes())} parameters, not {published}.")
        for name in OPTIMIZERS:
            with screen.status(f"{tree}, {name}"):
                row = measure_update(shapes(), name, options.rounds, options.compilations)
                torch = measure_torch(shapes(), name, options.rounds) if has_torch else None
            screen.print(f"{tree}, {name}: {with_quartiles(row['gc_over_alone'])} times alone")
            updates.append({"tree": tree, "optimizer": name, **row, "torch": torch})
    steps = {}
    for name, (step, batch) in STEPS.items():
        if name in options.only:
            with screen.status(f"training step of {name}"):
                steps[name] = measure_step(step, batch, options.rounds)
            screen.print(f"{name}: {with_quartiles(steps[name]['gc_over_alone'])} times without")
    for shown in (shown_times, shown_resources, shown_torch):
        screen.print(shown(updates))
    screen.print(shown_steps(steps))
    content = {
        "versions": {**_record.versions(), "torch": _torch_version() if has_torch else None},
        "device": _record.device(jax.devices()[:1]),
        "rounds": options.rounds,
        "updates": updates,
        "steps": steps,
    }
    if options.output:
        options.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _torch_version() -> str:
    import _torch_updates

    return _torch_updates.version()


if __name__ == "__main__":
    main()
