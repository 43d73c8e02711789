"""Layers of Equinox."""

from collections.abc import Callable
from typing import Any

import equinox as eqx

from tests.layers import (
    CONV_NAMES,
    DENSE_NAMES,
    DEPTHWISE_NAMES,
    KEY,
    TRANSPOSE_NAMES,
    Layer,
    Sizes,
    shapes_of,
)


def equinox(make: Callable[[Sizes, bool], Any]):
    return lambda sizes, bias: shapes_of(eqx.filter_eval_shape(lambda: make(sizes, bias)))


LAYERS = [
    Layer(
        "linear",
        equinox(lambda s, b: eqx.nn.Linear(s.i, s.o, b, key=KEY)),
        {"weight": (1,)},
        DENSE_NAMES,
    ),
    *(
        Layer(
            "conv",
            equinox(lambda s, b, n=n: eqx.nn.Conv(n, s.i, s.o, s.w, use_bias=b, key=KEY)),
            {"weight": tuple(range(1, n + 2))},
            (*CONV_NAMES, "conv2d") if n == 2 else CONV_NAMES,
        )
        for n in (1, 2, 3)
    ),
    *(
        Layer(
            "conv_transpose",
            equinox(lambda s, b, n=n: eqx.nn.ConvTranspose(n, s.i, s.o, s.w, use_bias=b, key=KEY)),
            {"weight": tuple(range(1, n + 2))},
            TRANSPOSE_NAMES,
        )
        for n in (1, 2)
    ),
    Layer(
        "conv",
        equinox(lambda s, b: eqx.nn.Conv2d(s.i, s.i, s.w, groups=s.i, use_bias=b, key=KEY)),
        {"weight": (1, 2, 3)},
        DEPTHWISE_NAMES,
    ),
    Layer(
        "mlp",
        equinox(lambda s, b: eqx.nn.MLP(s.i, s.o, s.k, 1, use_bias=b, use_final_bias=b, key=KEY)),
        {"layers/0/weight": (1,), "layers/1/weight": (1,)},
        ("net",),
    ),
    Layer(
        "attention",
        equinox(
            lambda s, b: eqx.nn.MultiheadAttention(
                s.h, s.h * s.k, use_query_bias=b, use_output_bias=b, key=KEY
            )
        ),
        {f"{name}_proj/weight": (1,) for name in ("query", "key", "value", "output")},
        ("attn",),
    ),
    Layer(
        "lstm",
        equinox(lambda s, b: eqx.nn.LSTMCell(s.i, s.o, b, key=KEY)),
        {"weight_ih": (1,), "weight_hh": (1,)},
        ("cell",),
    ),
    Layer(
        "gru",
        equinox(lambda s, b: eqx.nn.GRUCell(s.i, s.o, b, key=KEY)),
        {"weight_ih": (1,), "weight_hh": (1,)},
        ("cell",),
    ),
    Layer(
        "embedding",
        equinox(lambda s, b: eqx.nn.Embedding(s.h, s.o, key=KEY)),
        {},
        ("token_embed", "wte", "tokens", "layers/0", "positions", "query", "table"),
        False,
    ),
    Layer(
        "norm",
        equinox(lambda s, b: eqx.nn.LayerNorm((s.h, s.o), use_bias=b)),
        {},
        ("layers/1", "layer_norm", "ln"),
    ),
    Layer(
        "norm",
        equinox(lambda s, b: eqx.nn.RMSNorm(s.o, use_bias=b)),
        {},
        ("layers/1", "layer_norm", "ln"),
    ),
    Layer(
        "weight_norm",
        equinox(lambda s, b: eqx.nn.WeightNorm(eqx.nn.Linear(s.i, s.o, b, key=KEY))),
        {"layer/weight": (1,)},
        ("wn",),
    ),
]
