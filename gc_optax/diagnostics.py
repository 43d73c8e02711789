"""The theory of Gradient Centralization as functions, to measure it on networks of your own.

Source: Yong, Huang, Hua, Zhang, "Gradient Centralization", 2020, arXiv 2004.01461, section 4.
"""

from gc_optax._diagnostics import center_weights as center_weights
from gc_optax._diagnostics import drift as drift
from gc_optax._diagnostics import mean_component as mean_component
from gc_optax._diagnostics import projection_matrix as projection_matrix
from gc_optax._diagnostics import removed_fraction as removed_fraction
from gc_optax._diagnostics import weight_means as weight_means
from gc_optax._diagnostics_curvature import top_eigenvalue as top_eigenvalue
