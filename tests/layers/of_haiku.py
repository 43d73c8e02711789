"""Layers of Haiku."""

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp

from tests.layers import (
    CONV_NAMES,
    DENSE_NAMES,
    DEPTHWISE_NAMES,
    INPUTS,
    KEY,
    TRANSPOSE_NAMES,
    Layer,
    Shape,
    Sizes,
    image,
    row,
    sequence,
    shapes_of,
)


def haiku(make: Callable[[Sizes, bool], Callable], shape: Callable[[Sizes], Shape]):
    def shapes(sizes, bias):
        forward = hk.transform_with_state(lambda x: make(sizes, bias)(x))
        with jax.numpy_dtype_promotion("standard"):
            x = jax.ShapeDtypeStruct(shape(sizes), jnp.float32)
            params = jax.eval_shape(forward.init, KEY, x)[0]
        return {path.partition("/")[2]: shape for path, shape in shapes_of(params).items()}

    return shapes


LAYERS = [
    Layer("linear", haiku(lambda s, b: hk.Linear(s.o, with_bias=b), row), {"w": (0,)}, DENSE_NAMES),
    *(
        Layer(
            f"conv{n}_d",
            haiku(lambda s, b, n=n: hk.ConvND(n, s.o, s.w, with_bias=b), INPUTS[n]),
            {"w": tuple(range(n + 1))},
            CONV_NAMES,
        )
        for n in (1, 2, 3)
    ),
    Layer(
        "conv2_d",
        haiku(
            lambda s, b: hk.Conv2D(s.o, s.w, data_format="NCHW", with_bias=b),
            lambda s: (2, s.i, 6, 6),
        ),
        {"w": (0, 1, 2)},
        CONV_NAMES,
    ),
    *(
        Layer(
            f"conv{n}_d_transpose",
            haiku(lambda s, b, n=n: hk.ConvNDTranspose(n, s.o, s.w, with_bias=b), INPUTS[n]),
            {"w": (*range(n), n + 1)},
            TRANSPOSE_NAMES,
        )
        for n in (1, 2, 3)
    ),
    Layer(
        "conv2_d_transpose",
        haiku(
            lambda s, b: hk.Conv2DTranspose(s.o, s.w, data_format="NCHW", with_bias=b),
            lambda s: (2, s.i, 6, 6),
        ),
        {"w": (0, 1, 3)},
        TRANSPOSE_NAMES,
    ),
    Layer(
        "depthwise_conv1_d",
        haiku(lambda s, b: hk.DepthwiseConv1D(2, s.w, with_bias=b), sequence),
        {"w": (0, 1)},
        DEPTHWISE_NAMES,
    ),
    Layer(
        "depthwise_conv2_d",
        haiku(lambda s, b: hk.DepthwiseConv2D(2, s.w, with_bias=b), image),
        {"w": (0, 1, 2)},
        DEPTHWISE_NAMES,
    ),
    Layer(
        "embed",
        haiku(lambda s, b: lambda x: hk.Embed(s.h, s.o)(jnp.zeros(2, int)), row),
        {},
        ("tokens",),
        False,
    ),
    Layer(
        "layer_norm", haiku(lambda s, b: hk.LayerNorm((-2, -1), True, b), sequence), {}, ("norm",)
    ),
    Layer(
        "batch_norm",
        haiku(lambda s, b: lambda x: hk.BatchNorm(True, b, 0.9)(x, True), image),
        {},
        ("bn",),
    ),
    Layer("bias", haiku(lambda s, b: hk.Bias(), sequence), {}, (), False),
    Layer(
        "gru",
        haiku(lambda s, b: lambda x: hk.GRU(s.o)(x, jnp.zeros((2, s.o))), row),
        {"w_i": (0,), "w_h": (0,)},
        ("core",),
        False,
    ),
    Layer(
        "lstm",
        haiku(lambda s, b: lambda x: hk.LSTM(s.o)(x, hk.LSTM(s.o).initial_state(2)), row),
        {"linear/w": (0,)},
        ("core",),
        False,
    ),
    Layer(
        "multi_head_attention",
        haiku(
            lambda s, b: (
                lambda x: hk.MultiHeadAttention(
                    s.h, s.k, w_init=hk.initializers.Constant(0.0), with_bias=b
                )(x, x, x)
            ),
            sequence,
        ),
        {"query/w": (0,), "key/w": (0,), "value/w": (0,), "linear/w": (0,)},
        ("attention",),
    ),
]
