"""Indexing: constant indices rearrange a weight, indices that are data choose from it.

`W[i]` by constants keeps the axis that `i` runs through: what comes out may be a weight whose rows
are permuted, or the rows of an embedding, where `i` is a batch that is closed over. By data, the
axis is picked from: that is a row of an embedding, unless it is then contracted with data and has
outputs left. Then `i` had chosen a whole layer (see `contraction`). A contraction with a one-hot
array is the same.
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from gc_optax._tracing import layout as lay
from gc_optax._tracing.constants import is_permutation, is_permutation_matrix, known
from gc_optax._tracing.interpreter import LINEAR, Interpreter, rule, shape_of
from gc_optax._tracing.layout import Layout
from gc_optax._tracing.structure import cut
from gc_optax._tracing.values import (
    MAIN,
    Evidence,
    Value,
    activation,
    hide,
    is_pending,
)

LINEAR.update(["dynamic_slice", "gather"])

LayoutFn = Callable[[Layout], Layout]


@rule("dynamic_slice")
def _dynamic_slice(interpreter: Interpreter, eqn, operands):
    operand, *starts = operands
    by_data = [d for d, start in enumerate(starts) if start.activation]
    sizes, shape = shape_of(eqn.outvars[0]), shape_of(eqn.invars[0])
    if _is_activation(operand) or any(start.is_weight for start in starts):
        return interpreter.mix(eqn, operands, "used as an index")
    if any(1 < sizes[d] < shape[d] for d in by_data):
        return _looked_up(interpreter, eqn, operand, operands)

    def part(layout: Layout) -> Layout:
        return cut(layout, sizes, bool(by_data))

    return [chosen(interpreter, operand, starts, part)]


@rule("gather")
def _gather(interpreter: Interpreter, eqn, operands):
    operand, indices = operands
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    shape, whole = shape_of(eqn.outvars[0]), shape_of(eqn.invars[0])
    if indices.is_weight or _is_activation(operand):
        return _codebook(interpreter, eqn, operand, indices)
    by_data = indices.activation
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    batch = [d for d in range(len(shape)) if d not in numbers.offset_dims]
    if by_data and any(1 < sizes[d] < whole[d] for d in range(len(sizes))):
        return _looked_up(interpreter, eqn, operand, operands)
    kept = [d for d in range(len(sizes)) if d not in gone]
    gone |= {d for d in kept if sizes[d] == 1}
    cut_short = [d for d in range(len(sizes)) if sizes[d] < whole[d]]

    def gathered(layout: Layout) -> Layout:
        dims = [lay.broadcast(size) for size in shape]
        for source, target in zip(kept, numbers.offset_dims, strict=True):
            if source not in gone:
                dims[target] = lay.resized(layout.dims[source], sizes[source])
        if by_data or not batch:
            return layout.choose(dims, gone, by_data)
        # Rows that constants choose are still rows, in each dimension of the index.
        rows = tuple(piece for d in cut_short for piece in layout.dims[d])
        for target in batch:
            dims[target] = lay.joined(rows, (), shape[target])
        return _with_rows(layout, rows, indices, len(batch)).pick(dims)

    return [chosen(interpreter, operand, [indices], gathered)]


def _with_rows(layout: Layout, rows: lay.Dim, indices: Value, rank: int) -> Layout:
    """What is left of the axes of `rows` after a constant index of the given rank."""
    axes = frozenset(axis for piece in rows for axis in piece.axes)
    parts = frozenset(part for part in layout.parts if part[0] not in axes)
    left, index = None, known(indices)
    if len(rows) == 1 and index is not None and rows[0].stride == 1 and not layout.parts:
        left = lay.Rows(tuple(range(row, row + 1) for row in np.unique(index)), rows[0].size)
    if left is None or not left.is_all:
        parts |= {(axis, left) for axis in axes}
    if rank > 1 or left is None or not is_permutation(indices, left.size):
        layout = layout._replace(replicated=layout.replicated | axes)
    return layout._replace(parts=parts)


def chosen(
    interpreter: Interpreter, operand: Value, indices: Sequence[Value], function: LayoutFn
) -> Value:
    """The value with other layouts, where indices have chosen; it may be an activation now."""
    by_data = [index.evidence for index in indices if index.activation]
    if by_data and operand.activation and not is_pending(operand):
        return activation([operand, *indices], max(operand.evidence, *by_data))
    output = operand.map(function, "gather")
    output.sources += [(index, MAIN) for index in indices if not index.is_constant]
    if by_data:
        # Which of two parameters was the layer is no clearer for a part of their product.
        in_product = {leaf for e in output.edges if not e.is_weight for leaf, _ in e.ends}
        output.layouts = {
            leaf: layout._replace(product=layout.product or leaf in in_product)
            for leaf, layout in output.layouts.items()
        }
        output.edges, output.unknown = frozenset(), {}
    if by_data or not all(index.splat for index in indices):
        output.activation = True
        output.evidence = max(operand.own_evidence, Evidence.MADE, *by_data)
    if by_data:
        interpreter.recorder.hidden(operand, output)
    elif output.activation:
        for leaf in operand.layouts:
            interpreter.recorder.record(
                leaf, "remark", output, output.evidence, direct=False, text="indexed by constants"
            )
    return output


def selected(
    interpreter: Interpreter,
    value: Value,
    chooser: Value,
    dims: Collection[int],
    new: Sequence[int],
    moved: LayoutFn,
) -> Value:
    """`value` contracted over `dims` with a one-hot array: these axes are where the index went.

    Args:
        interpreter: Where to record.
        value: The weight.
        chooser: The one-hot array.
        dims: The contracted dimensions of the weight.
        new: Where the free dimensions of the chooser are in the output.
        moved: The layout of the other dimensions in the output, those in `new` broadcast.
    """

    def function(layout: Layout) -> Layout:
        out = moved(layout)
        if chooser.activation:
            return layout.choose(out.dims, dims, by_data=True)
        rows = tuple(piece for d in dims for piece in layout.dims[d])
        axes = frozenset(axis for piece in rows for axis in piece.axes)
        permutes = is_permutation_matrix(chooser)
        parts = layout.parts if permutes else layout.parts | {(axis, None) for axis in axes}
        return out.pick(
            lay.joined(rows, (), lay.size_of(dim)) if d in new else dim
            for d, dim in enumerate(out.dims)
        )._replace(parts=parts)

    return chosen(interpreter, value, [chooser], function)


@rule("scatter", "scatter-add", "scatter-max", "scatter-min", "scatter-mul", "scatter-sub")
def _scatter(interpreter: Interpreter, eqn, operands):
    """Weights that are put into an array: the axis that is written lies where it was put."""
    operand, indices, updates = operands
    if any(value.is_data for value in operands) or indices.has_leaves:
        return interpreter.mix(eqn, operands, "scattered among activations")
    numbers = eqn.params["dimension_numbers"]
    shape = shape_of(eqn.outvars[0])
    window = list(numbers.update_window_dims)
    gone = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    kept = [d for d in range(len(shape)) if d not in gone]

    def placed(layout: Layout) -> Layout:
        rows = [dim for d, dim in enumerate(layout.dims) if d not in window]
        joined = lay.joined(tuple(piece for dim in rows for piece in dim), (), 1)
        dims = [lay.joined(joined, (), size) for size in shape]
        for source, target in zip(window, kept, strict=True):
            dims[target] = lay.resized(layout.dims[source], shape[target])
        return layout.pick(dims)

    parts = [operand, updates.map(placed, "scatter") if updates.has_leaves else updates]
    return [interpreter.combine(eqn, parts, "scattered among activations")]


@rule("dynamic_update_slice")
def _dynamic_update_slice(interpreter: Interpreter, eqn, operands):
    operand, update, *starts = operands
    if any(value.is_data for value in operands) or any(s.has_leaves for s in starts):
        return interpreter.mix(eqn, operands, "written among activations")
    shape = shape_of(eqn.outvars[0])
    part = update
    if update.has_leaves:
        part = update.map(lambda layout: lay.fitted(layout, shape), "dynamic_update_slice")
    return [interpreter.combine(eqn, [operand, part], "written among activations")]


def _is_activation(operand: Value) -> bool:
    return operand.activation and not operand.has_leaves


def _codebook(interpreter: Interpreter, eqn, operand: Value, indices: Value) -> list[Value]:
    """`codes[index of a weight]`: a quantized weight is still laid out as that weight."""
    if _is_activation(operand) or operand.has_leaves or indices.is_data:
        if any(value.is_data for value in (operand, indices)):
            return interpreter.mix(eqn, [operand, indices], "used as an index")
        return [hide([operand, indices], "gather") for _ in eqn.outvars]
    numbers = eqn.params["dimension_numbers"]
    shape = shape_of(eqn.outvars[0])
    batch = [d for d in range(len(shape)) if d not in numbers.offset_dims]

    def of_index(layout: Layout) -> Layout:
        dims = [lay.broadcast(size) for size in shape]
        for source, target in zip(layout.dims[:-1], batch, strict=True):
            dims[target] = source
        return layout.pick(dims)

    return [indices.map(of_index, "gather")]


def _looked_up(interpreter: Interpreter, eqn, operand: Value, operands) -> list[Value]:
    """Data chooses a window of rows: an embedding."""
    outputs = interpreter.activations(eqn, operands)
    rows = operand.map(lambda layout: layout._replace(picked=layout.axes()), "gather")
    interpreter.recorder.remark(rows, "looked up", outputs[0])
    return outputs
