"""The theory of centralized descent, on networks that are trained.

Source: arXiv 2004.01461, section 4; numbered as in section 1 of the project's design.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

import gc_optax
from gc_optax import diagnostics
from tests.test_chains import CHAINS, LR, WD
from tests.test_operator import matrix

SHIFT = 2.5


class Network(NamedTuple):
    loss: Callable[[Any], jax.Array]
    params: Any
    fan_in: Any


def drawn(seed) -> Callable[..., jax.Array]:
    """Normal random numbers, drawn in NumPy: JAX would compile that anew for each shape."""
    rng = np.random.default_rng(seed)
    return lambda mean, std, shape: jnp.asarray(rng.normal(mean, std, shape).astype(np.float32))


def convolutional() -> Network:
    """A convolution and a dense layer, on images of 6 x 6 pixels."""
    normal = drawn(0)
    images, targets = normal(0.5, 1.0, (8, 6, 6, 2)), normal(0.0, 1.0, (8, 2))
    params = {
        "Conv_0": {"kernel": normal(0.2, 0.3, (3, 3, 2, 4))},
        "Dense_0": {"kernel": normal(0.0, 0.1, (64, 2)), "bias": normal(0.0, 0.0, (2,))},
    }

    def loss(params):
        hidden = jnp.tanh(convolve(images, params["Conv_0"]["kernel"]))
        outputs = hidden.reshape(8, 64) @ params["Dense_0"]["kernel"]
        return jnp.mean((outputs + params["Dense_0"]["bias"][None] - targets) ** 2)

    return Network(loss, params, gc_optax.fan_in_by_name(params))


def convolve(images, kernel):
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def attention() -> Network:
    """Flax's attention, whose kernels have two axes of inputs or of outputs."""
    normal = drawn(0)
    layer = nnx.MultiHeadAttention(2, 6, decode=False, rngs=nnx.Rngs(0))
    definition, state = nnx.split(layer)
    x, targets = normal(0.5, 1.0, (4, 5, 6)), normal(0.0, 1.0, (4, 5, 6))

    def loss(params):
        variables = jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(params))
        return jnp.mean((nnx.merge(definition, variables)(x) - targets) ** 2)

    params = nnx.as_pure(state)
    return Network(loss, params, gc_optax.fan_in_by_trace(loss, params))


def perceptron(seed=0, inputs=6, hidden=8, outputs=3) -> Network:
    """Two dense layers, of weights whose sums are far from 0."""
    normal = drawn(seed)
    x, targets = normal(0.5, 1.0, (32, inputs)), normal(0.0, 1.0, (32, outputs))
    params = {
        "Dense_0": {
            "kernel": normal(0.3, inputs**-0.5, (inputs, hidden)),
            "bias": normal(0.0, 0.0, (hidden,)),
        },
        "Dense_1": {
            "kernel": normal(0.3, hidden**-0.5, (hidden, outputs)),
            "bias": normal(0.0, 0.0, (outputs,)),
        },
    }

    def loss(params):
        return jnp.mean((predict(params, x) - targets) ** 2)

    return Network(loss, params, gc_optax.fan_in_by_name(params))


def predict(params, x):
    hidden = x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None]
    return jnp.tanh(hidden) @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"][None]


def train(optimizer, loss, params, steps) -> Any:
    """The parameters after each step."""

    def weights(params):
        return params.fast if isinstance(params, optax.LookaheadParams) else params

    def step(carry, _):
        params, state = carry
        grads = jax.grad(loss)(weights(params))
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), weights(params)

    @jax.jit
    def run(params):
        return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[1]

    # Optax's Adam raises a Python float to an integer array's power, which strict promotion bars.
    with jax.numpy_dtype_promotion("standard"):
        return jax.tree.map(np.asarray, run(params))


def sgd_with_gc(fan_in, momentum=0.9, decay=0.0) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(decay), gc_optax.centralize(fan_in), optax.sgd(0.05, momentum)
    )


@functools.cache
def centralized_run(make: Callable[[], Network], momentum: float, decay: float) -> Any:
    """The parameters after each of 100 steps."""
    network = make()
    return train(sgd_with_gc(network.fan_in, momentum, decay), network.loss, network.params, 100)


def last_of(trajectory) -> Any:
    return jax.tree.map(lambda leaf: leaf[-1], trajectory)


def project_by_matrix(fan_in, tree) -> Any:
    """`P` times each output vector, by the matrix itself."""

    def project(fan_in, leaf):
        # All fan-in axes of these networks are neighbours.
        sizes = [leaf.shape[axis] for axis in fan_in.axes]
        if not sizes:
            return leaf
        P = diagnostics.projection_matrix(int(np.prod(sizes)))
        first = min(fan_in.axes)
        vectors = leaf.reshape(*leaf.shape[:first], len(P), -1)
        return jnp.einsum("mn,...nj->...mj", P, vectors).reshape(leaf.shape)

    return jax.tree.map(project, fan_in, tree)


