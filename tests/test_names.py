"""`fan_in_by_name` on the parameters of real modules of each framework.

Each table lists every leaf of rank 2 and above, so that none can be forgotten.
"""

from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from haiku.experimental import layer_stack

import gc_optax
from gc_optax import FanIn

KEY = jax.random.key(0)
SEQUENCE = jnp.ones((2, 4, 3))
IMAGE = jnp.ones((1, 8, 8, 3))
VOLUME = jnp.ones((1, 4, 4, 4, 2))

STACKED = "dense, stacked"

Expected = dict[str, tuple[tuple[int, ...], tuple[int, ...], str]]
"""For each path the shape, the fan-in axes and the reason."""


def check(params, expected: Expected):
    """Every leaf of rank 2 and above is as expected, and every other is left alone."""
    fan_in = gc_optax.fan_in_by_name(params)
    assert jax.tree.structure(fan_in) == jax.tree.structure(params)
    actual = {}
    for (path, spec), leaf in zip(
        jax.tree_util.tree_leaves_with_path(fan_in), jax.tree.leaves(params), strict=True
    ):
        if leaf.ndim < 2:
            assert spec == FanIn((), "rank below 2")
        else:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            actual[name] = (leaf.shape, spec.axes, spec.reason)
    assert actual == expected


class LinenLayers(nn.Module):
    @nn.compact
    def __call__(self, sequence, image, volume):
        nn.Dense(8)(sequence)
        nn.Dense(1)(sequence)
        nn.Dense(4)(sequence[..., :1])
        nn.Conv(4, (3,))(sequence)
        nn.Conv(4, (3, 3))(image)
        nn.Conv(4, (3, 3, 3))(volume)
        nn.Conv(6, (3, 3), feature_group_count=3, name="Conv_depthwise")(image)
        nn.Conv(3, (1, 1), feature_group_count=3, name="Conv_depthwise_1x1")(image)
        nn.ConvLocal(4, (3, 3))(image)
        nn.Embed(10, 8)(jnp.zeros(2, jnp.int32))
        nn.LayerNorm()(sequence)
        nn.BatchNorm(use_running_average=False)(image)
        self.param("pos_embedding", nn.initializers.zeros, (1, 4, 8))
        self.param("cls", nn.initializers.zeros, (1, 1, 8))
        return nn.MultiHeadDotProductAttention(4, qkv_features=8)(sequence)


LINEN: Expected = {
    "Dense_0/kernel": ((3, 8), (0,), "dense"),
    "Dense_1/kernel": ((3, 1), (0,), "dense"),
    "Dense_2/kernel": ((1, 4), (), "fan-in of 1"),
    "Conv_0/kernel": ((3, 3, 4), (0, 1), "conv"),
    "Conv_1/kernel": ((3, 3, 3, 4), (0, 1, 2), "conv"),
    "Conv_2/kernel": ((3, 3, 3, 2, 4), (0, 1, 2, 3), "conv"),
    "Conv_depthwise/kernel": ((3, 3, 1, 6), (0, 1), "depthwise conv"),
    "Conv_depthwise_1x1/kernel": ((1, 1, 1, 3), (), "fan-in of 1"),
    "ConvLocal_0/kernel": ((8, 8, 27, 4), (2,), "local conv"),
    "ConvLocal_0/bias": ((8, 8, 4), (), "bias"),
    "Embed_0/embedding": ((10, 8), (), "embedding lookup"),
    "pos_embedding": ((1, 4, 8), (), "embedding lookup"),
    "cls": ((1, 1, 8), (), "embedding lookup"),
    "MultiHeadDotProductAttention_0/query/kernel": ((3, 4, 2), (0,), "attention heads"),
    "MultiHeadDotProductAttention_0/key/kernel": ((3, 4, 2), (0,), "attention heads"),
    "MultiHeadDotProductAttention_0/value/kernel": ((3, 4, 2), (0,), "attention heads"),
    "MultiHeadDotProductAttention_0/query/bias": ((4, 2), (), "bias"),
    "MultiHeadDotProductAttention_0/key/bias": ((4, 2), (), "bias"),
    "MultiHeadDotProductAttention_0/value/bias": ((4, 2), (), "bias"),
    "MultiHeadDotProductAttention_0/out/kernel": ((4, 2, 3), (0, 1), "attention output"),
}


