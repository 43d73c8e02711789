"""`gc_optax.diagnostics`: each function against its formula, in NumPy and float64."""

import gc
import re

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings

import gc_optax
import gc_optax.diagnostics
from gc_optax import FanIn, diagnostics
from tests import strategies
from tests.strategies import NARROW_FLOATS
from tests.test_operator import by_matrix, matrix, rounding, wide
from tests.variants import eager


def is_left_alone(layout) -> bool:
    return layout.size <= 1 or 0 in layout.shape


def squared_norm(array) -> float:
    return float(np.sum(np.abs(array) ** 2))


# The matrix


@pytest.mark.parametrize("m", [1, 2, 7, np.int64(3)])
def test_the_projection_matrix_is_the_identity_minus_the_mean(m):
    P = diagnostics.projection_matrix(m)
    assert P.dtype == jnp.float32
    np.testing.assert_allclose(P, matrix(m), atol=1e-7)
    np.testing.assert_allclose(P @ P, P, atol=1e-6)
    np.testing.assert_array_equal(P.T, P)


@pytest.mark.parametrize(
    ("m", "error", "message"),
    [
        (0, ValueError, "`m` must be a fan-in of 1 or more, got 0."),
        (-3, ValueError, "`m` must be a fan-in of 1 or more, got -3."),
        (2.0, TypeError, "`m` must be an integer, the fan-in, got 2.0."),
        ((3, 3), TypeError, "`m` must be an integer, the fan-in, got (3, 3)."),
    ],
)
def test_a_projection_matrix_needs_a_fan_in(m, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        diagnostics.projection_matrix(m)


# What is removed from a gradient


@given(data=st.data(), layout=strategies.layouts(), dtype=strategies.dtypes())
@settings(max_examples=12)
def test_the_mean_component_is_the_mean_at_every_entry_of_the_fan_in(data, layout, dtype):
    grads = data.draw(strategies.arrays(layout.shape, dtype))
    removed = diagnostics.mean_component(grads, layout.fan_in)
    chex.assert_trees_all_equal_shapes_and_dtypes(removed, grads)
    expected = np.zeros(layout.shape)
    if not is_left_alone(layout):
        expected = np.broadcast_to(wide(grads).mean(layout.axes, keepdims=True), layout.shape)
    np.testing.assert_allclose(wide(removed), expected, atol=rounding(grads))
    np.testing.assert_allclose(
        wide(grads) - wide(removed),
        wide(eager(layout.fan_in, grads)),
        atol=2 * rounding(grads),
    )


@given(data=st.data(), layout=strategies.summing_layouts())
@settings(max_examples=5)
def test_what_is_removed_and_what_remains_are_orthogonal(data, layout):
    grads = data.draw(strategies.arrays(layout.shape))
    removed = wide(diagnostics.mean_component(grads, layout.fan_in))
    remains = wide(eager(layout.fan_in, grads))
    total = squared_norm(wide(grads))
    np.testing.assert_allclose(np.vdot(removed, remains), 0, atol=1e-5 * total)
    np.testing.assert_allclose(squared_norm(removed) + squared_norm(remains), total, rtol=1e-5)


@given(data=st.data(), layout=strategies.layouts(), dtype=strategies.dtypes())
@settings(max_examples=12)
def test_the_removed_fraction_is_the_share_of_the_squared_norm(data, layout, dtype):
    grads = data.draw(strategies.arrays(layout.shape, dtype))
    fraction = jax.jit(lambda g: diagnostics.removed_fraction(g, layout.fan_in))(grads)
    assert (fraction.shape, fraction.dtype) == ((), jnp.float32)
    assert 0 <= fraction <= 1
    before, after = squared_norm(wide(grads)), squared_norm(by_matrix(layout, grads))
    expected = 0 if is_left_alone(layout) or before == 0 else 1 - after / before
    np.testing.assert_allclose(fraction, expected, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-37, 1e-25, 1e25, 1e37])
def test_the_removed_fraction_does_not_depend_on_the_gradients_scale(scale):
    grads = jnp.array([[3.0], [1.0]]) * scale
    np.testing.assert_allclose(
        diagnostics.removed_fraction(grads, FanIn((0,))), 0.8 if scale else 0.0, rtol=1e-6
    )


