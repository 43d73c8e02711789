import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import gc_optax
from gc_optax.models import MODELS
from gc_optax.models._patches import convolve_by_patches

LAYOUT = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize(
    ("kernel", "strides", "padding"),
    [
        ((3, 3), (1, 1), "SAME"),
        ((3, 3), (3, 2), "SAME"),
        ((2, 5), (2, 1), "VALID"),
        ((2, 5), (1, 1), ((2, 0), (1, 3))),
    ],
)
def test_convolution_by_patches_equals_the_convolution_and_so_do_its_gradients(
    kernel, strides, padding
):
    keys = jax.random.split(jax.random.key(0))
    inputs = jax.random.normal(keys[0], (2, 7, 9, 3))
    weights = jax.random.normal(keys[1], (*kernel, 3, 4))

    def with_gradients(convolve):
        def scalar(inputs, weights):
            outputs = convolve(inputs, weights, strides, padding, dimension_numbers=LAYOUT)
            return jnp.sin(outputs).sum(), outputs

        return jax.grad(scalar, (0, 1), has_aux=True)(inputs, weights)

    actual = with_gradients(convolve_by_patches)
    expected = with_gradients(jax.lax.conv_general_dilated)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert jnp.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(
    "unsupported",
    [{"lhs_dilation": (2, 1)}, {"rhs_dilation": (1, 2)}, {"feature_group_count": 3}],
)
def test_convolution_by_patches_says_what_it_does_not_support(unsupported):
    with pytest.raises(NotImplementedError, match="neither dilation nor feature groups"):
        convolve_by_patches(
            jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 1, 3)), (1, 1), "SAME", **unsupported
        )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 11, 3)])
def test_a_network_gives_one_logit_per_class(model, shape):
    logits = nnx.eval_shape(
        lambda: MODELS[model](shape, 5, rngs=nnx.Rngs(0))(jnp.ones((2, *shape)))
    )
    assert logits.shape == (2, 5)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize("model", MODELS)
def test_every_kernel_of_a_network_is_centralized_over_its_fan_in_and_nothing_else(model):
    network = nnx.eval_shape(lambda: MODELS[model]((8, 8, 1), 10, rngs=nnx.Rngs(0)))
    for row in gc_optax.summary(network).rows:
        axes = tuple(range(len(row.shape) - 1)) if row.path.endswith("kernel") else ()
        assert row.axes == axes
        assert "guess" not in row.reason