def test_linen_layers():
    params = jax.eval_shape(LinenLayers().init, KEY, SEQUENCE, IMAGE, VOLUME)["params"]
    check(params, LINEN)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.OptimizedLSTMCell, nn.GRUCell, nn.SimpleCell])
def test_linen_recurrent_cells_are_dense(cell):
    params = jax.eval_shape(nn.RNN(cell(5)).init, KEY, SEQUENCE)["params"]
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    specs = [spec for spec in jax.tree.leaves(gc_optax.fan_in_by_name(params)) if spec.axes]
    assert len(specs) == len(kernels) >= 2
    assert set(specs) == {FanIn((0,), kind="dense")}


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(8)(nn.LayerNorm()(x)), None


class LinenStacked(nn.Module):
    @nn.compact
    def __call__(self, x):
        stacked: Any = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        x, _ = nn.scan(LinenBlock, length=3, **stacked)()(x, None)
        stacked["in_axes"] = None
        return nn.vmap(nn.Dense, axis_size=5, **stacked)(4)(x)


def test_linen_layers_stacked_by_scan_and_vmap():
    params = jax.eval_shape(LinenStacked().init, KEY, jnp.ones((2, 8)))["params"]
    check(
        params,
        {
            "ScanLinenBlock_0/LayerNorm_0/scale": ((3, 8), (), "scale"),
            "ScanLinenBlock_0/LayerNorm_0/bias": ((3, 8), (), "bias"),
            "ScanLinenBlock_0/Dense_0/kernel": ((3, 8, 8), (1,), STACKED),
            "ScanLinenBlock_0/Dense_0/bias": ((3, 8), (), "bias"),
            "VmapDense_0/kernel": ((5, 8, 4), (1,), STACKED),
            "VmapDense_0/bias": ((5, 4), (), "bias"),
        },
    )


class LinenShapes(nn.Module):
    @nn.compact
    def __call__(self, sequence, image):
        nn.ConvTranspose(4, (3, 3))(image)
        nn.ConvTranspose(5, (3, 3), transpose_kernel=True)(image)
        nn.ConvTranspose(3, (3, 3))(image)
        nn.DenseGeneral((4, 2))(sequence)
        return nn.Einsum((3, 4, 2), "btd,dhk->bthk")(sequence)


def test_biases_tell_what_the_names_of_linen_layers_do_not():
    params = jax.eval_shape(LinenShapes().init, KEY, SEQUENCE, IMAGE)["params"]
    check(
        params,
        {
            "ConvTranspose_0/kernel": ((3, 3, 3, 4), (0, 1, 2), "conv"),
            "ConvTranspose_1/kernel": ((3, 3, 5, 3), (0, 1, 3), "conv transpose"),
            # As many inputs as outputs: it depends on transpose_kernel.
            "ConvTranspose_2/kernel": ((3, 3, 3, 3), (0, 1, 2), "a guess: conv; or conv transpose"),
            "DenseGeneral_0/kernel": ((3, 4, 2), (0,), "attention heads"),
            "DenseGeneral_0/bias": ((4, 2), (), "bias"),
            # An einsum may sum over anything.
            "Einsum_0/kernel": ((3, 4, 2), (0,), "a guess: attention heads"),
            "Einsum_0/bias": ((4, 2), (), "bias"),
        },
    )


class NnxLayers(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.linear = nnx.Linear(3, 8, rngs=rngs)
        self.single = nnx.Linear(8, 1, rngs=rngs)
        self.from_scalar = nnx.Linear(1, 4, rngs=rngs)
        self.conv_1d = nnx.Conv(3, 4, (3,), rngs=rngs)
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.conv_3d = nnx.Conv(2, 4, (3, 3, 3), rngs=rngs)
        self.conv_depthwise = nnx.Conv(3, 6, (3, 3), feature_group_count=3, rngs=rngs)
        self.pointwise = nnx.Conv(3, 3, (1, 1), feature_group_count=3, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 8, 8, rngs=rngs, decode=False)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.embed = nnx.Embed(10, 8, rngs=rngs)
        self.pos_emb = nnx.Param(jnp.zeros((1, 4, 8)))
        self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs)])
        self.lstm = nnx.OptimizedLSTMCell(3, 5, rngs=rngs)
        self.gru = nnx.GRUCell(3, 5, rngs=rngs)
        self.transposed_conv = nnx.ConvTranspose(3, 4, (3, 3), rngs=rngs)
        self.upsample = nnx.ConvTranspose(3, 4, (3, 3), rngs=rngs)
        self.stem = nnx.Conv(3, 4, (3,), rngs=rngs)


