"""Primitives that sum products: here a parameter shows its fan-in."""

from collections.abc import Callable, Collection, Sequence

from gc_optax._tracing import layout as lay
from gc_optax._tracing.control_flow import merge_lost, unknown
from gc_optax._tracing.interpreter import Interpreter, rule, shape_of
from gc_optax._tracing.layout import Layout
from gc_optax._tracing.records import Kind
from gc_optax._tracing.structure import lookup
from gc_optax._tracing.values import CONSTANT, MAIN, Bond, Value


def contract(
    self: Interpreter,
    eqn,
    operands: Sequence[Value],
    weight: Value,
    contracted: Collection[int],
    batch: Callable[[Layout], frozenset[int]],
    kind: Kind,
) -> list[Value]:
    """Records that `weight` is contracted with data over the given dimensions."""
    outputs = self.data_outputs(eqn, operands)
    node = outputs[0]
    for leaf, primitive in weight.lost.items():
        self.record(leaf, "lost", node, text=primitive)
    in_product = {leaf for bond in weight.bonds if not bond.is_weight for leaf, _ in bond.ends}
    summed = {leaf for leaf, layout in weight.layouts.items() if leaf >= 0 and layout.summed}
    if len(summed) > 1:  # `(A[:, None] * B).sum(-1)`: a product of parameters by other means
        in_product |= summed
    next_to_data = []
    for leaf, layout in weight.layouts.items():
        axes = layout.axes(contracted)
        if axes:
            next_to_data.append(leaf)
            kept = layout.axes(d for d in range(len(layout.dims)) if d not in contracted)
            self.record_use(leaf, kind, node, weight, axes, leaf in in_product, kept, batch(layout))
    self.follow_bonds(weight, next_to_data, node)
    return outputs


@rule("dot_general")
def _dot_general(self: Interpreter, eqn, operands):
    contracting, batching = eqn.params["dimension_numbers"]
    # A parameter that is repeated over a new dimension (a class token for each image of a batch)
    # is an activation to whatever it meets.
    repeated = [
        _is_repeated(value, {*contracting[side], *batching[side]})
        for side, value in enumerate(operands)
    ]
    for side, value in enumerate(operands):
        other = operands[1 - side]
        if not value.data and (other.data or (repeated[1 - side] and not repeated[side])):
            if other.one_hot:
                return lookup(self, eqn, value, operands)
            outputs = contract(
                self,
                eqn,
                operands,
                value,
                contracting[side],
                lambda layout, dims=batching[side]: layout.axes(dims),
                "dense",
            )
            self.note(other, "repeated among activations", outputs[0])
            return outputs
    return [_product(self, eqn, operands, contracting, batching)]


def _is_repeated(value: Value, used: Collection[int]) -> bool:
    """Whether a dimension that the product keeps comes from no axis of any leaf."""
    layouts = value.layouts.values()
    rank = max((len(layout.dims) for layout in layouts), default=0)
    return value.is_weight and any(
        all(layout.dims[d] and not layout.axes([d]) for layout in layouts)
        for d in range(rank)
        if d not in used
    )


def _product(self: Interpreter, eqn, operands, contracting, batching) -> Value:
    """`A @ B` of two parameters, or of one and a constant: not yet a use of either."""
    shapes = [shape_of(atom) for atom in eqn.invars]
    sides = [self.with_layout(value, shape) for value, shape in zip(operands, shapes, strict=True)]
    layouts: dict[int, Layout] = {}
    ends: list[list[tuple[int, frozenset[int]]]] = [[], []]
    free = [
        [d for d in range(len(shape)) if d not in (*contracting[side], *batching[side])]
        for side, shape in enumerate(shapes)
    ]
    for side, value in enumerate(sides):
        others = [lay.broadcast(shapes[1 - side][d]) for d in free[1 - side]]
        for leaf, layout in value.layouts.items():
            batch = [layout.dims[d] for d in batching[side]]
            own = [layout.dims[d] for d in free[side]]
            product = layout.pick([*batch, *others, *own] if side else [*batch, *own, *others])
            axes = layout.axes(contracting[side])
            # Contracted with itself, or in part only: beyond what a layout can say.
            if leaf in layouts or axes & product.axes():
                return merge_lost(operands, eqn.primitive.name)
            layouts[leaf] = product
            if axes:
                ends[side].append((leaf, axes))
    if any(value.lost for value in sides):
        return merge_lost(operands, eqn.primitive.name)
    bonds = frozenset(
        Bond((one, other), stack=self.place()) for one in ends[0] for other in ends[1]
    )
    return Value(
        layouts=layouts,
        bonds=bonds.union(*(value.bonds for value in sides)),
        sources=[(value, MAIN) for value in operands if value is not CONSTANT],
    )


@rule("ragged_dot_general")
def _ragged_dot_general(self: Interpreter, eqn, operands):
    """The rows of a group meet the matrix of their group: experts."""
    left, right, _ = operands
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    contracting, batching = numbers.dot_dimension_numbers
    if not left.data or right.data:
        return unknown(self, eqn, operands)
    groups = {*batching[1], *numbers.rhs_group_dimensions}
    return contract(
        self, eqn, operands, right, contracting[1], lambda layout: layout.axes(groups), "dense"
    )


@rule("conv_general_dilated")
def _conv_general_dilated(self: Interpreter, eqn, operands):
    """The kernel is contracted over its input features and window."""
    image, kernel = operands
    numbers = eqn.params["dimension_numbers"]
    is_image = image.data or _is_repeated(image, numbers.lhs_spec[1:])
    if not is_image or kernel.data:
        return unknown(self, eqn, operands)
    features, *contracted = numbers.rhs_spec
    groups = eqn.params["feature_group_count"] * eqn.params["batch_group_count"]
    outputs = contract(
        self,
        eqn,
        operands,
        kernel,
        contracted,
        lambda layout: _group_axes(layout.dims[features], groups),
        "conv",
    )
    self.note(image, "repeated among activations", outputs[0])
    return outputs


def _group_axes(features: lay.Dim, groups: int) -> frozenset[int]:
    """Axes that make up the groups, where a vmap has turned its axis into groups."""
    for n in range(1, len(features)):
        if lay.size_of(features[:n]) == groups:
            axes = frozenset(axis for piece in features[:n] for axis in piece.axes)
            rest = frozenset(axis for piece in features[n:] for axis in piece.axes)
            return axes - rest
    return frozenset()