def test_all_of_a_constant_gradient_is_removed_and_nothing_of_a_centralized_one():
    grads = {"constant": jnp.full((7, 3), 0.1), "centralized": jnp.array([[1.0], [-1.0]])}
    fractions = diagnostics.removed_fraction(grads, FanIn((0,)))
    assert fractions == {"constant": 1.0, "centralized": 0.0}


def test_a_gradient_that_is_not_finite_has_no_removed_fraction():
    grads = jnp.array([[jnp.inf], [1.0]])
    assert jnp.isnan(diagnostics.removed_fraction(grads, FanIn((0,))))


# What is kept constant in the weights


@given(data=st.data(), layout=strategies.layouts(), dtype=strategies.dtypes())
@settings(max_examples=10)
def test_weight_means_are_the_means_over_the_fan_in_in_wide_precision(data, layout, dtype):
    weights = data.draw(strategies.arrays(layout.shape, dtype))
    means = diagnostics.weight_means(weights, layout.fan_in)
    if is_left_alone(layout):
        assert means is None
        return
    assert means.dtype == (jnp.float32 if dtype in NARROW_FLOATS else dtype)
    expected = wide(weights).mean(layout.axes)
    tolerance = 1e-6 * max(1.0, np.abs(wide(weights)).max())
    np.testing.assert_allclose(means, expected, atol=tolerance)


@given(data=st.data(), layout=strategies.layouts(), dtype=strategies.dtypes())
@settings(max_examples=10)
def test_drift_is_the_distance_moved_along_the_unit_vector(data, layout, dtype):
    before = data.draw(strategies.arrays(layout.shape, dtype))
    after = data.draw(strategies.arrays(layout.shape, dtype))
    drift = diagnostics.drift(after, before, layout.fan_in)
    if is_left_alone(layout):
        assert drift is None
        return
    assert drift.dtype == (jnp.float32 if dtype in NARROW_FLOATS else dtype)
    # e^T w of each unit, with e = 1 / sqrt(M).
    along = [wide(w).sum(layout.axes) / np.sqrt(layout.size) for w in (after, before)]
    np.testing.assert_allclose(drift, along[0] - along[1], atol=1e-4)


def test_a_drift_smaller_than_the_weights_rounding_of_the_mean_is_seen():
    before = jnp.full((1024, 1), 1.0)
    after = before.at[0, 0].add(2.0**-20)
    # The mean moves by 2^-30, which float32 cannot tell from 1; sqrt(1024) is 2^5.
    drift = diagnostics.drift(after, before, FanIn((0,)))
    np.testing.assert_array_equal(drift, [2.0**-25])


def test_drift_compares_weights_of_different_precision():
    after = {"kernel": jnp.ones((4, 1), jnp.bfloat16)}
    before = {"kernel": jnp.zeros((4, 1))}
    np.testing.assert_array_equal(diagnostics.drift(after, before)["kernel"], [2.0])


@given(data=st.data(), layout=strategies.layouts(), dtype=strategies.dtypes())
@settings(max_examples=10)
def test_centered_weights_are_the_weights_minus_their_means(data, layout, dtype):
    weights = data.draw(strategies.arrays(layout.shape, dtype))
    centered = diagnostics.center_weights(weights, layout.fan_in)
    assert (centered.shape, centered.dtype) == (weights.shape, weights.dtype)
    np.testing.assert_allclose(
        centered.astype(jnp.complex64), by_matrix(layout, weights), atol=rounding(weights)
    )


# Trees

KERNEL = jnp.array([[1.0, 4.0], [3.0, 4.0]])
TREE_FUNCTIONS = {
    "mean_component": diagnostics.mean_component,
    "removed_fraction": diagnostics.removed_fraction,
    "weight_means": diagnostics.weight_means,
    "drift": lambda params, *fan_in: diagnostics.drift(
        params, jax.tree.map(jnp.zeros_like, params), *fan_in
    ),
    "center_weights": diagnostics.center_weights,
    "top_eigenvalue": lambda params, fan_in: diagnostics.top_eigenvalue(
        lambda params: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)), params, fan_in
    ),
}


