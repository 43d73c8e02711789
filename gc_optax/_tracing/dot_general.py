"""`dot_general`: the product of two arrays, either of which may be the layer's weights."""

from gc_optax._tracing import layout as lay
from gc_optax._tracing.constants import sums_to_one
from gc_optax._tracing.contraction import (
    as_data,
    contract,
    contract_pending,
    mixed_by_constants,
)
from gc_optax._tracing.indexing import selected
from gc_optax._tracing.interpreter import LINEAR, Interpreter, rule, shape_of
from gc_optax._tracing.layout import Layout
from gc_optax._tracing.records import Site
from gc_optax._tracing.values import (
    MAIN,
    ContractionEdge,
    Evidence,
    Value,
    hide,
    is_pending,
)

LINEAR.add("dot_general")


class Side:
    """An operand, and which of its dimensions are what."""

    def __init__(self, eqn, value: Value, index: int):
        contracting, batching = eqn.params["dimension_numbers"]
        self.value = value
        self.index = index
        self.shape = shape_of(eqn.invars[index])
        self.order = tuple(contracting[index])
        self.contracted = frozenset(self.order)
        self.batch = tuple(batching[index])
        used = {*self.contracted, *self.batch}
        self.free = tuple(d for d in range(len(self.shape)) if d not in used)

    @property
    def as_data(self) -> Evidence:
        """How sure it is that this is data for the other side."""
        return as_data(self.value, self.free)

    def in_product(self, layout: Layout, other: "Side") -> Layout:
        """The layout in the output, whose other dimensions are the other factor's."""
        batch = [layout.dims[d] for d in self.batch]
        own = [layout.dims[d] for d in self.free]
        others = [lay.foreign(other.shape[d]) for d in other.free]
        return layout.pick([*batch, *own, *others] if self.index == 0 else [*batch, *others, *own])

    def repeated(self, layout: Layout, other: "Side") -> Layout:
        """The same, for a factor that is an array of data: the leaf is repeated over its rows."""
        start = len(self.batch) + (len(self.free) if self.index == 0 else 0)
        dims = list(self.in_product(layout, other).dims)
        for d, size in enumerate(other.shape[e] for e in other.free):
            dims[start + d] = lay.broadcast(size)
        return layout.pick(dims)


@rule("dot_general")
def _dot_general(interpreter: Interpreter, eqn, operands):
    left, right = (Side(eqn, value, index) for index, value in enumerate(operands))
    for side, other in ((left, right), (right, left)):
        if side.value.has_leaves and _chooses(other) and not is_pending(side.value):
            return [_selection(interpreter, side, other)]
    if all(side.as_data for side in (left, right)) and any(map(is_pending, operands)):
        (output,) = interpreter.activations(eqn, operands)
        for side, other in ((left, right), (right, left)):
            # Which outputs are taken says nothing of the layer that they come from.
            if is_pending(side.value) and not _chooses(other):
                if _has_outputs(side) and _has_outputs(other):  # two factors of a low-rank product
                    interpreter.recorder.remark(side.value, "multiplied with another", output)
                    continue
                contract_pending(
                    interpreter,
                    output,
                    side.value,
                    other.value,
                    side.contracted,
                    side.free,
                    side.batch,
                )
        return [output]
    for side, other in ((left, right), (right, left)):
        if other.value.is_weight and _has_outputs(side):
            # A low-rank product that data has chosen one factor of, or an activation.
            (output,) = interpreter.activations(eqn, operands)
            for leaf, layout in other.value.layouts.items():
                text = "multiplied with a weight that data has chosen"
                axes = layout.axes(other.contracted)
                interpreter.recorder.record(
                    leaf, "mixed", output, output.evidence, axes=axes, text=text
                )
            interpreter.recorder.remark(side.value, "multiplied with another weight", output)
            return [output]
    for side in (left, right):
        side.value = interpreter.settled(side.value, "dot_general")
    return [_product(interpreter, eqn, left, right)]


def _has_outputs(side: Side) -> bool:
    """Whether data has chosen whole kernels here, whose outputs are not what is summed over."""
    return is_pending(side.value) and any(
        (layout.picked or layout.updated) and layout.axes(side.free) - layout.picked
        for layout in side.value.layouts.values()
    )


def _chooses(side: Side) -> bool:
    """Whether all that is summed over is what a one-hot array chooses from, or averages."""
    if not side.contracted:
        return False
    return side.contracted <= side.value.one_hot or (
        # Weights of an interpolation. (Of data, rows that sum to 1 say nothing.)
        side.value.is_constant
        and side.value.evidence == Evidence.MADE
        and sums_to_one(side.value, side.contracted)
    )


