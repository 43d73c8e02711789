"""Modules of Flax NNX."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx

from tests.abstract import f32, i32
from tests.trace_cases.registry import Case, case, paths


def nnx_module(build: Callable[[nnx.Rngs], nnx.Module], *args, **expected) -> Case:
    module = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    return lambda m, *a: m(*a), module, args, paths(expected)


# Dense layers and convolutions.


@case
def nnx_linear():
    return nnx_module(lambda rngs: nnx.Linear(3, 5, rngs=rngs), f32(4, 3), kernel=(0,))


@case
def nnx_convolutions():
    class Both(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
            self.up = nnx.ConvTranspose(4, 5, (2, 2), rngs=rngs)
            self.swapped = nnx.ConvTranspose(5, 6, (2, 2), transpose_kernel=True, rngs=rngs)

        def __call__(self, x):
            return self.swapped(self.up(self.conv(x)))

    return nnx_module(
        Both,
        f32(2, 8, 8, 3),
        conv__kernel=(0, 1, 2),
        up__kernel=(0, 1, 2),
        swapped__kernel=(0, 1, 3),
    )


# Attention.


@case
def nnx_attention():
    kernels = {f"{name}__kernel": (0,) for name in ("query", "key", "value")}
    return nnx_module(
        lambda rngs: nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs),
        f32(2, 5, 8),
        **kernels,
        out__kernel=(0, 1),
    )


# General linear maps.


@case
def nnx_linear_general_and_einsum():
    class Both(nnx.Module):
        def __init__(self, rngs):
            self.general = nnx.LinearGeneral((3, 5), (2, 3), axis=(-2, -1), rngs=rngs)
            self.einsum = nnx.Einsum("nab,bac->nc", (3, 2, 5), rngs=rngs)

        def __call__(self, x):
            return self.einsum(self.general(x))

    return nnx_module(Both, f32(4, 3, 5), general__kernel=(0, 1), einsum__kernel=(0, 1))


# Recurrence.


@case
def nnx_rnn():
    def build(rngs):
        return nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs))

    return nnx_module(build, f32(2, 7, 3), cell__dense_i__kernel=(0,), cell__dense_h__kernel=(0,))


# Normalization and reparametrization.


@case
def nnx_norms_and_dropout():
    class Norms(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(3, 8, rngs=rngs)
            self.batch = nnx.BatchNorm(8, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.layer = nnx.LayerNorm(8, rngs=rngs)
            self.last = nnx.Linear(8, 2, rngs=rngs)

        def __call__(self, x):
            return self.last(self.layer(self.dropout(self.batch(self.first(x)))))

    return nnx_module(Norms, f32(4, 3), first__kernel=(0,), last__kernel=(0,))


@case
def nnx_weight_norm():
    # Not abstract: before flax 0.12.12 its scales were no variables, so nothing can replace them.
    module = nnx.WeightNorm(nnx.Linear(3, 5, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    return lambda m, x: m(x), module, (f32(4, 3),), {"layer_instance/kernel": (0,)}


@case
def nnx_spectral_norm():
    class Normalized(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.SpectralNorm(nnx.Linear(3, 5, rngs=rngs), rngs=rngs)

        def __call__(self, x):
            return self.norm(x, update_stats=True)

    return nnx_module(Normalized, f32(4, 3), norm__layer_instance__kernel=(0,))


# Embeddings and tokens.


@case
def nnx_tied_embedding():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(11, 4, rngs=rngs)
            self.dense = nnx.Linear(4, 4, rngs=rngs)

        def __call__(self, tokens):
            return self.embed.attend(self.dense(self.embed(tokens)))

    return nnx_module(Net, i32(2, 5), dense__kernel=(0,))


# Stacked layers, ensembles, experts.


@case
def nnx_scan_over_layers():
    class Stack(nnx.Module):
        def __init__(self, rngs):
            @nnx.split_rngs(splits=3)
            @nnx.vmap(in_axes=(0,), out_axes=0)
            def build(rngs):
                return nnx.Linear(4, 4, rngs=rngs)

            self.layers = build(rngs)

        def __call__(self, x):
            @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
            def step(layer, x):
                return jnp.tanh(layer(x))

            return step(self.layers, x)

    return nnx_module(Stack, f32(2, 4), layers__kernel=((1,), (0,)))


@case
def nnx_vmap_ensemble():
    class Ensemble(nnx.Module):
        def __init__(self, rngs):
            @nnx.split_rngs(splits=3)
            @nnx.vmap(in_axes=(0,), out_axes=0)
            def build(rngs):
                return nnx.Linear(4, 5, rngs=rngs)

            self.members = build(rngs)

        def __call__(self, x):
            return nnx.vmap(lambda m, x: m(x), in_axes=(0, 0))(self.members, x)

    return nnx_module(Ensemble, f32(3, 2, 4), members__kernel=((1,), (0,)))


# Low rank.


@case
def nnx_lora():
    return nnx_module(
        lambda rngs: nnx.LoRALinear(4, 6, lora_rank=2, rngs=rngs),
        f32(3, 4),
        kernel=(0,),
        lora__lora_a=(0,),
        lora__lora_b=(0,),
    )


@case
def frozen_weights_and_masks_of_a_module():
    class Frozen(nnx.Variable):
        pass

    class Adapted(nnx.Module):
        def __init__(self, rngs):
            self.base = Frozen(jnp.ones((4, 6)))
            self.mask = Frozen(jnp.ones((6, 5)))
            self.a = nnx.Param(jnp.ones((4, 2)))
            self.b = nnx.Param(jnp.ones((2, 6)))
            self.pruned = nnx.Param(jnp.ones((6, 5)))

        def __call__(self, x):
            x = x @ (self.base[...] + self.a[...] @ self.b[...])
            return x @ (self.pruned[...] * self.mask[...])

    return nnx_module(Adapted, f32(3, 4), a=(0,), b=(0,), pruned=(0,))
