"""Keras layers and the idioms of Keras' examples."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax.numpy as jnp
import keras
from keras import layers, ops

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.keras import case

PACKAGES = ["keras"]

SEQUENCE = (12, 6)
IMAGE = (16, 16, 4)
VOLUME = (8, 8, 8, 2)
FRAMES = (5, 8, 8, 3)


def chain(*parts):
    """Layers one after the other."""
    return lambda inputs: keras.Sequential(list(parts))(inputs)


def self_attention(layer):
    """A layer of attention from a sequence to itself."""
    return lambda x: layer(x, x)


def transformer(x):
    """The block of Keras' text classification example."""
    y = layers.MultiHeadAttention(4, 8)(x, x)
    x = layers.LayerNormalization()(x + y)
    y = keras.Sequential([layers.Dense(24, activation="relu"), layers.Dense(6)])(x)
    return layers.LayerNormalization()(x + y)


def vision_transformer(x):
    """Patches by a convolution, positions by an embedding, two blocks."""
    x = layers.Reshape((16, 24))(layers.Conv2D(24, 4, strides=4)(x))
    x = x + layers.Embedding(16, 24)(ops.arange(16))
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(3, 8)(y, y)
        y = layers.LayerNormalization()(x)
        x = x + layers.Dense(24)(layers.Dense(48, activation="gelu")(y))
    return layers.Dense(10)(layers.GlobalAveragePooling1D()(x))


def u_net(x):
    """The image segmentation example: separable down, transposed up."""
    skip = x = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    for filters in (12, 16):
        x = layers.BatchNormalization()(layers.SeparableConv2D(filters, 3, padding="same")(x))
    for filters in (12, 8):
        x = layers.Conv2DTranspose(filters, 3, padding="same")(x)
    return layers.Conv2D(3, 3, padding="same")(layers.UpSampling2D(2)(x + skip))