NNX: Expected = {
    "linear/kernel": ((3, 8), (0,), "dense"),
    "single/kernel": ((8, 1), (0,), "dense"),
    "from_scalar/kernel": ((1, 4), (), "fan-in of 1"),
    "conv_1d/kernel": ((3, 3, 4), (0, 1), "conv"),
    "conv/kernel": ((3, 3, 3, 4), (0, 1, 2), "conv"),
    "conv_3d/kernel": ((3, 3, 3, 2, 4), (0, 1, 2, 3), "conv"),
    "conv_depthwise/kernel": ((3, 3, 1, 6), (0, 1), "depthwise conv"),
    "pointwise/kernel": ((1, 1, 1, 3), (), "fan-in of 1"),
    "attention/query/kernel": ((8, 4, 2), (0,), "attention heads"),
    "attention/key/kernel": ((8, 4, 2), (0,), "attention heads"),
    "attention/value/kernel": ((8, 4, 2), (0,), "attention heads"),
    "attention/query/bias": ((4, 2), (), "bias"),
    "attention/key/bias": ((4, 2), (), "bias"),
    "attention/value/bias": ((4, 2), (), "bias"),
    "attention/out/kernel": ((4, 2, 8), (0, 1), "attention output"),
    "embed/embedding": ((10, 8), (), "embedding lookup"),
    "pos_emb": ((1, 4, 8), (), "embedding lookup"),
    "layers/0/kernel": ((3, 3), (0,), "dense"),
    "lstm/dense_i/kernel": ((3, 20), (0,), "dense"),
    "lstm/dense_h/kernel": ((5, 20), (0,), "dense"),
    "gru/dense_i/kernel": ((3, 15), (0,), "dense"),
    "gru/dense_h/kernel": ((5, 15), (0,), "dense"),
    # NNX names modules after their attributes, which may say nothing of the kind of layer.
    "transposed_conv/kernel": ((3, 3, 3, 4), (0, 1, 2), "conv"),
    "upsample/kernel": ((3, 3, 3, 4), (0, 1, 2), "conv"),
    "stem/kernel": (
        (3, 3, 4),
        (0, 1),
        "a guess: attention output; or conv; or dense, outputs share biases",
    ),
}


@pytest.fixture(scope="module")
def nnx_module():
    return nnx.eval_shape(lambda: NnxLayers(nnx.Rngs(0)))


def test_nnx_layers_as_the_pure_state_that_the_optimizer_passes(nnx_module):
    check(nnx.as_pure(nnx.state(nnx_module, nnx.Param)), NNX)


def test_nnx_layers_as_a_state_of_params(nnx_module):
    state = nnx.state(nnx_module, nnx.Param)
    check(state, {f"{path}/value": expected for path, expected in NNX.items()})


def test_an_nnx_module_stands_for_the_pure_state_of_its_params(nnx_module):
    pure = nnx.as_pure(nnx.state(nnx_module, nnx.Param))
    fan_in = gc_optax.fan_in_by_name(nnx_module)
    assert jax.tree.structure(fan_in) == jax.tree.structure(pure)
    assert jax.tree.leaves(fan_in) == jax.tree.leaves(gc_optax.fan_in_by_name(pure))


def test_nnx_layers_stacked_by_vmap():
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def block(rngs):
        return nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), nnx.LayerNorm(5, rngs=rngs))

    check(
        nnx.as_pure(nnx.state(block(nnx.Rngs(0)), nnx.Param)),
        {
            "layers/0/kernel": ((3, 4, 5), (1,), STACKED),
            "layers/0/bias": ((3, 5), (), "bias"),
            "layers/1/scale": ((3, 5), (), "scale"),
            "layers/1/bias": ((3, 5), (), "bias"),
        },
    )


