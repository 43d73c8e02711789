"""Haiku's layers and networks."""

import haiku as hk
import jax
import jax.numpy as jnp

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.haiku import case

PACKAGES = ["dm-haiku"]

FLAT = jnp.zeros((2, 7))
SEQUENCE = jnp.zeros((2, 12, 6))
IMAGE = jnp.zeros((2, 16, 16, 4))
VOLUME = jnp.zeros((2, 8, 8, 8, 2))
TOKENS = jnp.zeros((2, 12), "i4")


def unrolled(core, x):
    """A recurrent core over time, in the second axis of `x`."""
    outputs, _ = hk.dynamic_unroll(core, x, core.initial_state(x.shape[0]), time_major=False)
    return outputs


def transformer_block(x, heads=3, width=24):
    """Attention and a perceptron, each after a norm."""
    y = hk.LayerNorm(-1, True, True)(x)
    x = x + hk.MultiHeadAttention(
        heads, 5, w_init=hk.initializers.VarianceScaling(), model_size=x.shape[-1]
    )(y, y, y)
    y = hk.LayerNorm(-1, True, True)(x)
    return x + hk.Linear(x.shape[-1])(jax.nn.gelu(hk.Linear(width)(y)))


def language_model(tokens, stacked):
    """Embedding, positions, blocks one by one or in a stack, logits by the table or by a layer."""
    table = hk.Embed(40, 16)
    x = table(tokens) + hk.get_parameter("positions", (12, 16), init=jnp.zeros)
    if stacked:
        x = hk.experimental.layer_stack(3)(transformer_block)(x)
        return x @ table.embeddings.T
    for _ in range(2):
        x = transformer_block(x)
    return hk.Linear(40)(hk.LayerNorm(-1, True, True)(x))


def dueling(x):
    """The dueling head of a DQN."""
    x = hk.Flatten()(hk.Conv2D(8, 4, 2)(x))
    value = hk.nets.MLP([16, 1])(x)
    advantage = hk.nets.MLP([16, 5])(x)
    return value + advantage - advantage.mean(-1, keepdims=True)


def variational(x):
    """A variational autoencoder whose noise comes from Haiku's key."""
    y = jax.nn.relu(hk.Linear(16)(x))
    mean, scale = hk.Linear(4)(y), jnp.exp(hk.Linear(4)(y))
    z = mean + scale * jax.random.normal(hk.next_rng_key(), mean.shape)
    return hk.Linear(7)(jax.nn.relu(hk.Linear(16)(z)))


def quantized(x):
    """Encoder, codebook, decoder: VQ-VAE."""
    z = hk.Conv2D(8, 4, 2)(x)
    code = hk.nets.VectorQuantizer(8, 16, 0.25)(z, is_training=True)
    return hk.Conv2DTranspose(4, 4, 2)(code["quantize"])


def unet(x):
    """Convolutions down and transposed convolutions up with a skip."""
    down = jax.nn.relu(hk.Conv2D(8, 3, 2)(x))
    deep = jax.nn.relu(hk.Conv2D(8, 3, 2)(down))
    up = jax.nn.relu(hk.Conv2DTranspose(8, 3, 2)(deep))
    return hk.Conv2DTranspose(3, 3, 2)(jnp.concatenate([up, down], -1))


def per_example(x):
    """A perceptron that is vmapped over the batch inside of the transform."""
    net = hk.nets.MLP([8, 3])
    return hk.vmap(net, split_rng=False)(x)


def scanned(x):
    """A GRU by `hk.scan`."""
    core = hk.GRU(8)

    def step(state, x):
        output, state = core(x, state)
        return state, output

    return hk.scan(step, core.initial_state(x.shape[0]), x.swapaxes(0, 1))[1]


def rematerialized(x):
    """Blocks under `hk.remat`."""
    for _ in range(2):
        x = hk.remat(transformer_block)(x)
    return x


def branches(x):
    """Two layers of which `hk.cond` takes one."""
    one, two = hk.Linear(5, name="one"), hk.Linear(5, name="two")
    if hk.running_init():
        two(x)
        return one(x)
    return hk.cond(x.sum() > 0, one, two, x)


