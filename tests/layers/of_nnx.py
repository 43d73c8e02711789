"""Layers of Flax NNX."""

from collections.abc import Callable
from typing import Any

from flax import nnx

from tests.layers import (
    CONV_NAMES,
    DENSE_NAMES,
    DEPTHWISE_NAMES,
    HEADS_NAMES,
    OUTPUT_NAMES,
    TRANSPOSE_NAMES,
    Layer,
    Sizes,
    rnn,
    shapes_of,
)


def of_nnx(make: Callable[[Sizes, bool, nnx.Rngs], Any]):
    def shapes(sizes, bias):
        module = nnx.eval_shape(lambda: make(sizes, bias, nnx.Rngs(0)))
        return shapes_of(nnx.as_pure(nnx.state(module, nnx.Param)))

    return shapes


LAYERS = [
    Layer(
        "linear",
        of_nnx(lambda s, b, r: nnx.Linear(s.i, s.o, use_bias=b, rngs=r)),
        {"kernel": (0,)},
        DENSE_NAMES,
    ),
    Layer(
        "linear_general",
        of_nnx(lambda s, b, r: nnx.LinearGeneral(s.i, (s.h, s.k), use_bias=b, rngs=r)),
        {"kernel": (0,)},
        HEADS_NAMES,
    ),
    Layer(
        "linear_general",
        of_nnx(
            lambda s, b, r: nnx.LinearGeneral((s.h, s.k), s.o, axis=(-2, -1), use_bias=b, rngs=r)
        ),
        {"kernel": (0, 1)},
        OUTPUT_NAMES,
    ),
    *(
        Layer(
            "conv",
            of_nnx(lambda s, b, r, n=n: nnx.Conv(s.i, s.o, (s.w,) * n, use_bias=b, rngs=r)),
            {"kernel": tuple(range(n + 1))},
            CONV_NAMES,
        )
        for n in (1, 2, 3)
    ),
    Layer(
        "dwconv",
        of_nnx(
            lambda s, b, r: nnx.Conv(
                s.i, s.i, (s.w, s.w), feature_group_count=s.i, use_bias=b, rngs=r
            )
        ),
        {"kernel": (0, 1, 2)},
        DEPTHWISE_NAMES,
    ),
    *(
        Layer(
            "conv_transpose",
            of_nnx(
                lambda s, b, r, n=n, t=t: nnx.ConvTranspose(
                    s.i, s.o, (s.w,) * n, transpose_kernel=t, use_bias=b, rngs=r
                )
            ),
            {"kernel": (*range(n), n + 1 if t else n)},
            TRANSPOSE_NAMES,
        )
        for n in (1, 2)
        for t in (False, True)
    ),
    Layer(
        "einsum",
        of_nnx(
            lambda s, b, r: nnx.Einsum(
                "btd,dhk->bthk", (s.i, s.h, s.k), (s.h, s.k) if b else None, rngs=r
            )
        ),
        {"kernel": (0,)},
        HEADS_NAMES,
    ),
    Layer(
        "attention",
        of_nnx(
            lambda s, b, r: nnx.MultiHeadAttention(
                s.h, s.i, s.h * s.k, decode=False, use_bias=b, rngs=r
            )
        ),
        {**rnn("query", "key", "value"), "out/kernel": (0, 1)},
        ("self_attn",),
    ),
    Layer(
        "lora",
        of_nnx(lambda s, b, r: nnx.LoRALinear(s.i, s.o, lora_rank=2, use_bias=b, rngs=r)),
        {"kernel": (0,), "lora/lora_a": (0,), "lora/lora_b": (0,)},
        DENSE_NAMES,
    ),
    Layer(
        "lstm",
        of_nnx(lambda s, b, r: nnx.LSTMCell(s.i, s.o, rngs=r)),
        rnn("ii", "if_", "ig", "io", "hi", "hf", "hg", "ho"),
        ("cell",),
        False,
    ),
    Layer(
        "optimized_lstm",
        of_nnx(lambda s, b, r: nnx.OptimizedLSTMCell(s.i, s.o, rngs=r)),
        rnn("dense_i", "dense_h"),
        ("cell",),
        False,
    ),
    Layer(
        "gru",
        of_nnx(lambda s, b, r: nnx.GRUCell(s.i, s.o, rngs=r)),
        rnn("dense_i", "dense_h"),
        ("cell",),
        False,
    ),
    Layer(
        "simple",
        of_nnx(lambda s, b, r: nnx.SimpleCell(s.i, s.o, rngs=r)),
        rnn("dense_i", "dense_h"),
        ("cell",),
        False,
    ),
    Layer(
        "embed",
        of_nnx(lambda s, b, r: nnx.Embed(s.h, s.o, rngs=r)),
        {},
        ("embedding", "wte"),
        False,
    ),
    Layer(
        "norm",
        of_nnx(lambda s, b, r: nnx.LayerNorm(s.o, use_bias=b, rngs=r)),
        {},
        ("ln1", "layers/1"),
    ),
    Layer(
        "weight_norm",
        of_nnx(lambda s, b, r: nnx.WeightNorm(nnx.Linear(s.i, s.o, use_bias=b, rngs=r), rngs=r)),
        {"layer_instance/kernel": (0,)},
        ("layer",),
    ),
]
