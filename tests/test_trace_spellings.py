"""The same network, written in another way, has the same axes.

Random networks of a few layers are written plainly, jitted, rematerialized, mapped, scanned, with
their inputs as an argument, closed over, written into the program as literals, or kept in a
reference.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import pytest
from hypothesis import strategies as st
from jax import lax

import gc_optax

BATCH, TIME, WIDTH = 2, 6, 4

Params = dict[str, jax.ShapeDtypeStruct]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of random kind: the shapes of its parameters, what it computes, and its axes."""

    shapes: dict[str, tuple[int, ...]]
    apply: Callable[[Any, jax.Array], jax.Array]
    axes: dict[str, tuple[int, ...]]
    width: int


def dense(d: int, n: int) -> Layer:
    return Layer(
        {"w": (d, n), "b": (n,)}, lambda p, x: jnp.tanh(x @ p["w"] + p["b"]), {"w": (0,)}, n
    )


def stored_transposed(d: int, n: int) -> Layer:
    return Layer({"w": (n, d)}, lambda p, x: jax.nn.relu(x @ p["w"].T), {"w": (1,)}, n)


def heads(d: int, n: int) -> Layer:
    def apply(p, x):
        split = jnp.einsum("btd,dhk->bthk", x, p["split"]) + p["b"]
        return jnp.einsum("bthk,hkd->btd", jnp.tanh(split), p["merge"])

    shapes = {"split": (d, 2, n), "b": (2, n), "merge": (2, n, d)}
    return Layer(shapes, apply, {"split": (0,), "merge": (0, 1)}, d)


def attention(d: int, n: int) -> Layer:
    def apply(p, x):
        q, k, v = (x @ p[name] for name in "qkv")
        weights = jax.nn.softmax(jnp.einsum("bqn,bkn->bqk", q, k))
        return x + jnp.einsum("bqk,bkn->bqn", weights, v) @ p["o"]

    shapes = {"q": (d, n), "k": (d, n), "v": (d, n), "o": (n, d)}
    return Layer(shapes, apply, dict.fromkeys("qkvo", (0,)), d)


def convolution(d: int, n: int) -> Layer:
    def apply(p, x):
        numbers = ("NHC", "HIO", "NHC")
        return lax.conv_general_dilated(x, p["w"], (1,), "SAME", dimension_numbers=numbers)

    return Layer({"w": (3, d, n)}, apply, {"w": (0, 1)}, n)


def norm(d: int, n: int) -> Layer:
    def apply(p, x):
        x = x - x.mean(-1, keepdims=True)
        return x * lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["table"]

    return Layer({"scale": (1, d), "table": (TIME, d)}, apply, {}, d)


def masked(d: int, n: int) -> Layer:
    mask = jnp.tril(jnp.ones((d, n)))
    return Layer({"w": (d, n)}, lambda p, x: x @ (p["w"] * mask), {"w": (0,)}, n)


def low_rank(d: int, n: int) -> Layer:
    frozen = jnp.linspace(-1.0, 1.0, d * n).reshape(d, n)
    return Layer(
        {"a": (d, 2), "b": (2, n)},
        lambda p, x: x @ (frozen + p["a"] @ p["b"]),
        {"a": (0,), "b": (0,)},
        n,
    )


def weight_norm(d: int, n: int) -> Layer:
    def apply(p, x):
        v = p["v"]
        return x @ (p["g"] * v / jnp.linalg.norm(v, axis=0, keepdims=True))

    return Layer({"v": (d, n), "g": (1, n)}, apply, {"v": (0,)}, n)


def recurrent(d: int, n: int) -> Layer:
    def apply(p, x):
        def step(h, row):
            h = jnp.tanh(row @ p["i"] + h @ p["h"])
            return h, h

        rows = jnp.swapaxes(x, 0, 1)
        return jnp.swapaxes(lax.scan(step, jnp.zeros((x.shape[0], n)), rows)[1], 0, 1)

    return Layer({"i": (d, n), "h": (n, n)}, apply, {"i": (0,), "h": (0,)}, n)


LAYERS = (
    dense, stored_transposed, heads, attention, convolution, norm, masked, low_rank, weight_norm,
    recurrent,
)  # fmt: skip


@st.composite
def networks(draw) -> list[Layer]:
    width, layers = WIDTH, []
    for kind in draw(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=4)):
        layers.append(kind(width, draw(st.integers(2, 5))))
        width = layers[-1].width
    return layers


