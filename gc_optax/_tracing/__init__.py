"""Reads from a jaxpr over which axes each parameter is contracted with data.

- `layout`: where the dimensions of an intermediate array come from.
- `values`: what is known about one intermediate array.
- `records`: what was seen of a parameter.
- `interpreter`: the environment loop and the registry of rules.
- `control_flow`: calls, scan, while and cond.
- `structure`, `elementwise`, `contraction`: one small rule per primitive.
- `verdict`: the policy: what the records of a leaf mean for it.
"""

# The rules register themselves.
from gc_optax._tracing import contraction as contraction
from gc_optax._tracing import control_flow as control_flow
from gc_optax._tracing import elementwise as elementwise
from gc_optax._tracing import structure as structure