def haiku_layers(sequence, image, volume):
    hk.Linear(8)(sequence)
    hk.Linear(4, name="from_scalar")(sequence[..., :1])
    hk.nets.MLP([4, 1])(sequence)
    hk.Conv1D(4, 3)(sequence)
    hk.Conv2D(4, 3)(image)
    hk.Conv3D(4, 3)(volume)
    hk.DepthwiseConv2D(2, 3)(image)
    hk.Conv1DTranspose(4, 3)(sequence)
    hk.Conv2DTranspose(4, 3)(image)
    hk.Conv3DTranspose(4, 3)(volume)
    hk.Embed(10, 8)(jnp.zeros(2, jnp.int32))
    hk.LayerNorm(-1, True, True)(sequence)
    hk.BatchNorm(True, True, 0.9)(image, is_training=True)
    hk.Bias(bias_dims=[-2, -1])(sequence)
    lstm = hk.LSTM(5)
    lstm(sequence[:, 0], lstm.initial_state(2))
    hk.GRU(5)(sequence[:, 0], jnp.zeros((2, 5)))
    conv_lstm = hk.Conv2DLSTM([8, 8], 4, 3)
    conv_lstm(image, conv_lstm.initial_state(1))
    hk.MultiHeadAttention(2, 4, w_init=hk.initializers.Constant(0.0))(sequence, sequence, sequence)


def test_haiku_layers():
    def init(key):
        # Haiku's BatchNorm raises a float to an integer's power, which strict promotion bars.
        with jax.numpy_dtype_promotion("standard"):
            return hk.transform_with_state(haiku_layers).init(key, SEQUENCE, IMAGE, VOLUME)[0]

    check(
        jax.eval_shape(init, KEY),
        {
            "linear/w": ((3, 8), (0,), "dense"),
            "from_scalar/w": ((1, 4), (), "fan-in of 1"),
            "mlp/~/linear_0/w": ((3, 4), (0,), "dense"),
            "mlp/~/linear_1/w": ((4, 1), (0,), "dense"),
            "conv1_d/w": ((3, 3, 4), (0, 1), "conv"),
            "conv2_d/w": ((3, 3, 3, 4), (0, 1, 2), "conv"),
            "conv3_d/w": ((3, 3, 3, 2, 4), (0, 1, 2, 3), "conv"),
            "depthwise_conv2_d/w": ((3, 3, 1, 6), (0, 1, 2), "conv"),
            "conv1_d_transpose/w": ((3, 4, 3), (0, 2), "conv transpose"),
            "conv2_d_transpose/w": ((3, 3, 4, 3), (0, 1, 3), "conv transpose"),
            "conv3_d_transpose/w": ((3, 3, 3, 4, 2), (0, 1, 2, 4), "conv transpose"),
            "embed/embeddings": ((10, 8), (), "embedding lookup"),
            "batch_norm/scale": ((1, 1, 1, 3), (), "scale"),
            "batch_norm/offset": ((1, 1, 1, 3), (), "bias"),
            "bias/b": ((4, 3), (), "bias"),
            "lstm/linear/w": ((8, 20), (0,), "dense"),
            "gru/w_i": ((3, 15), (0,), "dense"),
            "gru/w_h": ((5, 15), (0,), "dense"),
            "conv2_dlstm/input_to_hidden/w": ((3, 3, 3, 16), (0, 1, 2), "conv"),
            "conv2_dlstm/hidden_to_hidden/w": ((3, 3, 4, 16), (0, 1, 2), "conv"),
            "multi_head_attention/query/w": ((3, 8), (0,), "dense"),
            "multi_head_attention/key/w": ((3, 8), (0,), "dense"),
            "multi_head_attention/value/w": ((3, 8), (0,), "dense"),
            "multi_head_attention/linear/w": ((8, 8), (0,), "dense"),
        },
    )


def test_haiku_layers_stacked_by_layer_stack():
    def stacked(x):
        return layer_stack(3)(lambda x: hk.Linear(8)(x))(x)

    params = jax.eval_shape(hk.transform(stacked).init, KEY, jnp.ones((2, 8)))
    reasons = {leaf.shape: spec.reason for leaf, spec in pairs(params)}
    assert reasons == {(3, 8): "bias", (3, 8, 8): STACKED}


