"""Calls and structured control flow, followed by structure and not by name.

JAX renames these primitives and their parameters between versions, so nothing here reads more of
them than which parameters are jaxprs, and how their inputs and outputs match in number and rank.
"""

from collections.abc import Sequence
from typing import Any

from gc_optax._tracing import layout as lay
from gc_optax._tracing.interpreter import DEFAULT, Interpreter, rule, shape_of
from gc_optax._tracing.values import CONSTANT, MAIN, STATISTIC, Value, data, merge

MAX_ROUNDS = 8
"""Rounds after which a loop that still changes its weights has lost their layouts."""


def open_jaxpr(jaxpr):
    """The jaxpr with its equations, whether closed or not."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def is_jaxpr(value: Any) -> bool:
    return hasattr(open_jaxpr(value), "eqns") and hasattr(open_jaxpr(value), "invars")


@rule(DEFAULT)
def _call_or_unknown(self: Interpreter, eqn, operands: list[Value]) -> list[Value]:
    """A primitive without a rule: followed inside if it is a call, else it loses the layouts."""
    for parameter in eqn.params.values():
        if is_jaxpr(parameter) and _is_body(open_jaxpr(parameter), eqn):
            return call(self, open_jaxpr(parameter), eqn, operands)
    return unknown(self, eqn, operands)


def _is_body(jaxpr, eqn) -> bool:
    def ranks(atoms):
        return [len(shape_of(atom)) for atom in atoms]

    return ranks(jaxpr.invars) == ranks(eqn.invars) and ranks(jaxpr.outvars) == ranks(eqn.outvars)


def call(self: Interpreter, jaxpr, eqn, operands: list[Value]) -> list[Value]:
    # The body of a shard_map sees the shards of its operands.
    outputs = self.run(jaxpr, _fitted(operands, jaxpr.invars))
    return _fitted(outputs, eqn.outvars)


def _fitted(values: Sequence[Value], variables) -> list[Value]:
    def fitted(value: Value, shape) -> Value:
        if not value.layouts or all(
            lay.fitted(layout, shape) == layout for layout in value.layouts.values()
        ):
            return value
        return value.map(lambda layout: lay.fitted(layout, shape), "shard_map")

    return [fitted(value, shape_of(v)) for value, v in zip(values, variables, strict=True)]


def unknown(self: Interpreter, eqn, operands: list[Value]) -> list[Value]:
    """The layouts end here. If data takes part, this may have been a contraction."""
    name = eqn.primitive.name
    if any(value.data for value in operands):
        outputs = self.data_outputs(eqn, operands)
        if not outputs:  # a print
            return outputs
        for value in operands:
            for leaf, layout in value.layouts.items():
                if layout.axes():
                    self.record(leaf, "lost", outputs[0], text=name)
            for leaf, primitive in value.lost.items():
                self.record(leaf, "lost", outputs[0], text=primitive)
        return outputs
    return [merge_lost(operands, name) for _ in eqn.outvars]


def merge_lost(operands: Sequence[Value], primitive: str) -> Value:
    """A weight made of the operands in a way that no layout describes."""
    lost: dict[int, str] = {}
    for value in operands:
        lost.update(dict.fromkeys(value.layouts, primitive))
        lost.update(value.lost)
    sources = [(value, MAIN) for value in operands if value is not CONSTANT]
    return Value(lost=lost, sources=sources)


@rule("scan")
def _scan(self: Interpreter, eqn, operands):
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
    outputs = _loop(
        self,
        carry,
        lambda state: self.run(body, [*constants, *state, *xs]),
        [shape_of(var) for var in eqn.outvars[:n_carry]],
    )
    rows = zip(outputs[n_carry:], eqn.outvars[n_carry:], strict=True)
    return [*outputs[:n_carry], *(_stacked(value, var) for value, var in rows)]


def _stacked(value: Value, var) -> Value:
    """The rows of a scan, collected."""
    if not value.is_weight:
        return value
    leading = lay.broadcast(shape_of(var)[0])
    return value.map(lambda layout: layout.pick((leading, *layout.dims)), "scan")


@rule("while")
def _while(self: Interpreter, eqn, operands):
    """Inputs are the condition's constants, the body's constants and the carry."""
    condition, body = open_jaxpr(eqn.params["cond_jaxpr"]), open_jaxpr(eqn.params["body_jaxpr"])
    n_carry = len(eqn.outvars)
    n_condition = len(condition.invars) - n_carry
    first = n_condition + len(body.invars) - n_carry
    return _loop(
        self,
        operands[first:],
        lambda state: self.run(body, [*operands[n_condition:first], *state]),
        [shape_of(var) for var in eqn.outvars],
    )


def _row(value: Value, var) -> Value:
    """One of the rows that a scan goes through: its leading axis tells copies of a layer apart."""
    if value.is_weight:
        return value.map(lambda layout: layout.choose(layout.dims[1:], [0]), "scan")
    uniform = all(size == 1 for size in shape_of(var))
    return Value(data=value.data, uniform=uniform, one_hot=value.one_hot, sources=[(value, MAIN)])


def _loop(self: Interpreter, carry: Sequence[Value], step, shapes) -> list[Value]:
    """Runs `step` until what is known of the carry no longer changes; the last run is recorded.

    Returns the outputs of the step, of which the first are the carry.
    """
    initial = carry
    rounds = 0
    while True:
        # New values for each round, since what comes out of a round goes into the next.
        state = [_copy(value) for value in carry]
        seen = len(self.records)
        outputs = step(state)
        following = [
            _choice(self, [value, output], shape)
            for value, output, shape in zip(carry, outputs, shapes, strict=False)
        ]
        rounds += 1
        if rounds > MAX_ROUNDS:
            following = [
                new if new.data or new.same(old) else merge_lost([new], "scan")
                for new, old in zip(following, carry, strict=True)
            ]
        if all(new.same(old) for new, old in zip(following, carry, strict=True)):
            break
        del self.records[seen:]
        carry = following
    for value, output, before in zip(state, outputs, initial, strict=False):
        value.sources += [(before, MAIN), (output, MAIN)]
        if value.data:
            self.note(before, "initial state of a loop over activations", value)
    return [*state, *outputs[len(state) :]]


def _copy(value: Value) -> Value:
    return Value(
        data=value.data,
        uniform=value.uniform,
        layouts=value.layouts,
        lost=value.lost,
        bonds=value.bonds,
        sources=[(value, MAIN)],
    )


@rule("cond")
def _cond(self: Interpreter, eqn, operands):
    """Every branch is followed; its outputs are a choice among those of the branches."""
    index, *rest = operands
    branches = [self.run(open_jaxpr(branch), rest) for branch in eqn.params["branches"]]
    return [
        _choice(self, outputs, shape_of(var), index)
        for var, *outputs in zip(eqn.outvars, *branches, strict=True)
    ]


@rule("select_n")
def _select(self: Interpreter, eqn, operands):
    """A mask chooses between arrays: it does not make weights data."""
    which, *cases = operands
    return [_choice(self, cases, shape_of(eqn.outvars[0]), which)]


def _choice(self: Interpreter, cases: Sequence[Value], shape, which: Value = CONSTANT) -> Value:
    """Any of the cases."""
    if any(case.data for case in cases):
        uniform = all(case.uniform for case in [which, *cases])
        chosen = data([which, *cases], uniform)
        for case in cases:
            self.note(case, "chosen among activations", chosen)
        return chosen
    chosen = merge(cases, shape, "select_n")
    if which is not CONSTANT:
        chosen.sources.append((which, STATISTIC))
    return chosen
