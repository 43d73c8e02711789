"""Modules of Haiku."""

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from tests.abstract import f32, i32
from tests.trace_cases.registry import KEY, Case, case, paths


def haiku(build: Callable[..., Any], *args, **expected) -> Case:
    transformed = hk.without_apply_rng(hk.transform_with_state(build))
    params, state = jax.eval_shape(lambda *a: transformed.init(KEY, *a), *args)
    return lambda p, s, *a: transformed.apply(p, s, *a)[0], params, (state, *args), paths(expected)


# Dense layers and convolutions.


@case
def haiku_linear():
    return haiku(lambda x: hk.Linear(5)(x), f32(4, 3), linear__w=(0,))


@case
def haiku_convolutions():
    def net(x):
        x = hk.DepthwiseConv2D(2, 3)(hk.Conv2D(4, 3)(x))
        return hk.Conv2DTranspose(5, 3)(x)

    return haiku(
        net,
        f32(2, 8, 8, 3),
        conv2_d__w=(0, 1, 2),
        depthwise_conv2_d__w=(0, 1, 2),
        conv2_d_transpose__w=(0, 1, 3),
    )


@case
def haiku_conv_1d_and_3d():
    def net(x, y):
        return hk.Conv1D(4, 3)(x), hk.Conv3D(4, 3)(y)

    return haiku(
        net,
        f32(2, 8, 3),
        f32(2, 6, 6, 6, 3),
        conv1_d__w=(0, 1),
        conv3_d__w=(0, 1, 2, 3),
    )


# Attention.


@case
def haiku_attention():
    def net(x):
        return hk.MultiHeadAttention(2, 4, w_init=hk.initializers.Constant(1.0))(x, x, x)

    names = ("query", "key", "value", "linear")
    return haiku(net, f32(2, 5, 8), **{f"multi_head_attention__{n}__w": (0,) for n in names})


# Recurrence.


@case
def haiku_lstm_and_gru():
    def net(x):
        h, _ = hk.dynamic_unroll(hk.LSTM(4), x, hk.LSTM(4).initial_state(2))
        return hk.dynamic_unroll(hk.GRU(4), h, jnp.zeros((2, 4)))[0]

    return haiku(net, f32(7, 2, 3), lstm__linear__w=(0,), gru__w_i=(0,), gru__w_h=(0,))


# Normalization and reparametrization.


@case
def haiku_norms():
    def net(x):
        x = hk.BatchNorm(True, True, 0.9)(hk.Conv2D(4, 3)(x), is_training=True)
        return hk.Linear(2)(hk.LayerNorm(-1, True, True)(x))

    return haiku(net, f32(2, 6, 6, 3), conv2_d__w=(0, 1, 2), linear__w=(0,))


@case
def haiku_spectral_norm():
    def net(x):
        w = hk.get_parameter("w", (3, 5), init=jnp.ones)
        return x @ hk.SpectralNorm()(w)

    return haiku(net, f32(4, 3), **{"~__w": (0,)})


# Embeddings and tokens.


@case
def haiku_embedding():
    def net(tokens):
        return hk.Linear(3)(hk.Embed(11, 4)(tokens))

    return haiku(net, i32(2, 5), linear__w=(0,))


# Stacked layers, ensembles, experts.


@case
def haiku_layer_stack():
    def net(x):
        layer_stack = hk.experimental.layer_stack(3)  # pyright: ignore[reportPrivateImportUsage]
        return layer_stack(lambda x: jnp.tanh(hk.Linear(4)(x)))(x)

    fn, params, args, _ = haiku(net, f32(2, 4))
    return fn, params, args, {"__layer_stack_no_per_layer/linear/w": ((1,), (0,))}


@case
def haiku_embedding_by_one_hot():
    def net(tokens):
        return hk.Linear(3)(hk.Embed(11, 4, lookup_style="ONE_HOT")(tokens))

    return haiku(net, i32(2, 5), linear__w=(0,))
