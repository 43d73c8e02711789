"""Modules of Equinox."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from tests.abstract import f32, i32
from tests.trace_cases.registry import KEY, Case, case, paths


def equinox(module: Any, *args, call=lambda m, *a: m(*a), **expected) -> Case:
    return call, module, args, paths(expected)


# Dense layers and convolutions.


@case
def equinox_linear():
    return equinox(eqx.nn.Linear(3, 5, key=KEY), f32(3), weight=(1,))


@case
def equinox_linear_under_vmap():
    return equinox(
        eqx.nn.Linear(3, 5, key=KEY), f32(4, 3), call=lambda m, x: jax.vmap(m)(x), weight=(1,)
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
def equinox_attention():
    names = ("query", "key", "value", "output")
    return equinox(
        eqx.nn.MultiheadAttention(2, 8, key=KEY),
        f32(5, 8),
        call=lambda m, x: m(x, x, x),
        **{f"{name}_proj__weight": (1,) for name in names},
    )


# Recurrence.


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


# Normalization and reparametrization.


@case
def equinox_norms_of_rank_two():
    modules = (eqx.nn.LayerNorm((5, 3)), eqx.nn.Linear(3, 2, key=KEY))
    return equinox(
        modules, f32(5, 3), call=lambda m, x: jax.vmap(m[1])(m[0](x)), **{"1__weight": (1,)}
    )


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


# Embeddings and tokens.


@case
def equinox_embedding():
    modules = (eqx.nn.Embedding(11, 4, key=KEY), eqx.nn.Linear(4, 3, key=KEY))
    return equinox(
        modules, i32(5), call=lambda m, t: jax.vmap(m[1])(jax.vmap(m[0])(t)), **{"1__weight": (1,)}
    )


# Stacked layers, ensembles, experts.


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