def pairs(params):
    specs = jax.tree.leaves(gc_optax.fan_in_by_name(params))
    return zip(jax.tree.leaves(params), specs, strict=True)


class EquinoxLayers(eqx.Module):
    linear: eqx.nn.Linear
    linear_from_scalar: eqx.nn.Linear
    mlp: eqx.nn.MLP
    conv_1d: eqx.nn.Conv1d
    conv: eqx.nn.Conv2d
    conv_3d: eqx.nn.Conv3d
    conv_depthwise: eqx.nn.Conv2d
    pointwise: eqx.nn.Conv2d
    conv_transpose: eqx.nn.ConvTranspose2d
    attention: eqx.nn.MultiheadAttention
    embedding: eqx.nn.Embedding
    norm: eqx.nn.LayerNorm
    lstm: eqx.nn.LSTMCell
    gru: eqx.nn.GRUCell
    tokens: eqx.nn.Embedding

    def __init__(self, key):
        self.linear = eqx.nn.Linear(3, 8, key=key)
        self.linear_from_scalar = eqx.nn.Linear(1, 4, key=key)
        self.mlp = eqx.nn.MLP(3, 1, 8, 1, key=key)
        self.conv_1d = eqx.nn.Conv1d(3, 4, 3, key=key)
        self.conv = eqx.nn.Conv2d(3, 4, 3, key=key)
        self.conv_3d = eqx.nn.Conv3d(2, 4, 3, key=key)
        self.conv_depthwise = eqx.nn.Conv2d(3, 6, 3, groups=3, key=key)
        self.pointwise = eqx.nn.Conv2d(3, 3, 1, groups=3, key=key)
        self.conv_transpose = eqx.nn.ConvTranspose2d(3, 4, 3, key=key)
        self.attention = eqx.nn.MultiheadAttention(2, 8, use_query_bias=True, key=key)
        self.embedding = eqx.nn.Embedding(10, 8, key=key)
        self.norm = eqx.nn.LayerNorm((4, 8))
        self.lstm = eqx.nn.LSTMCell(3, 5, key=key)
        self.gru = eqx.nn.GRUCell(3, 5, key=key)
        self.tokens = eqx.nn.Embedding(10, 8, key=key)


def test_equinox_layers():
    params = eqx.filter_eval_shape(lambda key: EquinoxLayers(key), KEY)
    check(
        eqx.filter(params, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)),
        {
            "linear/weight": ((8, 3), (1,), "dense"),
            "linear_from_scalar/weight": ((4, 1), (), "fan-in of 1"),
            "mlp/layers/0/weight": ((8, 3), (1,), "dense"),
            "mlp/layers/1/weight": ((1, 8), (1,), "dense"),
            "conv_1d/weight": ((4, 3, 3), (1, 2), "conv"),
            "conv_1d/bias": ((4, 1), (), "bias"),
            "conv/weight": ((4, 3, 3, 3), (1, 2, 3), "conv"),
            "conv/bias": ((4, 1, 1), (), "bias"),
            "conv_3d/weight": ((4, 2, 3, 3, 3), (1, 2, 3, 4), "conv"),
            "conv_3d/bias": ((4, 1, 1, 1), (), "bias"),
            "conv_depthwise/weight": ((6, 1, 3, 3), (1, 2, 3), "conv"),
            "conv_depthwise/bias": ((6, 1, 1), (), "bias"),
            "pointwise/weight": ((3, 1, 1, 1), (), "fan-in of 1"),
            "pointwise/bias": ((3, 1, 1), (), "bias"),
            "conv_transpose/weight": ((4, 3, 3, 3), (1, 2, 3), "conv"),
            "conv_transpose/bias": ((4, 1, 1), (), "bias"),
            "attention/query_proj/weight": ((8, 8), (1,), "dense"),
            "attention/key_proj/weight": ((8, 8), (1,), "dense"),
            "attention/value_proj/weight": ((8, 8), (1,), "dense"),
            "attention/output_proj/weight": ((8, 8), (1,), "dense"),
            "embedding/weight": ((10, 8), (), "embedding lookup"),
            "norm/weight": ((4, 8), (), "scale"),
            "norm/bias": ((4, 8), (), "bias"),
            "lstm/weight_ih": ((20, 3), (1,), "dense"),
            "lstm/weight_hh": ((20, 5), (1,), "dense"),
            "gru/weight_ih": ((15, 3), (1,), "dense"),
            "gru/weight_hh": ((15, 5), (1,), "dense"),
            # A name that does not say "embedding": wrong, but marked as a guess.
            "tokens/weight": (
                (10, 8),
                (1,),
                "a guess: dense; or scale; or scale, stacked; or embedding lookup; or embedding "
                "lookup, stacked",
            ),
        },
    )


