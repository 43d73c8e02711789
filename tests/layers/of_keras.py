"""Layers of Keras 3, on its JAX backend."""

import os
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported

import keras

from tests.layers import (
    CONV_NAMES,
    DENSE_NAMES,
    DEPTHWISE_NAMES,
    HEADS_NAMES,
    INPUTS,
    OUTPUT_NAMES,
    TRANSPOSE_NAMES,
    Layer,
    Shape,
    Sizes,
    rnn,
)

L: Any = keras.layers


def of_keras(make: Callable[[Sizes, bool], Any], shape: Callable[[Sizes], Shape], twice=False):
    def shapes(sizes, bias):
        layer = make(sizes, bias)
        x = keras.KerasTensor((2, *shape(sizes)))
        layer(x, x) if twice else layer(x)
        variables = layer.trainable_variables
        return {v.path.partition("/")[2]: tuple(v.shape) for v in variables}

    return shapes


def einsum(equation, shape, bias_axes):
    return lambda s, b: L.EinsumDense(equation, shape(s), bias_axes=bias_axes if b else None)


def with_lora(layer, shape):
    def make(s, b):
        made = layer(s, b)
        made.build((2, *shape(s)))
        made.enable_lora(2)
        return made

    return make


LAYERS = [
    Layer(
        "dense",
        of_keras(lambda s, b: L.Dense(s.o, use_bias=b), lambda s: (s.i,)),
        {"kernel": (0,)},
        DENSE_NAMES,
    ),
    Layer(
        "dense",
        of_keras(
            with_lora(lambda s, b: L.Dense(s.o, use_bias=b), lambda s: (s.i,)), lambda s: (s.i,)
        ),
        {"lora_kernel_a": (0,), "lora_kernel_b": (0,)},
        DENSE_NAMES,
    ),
    *(
        Layer(
            f"conv{n}d",
            of_keras(
                lambda s, b, n=n: getattr(L, f"Conv{n}D")(s.o, s.w, padding="same", use_bias=b),
                lambda s, n=n: INPUTS[n](s)[1:],
            ),
            {"kernel": tuple(range(n + 1))},
            CONV_NAMES,
        )
        for n in (1, 2, 3)
    ),
    Layer(
        "conv2d",
        of_keras(
            with_lora(
                lambda s, b: L.Conv2D(s.o, s.w, use_bias=b, padding="same"), lambda s: (6, 6, s.i)
            ),
            lambda s: (6, 6, s.i),
        ),
        {"lora_kernel_a": (0, 1, 2), "lora_kernel_b": (0,)},
        CONV_NAMES,
    ),
    *(
        Layer(
            f"conv{n}d_transpose",
            of_keras(
                lambda s, b, n=n: getattr(L, f"Conv{n}DTranspose")(s.o, s.w, use_bias=b),
                lambda s, n=n: INPUTS[n](s)[1:],
            ),
            {"kernel": (*range(n), n + 1)},
            TRANSPOSE_NAMES,
        )
        for n in (1, 2, 3)
    ),
    *(
        Layer(
            f"depthwise_conv{n}d",
            of_keras(
                lambda s, b, n=n, m=m: getattr(L, f"DepthwiseConv{n}D")(
                    s.w, padding="same", depth_multiplier=m, use_bias=b
                ),
                lambda s, n=n: INPUTS[n](s)[1:],
            ),
            {"kernel": tuple(range(n))},
            DEPTHWISE_NAMES,
        )
        for n in (1, 2)
        for m in (1, 2)
    ),
    *(
        Layer(
            f"separable_conv{n}d",
            of_keras(
                lambda s, b, n=n: getattr(L, f"SeparableConv{n}D")(
                    s.o, s.w, padding="same", depth_multiplier=2, use_bias=b
                ),
                lambda s, n=n: INPUTS[n](s)[1:],
            ),
            {"depthwise_kernel": tuple(range(n)), "pointwise_kernel": (n,)},
            CONV_NAMES,
        )
        for n in (1, 2)
    ),
    Layer(
        "einsum_dense",
        of_keras(einsum("abc,cde->abde", lambda s: (None, s.h, s.k), "e"), lambda s: (5, s.i)),
        {"kernel": (0,)},
        HEADS_NAMES,
    ),
    Layer(
        "einsum_dense",
        of_keras(einsum("abc,cde->abde", lambda s: (None, s.h, s.k), "d"), lambda s: (5, s.i)),
        {"kernel": (0,)},
        HEADS_NAMES,
    ),
    Layer(
        "einsum_dense",
        of_keras(einsum("abc,cde->abde", lambda s: (None, s.h, s.k), "de"), lambda s: (5, s.i)),
        {"kernel": (0,)},
        HEADS_NAMES,
    ),
    Layer(
        "einsum_dense",
        of_keras(einsum("abcd,cde->abe", lambda s: (None, s.o), "e"), lambda s: (5, s.h, s.k)),
        {"kernel": (0, 1)},
        OUTPUT_NAMES,
    ),
    Layer(
        "einsum_dense",
        of_keras(einsum("abc,dc->abd", lambda s: (None, s.o), "d"), lambda s: (5, s.i)),
        {"kernel": (1,)},
        (),
    ),
    Layer(
        "einsum_dense",
        of_keras(einsum("abc,cd->abd", lambda s: (5, s.o), "bd"), lambda s: (5, s.i)),
        {"kernel": (0,)},
        DENSE_NAMES,
    ),
    Layer(
        "einsum_dense",
        of_keras(
            with_lora(
                einsum("abc,cde->abde", lambda s: (None, s.h, s.k), "de"), lambda s: (5, s.i)
            ),
            lambda s: (5, s.i),
        ),
        {"lora_kernel_a": (0,), "lora_kernel_b": (0,)},
        HEADS_NAMES,
    ),
    Layer(
        "multi_head_attention",
        of_keras(
            lambda s, b: L.MultiHeadAttention(s.h, s.k, use_bias=b), lambda s: (5, s.i), twice=True
        ),
        {**rnn("query", "key", "value"), "attention_output/kernel": (0, 1)},
        ("attention",),
    ),
    Layer(
        "grouped_query_attention",
        of_keras(
            lambda s, b: L.GroupQueryAttention(s.k, 2 * s.h, s.h, use_bias=b),
            lambda s: (5, s.i),
            twice=True,
        ),
        {**rnn("query", "key", "value"), "attention_output/kernel": (0, 1)},
        ("attention",),
    ),
    *(
        Layer(
            name.lower(),
            of_keras(lambda s, b, name=name: getattr(L, name)(s.o, use_bias=b), lambda s: (5, s.i)),
            {f"{cell}_cell/{kernel}": (0,) for kernel in ("kernel", "recurrent_kernel")},
            ("rnn",),
        )
        for name, cell in (("LSTM", "lstm"), ("GRU", "gru"), ("SimpleRNN", "simple_rnn"))
    ),
    *(
        Layer(
            f"conv_lstm{n}d",
            of_keras(
                lambda s, b, n=n: getattr(L, f"ConvLSTM{n}D")(s.o, s.w, padding="same", use_bias=b),
                lambda s, n=n: (3, *INPUTS[n](s)[1:]),
            ),
            {
                f"conv_lstm_cell/{kernel}": tuple(range(n + 1))
                for kernel in ("kernel", "recurrent_kernel")
            },
            ("rnn",),
        )
        for n in (1, 2)
    ),
    Layer("p_re_lu", of_keras(lambda s, b: L.PReLU(), lambda s: (5, s.i)), {}, ("prelu",), False),
    Layer(
        "layer_normalization",
        of_keras(lambda s, b: L.LayerNormalization(axis=[1, 2], center=b), lambda s: (5, s.i)),
        {},
        ("norm",),
    ),
    Layer(
        "embedding",
        of_keras(lambda s, b: L.Embedding(s.h, s.o), lambda s: (5,)),
        {},
        ("tokens",),
        False,
    ),
    Layer(
        "reversible_embedding",
        of_keras(lambda s, b: L.ReversibleEmbedding(s.h, s.o, tie_weights=False), lambda s: (5,)),
        {"reverse_embeddings": (0,)},
        ("tokens",),
        False,
    ),
]
