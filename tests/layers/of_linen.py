"""Layers of Flax Linen."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from tests.layers import (
    CONV_NAMES,
    DENSE_NAMES,
    DEPTHWISE_NAMES,
    HEADS_NAMES,
    INPUTS,
    KEY,
    OUTPUT_NAMES,
    TRANSPOSE_NAMES,
    Layer,
    Shape,
    Sizes,
    image,
    rnn,
    row,
    sequence,
    shapes_of,
)


def linen(
    make: Callable[[Sizes, bool], nn.Module], shape: Callable[[Sizes], Shape], dtype=jnp.float32
):
    def shapes(sizes, bias):
        x = jax.ShapeDtypeStruct(shape(sizes), dtype)
        return shapes_of(jax.eval_shape(make(sizes, bias).init, KEY, x)["params"])

    return shapes


def linen_cell(make):
    def shapes(sizes, bias):
        del bias
        cell, x = make(sizes), jnp.zeros((2, sizes.i))
        carry = cell.initialize_carry(KEY, x.shape)
        return shapes_of(jax.eval_shape(cell.init, KEY, carry, x)["params"])

    return shapes


LAYERS = [
    Layer(
        "Dense", linen(lambda s, b: nn.Dense(s.o, use_bias=b), row), {"kernel": (0,)}, DENSE_NAMES
    ),
    Layer(
        "DenseGeneral",
        linen(lambda s, b: nn.DenseGeneral((s.h, s.k), use_bias=b), row),
        {"kernel": (0,)},
        HEADS_NAMES,
    ),
    Layer(
        "DenseGeneral",
        linen(
            lambda s, b: nn.DenseGeneral(s.o, axis=(-2, -1), use_bias=b), lambda s: (2, s.h, s.k)
        ),
        {"kernel": (0, 1)},
        OUTPUT_NAMES,
    ),
    Layer(
        "DenseGeneral",
        linen(
            lambda s, b: nn.DenseGeneral(s.o, batch_dims=(0,), use_bias=b), lambda s: (s.h, 2, s.i)
        ),
        {"kernel": (1,)},
        ("layer", "experts"),
    ),
    Layer(
        "Einsum",
        linen(lambda s, b: nn.Einsum((s.i, s.h, s.k), "btd,dhk->bthk", use_bias=b), sequence),
        {"kernel": (0,)},
        HEADS_NAMES,
    ),
    Layer(
        "Einsum",
        linen(
            lambda s, b: nn.Einsum((s.h, s.k, s.o), "bhk,hkd->bd", use_bias=b),
            lambda s: (2, s.h, s.k),
        ),
        {"kernel": (0, 1)},
        OUTPUT_NAMES,
    ),
    Layer(
        "Einsum",
        linen(
            lambda s, b: nn.Einsum((s.h, s.i, s.k), "bhd,hdk->bhk", use_bias=b),
            lambda s: (2, s.h, s.i),
        ),
        {"kernel": (1,)},
        ("layer",),
    ),
    *(
        Layer(
            "Conv",
            linen(lambda s, b, n=n: nn.Conv(s.o, (s.w,) * n, use_bias=b), INPUTS[n]),
            {"kernel": tuple(range(n + 1))},
            CONV_NAMES,
        )
        for n in (1, 2, 3)
    ),
    Layer(
        "Conv",
        linen(lambda s, b: nn.Conv(s.o, (s.w, s.h), use_bias=b), image),
        {"kernel": (0, 1, 2)},
        CONV_NAMES,
    ),
    *(
        Layer(
            "Conv",
            linen(
                lambda s, b, n=n: nn.Conv(2 * s.i, (s.w,) * n, feature_group_count=s.i, use_bias=b),
                INPUTS[n],
            ),
            {"kernel": tuple(range(n + 1))},
            DEPTHWISE_NAMES,
        )
        for n in (1, 2)
    ),
    *(
        Layer(
            "ConvTranspose",
            linen(lambda s, b, n=n: nn.ConvTranspose(s.o, (s.w,) * n, use_bias=b), INPUTS[n]),
            {"kernel": tuple(range(n + 1))},
            TRANSPOSE_NAMES,
        )
        for n in (1, 2)
    ),
    *(
        Layer(
            "ConvTranspose",
            linen(
                lambda s, b, n=n: nn.ConvTranspose(
                    s.o, (s.w,) * n, transpose_kernel=True, use_bias=b
                ),
                INPUTS[n],
            ),
            {"kernel": (*range(n), n + 1)},
            TRANSPOSE_NAMES,
        )
        for n in (1, 2)
    ),
    Layer(
        "ConvLocal",
        linen(lambda s, b: nn.ConvLocal(s.o, (2,), use_bias=b), sequence),
        {"kernel": (-2,)},
        ("conv_local",),
    ),
    Layer(
        "ConvLocal",
        linen(lambda s, b: nn.ConvLocal(s.o, (2, 2), use_bias=b), image),
        {"kernel": (-2,)},
        ("conv_local",),
    ),
    Layer(
        "MultiHeadDotProductAttention",
        linen(
            lambda s, b: nn.MultiHeadDotProductAttention(
                s.h, qkv_features=s.h * s.k, use_bias=b, normalize_qk=True
            ),
            sequence,
        ),
        {**rnn("query", "key", "value"), "out/kernel": (0, 1)},
        ("attention",),
    ),
    Layer(
        "LSTMCell",
        linen_cell(lambda s: nn.LSTMCell(s.o)),
        rnn("ii", "if", "ig", "io", "hi", "hf", "hg", "ho"),
        ("cell",),
        False,
    ),
    Layer(
        "OptimizedLSTMCell",
        linen_cell(lambda s: nn.OptimizedLSTMCell(s.o)),
        rnn("ii", "if", "ig", "io", "hi", "hf", "hg", "ho"),
        ("cell",),
        False,
    ),
    Layer(
        "GRUCell",
        linen_cell(lambda s: nn.GRUCell(s.o)),
        rnn("ir", "iz", "in", "hr", "hz", "hn"),
        ("cell",),
        False,
    ),
    Layer(
        "MGUCell",
        linen_cell(lambda s: nn.MGUCell(s.o)),
        rnn("if", "in", "hf", "hn"),
        ("cell",),
        False,
    ),
    Layer("SimpleCell", linen_cell(lambda s: nn.SimpleCell(s.o)), rnn("i", "h"), ("cell",), False),
    Layer(
        "RNN",
        linen(
            lambda s, b: nn.RNN(nn.ConvLSTMCell(s.o, (s.w, s.w), use_bias=b)),
            lambda s: (1, 2, 5, 5, s.i),
        ),
        {"cell/ih/kernel": (0, 1, 2), "cell/hh/kernel": (0, 1, 2)},
        ("conv_lstm",),
    ),
    Layer(
        "Embed",
        linen(lambda s, b: nn.Embed(s.h, s.o), lambda s: (2,), dtype=jnp.int32),
        {},
        ("embed", "tokens"),
        False,
    ),
    Layer(
        "LayerNorm",
        linen(
            lambda s, b: nn.LayerNorm(use_bias=b, reduction_axes=(-2, -1), feature_axes=(-2, -1)),
            sequence,
        ),
        {},
        ("norm", "ln1"),
    ),
    Layer(
        "BatchNorm", linen(lambda s, b: nn.BatchNorm(False, use_bias=b), image), {}, ("norm", "bn1")
    ),
    Layer(
        "WeightNorm",
        linen(lambda s, b: nn.WeightNorm(nn.Dense(s.o, use_bias=b)), row),
        {"layer_instance/kernel": (0,)},
        ("wn",),
    ),
]
