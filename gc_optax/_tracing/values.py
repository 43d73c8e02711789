"""`Value`: what is known about one intermediate array.

An array is a *weight* (made of parameters, perhaps with constants), a *constant* (made of nothing
that is learned and of no argument), or an *activation* (what a layer gives, or takes: an argument
of the function, or the product of a weight with a constant). Weights and some activations know,
for each leaf they are made of, its `Layout`. See README.md beside this file.
"""

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gc_optax._tracing import layout as lay
from gc_optax._tracing.layout import Layout

MAIN, STATISTIC = 2, 1
"""How a value depends on another: through the computation, or only by a scale factor."""


class Evidence(enum.IntEnum):
    """How sure it is that an array is data; what the surer data says outranks the rest."""

    NONE = 0  # made of parameters alone
    MADE = 1  # a constant that the function makes: positions, noise, ones
    CLOSED = 2  # a constant that the function closes over: a batch, or a mask
    ARGUMENT = 3  # depends on an argument


@dataclasses.dataclass(frozen=True)
class ContractionEdge:
    """A contraction between two parameters: `A @ B` of a low-rank `W + A @ B`."""

    ends: tuple[tuple[int, frozenset[int]], tuple[int, frozenset[int]]]  # (leaf, its axes)
    is_weight: bool = False  # the product was added to a weight, so it is one
    stack: tuple[Any, ...] = dataclasses.field(default=(), compare=False)  # where, see Record


class Value:
    """One array of the computation. Compared by `same`, hashed by identity."""

    __slots__ = (
        "activation",
        "array",
        "edges",
        "evidence",
        "gradient",
        "is_sum",
        "layouts",
        "noise",
        "one_hot",
        "outer",
        "sources",
        "splat",
        "unknown",
    )

    def __init__(
        self,
        evidence: Evidence = Evidence.NONE,
        *,
        activation: bool = False,
        splat: bool = False,
        one_hot: frozenset[int] = frozenset(),
        outer: tuple[frozenset[int], ...] = (),
        gradient: bool = False,
        is_sum: bool = False,
        noise: bool = False,
        array: Any = None,
        layouts: Mapping[int, Layout] | None = None,
        unknown: Mapping[int, str] | None = None,
        edges: frozenset[ContractionEdge] = frozenset(),
        sources: Iterable[tuple["Value", int]] = (),
    ):
        self.evidence = evidence
        self.activation = activation
        self.splat = splat  # one number, perhaps broadcast
        self.one_hot = one_hot  # dimensions along which it is 1 at an index, else 0
        self.outer = outer  # dimensions of either factor of an outer product of activations
        self.gradient = gradient  # computed by a backward pass
        self.is_sum = is_sum  # one of its sources, moved or cast, plus the others
        self.noise = noise  # a constant that is drawn by a key
        self.array = array  # of a constant: what it is, or what computes it, see `constants`
        self.layouts: Mapping[int, Layout] = layouts or {}  # by leaf
        self.unknown: Mapping[int, str] = unknown or {}  # leaf -> the primitive that hid its layout
        self.edges = edges
        self.sources = list(sources)  # what it was computed from, and how it depends on that

    @property
    def has_leaves(self) -> bool:
        """Whether it may still stand for parameters where it meets data."""
        return bool(self.layouts or self.unknown)

    @property
    def is_data(self) -> bool:
        """Whether it depends on an argument of the function."""
        return self.evidence == Evidence.ARGUMENT

    @property
    def is_weight(self) -> bool:
        """Whether it is made of parameters, and no layer has been applied yet."""
        return self.has_leaves and not self.activation

    @property
    def is_constant(self) -> bool:
        return not self.activation and not self.has_leaves

    @property
    def own_evidence(self) -> Evidence:
        """What data must exceed for a contraction with this value to be a use of its leaves."""
        return self.evidence if self.activation else Evidence.NONE

    def same(self, other: "Value") -> bool:
        """Whether the same is known about both."""
        return (
            self.evidence == other.evidence
            and self.activation == other.activation
            and self.splat == other.splat
            and self.one_hot == other.one_hot
            and self.layouts == other.layouts
            and self.unknown.keys() == other.unknown.keys()
            and self.edges == other.edges
        )

    def map(self, function: Callable[[Layout], Layout | None], primitive: str) -> "Value":
        """The value with another layout for each leaf; None is a layout hidden by `primitive`."""
        layouts: dict[int, Layout] = {}
        unknown = dict(self.unknown)
        for leaf, layout in self.layouts.items():
            new = function(layout)
            if new is not None:
                layouts[leaf] = new
            else:
                unknown[leaf] = primitive
        return Value(
            self.evidence,
            activation=self.activation,
            splat=self.splat,
            gradient=self.gradient,
            layouts=layouts,
            unknown=unknown,
            edges=self.edges,
            sources=[(self, MAIN)],
        )


