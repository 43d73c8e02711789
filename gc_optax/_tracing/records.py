"""`Record`: what was seen of a parameter leaf at one place; `Recorder`: all that was seen."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal

from jax.extend.source_info_util import summarize

from gc_optax._tracing.layout import Dim, Rows
from gc_optax._tracing.values import Evidence, Value

RecordKind = Literal["dense", "conv", "lookup", "mixed", "unknown", "remark"]

BLOCKING = ("chosen among activations", "multiplied with activations")
"""Remarks of which a layer by other means, or another role of the leaf, may be the reason."""

REMATERIALIZED = "rematted_computation"
"""What JAX calls the part of a backward pass in which a checkpoint runs forward again."""

_CELL = r"^(.*[/\\](ipykernel_\d+[/\\]\d+|ipython-input-[\d-]+)\.py|<ipython-input[^>]*>)"
"""The file of a cell in Jupyter, as IPython names it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One sighting."""

    leaf: int
    kind: RecordKind
    stack: tuple[Any, ...]  # the equations around the place, outermost first
    node: Value  # what came out, which tells whether the loss depends on it
    evidence: Evidence  # how sure it is that the leaf met data here
    axes: frozenset[int] = frozenset()  # contracted axes of the leaf
    batch: frozenset[int] = frozenset()  # axes that ran along with the data: copies of the layer
    present: frozenset[int] = frozenset()  # all axes that went into the contracted array
    partial: frozenset[int] = frozenset()  # axes contracted in part only
    parts: frozenset[tuple[int, Rows | None]] = frozenset()  # slices of axes, see `parts`
    outputs: tuple[Dim, ...] = ()  # where the other dimensions come from
    product: str = ""  # what it was contracted with on the way, which may be the layer's input
    stopped: bool = False  # no gradient flows back from here
    direct: bool = True  # of a remark: whether the leaf itself met the data, not what it gave
    groups: int | None = None  # of a convolution
    text: str = ""  # for "unknown" the primitive, for "remark" what was done

    @property
    def blocks(self) -> bool:
        """Whether the leaf itself met data in a way that a layer's weights do not."""
        return (
            self.kind == "remark"
            and self.direct
            and bool(self.axes)
            and self.evidence == Evidence.ARGUMENT
            and self.text in BLOCKING
            and not self.is_backward
        )

    @property
    def is_use(self) -> bool:
        return self.kind in ("dense", "conv")

    @property
    def is_backward(self) -> bool:
        """Whether the place is in a backward pass, which uses each parameter transposed."""
        return is_backward(self.stack)

    @property
    def where(self) -> str:
        """The place, for people: the modules' names as far as known, and the line of code."""
        names = "/".join(filter(None, (str(eqn.source_info.name_stack) for eqn in self.stack)))
        line = summarize(self.stack[-1].source_info) if self.stack else ""
        line = re.sub(_CELL, "notebook cell", line)
        line = re.sub(r"^.*[/\\\\]", "", line)
        return f"{names} ({line})" if names else line


def is_backward(stack: Sequence[Any], backward: bool = False) -> bool:
    """Whether the innermost of these equations belongs to a backward pass, inside one or not.

    What is recomputed there for a checkpoint is forward again. Transformations and the scopes of
    users stand in the same stack of names, as different types.
    """
    for eqn in stack:
        for entry in eqn.source_info.name_stack.stack:
            if entry.name == "transpose" and type(entry).__name__ == "Transform":
                backward = True
            elif entry.name == REMATERIALIZED:
                backward = False
    return backward


class Site:
    """Where in the source an equation comes from. Compared by identity, which is cheap."""

    def __init__(self, eqn: Any):
        self._eqn = eqn

    def is_expression_of(self, eqn: Any) -> bool:
        """Whether both equations come from the same expression, such as one `einsum` of three."""
        one, other = self._eqn.source_info, eqn.source_info
        same_line = summarize(one) == summarize(other)
        return same_line and str(one.name_stack) == str(other.name_stack)  # with the `einsum`'s own


