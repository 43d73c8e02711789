"""JAX's newer calls (`call_hi_primitive`), which are followed by what they expand to."""

from typing import Any

import jax

from gc_optax._tracing.control_flow import unknown
from gc_optax._tracing.interpreter import ALWAYS, LINEAR, Interpreter, rule
from gc_optax._tracing.references import content_of
from gc_optax._tracing.values import Reference, Value

ALWAYS.add("call_hi_primitive")
LINEAR.add("call_hi_primitive")


@rule("call_hi_primitive")
def _call_hi_primitive(interpreter: Interpreter, eqn, operands: list[Value]) -> list[Value]:
    """Follows the array program behind it. References go in and come out as what they hold."""
    jaxpr = _expanded(eqn)
    if jaxpr is None:
        return unknown(interpreter, eqn, operands)
    outputs = interpreter.run(jaxpr, [content_of(value) for value in operands])
    references = [value for value in operands if isinstance(value, Reference)]
    contents = outputs[len(outputs) - len(references) :]
    for reference, content in zip(references, contents, strict=True):
        reference.content = content
    return outputs[: len(outputs) - len(references)]


def _expanded(eqn) -> Any:
    """The jaxpr of the outputs, and then of what the references hold; None if it has none."""
    primitive = eqn.params.get("_prim")
    if not hasattr(primitive, "expand") or not hasattr(primitive, "in_tree"):
        return None
    is_reference = [hasattr(atom.aval, "inner_aval") for atom in eqn.invars]
    arguments = [jax.ShapeDtypeStruct(a.aval.shape, a.aval.dtype) for a in eqn.invars]

    def of_arrays(*arrays):
        values = [
            jax.new_ref(array) if held else array
            for array, held in zip(arrays, is_reference, strict=True)
        ]
        outputs = primitive.expand(*jax.tree.unflatten(primitive.in_tree, values))
        contents = [value[...] for value, held in zip(values, is_reference, strict=True) if held]
        return jax.tree.leaves(outputs), contents

    return jax.make_jaxpr(of_arrays)(*arguments)
