"""Whole training steps with GC and without, compiled and timed."""

from functools import partial
from typing import Any

import jax
import optax
from _architectures import count
from _places import PLACES, variants
from _timing import Call, ratio, samples, spread
from _updates import measure_update
from flax import nnx

import gc_optax
from gc_optax.models import GPT, resnet18


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
