import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import gc_optax
from gc_optax.models import GPT, MODELS, VGG, ResNeXt, ViT
from gc_optax.models._layers import BatchNorm
from gc_optax.models._patches import convolve_by_patches

LAYOUT = ("NHWC", "HWIO", "NHWC")

# The same architectures, nearly as small as they go.
SMALL = {
    "mlp": {"width": 8},
    "cnn": {"channels": 4, "width": 8},
    "resnet8": {"depths": (1, 1), "width": 4},
    "resnet20": {"depths": (2, 1), "width": 4},
    "resnet18": {"depths": (1, 1), "width": 4},
    "resnet101": {"depths": (1, 1), "width": 4},
    "resnext29": {"depths": (1, 1), "cardinality": 2, "group_width": 2, "width": 4},
    "vgg11": {"stages": ((4,), (8, 8)), "width": 8},
    "densenet121": {"depths": (1, 1), "growth": 4},
    "vit": {"depth": 2, "width": 8, "heads": 2, "dropout": 0.5},
    "gpt": {"layers": 2, "width": 8, "heads": 2, "dropout": 0.5},
}
WITH_BATCH_NORM = (
    *("resnet8", "resnet20", "resnet18", "resnet101"),
    *("resnext29", "vgg11", "densenet121"),
)
WITH_DROPOUT = ("vgg11", "vit", "gpt")

# Most of the time here goes into compiling, and none into running.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.mark.parametrize(
    ("kernel", "strides", "padding", "groups", "height", "features"),
    [
        ((3, 3), (1, 1), "SAME", 1, 7, 4),
        ((3, 3), (3, 2), "SAME", 1, 7, 4),
        ((2, 5), (2, 1), "VALID", 2, 7, 4),
        ((2, 5), (1, 1), ((2, 0), (1, 3)), 1, 7, 4),
        # Enough rows, and no more features than there were: a sum over the rows of the kernel.
        ((3, 3), (1, 1), "SAME", 1, 8, 4),
        ((1, 1), (1, 1), "VALID", 1, 9, 6),
        ((2, 5), (1, 1), ((2, 0), (1, 3)), 1, 11, 4),
        ((3, 3), (1, 1), "SAME", 2, 11, 4),
        ((3, 3), (1, 1), "SAME", 1, 11, 8),
    ],
)
def test_convolution_by_patches_equals_the_convolution_and_so_do_its_gradients(
    kernel, strides, padding, groups, height, features
):
    keys = jax.random.split(jax.random.key(0))
    inputs = jax.random.normal(keys[0], (2, height, 9, 6))
    weights = jax.random.normal(keys[1], (*kernel, 6 // groups, features))

    def with_gradients(convolve):
        def scalar(inputs, weights):
            outputs = convolve(
                inputs,
                weights,
                strides,
                padding,
                dimension_numbers=LAYOUT,
                feature_group_count=groups,
            )
            return jnp.sin(outputs).sum(), outputs

        return jit(jax.grad(scalar, (0, 1), has_aux=True))(inputs, weights)

    actual = with_gradients(convolve_by_patches)
    expected = with_gradients(jax.lax.conv_general_dilated)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert jnp.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("unsupported", [{"lhs_dilation": (2, 1)}, {"rhs_dilation": (1, 2)}])
def test_convolution_by_patches_says_what_it_does_not_support(unsupported):
    with pytest.raises(NotImplementedError, match="does not support dilation"):
        convolve_by_patches(
            jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 3)), (1, 1), "SAME", **unsupported
        )


def input_shape(model, images=(8, 8, 1)):
    return (6,) if model == "gpt" else images


def inputs(model, images=(8, 8, 1), batch=4):
    shape = (batch, *input_shape(model, images))
    random = np.random.default_rng(1)
    if model == "gpt":
        return random.integers(0, 5, shape).astype(np.int32)
    return random.normal(size=shape).astype(np.float32)


@functools.cache
def small(model, training=True, dtype=None, images=(8, 8, 1)):
    """The structure and the shapes of a small network."""
    shape = input_shape(model, images)
    options = SMALL[model]
    return nnx.split(
        nnx.eval_shape(
            lambda: mode(
                MODELS[model](shape, 5, dtype=dtype, rngs=nnx.Rngs(0), **options), training
            )
        )
    )


def state(model, seed=0, **options):
    """Arrays for a small network; those of its own initializers take long to compile."""
    random = np.random.default_rng(seed)

    def array(path, leaf):
        values = random.normal(size=leaf.shape)
        name = path_name(path)
        if name.endswith(("scale", "var")):
            values = 1 + 0.1 * np.abs(values)
        elif name.endswith(("bias", "mean")):
            values = 0.1 * values
        else:
            values = values * math.sqrt(2 * leaf.shape[-1] / leaf.size)
        return np.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(array, small(model, **options)[1])


