"""A second opinion on the traced axes that reads no jaxpr: the gradients themselves.

Where an output of a case is a weighted sum of inputs with the entries of a kernel, its Jacobian by
the kernel holds these inputs. Centering them over the entries that the output depends on, and only
then forming the gradient, must give the gradient centralized over the traced axes.
"""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gc_optax
from gc_optax._nnx import as_function_of_params
from gc_optax._trees import path_name
from tests.trace_cases import CASES

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("default_promotion")]

CHECKED_LEAVES = 69
"""How many leaves are checked: all that are claimed, and in which an output is such a sum.

The others stand before a nonlinearity, or another layer mixes what they give.
"""


@functools.cache
def checked_leaves(name: str) -> tuple[str, ...]:
    """Checks every claimed leaf of a case that can be, and gives back their paths."""
    fn, params, args, expected = CASES[name]()
    of_arrays, params, state, args = as_function_of_params(fn, params, args)
    rng = np.random.default_rng(0)

    def filled(leaf: Any) -> Any:
        if not hasattr(leaf, "shape"):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(jax.random.key(0), leaf.shape)
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return jnp.zeros(leaf.shape, leaf.dtype)
        return jnp.asarray(rng.uniform(0.5, 2.0, leaf.shape), leaf.dtype)

    args, state = jax.tree.map(filled, (args, state))
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    values = [filled(leaf) for _, leaf in leaves]

    def outputs(index: int, kernel: jax.Array) -> jax.Array:
        given = [*values[:index], kernel, *values[index + 1 :]]
        # Copies, since the state of a layer can belong to one trace only.
        own_state, own_args = jax.tree.map(lambda leaf: leaf, (state, args))
        out = of_arrays(jax.tree.unflatten(structure, given), *own_state, *own_args)
        floats = [leaf for leaf in jax.tree.leaves(out) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return jnp.ravel(floats[0])

    checked = []
    for index, (path, leaf) in enumerate(leaves):
        axes = expected.get(path_name(path), ())
        axes, batch_axes = axes if axes and isinstance(axes[0], tuple) else (axes, ())
        if not axes or not jnp.issubdtype(leaf.dtype, jnp.floating):
            continue
        inputs = _inputs(functools.partial(outputs, index), values[index], filled(leaf))
        if inputs is not None and _check(inputs, gc_optax.FanIn(axes, batch_axes=batch_axes)):
            checked.append(path_name(path))
    return tuple(checked)


def _inputs(outputs, kernel: jax.Array, other: jax.Array) -> np.ndarray | None:
    """The Jacobian `(outputs, *kernel.shape)`; None where it depends on the kernel."""
    one, two = (np.asarray(_jacobian(outputs, k), np.float64) for k in (kernel, other))
    return one if np.allclose(one, two, rtol=1e-3, atol=1e-5) else None


def _jacobian(outputs, kernel: jax.Array) -> np.ndarray | jax.Array:
    """Forward, since some cases loop until they converge; else backward, one row at a time."""
    try:
        return jax.jit(jax.jacfwd(outputs))(kernel)
    except (TypeError, NotImplementedError):  # a `custom_vjp`, and what cannot be mapped
        values, pull_back = jax.vjp(outputs, kernel)
        return np.stack([pull_back(row)[0] for row in jnp.eye(values.size)])


def _check(inputs: np.ndarray, fan_in: gc_optax.FanIn) -> bool:
    """Whether outputs are sums over one fan-in each; raises if centering them says otherwise."""
    support = inputs != 0
    entries = tuple(range(1, inputs.ndim))
    size = support.sum(entries, keepdims=True)
    fan_in_size = np.prod([inputs.shape[1 + axis] for axis in fan_in.axes])
    whole = (size == fan_in_size).ravel()  # at the border of an image some inputs are padding
    if not whole.any() or size.max() != fan_in_size:
        return False
    mean = inputs.sum(entries, keepdims=True) / size.clip(1)
    centered = np.where(support, inputs - mean, 0)[whole]
    cotangent = np.random.default_rng(1).normal(size=whole.sum())
    gradient = jnp.asarray(np.tensordot(cotangent, inputs[whole], 1), jnp.float32)
    centralize = gc_optax.centralize(fan_in)
    update = np.asarray(centralize.update(gradient, optax.EmptyState())[0])
    expected = np.tensordot(cotangent, centered, 1).astype(np.float32)
    chex.assert_trees_all_close(update, expected, atol=1e-4, rtol=1e-4)
    assert np.linalg.norm(update) < 0.999 * np.linalg.norm(gradient)
    return True


@pytest.mark.parametrize("name", CASES)
def test_centralizing_equals_the_gradient_of_centered_inputs(name):
    checked_leaves(name)


def test_the_number_of_leaves_that_are_checked_is_as_said():
    assert sum(len(checked_leaves(name)) for name in CASES) == CHECKED_LEAVES