@pytest.mark.parametrize("name", TREE_FUNCTIONS)
@pytest.mark.parametrize(
    "fan_in",
    [
        FanIn((0,)),
        {"layer": FanIn((0,))},
        {"layer": {"kernel": FanIn((0,))}},
        lambda tree: jax.tree.map(lambda leaf: FanIn((0,)), tree),
        gc_optax.fan_in_by_name,
    ],
    ids=["one", "prefix", "tree", "function", "by name"],
)
def test_fan_in_may_be_a_prefix_a_tree_or_a_function(name, fan_in):
    function = TREE_FUNCTIONS[name]
    params = {"layer": {"kernel": KERNEL}}
    chex.assert_trees_all_equal(function(params, fan_in), function(params, FanIn((0,))))


@pytest.mark.parametrize("name", [name for name in TREE_FUNCTIONS if name != "top_eigenvalue"])
def test_under_jit_the_result_is_the_same(name):
    params = {"kernel": KERNEL, "bias": jnp.ones(2)}
    eager, jitted = TREE_FUNCTIONS[name](params), jax.jit(TREE_FUNCTIONS[name])(params)
    chex.assert_trees_all_close(eager, jitted)


def test_leaves_that_are_not_centralized_show_as_such():
    params = {
        "kernel": KERNEL,
        "bias": jnp.ones(2),
        "steps": jnp.ones((2, 2), jnp.int32),
        "key": jax.random.key(0),
        "activation": jax.nn.relu,
        "frozen": None,
        "masked": optax.MaskedNode(),
        "empty": jnp.ones((0, 3)),
        "single": jnp.ones((1, 3)),
    }
    left_alone = params.keys() - {"kernel", "frozen", "masked"}
    fan_in = {name: FanIn(()) if name == "bias" else FanIn((0,)) for name in params}

    fractions = diagnostics.removed_fraction(params, fan_in)
    assert all(fractions[name] == 0 for name in left_alone)
    means = diagnostics.weight_means(params, fan_in)
    drifts = diagnostics.drift(params, {"kernel": KERNEL}, fan_in)
    assert all(means[name] is None and drifts[name] is None for name in left_alone)
    centered = diagnostics.center_weights(params, fan_in)
    assert all(centered[name] is params[name] for name in left_alone)
    removed = diagnostics.mean_component(params, fan_in)
    assert removed["key"] is None
    assert removed["activation"] is None
    for name in left_alone - {"key", "activation"}:
        chex.assert_trees_all_equal_shapes_and_dtypes(removed[name], params[name])
        chex.assert_trees_all_equal(removed[name], jnp.zeros_like(params[name]))
    for result in (fractions, means, drifts, centered, removed):
        assert result.keys() == params.keys()
        assert result["frozen"] is None
        assert result["masked"] == optax.MaskedNode()


def test_stacked_layers_have_a_mean_per_layer_and_unit():
    weights = jnp.arange(24.0).reshape(2, 3, 4)
    fan_in = FanIn((1,), "dense", batch_axes=(0,))
    np.testing.assert_array_equal(diagnostics.weight_means(weights, fan_in), weights.mean(1))
    assert diagnostics.drift(weights, weights, fan_in).shape == (2, 4)


def test_float64_is_measured_in_float64():
    with jax.enable_x64(True):
        weights = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)))
        initial = jnp.zeros_like(weights)
        for result, expected in {
            "means": (diagnostics.weight_means(weights, FanIn((0,))), weights.mean(0)),
            "drift": (
                diagnostics.drift(weights, initial, FanIn((0,))),
                np.sqrt(5) * weights.mean(0),
            ),
            "fraction": (
                diagnostics.removed_fraction(weights, FanIn((0,))),
                5 * np.sum(np.asarray(weights).mean(0) ** 2) / squared_norm(weights),
            ),
        }.values():
            assert result.dtype == jnp.float64
            np.testing.assert_allclose(result, expected, rtol=1e-14)