def largest(tree) -> float:
    return max(np.abs(leaf).max() for leaf in jax.tree.leaves(tree))


def difference(a, b) -> Any:
    return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), a, b)


# The run equals plain SGD on v -> L(w_0 + P v).


@pytest.mark.parametrize(
    ("make", "momentum", "decay"),
    [
        (perceptron, 0.0, 0.0),
        (perceptron, 0.9, 0.0),
        (perceptron, 0.9, 0.01),
        (convolutional, 0.9, 0.0),
        pytest.param(attention, 0.9, 0.0, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("default_promotion")
def test_centralized_sgd_follows_plain_sgd_on_the_projected_variable(make, momentum, decay):
    loss, initial, fan_in = make()

    def at(v):
        return jax.tree.map(jnp.add, initial, project_by_matrix(fan_in, v))

    def constrained(v):
        # Weight decay before the centralization is a term of the loss.
        squares = [jnp.sum(leaf**2) for leaf in jax.tree.leaves(at(v))]
        return loss(at(v)) + decay / 2 * sum(squares)

    weights = centralized_run(make, momentum, decay)
    zeros = jax.tree.map(jnp.zeros_like, initial)
    variables = train(optax.sgd(0.05, momentum), constrained, zeros, 100)

    assert largest(difference(weights, jax.jit(jax.vmap(at))(variables))) <= 1e-5
    assert largest(difference(last_of(weights), initial)) > 0.1
    assert loss(last_of(weights)) < 0.9 * loss(initial)


# e^T w_t = e^T w_0.


@pytest.mark.parametrize("name", CHAINS)
def test_over_200_steps_the_constraint_drifts_as_the_table_says(name):
    loss, initial, fan_in = perceptron()
    steps = 200
    params = initial
    if name.startswith(("Lookahead", "Ranger")):
        params = optax.LookaheadParams.init_synced(params)
    trajectory = train(CHAINS[name].build(), loss, params, steps)
    drifts = jax.vmap(lambda params: diagnostics.drift(params, initial, fan_in))(trajectory)
    assert drifts["Dense_0"]["bias"] is None
    start = diagnostics.weight_means(initial, fan_in)
    for layer in ("Dense_0", "Dense_1"):
        drift = np.asarray(drifts[layer]["kernel"])
        weights = trajectory[layer]["kernel"]
        # Rounding of each of the steps.
        rounding = steps * float(np.finfo(np.float32).eps) * np.abs(weights).max()
        if CHAINS[name].mean == "moves":
            assert np.abs(drift[-1]).max() > 0.05
        elif CHAINS[name].mean == "decays":
            left = (1 - LR * WD) ** np.arange(1, steps + 1)
            along = np.sqrt(weights.shape[1]) * np.asarray(start[layer]["kernel"])
            np.testing.assert_allclose(drift, np.outer(left - 1, along), atol=rounding)
            assert left[-1] < 0.6
        else:
            np.testing.assert_allclose(drift, np.zeros_like(drift), atol=rounding)
            # The weights themselves do move.
            assert largest(difference(weights[-1], initial[layer]["kernel"])) > 0.05


# A shift of the inputs by c moves the output by c 1^T w_0.


def test_after_training_a_shift_of_the_inputs_moves_a_dense_layer_by_the_initial_sum():
    loss, initial, _ = perceptron()
    x = np.asarray(drawn(1)(0.0, 1.0, (10, 6)))

    def moved(params):
        kernel = params["Dense_0"]["kernel"]
        return (x + SHIFT) @ kernel - x @ kernel

    trained = last_of(centralized_run(perceptron, 0.9, 0.0))
    assert largest(difference(trained, initial)) > 0.1
    expected = np.tile(SHIFT * np.asarray(initial["Dense_0"]["kernel"]).sum(0), (10, 1))
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(moved(trained), expected, atol=1e-4)

    free = last_of(train(optax.sgd(0.05, momentum=0.9), loss, initial, 100))
    assert np.abs(moved(free) - expected).max() > 0.1


def test_after_training_a_shift_of_the_pixels_moves_a_convolution_by_the_initial_sum():
    initial = convolutional().params
    images = drawn(1)(0.0, 1.0, (8, 6, 6, 2))
    kernel = last_of(centralized_run(convolutional, 0.9, 0.0))["Conv_0"]["kernel"]
    moved = np.asarray(convolve(images + SHIFT, kernel)) - np.asarray(convolve(images, kernel))
    expected = SHIFT * np.asarray(initial["Conv_0"]["kernel"]).sum((0, 1, 2))
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(moved, np.broadcast_to(expected, moved.shape), atol=1e-4)


def test_from_centered_weights_a_shift_of_the_inputs_does_not_move_the_network():
    loss, initial, fan_in = perceptron()
    initial = diagnostics.center_weights(initial, fan_in)
    x = drawn(1)(0.0, 1.0, (10, 6))

    def moved(optimizer):
        params = last_of(train(optimizer, loss, initial, 100))
        assert loss(params) < 0.9 * loss(initial)
        return np.abs(predict(params, x + SHIFT) - predict(params, x)).max()

    assert moved(sgd_with_gc(fan_in)) < 1e-4
    assert moved(optax.sgd(0.05, momentum=0.9)) > 0.1


# ||P g|| <= ||g||, and the curvature of the constrained loss is no larger.


def test_along_a_run_the_removed_fraction_is_what_the_gradient_norm_loses():
    loss, _, fan_in = perceptron()

    @jax.jit
    @jax.vmap
    def norms(params):
        grads = jax.grad(loss)(params)
        centralized = gc_optax.centralize(fan_in).update(grads, optax.EmptyState())[0]
        before, after = (
            jax.tree.map(lambda g: jnp.sum(g**2), tree) for tree in (grads, centralized)
        )
        return before, after, diagnostics.removed_fraction(grads, fan_in)

    before, after, fraction = norms(centralized_run(perceptron, 0.9, 0.0))
    for layer in ("Dense_0", "Dense_1"):
        share = 1 - after[layer]["kernel"] / before[layer]["kernel"]
        np.testing.assert_allclose(fraction[layer]["kernel"], share, atol=1e-5)
        assert np.all(fraction[layer]["kernel"] > 1e-4)
    np.testing.assert_array_equal(fraction["Dense_0"]["bias"], np.zeros(100))


def full_projection(network) -> np.ndarray:
    """`P` on the vector of all parameters, in which the fan-in axes of each leaf come first."""
    leaves = zip(jax.tree.leaves(network.params), jax.tree.leaves(network.fan_in), strict=True)
    blocks = []
    for leaf, fan_in in leaves:
        fan_in_size = int(np.prod([leaf.shape[axis] for axis in fan_in.axes]))
        P = matrix(fan_in_size) if fan_in.axes else np.eye(1)
        blocks.append(np.kron(P, np.eye(leaf.size // len(P))))
    sizes = [len(block) for block in blocks]
    P = np.zeros((sum(sizes), sum(sizes)))
    for start, block in zip(np.cumsum([0, *sizes[:-1]]), blocks, strict=True):
        P[start : start + len(block), start : start + len(block)] = block
    return P


def few(seed=0) -> Network:
    """22 parameters, for which `top_eigenvalue` takes the whole Hessian."""
    return perceptron(seed, inputs=3, hidden=4, outputs=2)


def many(seed=0) -> Network:
    """120 parameters, for which it iterates."""
    return perceptron(seed, inputs=6, hidden=12, outputs=3)


def hessian(loss, params) -> jax.Array:
    vector, unravel = ravel_pytree(params)
    return jax.hessian(lambda vector: loss(unravel(vector)))(vector)


@pytest.mark.parametrize("make", [few, pytest.param(many, marks=pytest.mark.slow)])
def test_the_top_eigenvalue_is_that_of_the_dense_hessian_and_no_larger_when_constrained(make):
    network = make()
    loss, fan_in = network.loss, network.fan_in
    P = full_projection(network)

    @jax.jit
    def eigenvalues(params):
        free = diagnostics.top_eigenvalue(loss, params)
        return hessian(loss, params), free, diagnostics.top_eigenvalue(loss, params, fan_in)

    for seed in range(10):
        params = make(seed).params
        H, free, constrained = eigenvalues(params)
        H = np.asarray(H).astype(np.float64)
        np.testing.assert_allclose(free, np.linalg.eigvalsh(H)[-1], rtol=1e-4)
        np.testing.assert_allclose(constrained, np.linalg.eigvalsh(P @ H @ P)[-1], rtol=1e-4)
        assert 0 < constrained < free
        # Not convex, so this is more than a statement about norms.
        assert np.linalg.eigvalsh(H)[0] < 0


def test_the_hessian_of_the_constrained_loss_is_the_projected_hessian():
    network = few()
    loss, initial, fan_in = network

    def constrained(v):
        return loss(jax.tree.map(jnp.add, initial, project_by_matrix(fan_in, v)))

    zeros = jax.tree.map(jnp.zeros_like, initial)
    H = jax.jit(functools.partial(hessian, loss))(initial)
    P = full_projection(network)
    actual = jax.jit(functools.partial(hessian, constrained))(zeros)
    np.testing.assert_allclose(actual, P @ np.asarray(H) @ P, atol=1e-5)
