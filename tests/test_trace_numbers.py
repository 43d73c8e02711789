"""A second opinion on the traced axes that reads no jaxpr: the gradients themselves.

For a layer that is linear in its kernel, each output is a weighted sum of inputs, and its Jacobian
by the kernel holds these inputs. Centring them over the kernel's entries that the output depends
on, and only then forming the gradient, must give the centralized gradient.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gc_optax
from gc_optax._nnx import as_function_of_params
from tests.trace_cases import CASES

LINEAR = (
    "linen_dense",
    "linen_dense_with_one_output",
    "nnx_linear",
    "haiku_linear",
    "equinox_linear",
    "equinox_linear_under_vmap",
    "linen_conv_1d",
    "linen_conv_2d",
    "linen_conv_3d_dilated",
    "linen_conv_1x1",
    "linen_grouped_conv",
    "linen_depthwise_conv",
    "linen_conv_local",
    "linen_dense_general_with_batch_dims",
    "linen_vmap_ensemble",
    "linen_vmap_of_convolutions",
    "nnx_vmap_ensemble",
    "equinox_filter_vmap_ensemble",
    "bfloat16_compute",
    "shard_map_that_gathers_its_weights",
    "dense_with_inputs_in_two_parts",
    "custom_vjp_layer",
)


pytestmark = pytest.mark.usefixtures("default_promotion")


@pytest.mark.parametrize("name", LINEAR)
def test_centralizing_equals_the_gradient_of_centred_inputs(name):
    fn, params, args, _ = CASES[name]()
    fan_in = gc_optax.fan_in_by_trace(fn, params, *args)
    (index,) = [i for i, spec in enumerate(jax.tree.leaves(fan_in)) if spec.axes]
    spec = jax.tree.leaves(fan_in)[index]
    rng = np.random.default_rng(0)

    def filled(leaf):
        return jnp.asarray(rng.uniform(0.5, 2.0, leaf.shape), leaf.dtype)

    args = jax.tree.map(filled, args)
    leaves, structure = jax.tree.flatten(as_function_of_params(fn, params)[1])
    leaves = [filled(leaf) if hasattr(leaf, "shape") else leaf for leaf in leaves]
    kernel = leaves[index]
    of_arrays, _, state, _ = as_function_of_params(fn, params)
    state = jax.tree.map(filled, state)

    def outputs(kernel):
        filled_in = jax.tree.unflatten(structure, [*leaves[:index], kernel, *leaves[index + 1 :]])
        out = of_arrays(filled_in, *state, *args)
        return jnp.ravel(jax.tree.leaves(out)[0])

    inputs = np.asarray(jax.jacrev(outputs)(kernel), np.float64)  # (outputs, *kernel.shape)
    support = inputs != 0
    size = support.sum(tuple(range(1, inputs.ndim)), keepdims=True)
    whole = (size == size.max()).ravel()  # at the border of an image some inputs are padding
    mean = inputs.sum(tuple(range(1, inputs.ndim)), keepdims=True) / size.clip(1)
    centred = np.where(support, inputs - mean, 0)[whole]
    cotangent = rng.normal(size=whole.sum())
    gradient = jnp.asarray(np.tensordot(cotangent, inputs[whole], 1), jnp.float32)
    update = np.asarray(gc_optax.centralize(spec).update(gradient, optax.EmptyState())[0])
    chex.assert_trees_all_close(
        update, np.tensordot(cotangent, centred, 1).astype(np.float32), atol=1e-4, rtol=1e-4
    )
    assert np.linalg.norm(update) < 0.999 * np.linalg.norm(gradient)