@pytest.mark.usefixtures("default_promotion")
def test_an_nnx_module_stands_for_its_parameters():
    module = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    initial = nnx.as_pure(nnx.state(module, nnx.Param))
    kernel = module.kernel[...]
    np.testing.assert_allclose(diagnostics.weight_means(module)["kernel"], kernel.mean(0))
    nnx.update(module, diagnostics.center_weights(module))
    np.testing.assert_allclose(module.kernel[...].sum(0), np.zeros(2), atol=1e-6)
    drift = diagnostics.drift(module, initial)
    np.testing.assert_allclose(drift["kernel"], -np.sqrt(3) * kernel.mean(0), rtol=1e-5)

    def loss(module):
        return jnp.sum(module(jnp.ones((1, 3))) ** 2)

    # The squared norm of the features, a constant 1 for the bias among them, is 4.
    np.testing.assert_allclose(diagnostics.top_eigenvalue(loss, module), 8.0, rtol=1e-5)
    fan_in = gc_optax.fan_in_by_trace(loss, module)
    np.testing.assert_allclose(diagnostics.top_eigenvalue(loss, module, fan_in), 2.0, rtol=1e-5)


@pytest.mark.usefixtures("default_promotion")
def test_the_curvature_of_a_module_with_statistics_leaves_them_as_they_are():
    x = jnp.arange(6.0).reshape(3, 2)
    rngs = nnx.Rngs(0)
    # Normalized outputs: the loss is the sum of squares of the biases, and a constant.
    module = nnx.Sequential(nnx.BatchNorm(2, use_scale=False, rngs=rngs), nnx.Dropout(0.0))
    before = nnx.as_pure(nnx.state(module))
    value = diagnostics.top_eigenvalue(lambda module: jnp.sum(module(x) ** 2), module)
    np.testing.assert_allclose(value, 6.0, rtol=1e-5)
    chex.assert_trees_all_equal(before, nnx.as_pure(nnx.state(module)))


# Errors


@pytest.mark.parametrize("name", TREE_FUNCTIONS)
@pytest.mark.parametrize(
    ("fan_in", "error", "message"),
    [
        (FanIn((2,)), ValueError, "is out of range for leaf `layer/kernel` of shape (2, 2)"),
        (FanIn((0, -2)), ValueError, "names an axis twice for leaf `layer/kernel`"),
        ({"other": FanIn((0,))}, ValueError, "it has no FanIn for leaf `layer/kernel`"),
        ({"layer": {"kernel": 0}}, TypeError, "Leaf `layer/kernel` of the FanIn tree is 0 (int)"),
    ],
)
def test_errors_name_the_leaf(name, fan_in, error, message):
    with pytest.raises(error, match=re.escape(message)):
        TREE_FUNCTIONS[name]({"layer": {"kernel": KERNEL}}, fan_in)