def path_name(path):
    return jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")


@functools.cache
def published(model):
    """The network at its published size, for CIFAR-100 or 64 of 65 characters; no arrays."""
    shape, classes = ((64,), 65) if model == "gpt" else ((32, 32, 3), 100)
    return nnx.eval_shape(lambda: MODELS[model](shape, classes, rngs=nnx.Rngs(0)))


def parameters(network):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))


def mode(network, training):
    network.train() if training else network.eval()
    return network


def shape_of_logits(network, x):
    return nnx.eval_shape(lambda network, x: network(x), network, x)


def forward(graph, state, x, key):
    """The logits, and the state after the call. NumPy compares them: it has nothing to compile."""
    network = nnx.merge(graph, state)
    return network(x, rngs=nnx.Rngs(dropout=key)), nnx.state(network)


call = jit(forward, static_argnums=0)


def logits(model, x, seed=0, **options):
    key = jax.random.key(seed, impl="unsafe_rbg")  # compiles much faster than the default
    return np.asarray(call(small(model, **options)[0], state(model), x, key)[0])


@pytest.mark.parametrize(
    ("model", "number"),
    [
        ("mlp", 422_756),
        ("cnn", 142_772),
        ("resnet8", 83_892),
        ("resnet20", 278_324),
        ("resnet18", 11_220_132),
        ("resnet101", 42_697_380),
        # A stage with D channels inside a block and as many given out: in * D + 9/4 D^2 + D^2 for a
        # block's kernels, 6 D for its norms, in * D + 2 D for the projection of the first block.
        # The stem has 3 * 64 * 9 + 2 * 64 = 1,856, the stages 807,936 (D = 256, in = 64),
        # 3,352,576 (D = 512) and 13,389,824 (D = 1,024), the head 1,024 * 100 + 100 = 102,500.
        ("resnext29", 17_654_692),
        # Kernels 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 3 * 512 * 512)
        # = 9,217,728; norms 2 * (64 + 128 + 2 * 256 + 4 * 512) = 5,504; dense layers
        # 513 * 4,096 + 4,097 * 4,096 + 4,097 * 100 = 19,292,260.
        ("vgg11", 28_515_492),
        ("densenet121", 7_048_548),
        # With w = 192 a block has 12 w^2 + 13 w = 444,864, and there are 6; the patches
        # (48 + 1) * w, positions 64 * w, the norm 2 w, the head (w + 1) * 100.
        ("vit", 2_710_564),
        # With w = 96 a block has 12 w^2 + 13 w = 111,840, and there are 4; tokens 65 * w, positions
        # 64 * w, the norm 2 w, the head 65 * w.
        ("gpt", 466_176),
    ],
)
def test_a_network_has_as_many_parameters_as_published(model, number):
    assert parameters(published(model)) == number


def test_resnet_20_has_as_many_parameters_as_in_the_paper():
    network = nnx.eval_shape(lambda: MODELS["resnet20"]((32, 32, 3), 10, rngs=nnx.Rngs(0)))
    # The paper's shortcuts have none: the projections are its option B.
    assert parameters(network) / 1e6 == pytest.approx(0.27, abs=0.005)
    shortcuts = [
        math.prod(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.state(network, nnx.Param))
        if "shortcut" in path_name(path)
    ]
    assert sum(shortcuts) == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert parameters(network) - sum(shortcuts) == 269_722


@pytest.mark.parametrize(("cardinality", "millions"), [(8, 34.4), (16, 68.1)])
def test_resnext_has_as_many_parameters_as_in_the_paper(cardinality, millions):
    network = nnx.eval_shape(
        lambda: ResNeXt((32, 32, 3), 10, cardinality=cardinality, rngs=nnx.Rngs(0))
    )
    assert parameters(network) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("model", MODELS)
def test_a_network_as_published_gives_one_logit_per_class(model):
    network = mode(published(model), training=False)
    x = inputs(model, (32, 32, 3), batch=2)
    expected = (2, 6, 65) if model == "gpt" else (2, 100)
    assert shape_of_logits(network, x).shape == expected


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
@pytest.mark.parametrize("images", [(8, 8, 1), (28, 28, 1)])
def test_logits_and_parameters_are_float32_whatever_the_computation_is(model, dtype, images):
    graph, state = small(model, dtype=dtype, images=images)
    x = inputs(model, images)
    for given in (x, x if model == "gpt" else x.astype(np.float16)):
        result, after = jax.eval_shape(
            functools.partial(forward, graph), state, given, jax.random.key(0)
        )
        assert result.shape == ((4, 6, 5) if model == "gpt" else (4, 5))
        assert result.dtype == jnp.float32
        assert {leaf.dtype for leaf in jax.tree.leaves((state, after))} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("model", ["resnet18", "gpt"])
