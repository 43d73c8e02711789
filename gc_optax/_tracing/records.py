"""`Record`: what was seen of a parameter leaf at one place of the computation."""

import dataclasses
import re
from typing import Any, Literal

from jax.extend.source_info_util import summarize

from gc_optax._tracing.values import Value

Kind = Literal["dense", "conv", "lookup", "lost", "note"]


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One sighting."""

    leaf: int
    kind: Kind
    stack: tuple[Any, ...]  # the equations around the place, outermost first
    node: Value  # what came out, which tells whether the loss depends on it
    axes: frozenset[int] = frozenset()  # contracted axes of the leaf
    batch: frozenset[int] = frozenset()  # axes that ran along with the data: copies of the layer
    present: frozenset[int] = frozenset()  # all axes that went into the contracted array
    partial: frozenset[int] = frozenset()  # axes contracted in part only
    product: bool = False  # contracted with another parameter on the way
    stopped: bool = False  # no gradient flows back from here
    text: str = ""  # for "lost" the primitive, for "note" what was done

    @property
    def is_backward(self) -> bool:
        """Whether the place is in a backward pass, which uses each parameter transposed.

        What is recomputed there for a checkpoint is forward again.
        """
        names = "/".join(str(eqn.source_info.name_stack) for eqn in self.stack)
        return "transpose(" in names and "rematted" not in names.rpartition("transpose(")[2]

    @property
    def where(self) -> str:
        """The place, for people: the modules' names as far as known, and the line of code."""
        names = "/".join(filter(None, (str(eqn.source_info.name_stack) for eqn in self.stack)))
        line = (
            re.sub(r"^.*[/\\\\]", "", summarize(self.stack[-1].source_info)) if self.stack else ""
        )
        return f"{names} ({line})" if names else line
