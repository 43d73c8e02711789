"""What `centralize` adds to an update step on this device, and to a whole training step.

    python benchmarks/overhead.py --threads 1
    python benchmarks/overhead.py --threads 2

Update steps are those of ResNet-50, GPT-2 small, ViT-B/16 and 1,000 tiny leaves, with GC in four
places of a chain, and of ResNet-50 in every other row of the README's table: without GC, with
`gc_optax.centralize()`, and with `optax.centralize()` (which takes the mean over other axes). On a
CPU the first two are also compiled without the scheduler that computes all leaves side by side. All
variants update the same donated buffers, in one process, in a random order in each round; a ratio
is the median over rounds, within which it is taken.

With PyTorch (the extra `benchmarks`), the same updates are timed there, after the JAX ones.

Each run fills its number of threads in the output, and writes it after every row. A row that is
there is not measured again, if the versions are the same.
"""

import argparse
import importlib.util
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _architectures import TREES, count
from _places import OTHER_CHAINS, PLACES, variants
from flax import nnx

import gc_optax
from gc_optax.experiments import _record
from gc_optax.models import GPT, resnet18

RESULTS = Path(__file__).parent / "results" / "overhead.json"
SCHEDULED = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
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


def compiled_update(shapes, links, options: dict | None = None) -> tuple[Any, float]:
    """The update step on donated parameters and state, and the seconds to compile it."""
    chain = optax.chain(*links)

    # Donated buffers must be passed in the order in which they come back: with parameters and
    # state swapped XLA would copy both, since it pairs buffers of one shape in turn.
    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params, state, grads):
        updates, state = chain.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    start = time.perf_counter()
    lowered = update.lower(shapes, jax.eval_shape(chain.init, shapes), shapes)
    compiled = lowered.compile(options)
    return compiled, time.perf_counter() - start


def update_calls(compiled: dict[str, Any], shapes, state) -> dict[str, Call]:
    """Calls of the compiled update steps, which update the same donated buffers in turn.

    What may stand in the place of GC has no state, so all variants share theirs.
    """
    rng = np.random.default_rng(0)
    # Speed does not depend on what is in them, as long as it is a normal number.
    grads = jax.tree.map(
        lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape, np.float32), leaf.dtype), shapes
    )
    held = [(jax.tree.map(jnp.zeros_like, shapes), state)]

    def call(name: str) -> None:
        held[0] = jax.block_until_ready(compiled[name](*held[0], grads))

    return {name: partial(call, name) for name in compiled}


def measure_update(shapes, chain, rounds: int, fan_in=None) -> dict[str, Any]:
    """The update step of one tree in all variants.

    Args:
        shapes: The parameters' shapes.
        chain: A function from what stands in the place of GC to the links of a chain.
        rounds: How often each variant is timed.
        fan_in: The axes; by name if None.
    """
    fan_in = gc_optax.fan_in_by_name(shapes) if fan_in is None else fan_in
    tried: dict[str, tuple[Any, dict | None]] = {
        name: (gc, None) for name, gc in variants(fan_in).items()
    }
    if jax.default_backend() == "cpu":
        tried |= {f"{name}, scheduled": (tried[name][0], SCHEDULED) for name in ("none", "gc")}
    compiled, seconds = {}, {}
    for name, (gc, options) in tried.items():
        compiled[name], seconds[name] = compiled_update(shapes, chain(gc), options)
    params = jax.tree.map(jnp.zeros_like, shapes)
    state = optax.chain(*chain(optax.identity())).init(params)
    taken = samples(update_calls(compiled, shapes, state), rounds)
    return {
        "parameters": count(shapes),
        "centralized": gc_optax.summary(shapes, fan_in=fan_in).centralized,
        "leaves": len(jax.tree.leaves(shapes)),
        "seconds": {name: spread(taken[name]["processor"]) for name in taken},
        # Processor time says the same as wall time where other programs take the cores at times.
        "over_none": {name: ratio(taken, name, "none", "processor") for name in taken},
        "wall_over_none": {name: ratio(taken, name, "none", "wall") for name in taken},
        "compile_seconds": seconds,
        "temporary_bytes": {
            name: executable.memory_analysis().temp_size_in_bytes
            for name, executable in compiled.items()
        },
    }


def measure_torch(shapes, place: str, rounds: int) -> dict[str, Any]:
    """The same update in PyTorch, by its default optimizer and by the fused one.

    After AdamW it is the authors' way, one parameter after another, and there is no fused one.
    """
    import _torch_updates

    found = {}
    kinds = (
        {"default": False} if place == "adamw, centralize" else {"default": False, "fused": True}
    )
    for kind, fused in kinds.items():
        calls = _torch_updates.calls(shapes, place, fused=fused)
        taken = samples(calls, rounds)
        found[kind] = {
            "seconds": spread(taken["alone"]["processor"]),
            "gc_over_alone": ratio(taken, "gc", "alone", "processor"),
        }
    return found


def resnet_step(batch: int) -> tuple[nnx.Module, jax.Array, jax.Array, str]:
    """ResNet-18 on images of CIFAR's size."""
    images = jax.random.normal(jax.random.key(0), (batch, 32, 32, 3))
    labels = jax.random.randint(jax.random.key(1), (batch,), 0, 100)
    return resnet18((32, 32, 3), 100, rngs=nnx.Rngs(0)), images, labels, "centralize, sgd"