@pytest.mark.parametrize(
    ("initial", "there"),
    [
        ({"layer": {}}, "is missing"),
        ({"layer": {"kernel": None}}, "is missing"),
        ({"layer": {"kernel": jnp.ones((2, 3))}}, "has shape (2, 3)"),
    ],
)
def test_drift_needs_the_leaf_in_both_trees(initial, there):
    message = (
        f"`initial` does not fit: leaf `layer/kernel` of shape (2, 2) of `params` {there} in "
        "`initial`. Give the parameters that training started from."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        diagnostics.drift({"layer": {"kernel": KERNEL}}, initial)


# Curvature


def quadratic(curvatures):
    """A loss whose Hessian is the diagonal matrix of these."""
    return lambda w: jnp.sum(curvatures * w.ravel() ** 2) / 2


@pytest.mark.parametrize("size", [1, 5, 6, 64])
def test_of_few_parameters_the_top_eigenvalue_is_exact(size):
    curvatures = jnp.linspace(-3.0, 2.0, size) if size > 1 else jnp.array([-1.0])
    value = diagnostics.top_eigenvalue(quadratic(curvatures), jnp.ones(size))
    assert (value.shape, value.dtype) == ((), jnp.float32)
    np.testing.assert_allclose(value, curvatures.max(), rtol=1e-6)


@pytest.mark.slow
def test_of_many_parameters_the_top_eigenvalue_is_the_algebraically_largest():
    @jax.jit
    def top(curvatures, key):
        return diagnostics.top_eigenvalue(quadratic(curvatures), jnp.ones(200), key=key)

    keys = jax.random.split(jax.random.key(1))
    for lowest, highest in [
        (0.0, 1.5),
        (-100.0, 1.5),
        (-200.0, -1.0),
        (0.0, 0.0),
        (0.0, 1e-25),
        (0.0, 1e25),
    ]:
        curvatures = jnp.linspace(lowest, highest, 200)
        values = [top(curvatures, key) for key in keys]
        scale = max(abs(lowest), abs(highest))
        np.testing.assert_allclose(values, [highest] * 2, atol=1e-4 * scale)
    assert top(curvatures, keys[0]) == top(curvatures, keys[0])


def test_curvature_along_the_mean_does_not_show_in_the_constrained_eigenvalue():
    def loss(w):
        return 50 * jnp.sum(w) ** 2 + quadratic(jnp.arange(100.0))(w)

    w = jnp.ones((100, 1))
    e = np.ones((100, 1)) / 10
    H = 10_000 * e @ e.T + np.diag(np.arange(100.0))
    assert np.linalg.eigvalsh(H)[-1] > 10_000
    value = diagnostics.top_eigenvalue(loss, w, FanIn((0,)))
    constrained = np.linalg.eigvalsh(matrix(100) @ H @ matrix(100))[-1]
    np.testing.assert_allclose(value, constrained, rtol=1e-4)


def test_the_constrained_eigenvalue_is_at_least_that_of_the_removed_directions():
    value = diagnostics.top_eigenvalue(quadratic(-jnp.ones(10)), jnp.ones((10, 1)), FanIn((0,)))
    np.testing.assert_allclose(value, 0.0, atol=1e-6)


def test_parameters_of_several_dtypes_make_one_hessian():
    params = {
        "wide": jnp.ones((3, 1)),
        "narrow": jnp.ones((2, 1), jnp.bfloat16),
        "steps": jnp.int32(3),
        "key": jax.random.key(0),
        "frozen": None,
    }

    def loss(params):
        assert params["narrow"].dtype == jnp.bfloat16
        coupled = jnp.sum(params["wide"]) * jnp.sum(params["narrow"].astype(jnp.float32))
        return coupled * params["steps"].astype(jnp.float32)

    # [[0, 3 a b^T], [3 b a^T, 0]] with a = 1 and b = 1 of 3 and 2 entries.
    np.testing.assert_allclose(diagnostics.top_eigenvalue(loss, params), 3 * np.sqrt(6), rtol=1e-2)
    value = diagnostics.top_eigenvalue(loss, params, FanIn((0,)))
    np.testing.assert_allclose(value, 0.0, atol=1e-2)


def test_the_hessian_of_float64_parameters_is_in_float64():
    with jax.enable_x64(True):
        curvatures = jnp.asarray(np.linspace(0.0, 1 / 3, 10))
        value = diagnostics.top_eigenvalue(quadratic(curvatures), jnp.ones(10, jnp.float64))
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, 1 / 3, rtol=1e-14)


@pytest.mark.slow
def test_a_million_parameters_do_not_count_as_converged_at_once():
    curvatures = jnp.linspace(0.0, 1.0, 10**6).at[-1].set(1.5)
    value = diagnostics.top_eigenvalue(quadratic(curvatures), jnp.ones(10**6))
    np.testing.assert_allclose(value, 1.5, rtol=1e-4)


@pytest.mark.parametrize("params", [None, {}, {"steps": jnp.arange(3)}, jnp.ones((0, 3))])
def test_a_hessian_needs_parameters(params):
    message = "`params` has no array of floats, so the loss has no Hessian."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        diagnostics.top_eigenvalue(lambda params: 0.0, params)


def test_a_hessian_needs_real_parameters():
    params = {"kernel": jnp.ones((2, 2), jnp.complex64)}
    message = (
        "The Hessian is that of real parameters, but leaf `kernel` of shape (2, 2) is complex: "
        "give its real and imaginary parts."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        diagnostics.top_eigenvalue(lambda params: 0.0, params)


def test_a_hessian_needs_a_scalar_loss():
    with pytest.raises(TypeError, match="scalar"):
        diagnostics.top_eigenvalue(lambda w: w**2, jnp.ones(3))


@pytest.mark.slow
def test_it_does_not_keep_what_it_was_given():
    def live_arrays() -> int:
        return sum(array.size for array in jax.live_arrays())

    def call():
        return float(diagnostics.top_eigenvalue(quadratic(jnp.ones(500)), jnp.ones((500, 1))))

    before = live_arrays()
    call()
    gc.collect()
    assert live_arrays() - before < 500