def test_equinox_layers_stacked_by_vmap():
    def linear(key):
        return eqx.nn.Linear(4, 5, key=key)

    params = {"linear": eqx.filter_vmap(linear)(jax.random.split(KEY, 3))}
    check(
        params,
        {"linear/weight": ((3, 5, 4), (2,), STACKED), "linear/bias": ((3, 5), (), "bias")},
    )


@pytest.mark.parametrize(
    ("params", "axes"),
    [
        ({"theta": jnp.ones((3, 4))}, (0,)),
        ({"layer": {"theta": jnp.ones((3, 4, 5))}}, (0, 1)),
        ([jnp.ones((3, 4))], (0,)),
        (jnp.ones((3, 4)), (0,)),
        # Names of layers that have no such shape.
        ({"conv": {"weight": jnp.ones((3, 4))}}, (0,)),
        ({"conv2d": {"kernel": jnp.ones((3, 4, 5))}}, (0, 1)),
    ],
    ids=str,
)
def test_what_no_rule_knows_gets_all_axes_but_the_last_as_a_guess(params, axes):
    (spec,) = jax.tree.leaves(gc_optax.fan_in_by_name(params))
    assert spec == FanIn(axes, guess=True)
    assert "guess" in spec.reason


def test_the_unknown_name_is_in_the_reason():
    spec = gc_optax.fan_in_by_name({"layer": {"Theta": jnp.ones((3, 4))}})["layer"]["Theta"]
    assert spec.reason == "a guess: no rule knows the name `theta`"


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        (jnp.ones((1, 3)), "fan-in of 1"),
        (jnp.ones((0, 3)), "empty"),
        (jnp.ones(3), "rank below 2"),
        (jnp.float32(1.0), "rank below 2"),
        (jnp.ones((4, 3), jnp.int32), "not a float array"),
        (jax.random.split(KEY, 4), "not a float array"),
        (jax.nn.relu, "not a float array"),
        (3.0, "not a float array"),
    ],
)
def test_leaves_that_cannot_be_centralized_are_left_alone(leaf, reason):
    assert gc_optax.fan_in_by_name({"kernel": leaf}) == {"kernel": FanIn((), reason)}


def test_none_and_masked_nodes_stay_where_they_are():
    params = {"a": None, "b": optax.MaskedNode(), "kernel": jnp.ones((3, 2))}
    expected = {"a": None, "b": optax.MaskedNode(), "kernel": FanIn((0,), kind="dense")}
    assert gc_optax.fan_in_by_name(params) == expected


def test_gradients_and_shapes_give_the_same_as_parameters():
    params = {"Dense_0": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}
    grads = jax.grad(lambda p: p["Dense_0"]["kernel"].sum() + p["Dense_0"]["bias"].sum())(params)
    fan_in = gc_optax.fan_in_by_name(params)
    assert gc_optax.fan_in_by_name(grads) == fan_in
    assert gc_optax.fan_in_by_name(jax.eval_shape(lambda: params)) == fan_in


def test_a_transposed_convolution_under_a_name_of_something_else_is_a_guess():
    kernel, bias = jnp.ones((3, 3, 72)), jnp.ones(3)
    for name, guess in (("layers_0", True), ("up_conv", False), ("ConvTranspose_0", False)):
        fan_in = gc_optax.fan_in_by_name({name: {"kernel": kernel, "bias": bias}})
        assert (fan_in[name]["kernel"].axes, fan_in[name]["kernel"].guess) == ((0, 2), guess)
