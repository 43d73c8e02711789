"""Functions and real modules whose fan-in axes are known by hand, for the tests of tracing.

A case is a function that returns `(fn, params, args, expected)`: `expected` holds the axes of each
leaf that is to be centralized, by path, and with `(axes, batch_axes)` where copies are stacked.
All other leaves are to be left alone.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

Case = tuple[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]]
CASES: dict[str, Callable[[], Case]] = {}
KEY = jax.random.key(0)


def case(function: Callable[[], Case]) -> Callable[[], Case]:
    CASES[function.__name__] = function
    return function


def f32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def i32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def linen(module: nn.Module, *args, **expected) -> Case:
    """A Linen module; expected by path with `__` for `/`."""
    variables = jax.eval_shape(lambda *a: module.init({"params": KEY, "dropout": KEY}, *a), *args)
    rest = {name: tree for name, tree in variables.items() if name != "params"}
    mutable = list(rest)

    def fn(params, rest, *args):
        return module.apply({"params": params, **rest}, *args, mutable=mutable)

    return fn, variables["params"], (rest, *args), paths(expected)


def haiku(build: Callable[..., Any], *args, **expected) -> Case:
    transformed = hk.without_apply_rng(hk.transform_with_state(build))
    params, state = jax.eval_shape(lambda *a: transformed.init(KEY, *a), *args)
    return lambda p, s, *a: transformed.apply(p, s, *a)[0], params, (state, *args), paths(expected)


def equinox(module: Any, *args, call=lambda m, *a: m(*a), **expected) -> Case:
    return call, module, args, paths(expected)


def nnx_module(build: Callable[[nnx.Rngs], nnx.Module], *args, **expected) -> Case:
    module = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    return lambda m, *a: m(*a), module, args, paths(expected)


def paths(expected: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "/"): axes for name, axes in expected.items()}


# Section 2 of the design: the rows where rank-based axes go wrong.


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
def nnx_linear():
    return nnx_module(lambda rngs: nnx.Linear(3, 5, rngs=rngs), f32(4, 3), kernel=(0,))


@case
def haiku_linear():
    return haiku(lambda x: hk.Linear(5)(x), f32(4, 3), linear__w=(0,))


@case
def equinox_linear():
    return equinox(eqx.nn.Linear(3, 5, key=KEY), f32(3), weight=(1,))


@case
def equinox_linear_under_vmap():
    return equinox(
        eqx.nn.Linear(3, 5, key=KEY), f32(4, 3), call=lambda m, x: jax.vmap(m)(x), weight=(1,)
    )


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


@case
def equinox_convolutions():
    net = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(3, 4, 3, key=KEY),
            eqx.nn.Conv2d(4, 4, 3, groups=2, key=KEY),
            eqx.nn.ConvTranspose2d(4, 5, 3, key=KEY),
        ]
    )
    return equinox(
        net,
        f32(3, 9, 9),
        layers__0__weight=(1, 2, 3),
        layers__1__weight=(1, 2, 3),
        layers__2__weight=(1, 2, 3),
    )


@case
def equinox_conv_1d_and_3d():
    return equinox(
        (eqx.nn.Conv1d(3, 4, 3, key=KEY), eqx.nn.Conv3d(3, 4, 3, key=KEY)),
        f32(3, 9),
        f32(3, 6, 6, 6),
        call=lambda m, x, y: (m[0](x), m[1](y)),
        **{"0__weight": (1, 2), "1__weight": (1, 2, 3, 4)},
    )


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


@case
def nnx_attention():
    kernels = {f"{name}__kernel": (0,) for name in ("query", "key", "value")}
    return nnx_module(
        lambda rngs: nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs),
        f32(2, 5, 8),
        **kernels,
        out__kernel=(0, 1),
    )


@case
def haiku_attention():
    def net(x):
        return hk.MultiHeadAttention(2, 4, w_init=hk.initializers.Constant(1.0))(x, x, x)

    names = ("query", "key", "value", "linear")
    return haiku(net, f32(2, 5, 8), **{f"multi_head_attention__{n}__w": (0,) for n in names})


@case
def equinox_attention():
    names = ("query", "key", "value", "output")
    return equinox(
        eqx.nn.MultiheadAttention(2, 8, key=KEY),
        f32(5, 8),
        call=lambda m, x: m(x, x, x),
        **{f"{name}_proj__weight": (1,) for name in names},
    )


@case
def fused_query_key_value():
    def attention(p, x):
        q, k, v = jnp.split(x @ p["qkv"], 3, axis=-1)
        heads = [y.reshape(*y.shape[:-1], 2, 4) for y in (q, k, v)]
        return jax.nn.dot_product_attention(*heads).reshape(x.shape) @ p["out"]

    return attention, {"qkv": f32(8, 24), "out": f32(8, 8)}, (f32(2, 5, 8),), {
        "qkv": (0,),
        "out": (0,),
    }  # fmt: skip


@case
def kernels_reshaped_to_heads():
    def attention(p, x):
        q = jnp.einsum("ntd,dhk->nthk", x, p["q"].reshape(8, 2, 4))
        return jnp.einsum("nthk,hkd->ntd", q, p["out"].reshape(2, 4, 8))

    return attention, {"q": f32(8, 8), "out": f32(8, 8)}, (f32(2, 5, 8),), {
        "q": (0,),
        "out": (0,),
    }  # fmt: skip


@case
def rotary_positions_and_key_value_cache():
    def attention(p, x, cache, position):
        angle = jnp.arange(4) * jnp.float32(0.1)
        k = x @ p["k"] * jnp.cos(angle)
        cache = jax.lax.dynamic_update_slice(cache, k, (position, 0))
        return jax.nn.softmax(x @ p["q"] @ cache.T) @ cache @ p["out"]

    return attention, {"q": f32(8, 4), "k": f32(8, 4), "out": f32(4, 8)}, (
        f32(1, 8), f32(6, 4), i32(),
    ), {"q": (0,), "k": (0,), "out": (0,)}  # fmt: skip


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


@case
def nnx_rnn():
    def build(rngs):
        return nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs))

    return nnx_module(build, f32(2, 7, 3), cell__dense_i__kernel=(0,), cell__dense_h__kernel=(0,))


@case
def haiku_lstm_and_gru():
    def net(x):
        h, _ = hk.dynamic_unroll(hk.LSTM(4), x, hk.LSTM(4).initial_state(2))
        return hk.dynamic_unroll(hk.GRU(4), h, jnp.zeros((2, 4)))[0]

    return haiku(net, f32(7, 2, 3), lstm__linear__w=(0,), gru__w_i=(0,), gru__w_h=(0,))


@case
def equinox_gru_and_lstm():
    def run(cells, x):
        gru, lstm = cells
        h, _ = jax.lax.scan(lambda h, row: (gru(row, h), None), jnp.zeros(4), x)
        (h, _), _ = jax.lax.scan(lambda s, row: (lstm(row, s), None), (h, h), x)
        return h

    cells = (eqx.nn.GRUCell(3, 4, key=KEY), eqx.nn.LSTMCell(3, 4, key=KEY))
    names = {f"{i}__weight_{part}": (1,) for i in (0, 1) for part in ("ih", "hh")}
    return equinox(cells, f32(7, 3), call=run, **names)


@case
def unrolled_recurrence_from_zeros():
    def run(p, xs):
        h = jnp.zeros((2, 4))
        for x in xs:
            h = jnp.tanh(x @ p["i"] + h @ p["h"])
        return h

    return run, {"i": f32(3, 4), "h": f32(4, 4)}, (f32(3, 2, 3),), {"i": (0,), "h": (0,)}


@case
def learned_initial_state():
    def run(p, xs):
        h, _ = jax.lax.scan(
            lambda h, x: (jnp.tanh(x @ p["i"] + h @ p["h"]), None),
            jnp.broadcast_to(p["h0"], (2, 4)),
            xs,
        )
        return h

    params = {"i": f32(3, 4), "h": f32(4, 4), "h0": f32(1, 4)}
    return run, params, (f32(3, 2, 3),), {"i": (0,), "h": (0,)}


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
def haiku_norms():
    def net(x):
        x = hk.BatchNorm(True, True, 0.9)(hk.Conv2D(4, 3)(x), is_training=True)
        return hk.Linear(2)(hk.LayerNorm(-1, True, True)(x))

    return haiku(net, f32(2, 6, 6, 3), conv2_d__w=(0, 1, 2), linear__w=(0,))


@case
def equinox_norms_of_rank_two():
    modules = (eqx.nn.LayerNorm((5, 3)), eqx.nn.Linear(3, 2, key=KEY))
    return equinox(
        modules, f32(5, 3), call=lambda m, x: jax.vmap(m[1])(m[0](x)), **{"1__weight": (1,)}
    )


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


@case
def equinox_weight_norm():
    return equinox(eqx.nn.WeightNorm(eqx.nn.Linear(3, 5, key=KEY)), f32(3), layer__weight=(1,))


@case
def equinox_spectral_norm():
    module, state = eqx.nn.make_with_state(
        lambda: eqx.nn.SpectralNorm(eqx.nn.Linear(3, 5, key=KEY), "weight", key=KEY)
    )()

    def call(module, x, state):
        return module(x, state)[0]

    return equinox(module, f32(3), state, call=call, layer__weight=(1,))


@case
def haiku_spectral_norm():
    def net(x):
        w = hk.get_parameter("w", (3, 5), init=jnp.ones)
        return x @ hk.SpectralNorm()(w)

    return haiku(net, f32(4, 3), **{"~__w": (0,)})


@case
def weight_standardization():
    def conv(p, x):
        w = p["kernel"]
        mean = w.mean((0, 1, 2), keepdims=True)
        w = (w - mean) / jnp.sqrt(w.var((0, 1, 2), keepdims=True) + jnp.float32(1e-5))
        return jax.lax.conv_general_dilated(
            x, w * p["gain"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    params = {"kernel": f32(3, 3, 4, 6), "gain": f32(1, 1, 1, 6)}
    return conv, params, (f32(2, 8, 8, 4),), {"kernel": (0, 1, 2)}


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


@case
def nnx_tied_embedding():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(11, 4, rngs=rngs)
            self.dense = nnx.Linear(4, 4, rngs=rngs)

        def __call__(self, tokens):
            return self.embed.attend(self.dense(self.embed(tokens)))

    return nnx_module(Net, i32(2, 5), dense__kernel=(0,))


@case
def haiku_embedding():
    def net(tokens):
        return hk.Linear(3)(hk.Embed(11, 4)(tokens))

    return haiku(net, i32(2, 5), linear__w=(0,))


@case
def equinox_embedding():
    modules = (eqx.nn.Embedding(11, 4, key=KEY), eqx.nn.Linear(4, 3, key=KEY))
    return equinox(
        modules, i32(5), call=lambda m, t: jax.vmap(m[1])(jax.vmap(m[0])(t)), **{"1__weight": (1,)}
    )


@case
def position_embedding_and_class_token():
    def vit(p, x):
        x = x @ p["patches"]
        token = jnp.broadcast_to(p["token"], (x.shape[0], 1, 8))
        x = jnp.concatenate([token, x], axis=1) + p["position"]
        return (x + p["table"][jnp.arange(6)]) @ p["head"]

    params = {
        "patches": f32(12, 8),
        "token": f32(1, 1, 8),
        "position": f32(1, 6, 8),
        "table": f32(10, 8),
        "head": f32(8, 3),
    }
    return vit, params, (f32(2, 5, 12),), {"patches": (0,), "head": (0,)}


@case
def latent_queries_repeated_over_the_batch():
    def perceiver(p, x):
        latents = jnp.broadcast_to(p["latents"], (x.shape[0], *p["latents"].shape))
        scores = jnp.einsum("nld,ntd->nlt", latents @ p["q"], x @ p["k"])
        return jax.nn.softmax(scores) @ x @ p["out"]

    params = {"latents": f32(3, 8), "q": f32(8, 4), "k": f32(6, 4), "out": f32(6, 2)}
    return perceiver, params, (f32(2, 5, 6),), {"q": (0,), "k": (0,), "out": (0,)}


@case
def network_over_constants_that_biases_attention():
    def layer(p, x):
        offsets = jnp.arange(10, dtype=jnp.float32).reshape(5, 2)
        bias = jax.nn.relu(offsets @ p["first"]) @ p["second"]
        return (x + bias) @ p["out"]

    params = {"first": f32(2, 7), "second": f32(7, 4), "out": f32(4, 3)}
    return layer, params, (f32(3, 5, 4),), {"first": (0,), "second": (0,), "out": (0,)}


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


@case
def equinox_filter_vmap_ensemble():
    @eqx.filter_vmap
    def build(key):
        return eqx.nn.Linear(4, 5, key=key)

    return equinox(
        build(jax.random.split(KEY, 3)),
        f32(3, 4),
        call=lambda m, x: eqx.filter_vmap(lambda m, x: m(x))(m, x),
        weight=((2,), (0,)),
    )


@case
def haiku_layer_stack():
    def net(x):
        layer_stack = hk.experimental.layer_stack(3)  # pyright: ignore[reportPrivateImportUsage]
        return layer_stack(lambda x: jnp.tanh(hk.Linear(4)(x)))(x)

    fn, params, args, _ = haiku(net, f32(2, 4))
    return fn, params, args, {"__layer_stack_no_per_layer/linear/w": ((1,), (0,))}


@case
def fori_loop_over_stacked_layers():
    def stack(p, x):
        return jax.lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ p["w"][i]) * p["s"][i], x)

    return stack, {"w": f32(3, 4, 4), "s": f32(3, 4)}, (f32(2, 4),), {"w": ((1,), (0,))}


@case
def python_loop_over_stacked_layers():
    def stack(p, x):
        for w in p:
            x = jnp.tanh(x @ w)
        return x

    return stack, f32(3, 4, 4), (f32(2, 4),), {"": ((1,), (0,))}


@case
def while_loop_until_converged():
    def solve(p, x):
        def going_on(state):
            return (state[0] < 10) & (jnp.abs(state[1]).max() > 0)

        return jax.lax.while_loop(going_on, lambda s: (s[0] + 1, jnp.tanh(s[1] @ p)), (0, x))[1]

    return solve, f32(4, 4), (f32(2, 4),), {"": (0,)}


@case
def while_loop_over_stacked_layers():
    def stack(p, x, n):
        def step(state):
            i, x = state
            return i + 1, jnp.tanh(x @ p[i].T)

        return jax.lax.while_loop(lambda state: state[0] < n, step, (0, x))[1]

    return stack, f32(3, 4, 4), (f32(2, 4), i32()), {"": ((2,), (0,))}


@case
def switch_over_experts():
    def experts(p, x, i):
        return jax.lax.switch(i, [lambda x, w=w: x @ w for w in p], x)

    return experts, [f32(4, 5), f32(4, 5)], (f32(2, 4), i32()), {"0": (0,), "1": (0,)}


@case
def cond_that_chooses_weights():
    def layer(p, x, flag):
        return x @ jax.lax.cond(flag[0] > 0, lambda: p["a"], lambda: p["b"])

    return layer, {"a": f32(4, 5), "b": f32(4, 5)}, (f32(2, 4), f32(1)), {"a": (0,), "b": (0,)}


@case
def vmap_of_switch_over_experts():
    def experts(p, x, i):
        branches = [lambda x, w=w: w @ x for w in p]
        return jax.vmap(lambda x, i: jax.lax.switch(i, branches, x))(x, i)

    return experts, [f32(5, 4), f32(5, 4)], (f32(2, 4), i32(2)), {"0": (1,), "1": (1,)}


@case
def experts_by_einsum():
    def mixture(p, x):
        gates = jax.nn.softmax(x @ p["router"])
        dispatch = jax.nn.one_hot(gates.argmax(-1), 3)
        inputs = jnp.einsum("te,td->etd", dispatch, x)
        hidden = jax.nn.gelu(jnp.einsum("etd,edf->etf", inputs, p["up"]))
        outputs = jnp.einsum("etf,efd->etd", hidden, p["down"])
        return jnp.einsum("etd,te->td", outputs, gates)

    params = {"router": f32(4, 3), "up": f32(3, 4, 6), "down": f32(3, 6, 4)}
    return mixture, params, (f32(7, 4),), {
        "router": (0,),
        "up": ((1,), (0,)),
        "down": ((1,), (0,)),
    }  # fmt: skip


@case
def experts_by_ragged_dot():
    def mixture(p, x, sizes):
        return jax.lax.ragged_dot(
            jax.nn.relu(jax.lax.ragged_dot(x, p["up"], sizes)), p["down"], sizes
        )

    params = {"up": f32(3, 4, 6), "down": f32(3, 6, 4)}
    return mixture, params, (f32(7, 4), i32(3)), {"up": ((1,), (0,)), "down": ((1,), (0,))}


# Low rank, casts, quantization, derivatives, devices.


@case
def low_rank_adapter_merged():
    def layer(p, x):
        return x @ (p["w"] + 2 * (p["a"] @ p["b"]))

    params = {"w": f32(4, 6), "a": f32(4, 2), "b": f32(2, 6)}
    return layer, params, (f32(3, 4),), {"w": (0,), "a": (0,), "b": (0,)}


@case
def low_rank_adapter_merged_in_the_other_layout():
    def layer(p, x):
        return x @ (p["w"] + p["b"] @ p["a"]).T

    params = {"w": f32(6, 4), "a": f32(2, 4), "b": f32(6, 2)}
    return layer, params, (f32(3, 4),), {"w": (1,), "a": (1,), "b": (1,)}


@case
def low_rank_adapter_beside():
    def layer(p, x):
        return x @ p["w"] + x @ p["a"] @ p["b"]

    params = {"w": f32(4, 6), "a": f32(4, 2), "b": f32(2, 6)}
    return layer, params, (f32(3, 4),), {"w": (0,), "a": (0,), "b": (0,)}


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


@case
def bfloat16_compute():
    return linen(nn.Dense(5, dtype=jnp.bfloat16), f32(4, 3), kernel=(0,))


@case
def quantized_weights():
    def layer(p, x):
        return x @ (p["w"].astype(jnp.float32) * p["scale"])

    params = {"w": jax.ShapeDtypeStruct((4, 6), jnp.int8), "scale": f32(6)}
    return layer, params, (f32(3, 4),), {"w": (0,)}


@case
def quantization_aware_training():
    def layer(p, x):
        w = p["w"]
        scale = jnp.abs(w).max(0) / 127
        rounded = jnp.clip(jnp.round(w / scale), -128, 127).astype(jnp.int8)
        return x @ (w + jax.lax.stop_gradient(rounded.astype(jnp.float32) * scale - w))

    return layer, {"w": f32(4, 6)}, (f32(3, 4),), {"w": (0,)}


@case
def weights_scaled_by_a_statistic_of_the_data():
    def layer(p, x):
        return (x / jnp.abs(x).max()) @ (p["w"] * jnp.abs(x).max())

    return layer, {"w": f32(4, 6)}, (f32(3, 4),), {"w": (0,)}


@case
def custom_vjp_layer():
    @jax.custom_vjp
    def dense(w, x):
        return x @ w.T

    dense.defvjp(lambda w, x: (x @ w.T, (w, x)), lambda r, g: (g.T @ r[1], g @ r[0]))
    return (lambda p, x: dense(p["w"], x).sum()), {"w": f32(6, 4)}, (f32(3, 4),), {"w": (1,)}


@case
def custom_jvp_layer():
    @jax.custom_jvp
    def dense(w, x):
        return x @ w

    dense.defjvp(lambda p, t: (dense(*p), p[1] @ t[0] + t[1] @ p[0]))
    return (lambda p, x: dense(p["w"], x).sum()), {"w": f32(4, 6)}, (f32(3, 4),), {"w": (0,)}


def _mesh():
    return jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)


@case
def shard_map_with_sharded_fan_in():
    def layer(p, x):
        body = jax.shard_map(
            lambda w, x: jax.lax.psum(x @ w, "a"),
            mesh=_mesh(),
            in_specs=(PartitionSpec("a", "b"), PartitionSpec(None, "a")),
            out_specs=PartitionSpec(None, "b"),
        )
        return body(p["up"], x) @ p["down"]

    params = {"up": f32(4, 8), "down": f32(8, 3)}
    return layer, params, (f32(3, 4),), {"up": (0,), "down": (0,)}


@case
def shard_map_that_gathers_its_weights():
    def layer(p, x):
        def body(w, x):
            return x @ jax.lax.all_gather(w, "a", axis=0, tiled=True)

        return jax.shard_map(
            body,
            mesh=_mesh(),
            in_specs=(PartitionSpec("a"), PartitionSpec("b")),
            out_specs=PartitionSpec("b"),
            check_vma=False,
        )(p, x)

    return layer, f32(4, 8), (f32(4, 4),), {"": (0,)}


@case
def loss_with_penalty_and_auxiliary_output():
    def loss(p, x, y):
        prediction = jnp.tanh(x @ p["w1"] + p["b1"]) @ p["w2"]
        penalty = sum(jnp.sum(w**2) for w in jax.tree.leaves(p))
        orthogonality = jnp.sum((p["w1"].T @ p["w1"] - jnp.eye(6)) ** 2)
        return jnp.mean((prediction - y) ** 2) + penalty + orthogonality, {"p": p, "y": prediction}

    params = {"w1": f32(4, 6), "b1": f32(6), "w2": f32(6, 1)}
    return loss, params, (f32(3, 4), f32(3, 1)), {"w1": (0,), "w2": (0,)}


@case
def value_and_gradient_of_a_loss():
    def loss(p, x):
        return jnp.sum(jnp.tanh(x @ p["w1"]) @ p["w2"])

    params = {"w1": f32(4, 6), "w2": f32(6, 2)}
    return jax.value_and_grad(loss), params, (f32(3, 4),), {"w1": (0,), "w2": (0,)}


@case
def per_example_losses_under_jit_and_vmap():
    @jax.jit
    def loss(p, x):
        return jax.vmap(lambda x: jnp.tanh(p["w1"] @ x) @ p["w2"])(x).sum()

    return loss, {"w1": f32(6, 4), "w2": f32(6, 2)}, (f32(3, 4),), {"w1": (1,), "w2": (0,)}


@case
def dense_with_inputs_in_two_parts():
    def layer(p, x, y):
        return x @ p["w"][:3] + y @ p["w"][3:]

    return layer, {"w": f32(5, 6)}, (f32(2, 3), f32(2, 2)), {"w": (0,)}


@case
def kernels_joined_before_one_product():
    def layer(p, x):
        return x @ jnp.concatenate([p["q"], p["k"], jnp.zeros((4, 1))], axis=1)

    return layer, {"q": f32(4, 3), "k": f32(4, 2)}, (f32(2, 4),), {"q": (0,), "k": (0,)}


@case
def low_rank_adapter_on_a_weight_that_is_closed_over():
    base = jnp.ones((4, 6))

    def layer(p, x):
        return x @ (base + p["a"] @ p["b"])

    return layer, {"a": f32(4, 2), "b": f32(2, 6)}, (f32(3, 4),), {"a": (0,), "b": (0,)}


@case
def weight_decomposed_adapter():
    def layer(p, x):
        v = p["w"] + p["a"] @ p["b"]
        return x @ (p["m"] * v / jnp.linalg.norm(v, axis=0, keepdims=True))

    params = {"w": f32(4, 6), "a": f32(4, 2), "b": f32(2, 6), "m": f32(1, 6)}
    return layer, params, (f32(3, 4),), {"w": (0,), "a": (0,), "b": (0,)}


@case
def kernels_stacked_and_mapped():
    def experts(p, x):
        return jax.vmap(lambda w, x: jnp.tanh(x @ w))(jnp.stack(p), x)

    return experts, [f32(4, 5), f32(4, 5)], (f32(2, 3, 4),), {"0": (0,), "1": (0,)}


@case
def initial_state_tiled_over_the_batch():
    def run(p, x):
        return jnp.tanh(x @ p["i"] + jnp.tile(p["h0"], (x.shape[0], 1)) @ p["h"])

    params = {"i": f32(3, 4), "h": f32(4, 4), "h0": f32(1, 4)}
    return run, params, (f32(2, 3),), {"i": (0,), "h": (0,)}


@case
def haiku_embedding_by_one_hot():
    def net(tokens):
        return hk.Linear(3)(hk.Embed(11, 4, lookup_style="ONE_HOT")(tokens))

    return haiku(net, i32(2, 5), linear__w=(0,))


@case
def codebook_of_a_vector_quantizer():
    def quantize(p, x):
        z = x @ p["w"]
        distances = (p["codes"] ** 2).sum(-1) - 2 * z @ p["codes"].T
        codes = jax.nn.one_hot(distances.argmin(-1), 9) @ p["codes"]
        return ((jax.lax.stop_gradient(z) - codes) ** 2).mean() + (z**2).mean()

    return quantize, {"w": f32(6, 4), "codes": f32(9, 4)}, (f32(5, 6),), {"w": (0,)}


@case
def axial_position_embeddings():
    def layer(p, x):
        position = (p["rows"][:, None] + p["columns"][None]).reshape(20, 8)
        return (x + position) @ p["w"]

    params = {"rows": f32(4, 8), "columns": f32(5, 8), "w": f32(8, 3)}
    return layer, params, (f32(2, 20, 8),), {"w": (0,)}


@case
def gain_before_a_reshape():
    def layer(p, x):
        return x @ (p["v"] * p["g"]).reshape(36, 6)

    params = {"v": f32(3, 3, 4, 6), "g": f32(1, 1, 1, 6)}
    return layer, params, (f32(2, 36),), {"v": (0, 1, 2)}


@case
def forces_as_the_gradient_by_the_input():
    def loss(p, x, forces):
        def energy(x):
            return (jax.nn.relu(x @ p["w1"]) @ p["w2"]).sum()

        return ((jax.grad(energy)(x) + forces) ** 2).mean() + energy(x)

    params = {"w1": f32(4, 6), "w2": f32(6, 1)}
    return loss, params, (f32(2, 4), f32(2, 4)), {"w1": (0,), "w2": (0,)}


@case
def gradient_penalty_through_checkpointed_layers():
    def loss(p, x):
        layer = jax.checkpoint(lambda w, x: jnp.tanh(x @ w))

        def critic(x):
            return jax.lax.scan(lambda x, w: (layer(w, x), None), x, p)[0].sum()

        return (jax.grad(critic)(x) ** 2).sum() + critic(x)

    return loss, f32(3, 4, 4), (f32(2, 4),), {"": ((1,), (0,))}


@case
def inner_loop_of_meta_learning():
    def loss(p, x, y):
        def inner(p):
            return ((jnp.tanh(x @ p["w1"]) @ p["w2"] - y) ** 2).mean()

        adapted = jax.tree.map(lambda w, g: w - 0.1 * g, p, jax.grad(inner)(p))
        return ((jnp.tanh(x @ adapted["w1"]) @ adapted["w2"] - y) ** 2).mean()

    params = {"w1": f32(4, 6), "w2": f32(6, 2)}
    return loss, params, (f32(3, 4), f32(3, 2)), {"w1": (0,), "w2": (0,)}
