"""Calls, branches and loops, followed by structure and not by name.

JAX renames these primitives and their parameters between versions, so nothing here reads more of
them than which parameters are jaxprs, and how their inputs and outputs match in number and rank.
"""

from collections.abc import Callable, Sequence
from typing import Any

from gc_optax._tracing import layout as lay
from gc_optax._tracing.elementwise import mask_parts
from gc_optax._tracing.interpreter import (
    DEFAULT,
    LINEAR,
    Interpreter,
    constant_outputs,
    open_jaxpr,
    rule,
    shape_of,
)
from gc_optax._tracing.values import (
    MAIN,
    SPLAT,
    STATISTIC,
    Value,
    activation,
    hide,
    merge,
)

MAX_ROUNDS = 8
"""Rounds after which a loop that still changes its weights has hidden their layouts."""

LINEAR.update(["cond", "scan", "select_n", "while"])


def is_jaxpr(value: Any) -> bool:
    return hasattr(open_jaxpr(value), "eqns") and hasattr(open_jaxpr(value), "invars")


@rule(DEFAULT)
def _call_or_unknown(interpreter: Interpreter, eqn, operands: list[Value]) -> list[Value]:
    """A primitive without a rule: followed inside if it is a call, else it hides the layouts."""
    for parameter in eqn.params.values():
        if is_jaxpr(parameter) and _is_body(open_jaxpr(parameter), eqn):
            return call(interpreter, parameter, eqn, operands)
    operands = [interpreter.settled(value, eqn.primitive.name) for value in operands]
    return unknown(interpreter, eqn, operands)


def _is_body(jaxpr, eqn) -> bool:
    def ranks(atoms):
        return [len(shape_of(atom)) for atom in atoms]

    return ranks(jaxpr.invars) == ranks(eqn.invars) and ranks(jaxpr.outvars) == ranks(eqn.outvars)


def call(interpreter: Interpreter, jaxpr, eqn, operands: list[Value]) -> list[Value]:
    # The body of a shard_map sees the shards of its operands.
    outputs = interpreter.run(jaxpr, _fitted(operands, open_jaxpr(jaxpr).invars))
    return _fitted(outputs, eqn.outvars)


def _fitted(values: Sequence[Value], variables) -> list[Value]:
    def fitted(value: Value, shape) -> Value:
        if not value.layouts or all(
            lay.fitted(layout, shape) == layout for layout in value.layouts.values()
        ):
            return value
        return value.map(lambda layout: lay.fitted(layout, shape), "shard_map")

    return [fitted(value, shape_of(v)) for value, v in zip(values, variables, strict=True)]


def unknown(interpreter: Interpreter, eqn, operands: list[Value]) -> list[Value]:
    """The layouts end here. If data takes part, this may have been a contraction."""
    name = eqn.primitive.name
    if not any(value.has_leaves or value.activation for value in operands):
        return constant_outputs(eqn, operands)
    if any(value.activation for value in operands):
        outputs = interpreter.activations(eqn, operands)
        if outputs:  # not a print
            for value in operands:
                interpreter.recorder.hidden(value, outputs[0], name)
        return outputs
    return [hide(operands, name) for _ in eqn.outvars]


@rule("cond")
def _cond(interpreter: Interpreter, eqn, operands):
    """Every branch is followed; its outputs are a choice among those of the branches."""
    index, *rest = operands
    before = _contents(interpreter)
    branches, after = [], []
    for branch in eqn.params["branches"]:
        _restore(interpreter, before)
        branches.append(interpreter.run(branch, rest))
        after.append(_contents(interpreter))
    for reference, *contents in zip(interpreter.references, *after, strict=False):
        reference.content = _choice(interpreter, contents, reference.shape, index)
    return [
        _choice(interpreter, outputs, shape_of(var), index)
        for var, *outputs in zip(eqn.outvars, *branches, strict=True)
    ]


@rule("select_n")
def _select(interpreter: Interpreter, eqn, operands):
    """A mask chooses between arrays: it does not make weights data."""
    which, *cases = operands
    if not any(case.has_leaves for case in cases):
        return [interpreter.combine(eqn, operands, "used as a mask")]
    output = _choice(interpreter, cases, shape_of(eqn.outvars[0]), which)
    mask_parts(output, [which])
    return [output]


def _choice(interpreter: Interpreter, cases: Sequence[Value], shape, which: Value = SPLAT) -> Value:
    """Any of the cases."""
    if any(case.is_data and not case.has_leaves for case in cases):
        chosen = activation(
            [which, *cases],
            splat=all(case.splat for case in [which, *cases]),
            gradient=any(case.gradient for case in cases),
        )
        for case in cases:
            interpreter.recorder.remark(case, "chosen among activations", chosen)
        return chosen
    chosen = merge(cases, shape, "select_n")
    if not which.is_constant:
        chosen.sources.append((which, STATISTIC))
    return chosen