def test_bfloat16_computes_what_float32_does_roughly(model):
    x = inputs(model)
    training = model in WITH_BATCH_NORM
    exact, rough = (
        logits(model, x, training=training, dtype=dtype) for dtype in (None, jnp.bfloat16)
    )
    assert not np.array_equal(exact, rough)
    assert np.abs(exact - rough).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("model", [model for model in MODELS if model not in ("vit", "gpt")])
def test_images_of_odd_sizes_are_fine_where_nothing_is_cut_into_patches(model):
    images = (9, 11, 3)
    network = nnx.merge(*small(model, training=False, images=images))
    assert shape_of_logits(network, inputs(model, images)).shape == (4, 5)


@pytest.mark.parametrize("images", [(8, 8, 1), (28, 28, 1), (64, 64, 3)])
def test_vgg_takes_images_of_other_sizes_than_it_was_made_for(images):
    network = nnx.eval_shape(lambda: VGG(images, 5, rngs=nnx.Rngs(0)))
    network.eval()
    assert shape_of_logits(network, jnp.ones((2, *images))).shape == (2, 5)


def test_vit_says_which_patches_do_not_fit():
    with pytest.raises(ValueError, match=r"`patch` must divide .* 4 does not divide 8 x 10"):
        ViT((8, 10, 1), 5, rngs=nnx.Rngs(0))


def test_gpt_says_that_a_sequence_is_too_long():
    with pytest.raises(ValueError, match="may have 6 tokens, as `input_shape` says; got 7"):
        nnx.merge(*small("gpt"))(jnp.zeros((1, 7), jnp.int32))


def fan_in_axes(model, path, rank):
    """What the kernel at `path` is summed over, and its axes of layers."""
    if not path.endswith("kernel"):
        return (), ()
    layers = 1 if model == "gpt" and path.startswith("blocks") else 0
    outputs = 2 if path.split("/")[-2] in ("query", "key", "value") else 1
    return tuple(range(layers, rank - outputs)), tuple(range(layers))


@pytest.mark.parametrize("model", MODELS)
def test_every_kernel_of_a_network_is_centralized_over_its_fan_in_and_nothing_else(model):
    network = mode(published(model), training=False)
    x = jax.eval_shape(lambda: inputs(model, (32, 32, 3), batch=2))
    fan_in = gc_optax.fan_in_by_trace(lambda network, x: network(x), network, x)
    for row in gc_optax.summary(network, fan_in).rows:
        assert row.axes == fan_in_axes(model, row.path, len(row.shape))[0]
    rows = gc_optax.summary(network, fan_in).rows
    for row, leaf in zip(rows, jax.tree.leaves(fan_in), strict=True):
        assert leaf.batch_axes == fan_in_axes(model, row.path, len(row.shape))[1]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_tracing_sees_the_same_in_train_mode_with_dropout(model, dtype):
    network = nnx.merge(*small(model, dtype=dtype))
    fan_in = gc_optax.fan_in_by_trace(
        lambda network, x: network(x, rngs=nnx.Rngs(0)), network, inputs(model)
    )
    for row in gc_optax.summary(network, fan_in).rows:
        axes = fan_in_axes(model, row.path, len(row.shape))[0]
        fan_in_size = math.prod(row.shape[axis] for axis in axes)
        assert row.axes == (axes if fan_in_size > 1 else ())


@pytest.mark.parametrize("model", MODELS)
def test_names_and_shapes_tell_the_axes_of_every_network(model):
    for row in gc_optax.summary(published(model)).rows:
        assert row.axes == fan_in_axes(model, row.path, len(row.shape))[0]
        assert not row.guess


@pytest.mark.parametrize("model", MODELS)
def test_the_state_of_a_network_is_parameters_and_statistics_only(model):
    network = nnx.merge(*small(model))
    # `split` would raise for anything else.
    _, _, statistics = nnx.split(network, nnx.Param, nnx.BatchStat)
    assert bool(jax.tree.leaves(statistics)) == (model in WITH_BATCH_NORM)


def test_batch_norm_computes_statistics_in_float32_and_moves_a_tenth_of_the_way():
    norm = BatchNorm(3, rngs=nnx.Rngs(0))
    x = (5.0 + np.random.default_rng(0).normal(size=(64, 4, 4, 3))).astype(jnp.bfloat16)
    exact = x.astype(np.float32)
    result = norm(jnp.asarray(x))
    assert result.dtype == jnp.bfloat16
    assert np.allclose(norm.mean[...], 0.1 * exact.mean((0, 1, 2)), rtol=1e-5)
    assert np.allclose(norm.var[...], 0.9 + 0.1 * exact.var((0, 1, 2)), rtol=1e-5)
    assert np.allclose(np.asarray(result, np.float32).mean((0, 1, 2)), 0.0, atol=0.01)


