"""Reads from a jaxpr over which axes each parameter is contracted with data.

README.md beside this file explains it: what a value can be, how two are joined, why a claim is
sound, and how to add a primitive.

- `trace`: the public function.
- `values`, `layout`: what is known about one array, and where its dimensions come from.
- `records`: what was seen of a parameter.
- `interpreter`: the environment loop and the registry of rules.
- `structure`, `elementwise`, `indexing`, `one_hot`, `contraction`, `dot_general`, `collectives`:
  one small rule per primitive.
- `control_flow`, `references`, `hi_primitives`: calls, branches, loops and state.
- `verdict`: the policy: what the records of a leaf mean for it.
"""

# The rules register themselves.
from gc_optax._tracing import collectives as collectives
from gc_optax._tracing import contraction as contraction
from gc_optax._tracing import control_flow as control_flow
from gc_optax._tracing import dot_general as dot_general
from gc_optax._tracing import elementwise as elementwise
from gc_optax._tracing import hi_primitives as hi_primitives
from gc_optax._tracing import indexing as indexing
from gc_optax._tracing import references as references
from gc_optax._tracing import structure as structure