def network(layers: list[Layer], params: Any, x: jax.Array) -> jax.Array:
    for layer, p in zip(layers, params, strict=True):
        x = layer.apply(p, x)
    return x


INPUTS = jax.random.normal(jax.random.key(0), (BATCH, TIME, WIDTH))


def in_a_reference(f, p, x):
    held, out = jax.new_ref(jnp.zeros_like(x)), jax.new_ref(f(p, x))
    held[...] = x
    out[...] = f(p, held[...])
    return out[...]


def row_by_row(f, p, x):
    return lax.scan(lambda total, row: (total + f(p, row[None]).sum(), None), 0.0, x)[0]


# The function to trace, from `f(p, x)`, and the arguments beside the parameters.
SPELLINGS: dict[str, Callable[[Callable[..., Any]], tuple[Callable[..., Any], tuple]]] = {
    "plain": lambda f: (f, (INPUTS,)),
    "from shapes": lambda f: (f, (jax.ShapeDtypeStruct(INPUTS.shape, INPUTS.dtype),)),
    "jitted": lambda f: (jax.jit(f), (INPUTS,)),
    "rematerialized": lambda f: (jax.checkpoint(f), (INPUTS,)),
    "a loss": lambda f: (lambda p, x: (f(p, x) ** 2).mean(), (INPUTS,)),
    "mapped": lambda f: (lambda p, x: jax.vmap(lambda row: f(p, row[None])[0])(x), (INPUTS,)),
    "mapped by scan": lambda f: (lambda p, x: lax.map(lambda r: f(p, r[None])[0], x), (INPUTS,)),
    "scanned": lambda f: (lambda p, x: row_by_row(f, p, x), (INPUTS,)),
    "in a reference": lambda f: (lambda p, x: in_a_reference(f, p, x), (INPUTS,)),
    "closed over": lambda f: (lambda p: f(p, INPUTS), ()),
    "closed over, jitted": lambda f: (jax.jit(lambda p: f(p, INPUTS)), ()),
    "closed over, rematerialized": lambda f: (jax.checkpoint(lambda p: f(p, INPUTS)), ()),
    "closed over, mapped": lambda f: (
        lambda p: jax.vmap(lambda row: f(p, row[None])[0])(INPUTS),
        (),
    ),
    "closed over, chosen": lambda f: (lambda p, i: f(p, INPUTS[i]), (jnp.arange(2),)),
    "closed over beside another array": lambda f: (
        lambda p, weights: weights[0] * f(p, INPUTS).mean() + weights[1] * f(p, -INPUTS).mean(),
        (jnp.ones(2),),
    ),
    "drawn by a key": lambda f: (
        lambda p, key: f(p, jax.random.normal(key, INPUTS.shape)),
        (jax.random.key(0),),
    ),
}


@contextlib.contextmanager
def constants_as_literals(enabled: bool):
    before = jax.config.values["jax_use_simplified_jaxpr_constants"]
    jax.config.update("jax_use_simplified_jaxpr_constants", enabled)
    yield
    jax.config.update("jax_use_simplified_jaxpr_constants", before)


def _check(layers: list[Layer], spelling: str, literals: bool) -> None:
    params = [
        {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in layer.shapes.items()}
        for layer in layers
    ]
    function, args = SPELLINGS[spelling](lambda p, x: network(layers, p, x))
    with constants_as_literals(literals), jax.numpy_rank_promotion("allow"):
        fan_in = gc_optax.fan_in_by_trace(function, params, *args)
    for layer, specs in zip(layers, fan_in, strict=True):
        for name, spec in specs.items():
            assert spec.axes == layer.axes.get(name, ()), (name, spec)
            assert spec.reason != "no use found"


@pytest.mark.parametrize("spelling", SPELLINGS)
@hypothesis.settings(max_examples=12)
@hypothesis.given(networks(), st.booleans())
def test_axes_do_not_depend_on_how_the_network_is_written(spelling, layers, literals):
    _check(layers, spelling, literals)


@pytest.mark.slow
@hypothesis.settings(max_examples=1000, suppress_health_check=[hypothesis.HealthCheck.too_slow])
@hypothesis.given(networks(), st.sampled_from(sorted(SPELLINGS)), st.booleans())
def test_axes_do_not_depend_on_how_the_network_is_written_at_length(layers, spelling, literals):
    _check(layers, spelling, literals)
