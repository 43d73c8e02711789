"""The same inputs give the same bytes: compiled twice, and in processes of their own."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gc_optax
from gc_optax import FanIn
from tests import strategies


def gradients():
    rng = np.random.default_rng(0)
    return {
        jnp.dtype(dtype).name: jnp.asarray(rng.normal(1.0, 1.0, (257, 33)).astype(dtype))
        for dtype in strategies.WIDE_FLOATS + strategies.NARROW_FLOATS
    }


@pytest.mark.usefixtures("nothing_kept")
def test_compiling_twice_gives_equal_bytes():
    def compiled():
        # A new function each time, so that nothing is taken from a cache.
        def update(grads):
            return gc_optax.centralize(FanIn((0,))).update(grads, optax.EmptyState())[0]

        return jax.jit(update).lower(gradients()).compile()

    first, second = compiled()(gradients()), compiled()(gradients())
    for name in gradients():
        assert np.asarray(first[name]).tobytes() == np.asarray(second[name]).tobytes()


# Axes by name and by trace, tables, warnings, updates, and weights after training.
PROGRAM = """
import hashlib, warnings
import jax, jax.numpy as jnp, numpy as np, optax
import gc_optax
from gc_optax import FanIn

def show(name, *arrays):
    data = b"".join(np.asarray(array).tobytes() for array in arrays)
    print(name, hashlib.sha256(data).hexdigest())

def predict(params, x, words):
    x = jnp.tanh(x @ params["in"]["kernel"] + params["in"]["bias"]) + params["words"][words]
    x = jnp.einsum("bi,hik->bhk", x, params["heads"])
    x = jnp.einsum("bhk,hki->bi", jax.nn.relu(x), params["merge"])
    return x @ params["tied"] @ params["tied"].T

def loss(params, x, words, y):
    return jnp.mean((predict(params, x, words) - y) ** 2)

def normal(shape):
    return jnp.asarray(rng.normal(size=shape).astype(np.float32)) / 4

rng = np.random.default_rng(0)
params = {
    "in": {"kernel": normal((17, 32)), "bias": jnp.zeros(32)},
    "words": normal((9, 32)),
    "heads": normal((4, 32, 8)),
    "merge": normal((4, 8, 32)),
    "tied": normal((32, 32)),
}
x, y = normal((64, 17)), normal((64, 32))
words = jnp.asarray(rng.integers(0, 9, 64))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    fan_in = gc_optax.fan_in_by_trace(loss, params, x, words, y)
print([str(warning.message) for warning in caught])
print(gc_optax.summary(params, fan_in), gc_optax.fan_in_by_name(params))
try:  # three that serve no leaf
    no_leaf = {"c": FanIn(()), "a": FanIn(()), "b": FanIn(())}
    gc_optax.centralize(fan_in | no_leaf).update(params, optax.EmptyState())
except ValueError as error:
    print(error)
for dtype in (jnp.float32, jnp.bfloat16, jnp.float16, jnp.float8_e5m2):
    grads = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    updates, _ = gc_optax.centralize(fan_in).update(grads, optax.EmptyState())
    show(jnp.dtype(dtype).name, *jax.tree.leaves(updates))
optimizer = optax.chain(gc_optax.centralize(fan_in), optax.adam(1e-2))
state = optimizer.init(params)

@jax.jit
def step(params, state):
    updates, state = optimizer.update(jax.grad(loss)(params, x, words, y), state, params)
    return optax.apply_updates(params, updates), state

for _ in range(5):
    params, state = step(params, state)
show("weights", *jax.tree.leaves(params))
"""


def output_of(hash_seed: int) -> str:
    # Another hash seed is another order of sets of strings.
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_fresh_processes_give_equal_bytes():
    first = output_of(hash_seed=1)
    assert "conflicting uses" in first
    assert "does not fit" in first
    assert first.splitlines()[-1].startswith("weights ")
    assert output_of(hash_seed=2) == first
