"""`centralize`: Gradient Centralization as an Optax gradient transformation."""

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import KeyPath

from gc_optax._fan_in import FanIn, fan_in_size, is_centralizable, normalized_axes
from gc_optax._names import fan_in_by_name
from gc_optax._trees import FanInFn, FanInTree, leaf_name, map_with_fan_in, resolve


def centralize(fan_in: FanInTree | FanInFn = fan_in_by_name) -> optax.GradientTransformation:
    r"""Subtracts from each output unit's gradient vector its mean over the fan-in.

    For the gradient \(g_j\) of the \(M\) weights of output unit \(j\):

    \[ GC(g_j) = g_j - \tfrac{1}{M} \textstyle\sum_i g_{ij} = P g_j, \qquad
       P = I - e e^T, \quad e = \mathbf{1} / \sqrt{M}. \]

    Where it stands in a chain says what is centralized: before an optimizer the gradient, after
    it the update. If the final update is centralized, the sum of each unit's weights never
    changes.

    The mean of 16-bit (and smaller) floats is accumulated in float32, and the result has the
    leaf's dtype. Integers, PRNG keys, empty leaves and leaves with a fan-in of 1 (which would
    become zero) pass through. The function is pure and holds no state; under `jit`, XLA fuses
    the subtraction into what follows.

    Args:
        fan_in: The axes of each leaf: a tree of `FanIn` that has the updates' structure or is a
            prefix of it (one `FanIn` serves all leaves), or a function from the updates to such
            a tree. By default the axes are read from the leaves' names, see `fan_in_by_name`.

    Returns:
        An `optax.GradientTransformation` with `optax.EmptyState`; updates keep their structure,
        shapes and dtypes.

    Raises:
        ValueError: (on update) An axis is out of range or repeated, or the tree of `FanIn` does
            not fit the updates.
        TypeError: (on update) Something that is not a `FanIn` stands where one is due.

    Example:
        >>> import gc_optax, jax.numpy as jnp, optax
        >>> params = {"kernel": jnp.ones((2, 4)), "bias": jnp.zeros(4)}
        >>> optimizer = optax.chain(gc_optax.centralize(), optax.sgd(1.0))
        >>> state = optimizer.init(params)
        >>> grads = {"kernel": jnp.array([[3., 2., 1., 0.], [5., 4., 9., 0.]]), "bias": jnp.ones(4)}
        >>> updates, state = optimizer.update(grads, state, params)
        >>> print(updates["kernel"])
        [[ 1.  1.  4. -0.]
         [-1. -1. -4. -0.]]

    Source: Yong, Huang, Hua, Zhang, "Gradient Centralization", 2020, arXiv 2004.01461, eq. (1).
    """

    def init(params: optax.Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        del params
        return map_with_fan_in(_centralize_leaf, resolve(fan_in, updates), updates), state

    return optax.GradientTransformation(init, update)


def _centralize_leaf(path: KeyPath, fan_in: FanIn, leaf: jax.Array) -> jax.Array:
    if not fan_in.axes or not is_centralizable(leaf):
        return leaf
    shape = jnp.shape(leaf)
    axes = normalized_axes(fan_in, shape, leaf_name(path, leaf))
    if fan_in_size(axes, shape) <= 1:
        return leaf
    leaf = jnp.asarray(leaf)
    # A narrow mean would be off by more than the gradient's own rounding; the subtraction is
    # done wide too, so that the result is rounded once.
    wide = jnp.dtype(jnp.float32) if leaf.dtype.itemsize < 4 else leaf.dtype
    # Without the barriers, XLA on a CPU keeps a copy (of 16-bit leaves a wide one) between the
    # mean and the subtraction. So the leaf is read twice instead, and the means are all it keeps.
    leaf = jax.lax.optimization_barrier(leaf)
    mean = leaf.astype(wide).mean(axes, keepdims=True)
    leaf, mean = jax.lax.optimization_barrier((leaf, mean))
    return (leaf.astype(wide) - mean).astype(leaf.dtype)