SPLAT = Value(splat=True)
"""A single number that is written in the program."""


def activation(sources: Iterable[Value], evidence: Evidence = Evidence.ARGUMENT, **known) -> Value:
    """What a layer gives, or an argument, of which no leaf is a part any more."""
    used = [(source, MAIN) for source in sources if not source.is_constant]
    return Value(evidence, activation=True, sources=used, **known)


def is_pending(value: Value) -> bool:
    """Whether data has chosen, mixed or updated leaves of which it may yet turn out what they are.

    They are a layer's weights if data meets them next, and else an activation.
    """
    return value.activation and (
        (value.is_data and value.has_leaves)
        or any(
            layout.picked or layout.updated or (layout.mixed and not layout.product)
            for layout in value.layouts.values()
        )
    )


def combined_evidence(values: Sequence[Value]) -> tuple[Evidence, bool]:
    """The evidence of an elementwise combination, and whether it is an activation."""
    activations = [value.evidence for value in values if value.activation]
    if activations:
        return max(activations), True
    if any(value.has_leaves for value in values):
        return Evidence.NONE, False  # a mask or noise on a weight leaves it a weight
    return max((value.evidence for value in values), default=Evidence.NONE), False


def merge(values: Sequence[Value], shape: Sequence[int], primitive: str) -> Value:
    """The elementwise combination of weights, constants and activations with leaves.

    Operands may have rank 0, or size 1 where the others are larger.
    """
    layouts: dict[int, Layout] = {}
    unknown: dict[int, str] = {}
    for value in values:
        unknown.update(value.unknown)
        for leaf, layout in value.layouts.items():
            layout = lay.stretched(layout, shape)
            layouts[leaf] = lay.merged(layouts[leaf], layout) if leaf in layouts else layout
    evidence, is_activation = combined_evidence(values)
    return Value(
        evidence,
        activation=is_activation,
        splat=all(value.splat for value in values),
        gradient=any(value.gradient for value in values),
        layouts={leaf: layout for leaf, layout in layouts.items() if leaf not in unknown},
        unknown=unknown,
        edges=frozenset().union(*(value.edges for value in values)),
        sources=[(value, MAIN) for value in values if not value.is_constant],
    )


def hide(operands: Sequence[Value], primitive: str) -> Value:
    """A combination of the operands in a way that no layout describes."""
    evidence, is_activation = combined_evidence(operands)
    unknown: dict[int, str] = {}
    for value in operands:
        # What an activation is made of has been seen in its layer.
        if not value.activation:
            unknown.update(dict.fromkeys(value.layouts, primitive))
            unknown.update(value.unknown)
    return Value(
        evidence,
        activation=is_activation,
        gradient=any(value.gradient for value in operands),
        unknown=unknown,
        sources=[(value, MAIN) for value in operands if not value.is_constant],
    )


class Reference(Value):
    """A `jax.Ref`: the place that an array is kept in, and what is known about that array."""

    __slots__ = ("content", "shape")

    def __init__(self, content: Value, shape: Sequence[int]):
        super().__init__()
        self.content = content
        self.shape = tuple(shape)
