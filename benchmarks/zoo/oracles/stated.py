"""Bare parameters: the entry states the axes by hand, with its reason."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.zoo.case import Case, Entry, Right, leaves_of


def case(fn, stated: Mapping[str, tuple], *args: Any) -> Case:
    """A function of a flat dict of parameters.

    Args:
        fn: The function of parameters and `args`.
        stated: By name: the shape, the axes, why these, and what is right, too (`Right.also`).
        *args: The data.
    """
    params = {name: jax.ShapeDtypeStruct(row[0], jnp.float32) for name, row in stated.items()}
    right = {
        name: Right(axes, f"by hand: {why}", *also)
        for name, (_, axes, why, *also) in stated.items()
    }
    return Case(fn, params, args, {path: right[path] for path in leaves_of(params)})


def scanned(fn):
    """The function as the body of a scan that hands nothing on."""
    return lambda p, *args: lax.scan(lambda c, _: (c, fn(p, *args)), 0.0, None, length=2)[1]


def mapped(fn):
    """The function under `vmap`, over copies of its arguments."""

    def batched(p, *args):
        copies = [jnp.stack([arg, arg]) for arg in args]
        return jax.vmap(fn, (None, *[0] * len(args)), axis_size=2)(p, *copies)

    return batched


SPELLINGS: dict[str, Callable[[Any], Any]] = {
    "": lambda fn: fn,
    ", jitted": jax.jit,
    ", rematerialized": jax.checkpoint,
    ", scanned": scanned,
    ", mapped": mapped,
}
"""What changes no axes: idioms take one of these each, by turns."""

CLOSED = ", closed over"
"""The last turn: all but the parameters are arrays of the closure."""


def spelled(
    turn: int, fn, stated: Mapping[str, tuple], *args: Any
) -> tuple[str, Callable[[], Case]]:
    """How the function is written when it is this turn, and what builds its case."""
    turn %= len(SPELLINGS) + 1
    if turn == len(SPELLINGS) and args:
        return CLOSED, lambda: case(lambda p: fn(p, *args), stated)
    how, spell = list(SPELLINGS.items())[turn % len(SPELLINGS)]
    return how, lambda: case(spell(fn), stated, *args)


class Idioms:
    """The functions of a module, each noted down by a decorator that states its parameters."""

    def __init__(self):
        self.rows: list[tuple[str, Any, Mapping[str, tuple], tuple[Any, ...]]] = []

    def __call__(self, name: str, stated: Mapping[str, tuple], *args: Any):
        """The decorator of a function of `stated` and `args`."""

        def note(fn):
            self.rows.append((name, fn, stated, args))
            return fn

        return note

    def entries(self) -> list[Entry]:
        """All of them, in spellings by turns."""
        entries = []
        for turn, (name, fn, stated, args) in enumerate(self.rows):
            how, build = spelled(turn, fn, stated, *args)
            entries.append(Entry(name + how, build))
        return entries
