"""Random contractions, stored and wrapped at random: the axes are those of the einsum string."""

import dataclasses
import math
from collections.abc import Callable

import hypothesis
import jax
import jax.numpy as jnp
import pytest
from hypothesis import strategies as st

import gc_optax


@dataclasses.dataclass(frozen=True)
class Contraction:
    """`einsum(equation, x, w)`, with `w` stored as `storage` and rearranged by `moves`."""

    data: str
    weight: str
    output: str
    storage: str
    moves: tuple[tuple[int, ...] | str, ...]
    wraps: tuple[str, ...]
    sizes: dict[str, int]

    @property
    def axes(self) -> tuple[int, ...]:
        summed = [i for i, letter in enumerate(self.storage) if letter not in self.output]
        return tuple(i + self._stacks for i in summed)

    @property
    def batch_axes(self) -> tuple[int, ...]:
        shared = [i for i, letter in enumerate(self.storage) if letter == "e"]
        return tuple(range(self._stacks)) + tuple(i + self._stacks for i in shared)

    @property
    def _stacks(self) -> int:
        return sum(wrap in STACKING for wrap in self.wraps)

    def shape(self, letters: str) -> tuple[int, ...]:
        return tuple(self.sizes[letter] for letter in letters)


def _layer(c: Contraction) -> Callable[[jax.Array, jax.Array], jax.Array]:
    def layer(w, x):
        letters = c.storage
        for move in c.moves:
            w, letters = _moved(w, letters, move)
        w = w.transpose([letters.index(letter) for letter in c.weight])
        return jnp.einsum(f"{c.data},{c.weight}->{c.output}", x, w)

    return layer


def _moved(w, letters, move):
    if isinstance(move, tuple):  # a transpose, by the order of a longer permutation
        order = [i for i in move if i < len(letters)]
        return w.transpose(order), "".join(letters[i] for i in order)
    if move == "flatten":
        return w.reshape(-1).reshape(w.shape), letters
    if move == "merge" and w.ndim > 1:
        return w.reshape(-1, *w.shape[2:]).reshape(w.shape), letters
    if move == "halve" and w.shape[0] % 2 == 0:
        return w.reshape(2, -1, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape), letters
    if move == "standardize":
        return (w - w.mean(0, keepdims=True)) * 2.0, letters
    return w.astype(jnp.bfloat16).astype(w.dtype)[None, ..., None][0, ..., 0], letters


def _wrapped(fn, wrap, w, x):
    """`fn` under a transformation, with the shapes of what it takes then."""

    def with_leading(shape):
        return jax.ShapeDtypeStruct((3, *shape.shape), shape.dtype)

    if wrap == "jit":
        return jax.jit(fn), w, x
    if wrap == "remat":
        return jax.checkpoint(fn), w, x
    if wrap == "vmap":
        return jax.vmap(fn, (None, 0)), w, with_leading(x)
    if wrap == "scan":
        return (
            lambda w, x: jax.lax.scan(lambda _, row: (None, fn(w, row)), None, x)[1],
            w,
            with_leading(x),
        )
    if wrap == "cond":
        return (
            lambda w, x: jax.lax.cond(x.sum() > 0, fn, lambda w, x: -fn(w, x), w, x),
            w,
            x,
        )
    if wrap == "ensemble":
        return jax.vmap(fn), with_leading(w), with_leading(x)
    if wrap == "layers":
        return (
            lambda w, x: jax.lax.scan(lambda c, w: (c + fn(w, x).sum(), None), 0.0, w)[0],
            with_leading(w),
            x,
        )
    assert wrap == "loop"
    return (
        lambda w, x: jax.lax.fori_loop(0, 3, lambda i, c: c + fn(w[i], x).sum(), 0.0),
        with_leading(w),
        x,
    )


STACKING = ("ensemble", "layers", "loop")
WRAPS = ("jit", "remat", "vmap", "scan", "cond", *STACKING)
MOVES = ("flatten", "merge", "halve", "standardize", "cast")


@st.composite
def contractions(draw) -> Contraction:
    contracted = "ij"[: draw(st.integers(1, 2))]
    outputs = "op"[: draw(st.integers(0, 2))]
    shared = "e"[: draw(st.integers(0, 1))]
    alone = "s"[: draw(st.integers(0, 1))]  # summed over in the weight alone
    batch = "bc"[: draw(st.integers(0, 2))]
    shuffled = lambda letters: "".join(draw(st.permutations(letters)))  # noqa: E731
    moves = draw(
        st.lists(
            st.one_of(st.sampled_from(MOVES), st.permutations(range(7)).map(tuple)), max_size=3
        )
    )
    return Contraction(
        data=shuffled(batch + contracted + shared),
        weight=shuffled(contracted + outputs + shared + alone),
        output=shuffled(batch + outputs + shared),
        storage=shuffled(contracted + outputs + shared + alone),
        moves=tuple(moves),
        wraps=tuple(draw(st.lists(st.sampled_from(WRAPS), max_size=4))),
        sizes={letter: draw(st.integers(2, 6)) for letter in "ijopesbc"},
    )


def _check(c: Contraction) -> None:
    w = jax.ShapeDtypeStruct(c.shape(c.storage), jnp.float32)
    x = jax.ShapeDtypeStruct(c.shape(c.data), jnp.float32)
    fn = _layer(c)
    for wrap in c.wraps:
        fn, w, x = _wrapped(fn, wrap, w, x)
    spec = gc_optax.fan_in_by_trace(fn, w, x)
    assert math.prod(w.shape) > 0
    if len(w.shape) < 2:
        assert spec.axes == ()
    else:
        assert (spec.axes, spec.batch_axes) == (c.axes, c.batch_axes), spec


@hypothesis.settings(max_examples=200)
@hypothesis.given(contractions())
def test_axes_are_those_of_the_einsum_string(contraction):
    _check(contraction)


@pytest.mark.slow
@hypothesis.settings(max_examples=2000, suppress_health_check=[hypothesis.HealthCheck.too_slow])
@hypothesis.given(contractions())
def test_axes_are_those_of_the_einsum_string_at_length(contraction):
    _check(contraction)
