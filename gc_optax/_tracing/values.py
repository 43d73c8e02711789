"""`Value`: what is known about one intermediate array.

A value is *data* (it depends on an input), or a *weight* (on parameters and constants only), or a
constant (a weight without layouts). A weight knows its `Layout` for each leaf that it came from.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gc_optax._tracing import layout as lay
from gc_optax._tracing.layout import Layout

MAIN, STATISTIC = 2, 1
"""How a value depends on another: through the computation, or only by a scale factor."""


@dataclasses.dataclass(frozen=True)
class Bond:
    """A contraction between two parameters: `A @ B` of a low-rank `W + A @ B`."""

    ends: tuple[tuple[int, frozenset[int]], tuple[int, frozenset[int]]]  # (leaf, its axes)
    is_weight: bool = False  # the product was added to a weight, so it is one
    stack: tuple[Any, ...] = dataclasses.field(default=(), compare=False)  # where, see Record


class Value:
    """One array of the computation. Compared by `same`, hashed by identity."""

    __slots__ = ("bonds", "data", "layouts", "lost", "one_hot", "sources", "uniform")

    def __init__(
        self,
        *,
        data: bool = False,
        uniform: bool = False,
        one_hot: bool = False,
        layouts: Mapping[int, Layout] | None = None,
        lost: Mapping[int, str] | None = None,
        bonds: frozenset[Bond] = frozenset(),
        sources: Iterable[tuple["Value", int]] = (),
    ):
        self.data = data  # depends on an input
        self.uniform = uniform  # one number, perhaps broadcast
        self.one_hot = one_hot  # data that is 1 where an index is, else 0
        self.layouts: Mapping[int, Layout] = layouts or {}  # by leaf; negative: a constant
        self.lost: Mapping[int, str] = lost or {}  # leaf -> the primitive that lost its layout
        self.bonds = bonds
        self.sources = list(sources)  # what it was computed from, and how it depends on that

    @property
    def is_weight(self) -> bool:
        return not self.data and bool(self.layouts or self.lost)

    def same(self, other: "Value") -> bool:
        """Whether the same is known about both."""
        return (
            self.data == other.data
            and self.uniform == other.uniform
            and self.layouts == other.layouts
            and self.lost.keys() == other.lost.keys()
            and self.bonds == other.bonds
        )

    def map(self, function: Callable[[Layout], Layout | None], primitive: str) -> "Value":
        """The value with another layout for each leaf; None is a layout lost at `primitive`."""
        layouts: dict[int, Layout] = {}
        lost = dict(self.lost)
        for leaf, layout in self.layouts.items():
            new = function(layout)
            if new is not None:
                layouts[leaf] = new
            else:
                lost[leaf] = primitive
        return Value(
            uniform=self.uniform,
            layouts=layouts,
            lost=lost,
            bonds=self.bonds,
            sources=[(self, MAIN)],
        )


CONSTANT = Value(uniform=True)


def data(sources: Iterable[Value], uniform: bool = False, one_hot: bool = False) -> Value:
    """A value that depends on an input."""
    used = [(source, MAIN) for source in sources if source is not CONSTANT]
    return Value(data=True, uniform=uniform, one_hot=one_hot, sources=used)


def merge(values: Sequence[Value], shape: Sequence[int], primitive: str) -> Value:
    """The elementwise combination of weights and constants.

    Operands may have rank 0, or size 1 where the others are larger.
    """
    layouts: dict[int, Layout] = {}
    lost: dict[int, str] = {}
    for value in values:
        lost.update(value.lost)
        for leaf, layout in value.layouts.items():
            layout = lay.stretched(layout, shape)
            both = lay.merged(layouts[leaf], layout) if leaf in layouts else layout
            if both is None:
                lost[leaf] = primitive
            else:
                layouts[leaf] = both
    return Value(
        uniform=all(value.uniform for value in values),
        layouts={leaf: layout for leaf, layout in layouts.items() if leaf not in lost},
        lost=lost,
        bonds=frozenset().union(*(value.bonds for value in values)),
        sources=[(value, MAIN) for value in values if value is not CONSTANT],
    )
