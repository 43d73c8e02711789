"""What is recorded where a weight is contracted with data; convolutions and grouped products."""

from collections.abc import Collection, Mapping

from gc_optax._tracing import layout as lay
from gc_optax._tracing.control_flow import unknown
from gc_optax._tracing.interpreter import LINEAR, Interpreter, rule
from gc_optax._tracing.records import RecordKind
from gc_optax._tracing.values import MAIN, Evidence, Value, is_pending

LINEAR.add("conv_general_dilated")

Dims = Collection[int]


def contract(
    interpreter: Interpreter,
    node: Value,
    weight: Value,
    other: Value,
    contracted: Dims,
    evidence: Evidence,
    kind: RecordKind,
    batch: Dims = (),
    groups: int | None = None,
    batch_axes: Mapping[int, frozenset[int]] | None = None,
) -> None:
    """Records that `weight` is contracted with data over the given dimensions.

    Args:
        interpreter: Where to record.
        node: What comes out.
        weight: The operand whose leaves are used.
        other: The operand that is data.
        contracted: The dimensions of `weight` that are summed over.
        evidence: How sure it is that `other` is data.
        kind: The kind of layer.
        batch: The dimensions of `weight` that run along with the data.
        groups: Of a convolution.
        batch_axes: Of a convolution: for each leaf the axes that a `vmap` has made into groups.
    """
    recorder = interpreter.recorder
    if not is_pending(weight) and evidence <= weight.own_evidence:
        recorder.hidden(weight, node, "a product of weights")
        return
    recorder.hidden(weight, node)
    in_product = {leaf for edge in weight.edges if not edge.is_weight for leaf, _ in edge.ends}
    summed = {leaf for leaf, layout in weight.layouts.items() if layout.summed}
    if len(summed) > 1:  # `(A[:, None] * B).sum(-1)`: a product of parameters by other means
        in_product |= summed
    next_to_data = []
    for leaf, layout in weight.layouts.items():
        axes = layout.axes(contracted)
        if not axes:
            text = "combined with another weight"
            recorder.record(leaf, "remark", node, evidence, text=text, direct=False)
            continue
        if leaf in other.layouts and other.is_weight:
            recorder.record(leaf, "remark", node, evidence, text="contracted with itself")
            continue
        outputs = layout.axes(d for d in range(len(layout.dims)) if d not in contracted)
        if layout.replicated - axes and not outputs - layout.replicated:
            # Rows laid out by a table of indices (relative positions), and no layer's outputs.
            text = "rows laid out by constant indices"
            recorder.record(leaf, "lookup", node, evidence, stopped=layout.stopped, text=text)
            continue
        if layout.noise and not all(other.noise for other in weight.layouts.values()):
            text = "scales noise on another weight"
            recorder.record(leaf, "remark", node, evidence, text=text, direct=False)
            continue
        if _is_gain(weight, leaf, contracted, batch):
            text = "repeated over outputs, or over another weight that it scales"
            recorder.record(leaf, "remark", node, evidence, text=text)
            continue
        next_to_data.append(leaf)
        recorder.use(
            leaf,
            kind,
            node,
            weight,
            evidence,
            axes,
            "another parameter"
            if leaf in in_product
            else "another array"
            if layout.product
            else "",
            kept=outputs,
            batch=layout.axes(batch) if batch_axes is None else batch_axes[leaf],
            groups=groups,
            outputs=tuple(dim for d, dim in enumerate(layout.dims) if d not in contracted),
        )
    recorder.follow_edges(weight, next_to_data, node, evidence)


def _is_gain(weight: Value, leaf: int, contracted: Dims, batch: Dims) -> bool:
    """Whether the leaf only scales another one, from which the outputs come.

    It is repeated where the other has axes: among what is summed over, or over all outputs.
    """
    layout = weight.layouts[leaf]
    if not any(map(layout.is_broadcast, range(len(layout.dims)))):
        return False
    free = [d for d in range(len(layout.dims)) if d not in contracted and d not in batch]
    if any(map(layout.is_broadcast, free)) and not any(
        other.axes(free) for other in weight.layouts.values()
    ):
        return True  # a diagonal matrix, of which all outputs have a part
    if len(weight.layouts) == 1:
        return False
    others = [other for key, other in weight.layouts.items() if key != leaf]
    repeated = [
        d
        for d in range(len(layout.dims))
        if layout.is_broadcast(d) and any(other.axes([d]) for other in others)
    ]
    return any(d in contracted for d in repeated) or (
        any(d in free for d in repeated) and not layout.axes(free)
    )