def gpt_step(batch: int) -> tuple[nnx.Module, jax.Array, jax.Array, str]:
    """The small GPT on 64 characters."""
    tokens = jax.random.randint(jax.random.key(0), (batch, 65), 0, 65)
    return GPT((64,), 65, rngs=nnx.Rngs(0)), tokens[:, :-1], tokens[:, 1:], "centralize, adam"


STEPS = {
    # name, what makes it, the batch
    "ResNet-18": (resnet_step, 128),
    "small GPT": (gpt_step, 32),
}


def measure_step(step, batch: int, rounds: int) -> dict[str, Any]:
    """A whole training step with and without GC, and its update step on its own."""
    model, inputs, targets, place = step(batch)
    chain_of = PLACES[place].chain
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
        chain = optax.chain(*chain_of(transformation))

        @partial(jax.jit, donate_argnums=(0, 1, 2))
        def train_step(params, state, rest, inputs, targets):
            grads, rest = jax.grad(loss_fn, has_aux=True)(params, rest, inputs, targets)
            updates, state = chain.update(grads, state, params)
            return optax.apply_updates(params, updates), state, rest

        state = jax.eval_shape(chain.init, params)
        return train_step.lower(params, state, rest, inputs, targets).compile()

    shapes = jax.eval_shape(lambda: params)
    executables = {
        variant: compiled(transformation)
        for variant, transformation in variants(fan_in).items()
        if variant != "optax"
    }
    held = [(params, optax.chain(*chain_of(optax.identity())).init(params), rest)]

    def call(variant: str) -> None:
        held[0] = jax.block_until_ready(executables[variant](*held[0], inputs, targets))

    calls: dict[str, Call] = {variant: partial(call, variant) for variant in executables}
    taken = samples(calls, rounds)
    update = measure_update(shapes, chain_of, rounds, fan_in=fan_in)
    whole = spread(taken["none"]["processor"])
    added = update["over_none"]["gc"]["median"] - 1
    return {
        "place": place,
        "batch": batch,
        "parameters": count(shapes),
        "seconds": {variant: spread(taken[variant]["processor"]) for variant in taken},
        "gc_over_none": ratio(taken, "gc", "none", "processor"),
        # The whole step differs from run to run by more than GC adds, so it is also counted
        # from what GC adds to the update step.
        "share_of_step": added * update["seconds"]["none"]["median"] / whole["median"],
        "update": update,
    }


def measurements(names, rounds: int, has_torch: bool) -> Iterator[tuple[dict, Callable[[], dict]]]:
    """What each row is about, and a function that measures it."""
    for tree, (shapes, published) in TREES.items():
        if count(shapes()) != published:
            raise ValueError(f"{tree} has {count(shapes())} parameters, not {published}.")
        chains = {name: place.chain for name, place in PLACES.items()}
        if tree == "ResNet-50":
            chains |= OTHER_CHAINS
        for name, chain in chains.items():

            def measure(shapes=shapes, name=name, chain=chain):
                row = measure_update(shapes(), chain, rounds)
                is_timed = has_torch and name in PLACES
                return row | {"torch": measure_torch(shapes(), name, rounds) if is_timed else None}

            if tree in names:
                yield {"tree": tree, "chain": name}, measure
    for name, (step, batch) in STEPS.items():
        if name in names:
            yield (
                {"tree": f"training step of {name}"},
                lambda s=step, b=batch: measure_step(s, b, rounds),
            )


def use_threads(number: int) -> None:
    """Has XLA, PyTorch and this process use so many cores. Call it before JAX starts."""
    os.environ["OMP_NUM_THREADS"] = str(number)
    if hasattr(os, "sched_setaffinity"):  # XLA takes as many threads as there are cores for it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])


def main():
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=11, help="samples of each variant")
    names = [*TREES, *STEPS]
    parser.add_argument("--only", nargs="*", choices=names, default=names, metavar="NAME")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    use_threads(options.threads)
    has_torch = importlib.util.find_spec("torch") is not None
    if not has_torch:
        print("PyTorch is not installed (the extra `benchmarks`): it is not timed.")
    about = {
        "versions": {**_record.versions(), "torch": _torch_version() if has_torch else None},
        "device": _record.device(jax.devices()[:1]),
        "rounds": options.rounds,
    }
    content: dict[str, Any] = {}
    if options.output.exists():
        content = json.loads(options.output.read_text(encoding="utf-8"))
    before = content.get(str(options.threads))
    if before is None or before["versions"] != about["versions"]:
        content[str(options.threads)] = before = about | {"rows": []}
    for what, measure in measurements(options.only, options.rounds, has_torch):
        if any(what.items() <= row.items() for row in before["rows"]):
            continue
        row = what | measure()
        before["rows"].append(row)
        text = json.dumps(content, indent=1) + "\n"
        options.output.write_text(text, encoding="utf-8")
        print(shown(row), flush=True)


def shown(row: dict[str, Any]) -> str:
    """One line on a row."""
    if "chain" not in row:
        return f"{row['tree']}: {row['gc_over_none']['median']:.3f} times without GC"
    ratios = (f"{name} {value['median']:.2f}" for name, value in row["over_none"].items())
    memory = row["temporary_bytes"]["gc"] / 2**20
    torch = row["torch"] and f"; PyTorch {row['torch']['default']['gc_over_alone']['median']:.2f}"
    return f"{row['tree']}, {row['chain']}: {', '.join(ratios)}; {memory:.1f} MiB{torch or ''}"


def _torch_version() -> str:
    import _torch_updates

    return _torch_updates.version()


if __name__ == "__main__":
    main()
