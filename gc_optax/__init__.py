"""Gradient Centralization for JAX and Optax, over the axes that each layer really sums over.

Source: Yong, Huang, Hua, Zhang, "Gradient Centralization: A New Optimization Technique for Deep
Neural Networks", ECCV 2020, arXiv 2004.01461.
"""

from gc_optax import diagnostics as diagnostics
from gc_optax._centralize import centralize as centralize
from gc_optax._fan_in import FanIn as FanIn
from gc_optax._muon import muon_dimension_numbers as muon_dimension_numbers
from gc_optax._names import fan_in_by_name as fan_in_by_name
from gc_optax._selection import convolutions_only as convolutions_only
from gc_optax._selection import exclude as exclude
from gc_optax._summary import summary as summary
from gc_optax._tracing.trace import fan_in_by_trace as fan_in_by_trace

__version__ = "0.2.0"