class Recorder:
    """Keeps the records, and where in the program the interpreter is."""

    def __init__(self):
        self.records: list[Record] = []
        self.stack: list[Any] = []

    def place(self) -> tuple[Any, ...]:
        """The equations that we are in, outermost first."""
        return tuple(self.stack)

    def record(
        self,
        leaf: int,
        kind: RecordKind,
        node: Value,
        evidence: Evidence,
        stack: tuple[Any, ...] = (),
        **details,
    ) -> None:
        """Records a sighting, here unless `stack` says where; `node` is what came out of it."""
        self.records.append(Record(leaf, kind, stack or self.place(), node, evidence, **details))

    def remark(self, value: Value, phrase: str, node: Value, direct: bool = True) -> None:
        """Records of each leaf in `value` that this was done to it.

        Leaves of which data has chosen a part were looked up. `direct` says whether the leaf itself
        becomes part of an activation here.
        """
        evidence = node.evidence
        direct = direct and not value.activation
        for leaf, primitive in value.unknown.items():
            text = f"{phrase} after `{primitive}`"
            self.record(leaf, "remark", node, evidence, text=text, direct=direct)
        for leaf, layout in value.layouts.items():
            if layout.picked or (layout.replicated and value.activation):
                self.record(leaf, "lookup", node, evidence, stopped=layout.stopped)
            elif not layout.mixed:
                self.record(
                    leaf, "remark", node, evidence, text=phrase, axes=layout.axes(), direct=direct
                )

    def hidden(self, value: Value, node: Value, primitive: str = "") -> None:
        """Records that leaves met data where no layout says over which axes."""
        if value.activation:
            return
        for leaf, layout in value.layouts.items():
            if primitive and layout.axes():
                self.record(leaf, "unknown", node, node.evidence, text=primitive)
        for leaf, hidden_by in value.unknown.items():
            self.record(leaf, "unknown", node, node.evidence, text=hidden_by)

    def use(
        self,
        leaf: int,
        kind: RecordKind,
        node: Value,
        value: Value,
        evidence: Evidence,
        axes: frozenset[int],
        product: str,
        kept: frozenset[int] | None = None,
        batch: frozenset[int] = frozenset(),
        groups: int | None = None,
        outputs: tuple[Dim, ...] = (),
        stack: tuple[Any, ...] = (),
    ) -> None:
        """Records that axes of a leaf were contracted; those still in `kept` only in part."""
        layout = value.layouts[leaf]
        axes |= layout.summed
        on_edges = [far for edge in value.edges for end, far in edge.ends if end == leaf]
        self.record(
            leaf,
            kind,
            node,
            evidence,
            stack,
            axes=axes,
            batch=(batch | layout.picked) - axes,
            present=layout.axes().union(layout.reduced, *on_edges),
            partial=axes & (layout.chosen | (layout.axes() if kept is None else kept)),
            parts=layout.parts,
            outputs=outputs,
            product=product,
            stopped=layout.stopped,
            groups=groups,
        )

    def follow_edges(
        self, value: Value, start: Sequence[int], node: Value, evidence: Evidence
    ) -> None:
        """Records the contractions between parameters, outward from the leaves next to the data.

        In `x @ (W + A @ B)`, `x` is contracted with `A`, and `B` with what comes of that. In
        `x @ (A @ B)` that is not certain, since `B` could also be a layer that maps inputs `A`.
        """
        visited, frontier = set(start), list(start)
        while frontier:
            near = frontier.pop(0)
            for edge in value.edges:
                for (here, _), (far, axes) in (edge.ends, edge.ends[::-1]):
                    if here != near or far in visited or far not in value.layouts:
                        continue
                    visited.add(far)
                    frontier.append(far)
                    product = "" if edge.is_weight else "another parameter"
                    self.use(far, "dense", node, value, evidence, axes, product, stack=edge.stack)