@pytest.mark.parametrize("model", ["resnet18", "densenet121"])
def test_statistics_are_updated_in_train_mode_and_used_in_eval_mode(model):
    x, key = 3.0 * inputs(model), jax.random.key(0, impl="unsafe_rbg")
    before = state(model)
    trained = call(small(model, training=True)[0], before, x, key)[1]
    after = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(trained)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(before):
        is_statistic = path_name(path).endswith(("mean", "var"))
        assert np.array_equal(leaf, after[path_name(path)]) != is_statistic

    graph = small(model, training=False)[0]
    result, unchanged = call(graph, trained, x, key)
    for a, b in zip(jax.tree.leaves(trained), jax.tree.leaves(unchanged), strict=True):
        assert np.array_equal(a, b)
    assert not np.allclose(result, call(graph, before, x, key)[0])  # by other statistics
    alone = call(graph, trained, x[:1], key)[0]
    assert np.allclose(alone, result[:1], atol=1e-5)  # the rest of the batch plays no part


@pytest.mark.parametrize("model", WITH_DROPOUT)
def test_dropout_acts_in_train_mode_only(model):
    x = inputs(model)
    assert np.array_equal(logits(model, x, seed=0), logits(model, x, seed=0))
    assert not np.allclose(logits(model, x, seed=0), logits(model, x, seed=1))
    first, second = (logits(model, x, seed, training=False) for seed in (0, 1))
    assert np.array_equal(first, second)
    with pytest.raises(ValueError, match="no `rngs` argument"):
        shape_of_logits(nnx.merge(*small(model, training=True)), x)
    shape_of_logits(nnx.merge(*small(model, training=False)), x)


def gpt(seed, width=8, dropout=0.0):
    return GPT((6,), 5, layers=2, width=width, heads=2, dropout=dropout, rngs=nnx.Rngs(seed))


def test_gpt_drops_other_features_in_every_layer():
    # Blocks that add a constant only, the bias of their last layer, and nothing after them.
    network = nnx.eval_shape(lambda: gpt(0, width=64, dropout=0.5))
    graph, shapes = nnx.split(network)
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    state["blocks"]["dense2"]["bias"].set_value(np.ones((2, 64), np.float32))

    @jit
    def stream(state, x):
        network = nnx.merge(graph, state)
        for part in ("norm", "head"):
            setattr(network, part, nnx.identity)
        return network(x, rngs=nnx.Rngs(jax.random.key(0, impl="unsafe_rbg")))

    seen = stream(state, inputs("gpt"))
    # Each kept value is doubled: 0, 2 and 4 where none, one and both of the layers were kept.
    numbers, counts = np.unique(seen, return_counts=True)
    assert numbers.tolist() == [0, 2, 4]
    assert np.allclose(counts / counts.sum(), jnp.array([0.25, 0.5, 0.25]), atol=0.1)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_gpt_does_not_see_later_tokens(dtype):
    x = inputs("gpt")
    changed = np.array(x)
    changed[:, 3] = (changed[:, 3] + 1) % 5
    before, after = (logits("gpt", x, training=False, dtype=dtype) for x in (x, changed))
    assert np.array_equal(before[:, :3], after[:, :3])
    assert not np.isclose(before[:, 3:], after[:, 3:]).all(-1).any()


def test_gpt_takes_shorter_sequences():
    x = inputs("gpt")
    part, whole = (logits("gpt", x, training=False) for x in (x[:, :4], x))
    assert np.allclose(part, whole[:, :4], atol=1e-5)


def test_seeds_and_the_layers_of_gpt_start_apart():
    init = jit(lambda key: gpt(key).blocks.dense1.kernel[...])
    a, b = (init(jax.random.key(seed)) for seed in (0, 1))
    assert a.shape == (2, 8, 32)
    assert not any(np.isclose(x, y).any() for x, y in ((a[0], a[1]), (a, b)))


@pytest.mark.parametrize("model", MODELS)
def test_seeds_side_by_side_give_what_each_gives_alone(model):
    graph = small(model, training=model in WITH_BATCH_NORM)[0]
    states = [state(model, seed) for seed in (0, 1)]
    x, keys = inputs(model), jax.random.split(jax.random.key(2))
    alone = [call(graph, state, x, key) for state, key in zip(states, keys, strict=True)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    together = jit(jax.vmap(functools.partial(forward, graph), in_axes=(0, None, 0)))(
        stacked, x, keys
    )
    assert not np.allclose(alone[0][0], alone[1][0])
    for n in (0, 1):
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone[n]), strict=True):
            assert np.allclose(np.asarray(a)[n], b, atol=1e-4)