def _selection(interpreter: Interpreter, side: Side, other: Side) -> Value:
    """A contraction with a one-hot array, which chooses rows."""
    rows = range(len(side.batch), len(side.batch) + len(other.free))
    if side.index == 0:
        rows = range(rows.start + len(side.free), rows.stop + len(side.free))
    return selected(
        interpreter,
        side.value,
        other.value,
        side.contracted,
        rows,
        lambda layout: side.repeated(layout, other),
    )


def _product(interpreter: Interpreter, eqn, left: Side, right: Side) -> Value:
    """Records which side is used by the other, and keeps the leaves that may still be weights."""
    sides = ((left, right), (right, left))
    both_are_weights = left.value.is_weight and right.value.is_weight
    if both_are_weights and bool(left.as_data) == bool(right.as_data):
        return _product_of_weights(interpreter, eqn, left, right)
    evidence = max(left.as_data, right.as_data)
    (output,) = interpreter.activations(eqn, [left.value, right.value], evidence)
    for side, other in sides:
        if not side.value.has_leaves:
            continue
        if other.as_data > side.value.own_evidence:
            _use(interpreter, output, side, other)
            if side.value.is_weight:
                layouts = _mixed(side, other, eqn)
                if other.value.is_constant:
                    mixed = {
                        leaf: layout._replace(product=True) for leaf, layout in layouts.items()
                    }
                    layouts = _times_constant(side, other) | mixed
                output.layouts = layouts
        elif side.value.is_weight:
            interpreter.recorder.remark(side.value, "repeated among activations", output)
        else:
            for leaf, layout in side.value.layouts.items():
                if layout.replicated:  # rows that constants have chosen, which are data here
                    interpreter.recorder.record(leaf, "lookup", output, evidence)
            mixed_by_constants(interpreter, output, side.value, side.contracted)
    return output


def _use(interpreter: Interpreter, output: Value, side: Side, other: Side) -> None:
    chosen = [d for d, e in zip(side.order, other.order, strict=True) if e in other.value.one_hot]
    contracted = side.contracted.difference(chosen)
    summed = other.contracted - other.value.one_hot
    if sum(bool(dims & summed) for dims in other.value.outer) > 1:
        # Which of the two activations is a gate, and which the layer's input, cannot be told.
        for leaf, layout in side.value.layouts.items():
            if axes := layout.axes(contracted):
                interpreter.recorder.record(leaf, "mixed", output, other.as_data, axes=axes)
        return
    contract(
        interpreter,
        output,
        side.value,
        other.value,
        contracted,
        other.as_data,
        "dense",
        [*side.batch, *chosen],
    )


def _mixed(side: Side, other: Side, eqn) -> dict[int, Layout]:
    """The leaves of which data may have made a weighted sum of whole kernels.

    A product of three arrays is made of two such steps.
    """
    layouts = {}
    for leaf, layout in side.value.layouts.items():
        axes = layout.axes(side.contracted)
        if not axes or layout.product or len(layout.dims) < 3 or side.value.edges:
            continue
        product = side.repeated(layout, other)
        if sum(bool(product.axes([d]) - axes) for d in range(len(product.dims))) > 1 and (
            len(product.axes() - axes) > 1
        ):
            copies = layout.axes(side.batch)
            layouts[leaf] = product._replace(mixed=axes, copies=copies, site=Site(eqn))
    return layouts


def _times_constant(side: Side, other: Side) -> dict[int, Layout]:
    """The leaves of `W @ constant`, which may be a layer's output and may be its weights."""
    return {
        leaf: side.in_product(layout, other)._replace(
            product=True, reduced=layout.axes(side.contracted)
        )
        for leaf, layout in side.value.layouts.items()
        if not layout.axes(side.contracted) & layout.axes((*side.free, *side.batch))
    }


def _product_of_weights(interpreter: Interpreter, eqn, left: Side, right: Side) -> Value:
    """`A @ B` of two parameters: not yet a use of either."""
    operands = [left.value, right.value]
    layouts: dict[int, Layout] = {}
    ends: list[list[tuple[int, frozenset[int]]]] = [[], []]
    for side, other in ((left, right), (right, left)):
        for leaf, layout in side.value.layouts.items():
            product = side.in_product(layout, other)
            axes = layout.axes(side.contracted)
            # Contracted with itself, or in part only: beyond what a layout can say.
            if leaf in layouts or axes & product.axes():
                return hide(operands, eqn.primitive.name)
            if axes:
                ends[side.index].append((leaf, axes))
            elif side.contracted:  # repeated along what is summed over
                product = product._replace(product=True)
            layouts[leaf] = product
    if any(value.unknown for value in operands):
        return hide(operands, eqn.primitive.name)
    edges = frozenset(
        ContractionEdge((one, other), stack=interpreter.recorder.place())
        for one in ends[0]
        for other in ends[1]
    )
    return Value(
        layouts=layouts,
        edges=edges.union(*(value.edges for value in operands)),
        sources=[(value, MAIN) for value in operands if not value.is_constant],
    )
