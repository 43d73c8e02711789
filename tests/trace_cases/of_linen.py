"""Modules of Flax Linen."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tests.abstract import f32, i32
from tests.trace_cases.registry import KEY, Case, case, paths


def linen(module: nn.Module, *args, **expected) -> Case:
    """A Linen module; expected by path with `__` for `/`."""
    variables = jax.eval_shape(lambda *a: module.init({"params": KEY, "dropout": KEY}, *a), *args)
    rest = {name: tree for name, tree in variables.items() if name != "params"}
    mutable = list(rest)

    def fn(params, rest, *args):
        return module.apply({"params": params, **rest}, *args, mutable=mutable)

    return fn, variables["params"], (rest, *args), paths(expected)


# Dense layers and convolutions.


@case
def linen_dense():
    return linen(nn.Dense(5), f32(4, 3), kernel=(0,))


@case
def linen_dense_with_one_output():
    return linen(nn.Dense(1), f32(4, 3), kernel=(0,))


@case
def linen_dense_on_a_scalar_is_left_alone():
    return linen(nn.Dense(5), f32(4, 1))


@case
def linen_conv_1d():
    return linen(nn.Conv(5, (3,)), f32(2, 8, 3), kernel=(0, 1))


@case
def linen_conv_2d():
    return linen(nn.Conv(5, (3, 3), strides=2), f32(2, 8, 8, 3), kernel=(0, 1, 2))


@case
def linen_conv_3d_dilated():
    return linen(nn.Conv(5, (3, 3, 3), kernel_dilation=2), f32(2, 8, 8, 8, 3), kernel=(0, 1, 2, 3))


@case
def linen_conv_1x1():
    return linen(nn.Conv(5, (1, 1)), f32(2, 8, 8, 3), kernel=(0, 1, 2))


@case
def linen_conv_circular_and_causal():
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(4, (3,), padding="CIRCULAR")(x)
            return nn.Conv(5, (3,), padding="CAUSAL")(x)

    return linen(Both(), f32(2, 8, 3), Conv_0__kernel=(0, 1), Conv_1__kernel=(0, 1))


@case
def linen_grouped_conv():
    return linen(nn.Conv(6, (3, 3), feature_group_count=2), f32(2, 8, 8, 4), kernel=(0, 1, 2))


@case
def linen_depthwise_conv():
    return linen(nn.Conv(4, (3, 3), feature_group_count=4), f32(2, 8, 8, 4), kernel=(0, 1, 2))


@case
def linen_depthwise_1x1_is_left_alone():
    return linen(nn.Conv(4, (1, 1), feature_group_count=4), f32(2, 8, 8, 4))


@case
def linen_conv_transpose():
    return linen(nn.ConvTranspose(5, (3, 3), strides=(2, 2)), f32(2, 8, 8, 3), kernel=(0, 1, 2))


@case
def linen_conv_transpose_with_transposed_kernel():
    module = nn.ConvTranspose(5, (3, 3), strides=(2, 2), transpose_kernel=True)
    return linen(module, f32(2, 8, 8, 3), kernel=(0, 1, 3))


@case
def linen_conv_local():
    return linen(nn.ConvLocal(5, (3, 3)), f32(2, 6, 6, 3), kernel=((2,), (0, 1)))


# Attention.


@case
def linen_attention():
    module = nn.MultiHeadDotProductAttention(2)
    kernels = {f"{name}__kernel": (0,) for name in ("query", "key", "value")}
    return linen(module, f32(2, 5, 8), f32(2, 6, 8), **kernels, out__kernel=(0, 1))


@case
def linen_attention_with_normalized_heads():
    module = nn.MultiHeadDotProductAttention(2, normalize_qk=True)
    kernels = {f"{name}__kernel": (0,) for name in ("query", "key", "value")}
    return linen(module, f32(2, 5, 8), **kernels, out__kernel=(0, 1))


# General linear maps.


@case
def linen_dense_general_and_einsum():
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.DenseGeneral((2, 3), axis=(-2, -1))(x)
            return nn.Einsum((2, 3, 5), "nab,abc->nc")(x)

    return linen(Both(), f32(4, 3, 5), DenseGeneral_0__kernel=(0, 1), Einsum_0__kernel=(0, 1))


@case
def linen_dense_general_with_batch_dims():
    module = nn.DenseGeneral(7, axis=-1, batch_dims=(0,))
    return linen(module, f32(4, 3, 5), kernel=((1,), (0,)))


# Recurrence.


@case
def linen_lstm_and_gru():
    lstm = [f"{a}{b}" for a in "ih" for b in "ifgo"]
    gru = ["ir", "iz", "in", "hr", "hz", "hn"]

    class Cells(nn.Module):
        @nn.compact
        def __call__(self, x: Any):
            for cell in (nn.LSTMCell(4, name="lstm"), nn.GRUCell(4, name="gru")):
                x = nn.RNN(cell)(x)
            return x

    expected = {f"lstm__{n}__kernel": (0,) for n in lstm} | {f"gru__{n}__kernel": (0,) for n in gru}
    return linen(Cells(), f32(2, 7, 3), **expected)


@case
def linen_optimized_lstm_step():
    cell = nn.OptimizedLSTMCell(4)
    names = [f"{a}{b}" for a in "ih" for b in "ifgo"]
    carry = (f32(2, 4), f32(2, 4))
    return linen(cell, carry, f32(2, 3), **{f"{name}__kernel": (0,) for name in names})


# Normalization and reparametrization.


@case
def linen_norms():
    class Norms(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=False)(nn.Dense(8)(x))
            return nn.Dense(4)(nn.RMSNorm()(nn.GroupNorm(2)(nn.LayerNorm()(x))))

    return linen(Norms(), f32(4, 3), Dense_0__kernel=(0,), Dense_1__kernel=(0,))


@case
def linen_weight_norm():
    class Normalized(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.WeightNorm(nn.Dense(5, name="dense"))(x)

    return linen(Normalized(), f32(4, 3), dense__kernel=(0,))


@case
def linen_spectral_norm():
    class Normalized(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.SpectralNorm(nn.Conv(5, (3, 3), name="conv"))(x, update_stats=True)
            return nn.SpectralNorm(nn.Dense(5, name="dense"))(x, update_stats=True)

    return linen(Normalized(), f32(2, 6, 6, 3), conv__kernel=(0, 1, 2), dense__kernel=(0,))


# Embeddings and tokens.


@case
def linen_embedding():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            return nn.Dense(3)(nn.Embed(11, 4)(tokens))

    return linen(Net(), i32(2, 5), Dense_0__kernel=(0,))


@case
def linen_tied_embedding():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            embed = nn.Embed(11, 4)
            return embed.attend(nn.Dense(4)(embed(tokens)))

    return linen(Net(), i32(2, 5), Dense_0__kernel=(0,))


# Stacked layers, ensembles, experts.


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        x = nn.LayerNorm()(x)
        return x + nn.Dense(4)(nn.relu(nn.Dense(6)(x))), None


@case
def linen_scan_and_remat():
    scanned = nn.scan(
        nn.remat(LinenBlock), variable_axes={"params": 0}, split_rngs={"params": True}, length=3
    )
    return linen(scanned(), f32(2, 4), Dense_0__kernel=((1,), (0,)), Dense_1__kernel=((1,), (0,)))


@case
def linen_vmap_ensemble():
    ensemble = nn.vmap(
        nn.Dense, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=0, axis_size=3
    )
    return linen(ensemble(5), f32(3, 2, 4), kernel=((1,), (0,)))


@case
def linen_vmap_of_convolutions():
    ensemble = nn.vmap(
        nn.Conv, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=0, axis_size=3
    )
    return linen(ensemble(5, (3, 3)), f32(3, 2, 6, 6, 4), kernel=((1, 2, 3), (0,)))


# Casts.


@case
def bfloat16_compute():
    return linen(nn.Dense(5, dtype=jnp.bfloat16), f32(4, 3), kernel=(0,))