MODELS = {
    "MLP": (lambda x: hk.nets.MLP([16, 16, 3])(x), FLAT),
    "MLP with dropout": (lambda x: hk.nets.MLP([16, 3])(x, 0.1, hk.next_rng_key()), FLAT),
    "Conv1D": (lambda x: hk.Conv1D(8, 3)(x), SEQUENCE),
    "Conv2D": (lambda x: hk.Conv2D(8, 3)(x), IMAGE),
    "Conv2D, groups": (lambda x: hk.Conv2D(8, 3, feature_group_count=2)(x), IMAGE),
    "Conv2D, channels first": (lambda x: hk.Conv2D(8, 3, data_format="NCHW")(x), IMAGE),
    "Conv3D": (lambda x: hk.Conv3D(8, 3)(x), VOLUME),
    "Conv1DTranspose": (lambda x: hk.Conv1DTranspose(8, 3)(x), SEQUENCE),
    "Conv2DTranspose": (lambda x: hk.Conv2DTranspose(8, 3, 2)(x), IMAGE),
    "Conv2DTranspose, square": (lambda x: hk.Conv2DTranspose(4, 3, 2)(x), IMAGE),
    "Conv3DTranspose": (lambda x: hk.Conv3DTranspose(8, 3, 2)(x), VOLUME),
    "DepthwiseConv1D": (lambda x: hk.DepthwiseConv1D(2, 3)(x), SEQUENCE),
    "DepthwiseConv2D": (lambda x: hk.DepthwiseConv2D(2, 3)(x), IMAGE),
    "SeparableDepthwiseConv2D": (lambda x: hk.SeparableDepthwiseConv2D(2, 3)(x), IMAGE),
    "VanillaRNN": (lambda x: unrolled(hk.VanillaRNN(8), x), SEQUENCE),
    "LSTM": (lambda x: unrolled(hk.LSTM(8), x), SEQUENCE),
    "GRU": (lambda x: unrolled(hk.GRU(8), x), SEQUENCE),
    "GRU by hk.scan": (scanned, SEQUENCE),
    "Conv2DLSTM": (
        lambda x: unrolled(hk.Conv2DLSTM((16, 4), 8, 3), x),
        jnp.zeros((2, 5, 16, 4, 3)),
    ),
    "DeepRNN": (lambda x: unrolled(hk.DeepRNN([hk.LSTM(8), jnp.tanh, hk.GRU(6)]), x), SEQUENCE),
    "ResetCore": (
        lambda x: hk.dynamic_unroll(
            hk.ResetCore(hk.LSTM(8)), (x, jnp.zeros((12, 2), bool)), hk.LSTM(8).initial_state(2)
        )[0],
        SEQUENCE.swapaxes(0, 1),
    ),
    "IdentityCore": (
        lambda x: unrolled(hk.deep_rnn_with_skip_connections([hk.GRU(6)]), x),
        SEQUENCE,
    ),
    "ResNet18": (lambda x: hk.nets.ResNet18(10)(x, is_training=True), IMAGE),
    "ResNet50": (lambda x: hk.nets.ResNet50(10)(x, is_training=hk.running_init()), IMAGE),
    "ResNet50, version 2": (
        lambda x: hk.nets.ResNet50(10, resnet_v2=True)(x, is_training=True),
        IMAGE,
    ),
    "MobileNetV1": (lambda x: hk.nets.MobileNetV1(num_classes=10)(x, is_training=True), IMAGE),
    "VQ-VAE": (quantized, IMAGE),
    "VQ-VAE with moving averages": (
        lambda x: hk.nets.VectorQuantizerEMA(4, 16, 0.25, 0.9)(hk.Conv2D(4, 3)(x), True)[
            "quantize"
        ],
        IMAGE,
    ),
    "MultiHeadAttention": (
        lambda x: hk.MultiHeadAttention(3, 5, w_init=hk.initializers.VarianceScaling())(x, x, x),
        SEQUENCE,
    ),
    "transformer": (lambda t: language_model(t, stacked=False), TOKENS),
    "transformer by layer_stack, tied": (lambda t: language_model(t, stacked=True), TOKENS),
    "transformer, rematerialized": (rematerialized, SEQUENCE),
    "dueling DQN": (dueling, IMAGE),
    "VAE": (variational, FLAT),
    "U-Net": (unet, IMAGE),
    "hk.vmap": (per_example, FLAT),
    "hk.cond": (branches, FLAT),
    "Bilinear": (lambda x: hk.Bias()(hk.Linear(5, with_bias=False)(x)), FLAT),
    "BatchApply": (lambda x: hk.BatchApply(hk.nets.MLP([8, 3]))(x), SEQUENCE),
    "SpectralNorm": (
        lambda x: x @ hk.SpectralNorm()(hk.get_parameter("w", (7, 5), init=jnp.ones)),
        FLAT,
    ),
    "GroupNorm": (lambda x: hk.GroupNorm(2)(hk.Conv2D(8, 3)(x)), IMAGE),
    "InstanceNorm": (lambda x: hk.InstanceNorm(True, True)(hk.Conv2D(8, 3)(x)), IMAGE),
}

HAND = (
    (r".*/positions", (), "learned positions"),
    (r"vector_quantizer/embeddings", (), "a codebook whose rows are looked up"),
    (r"~/w", (0,), "a matrix that inputs are multiplied with from the left"),
)


def entry(name: str, fn, x) -> Entry:
    """One function of Haiku modules."""
    return Entry(name, lambda: case(fn, x, hand=HAND))


def entries() -> list[Entry]:
    """All of the table."""
    return [entry(name, fn, x) for name, (fn, x) in MODELS.items()]
