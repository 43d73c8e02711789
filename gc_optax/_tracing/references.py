"""References (`jax.new_ref`): what is written into one comes out of it."""

from collections.abc import Sequence

import jax

from gc_optax._tracing import layout as lay
from gc_optax._tracing.indexing import chosen
from gc_optax._tracing.interpreter import ALWAYS, LINEAR, Interpreter, rule, shape_of
from gc_optax._tracing.layout import Layout
from gc_optax._tracing.values import MAIN, Evidence, Reference, Value, hide, merge

STATE = ("addupdate", "freeze", "get", "new_ref", "swap")
ALWAYS.update(STATE)
LINEAR.update(STATE)


@rule("new_ref")
def _new_ref(interpreter: Interpreter, eqn, operands) -> list[Value]:
    reference = Reference(operands[0], shape_of(eqn.outvars[0]))
    interpreter.references.append(reference)
    return [reference]


@rule("freeze")
def _freeze(interpreter: Interpreter, eqn, operands):
    return [content_of(operands[0])]


@rule("get")
def _get(interpreter: Interpreter, eqn, operands):
    reference, *indices = operands
    return [_read(interpreter, content_of(reference), eqn, 1, indices)]


@rule("swap")
def _swap(interpreter: Interpreter, eqn, operands):
    reference, new, *indices = operands
    before = _read(interpreter, content_of(reference), eqn, 2, indices)
    _write(interpreter, eqn, reference, new)
    return [before]


@rule("addupdate")
def _addupdate(interpreter: Interpreter, eqn, operands):
    reference, new, *_ = operands
    _write(interpreter, eqn, reference, new, is_sum=True)
    return []


def content_of(reference: Value) -> Value:
    """What is known of the array that is kept there."""
    return reference.content if isinstance(reference, Reference) else reference


def _read(
    interpreter: Interpreter, content: Value, eqn, first: int, indices: Sequence[Value]
) -> Value:
    shape = shape_of(eqn.outvars[0])
    if shape == shape_of(eqn.invars[0]) and not indices:
        return content
    if not content.has_leaves:
        evidence = max(value.evidence for value in (content, *indices))
        is_activation = any(value.activation for value in (content, *indices))
        return Value(
            max(evidence, Evidence.MADE),
            activation=is_activation,
            splat=all(size == 1 for size in shape),
            gradient=content.gradient,
            sources=[(value, MAIN) for value in (content, *indices) if not value.is_constant],
        )
    kept = _kept_rows(eqn, first)
    if kept is None:
        return hide([content, *indices], "get")
    gone = [d for d in range(len(shape_of(eqn.invars[0]))) if d not in kept]
    by_data = any(index.activation for index in indices)

    def read(layout: Layout) -> Layout:
        for d, part in kept.items():
            layout = lay.sliced(layout, d, part)
        return layout.choose([layout.dims[d] for d in kept], gone, by_data)

    return chosen(interpreter, content, indices, read)


def _kept_rows(eqn, first: int) -> dict[int, range | int] | None:
    """For each dimension that the indexer of a read keeps, the rows, or how many where unknown.

    None where the indexer is not of a known form.
    """
    try:
        (indexer,) = jax.tree.unflatten(eqn.params["tree"], eqn.invars[first:])
        indices = indexer.indices
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    kept: dict[int, range | int] = {}
    for d, index in enumerate(indices):
        if hasattr(index, "size") and hasattr(index, "start"):
            start, stride = index.start, getattr(index, "stride", 1)
            is_known = isinstance(start, int) and isinstance(stride, int)
            rows = range(start, start + index.size * stride, stride) if is_known else index.size
            kept[d] = rows
    return kept if len(kept) == len(shape_of(eqn.outvars[0])) else None


def _write(interpreter: Interpreter, eqn, reference: Value, new: Value, is_sum=False) -> None:
    """Writes the whole array, or a part of it, beside which the rest is what it was."""
    assert isinstance(reference, Reference)
    is_whole = shape_of(eqn.invars[1]) == reference.shape
    if is_whole and not is_sum:
        reference.content = new
        return
    old = reference.content
    if any(value.is_data for value in (old, new)):
        (output,) = interpreter.activations(_Output(eqn), [old, new], Evidence.ARGUMENT)
        for value in (old, new):
            interpreter.recorder.remark(value, "written among activations", output)
    elif is_whole or not new.has_leaves:
        output = merge([old, new], reference.shape, "swap")
    else:
        output = hide([old, new], "swap")
    reference.content = output


class _Output:
    """An equation whose only output is what the reference holds."""

    def __init__(self, eqn):
        self.primitive, self.params = eqn.primitive, eqn.params
        self.invars, self.outvars = eqn.invars[:2], eqn.invars[1:2]
        self.source_info = eqn.source_info