def squeeze_excite(x):
    """A gate per channel."""
    y = layers.Dense(4, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return x * layers.Dense(4, activation="sigmoid")(y)


def mixer(x):
    """MLP-Mixer: dense over the tokens through a permutation."""
    y = layers.Permute((2, 1))(layers.LayerNormalization()(x))
    x = x + layers.Permute((2, 1))(layers.Dense(12)(layers.Dense(20, activation="gelu")(y)))
    return x + layers.Dense(6)(layers.Dense(20, activation="gelu")(x))


def tied_autoencoder(x):
    """One reversible embedding, looked up and projected on."""
    table = layers.ReversibleEmbedding(40, 16)
    return table(layers.Dense(16)(table(x)), reverse=True)


MODELS = {
    "MLP": ((7,), chain(layers.Dense(16, activation="relu"), layers.Dense(3))),
    "CNN": (
        IMAGE,
        chain(
            layers.Conv2D(8, 3),
            layers.MaxPooling2D(),
            layers.Conv2D(12, 3),
            layers.Flatten(),
            layers.Dense(10),
        ),
    ),
    "Conv1D": (SEQUENCE, chain(layers.Conv1D(8, 3), layers.Conv1D(8, 3, groups=2))),
    "Conv1D, causal, dilated": (
        SEQUENCE,
        chain(*(layers.Conv1D(8, 2, padding="causal", dilation_rate=2**i) for i in range(3))),
    ),
    "Conv3D": (VOLUME, chain(layers.Conv3D(4, 3), layers.Conv3D(6, 3))),
    "Conv1DTranspose": (SEQUENCE, chain(layers.Conv1DTranspose(8, 3, strides=2))),
    "Conv2DTranspose": (IMAGE, chain(layers.Conv2DTranspose(8, 3, strides=2))),
    "Conv3DTranspose": (VOLUME, chain(layers.Conv3DTranspose(8, 3, strides=2))),
    "DepthwiseConv1D": (SEQUENCE, chain(layers.DepthwiseConv1D(3, depth_multiplier=2))),
    "DepthwiseConv2D": (IMAGE, chain(layers.DepthwiseConv2D(3, depth_multiplier=2))),
    "DepthwiseConv2D, no bias": (IMAGE, chain(layers.DepthwiseConv2D(3, use_bias=False))),
    "SeparableConv1D": (SEQUENCE, chain(layers.SeparableConv1D(8, 3))),
    "SeparableConv2D": (IMAGE, chain(layers.SeparableConv2D(8, 3, depth_multiplier=2))),
    "SeparableConv2D, no bias": (IMAGE, chain(layers.SeparableConv2D(8, 3, use_bias=False))),
    "SimpleRNN": (SEQUENCE, chain(layers.SimpleRNN(8))),
    "LSTM": (SEQUENCE, chain(layers.LSTM(8, return_sequences=True), layers.LSTM(8))),
    "LSTM, unrolled": (SEQUENCE, chain(layers.LSTM(8, unroll=True))),
    "GRU": (SEQUENCE, chain(layers.GRU(8, return_sequences=True), layers.GRU(6))),
    "GRU, reset before": (SEQUENCE, chain(layers.GRU(8, reset_after=False))),
    "Bidirectional LSTM": (SEQUENCE, chain(layers.Bidirectional(layers.LSTM(8)))),
    "RNN of stacked cells": (
        SEQUENCE,
        chain(layers.RNN([layers.GRUCell(8), layers.LSTMCell(6)])),
    ),
    "ConvLSTM1D": ((5, 8, 3), chain(layers.ConvLSTM1D(4, 3))),
    "ConvLSTM2D": (FRAMES, chain(layers.ConvLSTM2D(4, 3))),
    "ConvLSTM3D": ((3, 6, 6, 6, 2), chain(layers.ConvLSTM3D(4, 3))),
    "TimeDistributed": (FRAMES, chain(layers.TimeDistributed(layers.Conv2D(4, 3)))),
    "EinsumDense": (SEQUENCE, chain(layers.EinsumDense("abc,cd->abd", (None, 8), bias_axes="d"))),
    "EinsumDense, heads": (
        SEQUENCE,
        chain(layers.EinsumDense("abc,cde->abde", (None, 3, 8), bias_axes="de")),
    ),
    "EinsumDense, per step": (
        SEQUENCE,
        chain(layers.EinsumDense("abc,bcd->abd", (12, 8), bias_axes="bd")),
    ),
    "EinsumDense, time": (SEQUENCE, chain(layers.EinsumDense("abc,bd->adc", (9, 6)))),
    "MultiHeadAttention": (SEQUENCE, self_attention(layers.MultiHeadAttention(3, 5))),
    "MultiHeadAttention, square": (SEQUENCE, self_attention(layers.MultiHeadAttention(6, 6))),
    "MultiHeadAttention, no bias": (
        SEQUENCE,
        self_attention(layers.MultiHeadAttention(3, 5, use_bias=False)),
    ),
    "MultiHeadAttention, over two axes": (
        IMAGE,
        self_attention(layers.MultiHeadAttention(3, 5, attention_axes=(1, 2))),
    ),
    "GroupQueryAttention": (SEQUENCE, self_attention(layers.GroupQueryAttention(8, 4, 2))),
    "PReLU": (IMAGE, chain(layers.Conv2D(4, 3), layers.PReLU(shared_axes=[1, 2]))),
    "PReLU per pixel": (IMAGE, chain(layers.PReLU(), layers.Flatten(), layers.Dense(3))),
    "LayerNormalization over two axes": (
        SEQUENCE,
        chain(layers.LayerNormalization(axis=[1, 2]), layers.Dense(3)),
    ),
    "SpectralNormalization": (IMAGE, chain(layers.SpectralNormalization(layers.Conv2D(8, 3)))),
    "transformer block": (SEQUENCE, transformer),
    "vision transformer": (IMAGE, vision_transformer),
    "U-Net": (IMAGE, u_net),
    "squeeze and excite": (IMAGE, squeeze_excite),
    "MLP-Mixer": (SEQUENCE, mixer),
}

TOKENS = {
    "bag of words": chain(
        layers.Embedding(40, 8), layers.GlobalAveragePooling1D(), layers.Dense(2)
    ),
    "LSTM on tokens": chain(layers.Embedding(40, 8, mask_zero=True), layers.LSTM(8)),
    "ReversibleEmbedding": tied_autoencoder,
}


def entry(name: str, shape, make, dtype="float32") -> Entry:
    """A functional model of one input."""

    def build():
        keras.utils.set_random_seed(0)
        inputs = keras.Input(shape, dtype=dtype)
        model = keras.Model(inputs, make(inputs))
        return case(model, jnp.zeros((2, *shape), dtype), training=True, loss=True)

    return Entry(name, build)


def entries() -> list[Entry]:
    """All of the table."""
    return [
        *(entry(name, shape, make) for name, (shape, make) in MODELS.items()),
        *(entry(name, (12,), make, "int32") for name, make in TOKENS.items()),
    ]