@rule("scan")
def _scan(interpreter: Interpreter, eqn, operands):
    """Inputs are constants, carry and xs, and xs have one axis more outside than inside."""
    body = open_jaxpr(eqn.params["jaxpr"])
    n_carry = sum(
        len(shape_of(inner)) == len(shape_of(outer))
        for inner, outer in zip(body.outvars, eqn.outvars, strict=True)
    )
    n_xs = sum(
        len(shape_of(inner)) < len(shape_of(outer))
        for inner, outer in zip(body.invars, eqn.invars, strict=True)
    )
    n_constants = len(operands) - n_carry - n_xs
    constants = operands[:n_constants]
    carry = operands[n_constants : n_constants + n_carry]
    xs = [
        _row(value, var)
        for value, var in zip(
            operands[n_constants + n_carry :], body.invars[n_constants + n_carry :], strict=True
        )
    ]
    outputs = loop(
        interpreter,
        carry,
        lambda state: interpreter.run(eqn.params["jaxpr"], [*constants, *state, *xs]),
        [shape_of(var) for var in eqn.outvars[:n_carry]],
    )
    rows = zip(outputs[n_carry:], eqn.outvars[n_carry:], strict=True)
    return [*outputs[:n_carry], *(_stacked(value, var) for value, var in rows)]


def _row(value: Value, var) -> Value:
    """One of the rows that a scan goes through: its leading axis tells copies of a layer apart."""
    if value.has_leaves:
        return value.map(lambda layout: layout.choose(layout.dims[1:], [0]), "scan")
    return Value(
        value.evidence,
        activation=value.activation,
        splat=value.splat or all(size == 1 for size in shape_of(var)),
        one_hot=frozenset(d - 1 for d in value.one_hot if d),
        gradient=value.gradient,
        sources=[(value, MAIN)],
    )


def _stacked(value: Value, var) -> Value:
    """The rows of a scan, collected."""
    if not value.has_leaves:
        return value
    leading = lay.broadcast(shape_of(var)[0])
    return value.map(lambda layout: layout.pick((leading, *layout.dims)), "scan")


@rule("while")
def _while(interpreter: Interpreter, eqn, operands):
    """Inputs are the condition's constants, the body's constants and the carry."""
    condition, body = open_jaxpr(eqn.params["cond_jaxpr"]), open_jaxpr(eqn.params["body_jaxpr"])
    n_carry = len(eqn.outvars)
    n_condition = len(condition.invars) - n_carry
    first = n_condition + len(body.invars) - n_carry
    constants = operands[n_condition:first]
    return loop(
        interpreter,
        operands[first:],
        lambda state: interpreter.run(eqn.params["body_jaxpr"], [*constants, *state]),
        [shape_of(var) for var in eqn.outvars],
    )


def loop(
    interpreter: Interpreter,
    carry: Sequence[Value],
    step: Callable[[list[Value]], list[Value]],
    shapes: Sequence[tuple[int, ...]],
) -> list[Value]:
    """Runs `step` until what is known of the carry no longer changes; the last run is recorded.

    What references hold is a part of the carry. Returns the outputs of the step, of which the
    first are the carry.
    """
    records = interpreter.recorder.records
    references = list(interpreter.references)
    initial = carry = [*carry, *_contents(interpreter)]
    shapes = [*shapes, *(reference.shape for reference in references)]
    n_carry = len(carry) - len(references)
    rounds = 0
    used: dict[int, int] = {}  # leaf -> where in the carry it was, before it became an activation
    while True:
        # New values for each round, since what comes out of a round goes into the next.
        state = [_copy(value) for value in carry]
        _restore(interpreter, state[n_carry:])
        seen = len(records)
        outputs = step(state[:n_carry])
        after = [*outputs[:n_carry], *_contents(interpreter)[: len(references)]]
        following = [
            _choice(interpreter, [value, output], shape)
            for value, output, shape in zip(carry, after, shapes, strict=True)
        ]
        rounds += 1
        if rounds > MAX_ROUNDS:
            following = [
                new if new.is_data or new.same(old) else hide([new], "scan")
                for new, old in zip(following, carry, strict=True)
            ]
        if all(new.same(old) for new, old in zip(following, carry, strict=True)):
            break
        contracted = {record.leaf for record in records[seen:] if record.is_use}
        for index, (old, new) in enumerate(zip(carry, following, strict=True)):
            used |= dict.fromkeys(contracted & (old.layouts.keys() - new.layouts.keys()), index)
        del records[seen:]
        carry = following
    for value, output, before in zip(state, after, initial, strict=True):
        value.sources += [(before, MAIN), (output, MAIN)]
        if value.activation and not value.has_leaves:
            interpreter.recorder.remark(before, "initial state of a loop over activations", value)
    for leaf, index in used.items():
        # In the first round it was a layer's weight, and later an activation.
        node = state[index]
        interpreter.recorder.record(
            leaf, "unknown", node, node.evidence, text="the carry of a loop"
        )
    _restore(interpreter, state[n_carry:])
    return [*state[:n_carry], *outputs[n_carry:]]


def _copy(value: Value) -> Value:
    return Value(
        value.evidence,
        activation=value.activation,
        splat=value.splat,
        one_hot=value.one_hot,
        gradient=value.gradient,
        layouts=value.layouts,
        unknown=value.unknown,
        edges=value.edges,
        sources=[(value, MAIN)],
    )


def _contents(interpreter: Interpreter) -> list[Value]:
    return [reference.content for reference in interpreter.references]


def _restore(interpreter: Interpreter, contents: Sequence[Value]) -> None:
    for reference, content in zip(interpreter.references, contents, strict=False):
        reference.content = content