def contract_pending(
    interpreter: Interpreter,
    node: Value,
    value: Value,
    other: Value,
    contracted: Dims,
    free: Dims,
    batch: Dims,
    kind: RecordKind = "dense",
    groups: int | None = None,
) -> None:
    """Records what it means that data meets leaves which data had chosen, mixed or updated.

    If outputs are left, `value` was a layer: chosen whole by an index, mixed of several, or after
    a step of an inner loop. Else it was an activation: rows of an embedding.

    Args:
        interpreter: Where to record.
        node: What comes out.
        value: The operand that has these leaves.
        other: The operand that is data.
        contracted: The dimensions of `value` that are summed over.
        free: The dimensions of `value` that hold outputs.
        batch: The dimensions of `value` in which each entry of the data may have its own kernel.
        kind: The kind of layer.
        groups: Of a convolution.
    """
    for leaf, layout in value.layouts.items():
        alone = Value(
            value.evidence, activation=True, layouts={leaf: layout}, sources=[(value, MAIN)]
        )
        axes = layout.axes(contracted) - layout.picked
        outputs = layout.axes(free) - layout.picked
        if layout.mixed and not layout.picked:
            recorder = interpreter.recorder
            if (
                axes
                and layout.site is not None
                and layout.site.is_expression_of(recorder.stack[-1])
            ):
                text = "summed over in two steps of one product"
                recorder.record(leaf, "mixed", node, node.evidence, axes=axes, text=text)
            own = [d for d in range(len(layout.dims)) if layout.axes([d]) - layout.copies]
            is_each = all(d in batch for d in range(len(layout.dims)) if d not in own)
            if axes - layout.copies and outputs - layout.copies and is_each:
                recorder.record(leaf, "mixed", node, node.evidence, axes=axes)
        elif axes and (outputs or layout.updated):
            contract(
                interpreter, node, alone, other, contracted, node.evidence, kind, batch, groups
            )
        else:
            interpreter.recorder.remark(alone, "contracted as an activation", node)


def mixed_by_constants(
    interpreter: Interpreter, node: Value, value: Value, contracted: Dims
) -> None:
    """Records of kernels that constants have mixed that data of no more evidence meets them."""
    for leaf, layout in value.layouts.items():
        axes = layout.axes(contracted)
        if layout.mixed and axes:
            text = "contracted with constants before it meets data"
            interpreter.recorder.record(leaf, "mixed", node, node.evidence, axes=axes, text=text)


@rule("conv_general_dilated")
def _conv_general_dilated(interpreter: Interpreter, eqn, operands):
    """The kernel is contracted over its input features and window."""
    numbers = eqn.params["dimension_numbers"]
    image, kernel = operands
    image = interpreter.settled(image, "conv_general_dilated")
    evidence = as_data(image, numbers.lhs_spec[:1])
    features, *contracted = numbers.rhs_spec
    if is_pending(kernel) and evidence:
        (output,) = interpreter.activations(eqn, operands)
        groups = eqn.params["feature_group_count"]
        along = [features] if groups > 1 else []  # where a `vmap` has put the kernels of a batch
        contract_pending(
            interpreter, output, kernel, image, contracted, [features], along, "conv", groups
        )
        return [output]
    kernel = interpreter.settled(kernel, "conv_general_dilated")
    if evidence <= kernel.own_evidence or not kernel.has_leaves:
        outputs = unknown(interpreter, eqn, [image, kernel])
        mixed_by_constants(interpreter, outputs[0], kernel, contracted if evidence else ())
        return outputs
    groups = eqn.params["feature_group_count"] * eqn.params["batch_group_count"]
    batch_axes = {leaf: layout.axes() for leaf, layout in kernel.layouts.items()}
    for leaf, layout in kernel.layouts.items():
        batch_axes[leaf], rest = _group_axes(layout.dims[features], groups)
        groups = min(groups, rest)
    outputs = interpreter.activations(eqn, [image, kernel], max(evidence, kernel.evidence))
    contract(
        interpreter, outputs[0], kernel, image, contracted, evidence, "conv",
        groups=groups, batch_axes=batch_axes,
    )  # fmt: skip
    if image.is_weight:
        interpreter.recorder.remark(image, "repeated among activations", outputs[0])
    return outputs


def _group_axes(features: lay.Dim, groups: int) -> tuple[frozenset[int], int]:
    """Axes that a `vmap` has turned into groups, and how many groups one copy has."""
    for n in range(len(features) - 1, 0, -1):
        copies = lay.size_of(features[:n])
        axes = frozenset(axis for piece in features[:n] for axis in piece.axes)
        rest = frozenset(axis for piece in features[n:] for axis in piece.axes)
        if groups % copies == 0 and not axes & rest:
            return axes, groups // copies
    return frozenset(), groups


@rule("ragged_dot_general")
def _ragged_dot_general(interpreter: Interpreter, eqn, operands):
    """The rows of a group meet the matrix of their group: experts."""
    left, right, _ = operands
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    contracting, batching = numbers.dot_dimension_numbers
    evidence = as_data(left, [])
    if left.is_weight or evidence <= right.own_evidence:
        return unknown(interpreter, eqn, operands)
    outputs = interpreter.activations(eqn, operands, evidence)
    groups = {*batching[1], *numbers.rhs_group_dimensions}
    contract(interpreter, outputs[0], right, left, contracting[1], evidence, "dense", groups)
    return outputs


def as_data(value: Value, free: Dims) -> Evidence:
    """How sure it is that `value`, whose dimensions `free` stay, is data for what it meets."""
    if value.activation or value.is_constant:
        return value.evidence
    # A parameter that is repeated over a new dimension (a class token for each image of a batch)
    # is an activation to whatever it meets.
    layouts = value.layouts.values()
    for d in free:
        if layouts and all(layout.is_broadcast(d) and not layout.axes([d]) for layout in layouts):
            return Evidence.MADE
    return Evidence.NONE
