"""Update steps with GC and without, compiled and timed."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _architectures import count
from _places import variants
from _timing import Call, ratio, samples, spread

import gc_optax

SCHEDULED = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def compiled_update(params, grads, links, options: dict | None = None) -> tuple[Any, float]:
    """The update step on donated parameters and state, and the seconds to compile it."""
    chain = optax.chain(*links)

    # Donated buffers must be passed in the order in which they come back: with parameters and
    # state swapped XLA would copy both, since it pairs buffers of one shape in turn.
    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params, state, grads):
        updates, state = chain.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    start = time.perf_counter()
    lowered = update.lower(params, jax.eval_shape(chain.init, params), grads)
    compiled = lowered.compile(options)
    return compiled, time.perf_counter() - start


def update_calls(compiled: dict[str, Any], params, state, shapes) -> dict[str, Call]:
    """Calls of the compiled update steps, which update the same donated buffers in turn.

    What may stand in the place of GC has no state, so all variants share theirs.
    """
    rng = np.random.default_rng(0)
    # Speed does not depend on what is in them, as long as it is a normal number.
    grads = jax.tree.map(
        lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape, np.float32), leaf.dtype), shapes
    )
    held = [(params, state)]

    def call(name: str) -> None:
        held[0] = jax.block_until_ready(compiled[name](*held[0], grads))

    return {name: partial(call, name) for name in compiled}


def measure_update(
    shapes, chain, rounds: int, fan_in=None, of: Callable = lambda params: params
) -> dict[str, Any]:
    """The update step of one tree in all variants.

    Args:
        shapes: The parameters' shapes.
        chain: A function from what stands in the place of GC to the links of a chain.
        rounds: How often each variant is timed.
        fan_in: The axes; by name if None.
        of: What the chain updates, made of the parameters.
    """
    fan_in = gc_optax.fan_in_by_name(shapes) if fan_in is None else fan_in
    tried: dict[str, tuple[Any, dict | None]] = {
        name: (gc, None) for name, gc in variants(fan_in).items()
    }
    if jax.default_backend() == "cpu":
        tried |= {f"{name}, scheduled": (tried[name][0], SCHEDULED) for name in ("none", "gc")}
    compiled, seconds = {}, {}
    for name, (gc, options) in tried.items():
        compiled[name], seconds[name] = compiled_update(of(shapes), shapes, chain(gc), options)
    params = jax.tree.map(jnp.zeros_like, of(shapes))
    state = optax.chain(*chain(optax.identity())).init(params)
    taken = samples(update_calls(compiled, params, state, shapes), rounds)
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
