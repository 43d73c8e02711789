"""What Gradient Centralization removes from a gradient, and what it keeps constant in weights."""

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import KeyPath

from gc_optax._arguments import params_tree
from gc_optax._centralize import centralize
from gc_optax._fan_in import FanIn, fan_in_size, is_centralizable, normalized_axes
from gc_optax._matching import map_with_fan_in
from gc_optax._trees import FanInFn, FanInTree, PyTree, leaf_name


def projection_matrix(m: int) -> jax.Array:
    r"""The matrix by which Gradient Centralization multiplies each output unit's gradient.

    \[ P = I - e e^T, \qquad e = \mathbf{1} / \sqrt{M}, \]

    so that \(P P = P\), \(P^T = P\) and \(P e = 0\). `centralize` never forms it.

    Args:
        m: The fan-in \(M\), at least 1. For 1 the matrix is 0, but `centralize` leaves such
            weights alone.

    Returns:
        An array of shape `(m, m)` of JAX's default float type.

    Raises:
        TypeError: `m` is not an integer.
        ValueError: `m` is below 1.

    Examples:
        >>> import gc_optax.diagnostics
        >>> print(gc_optax.diagnostics.projection_matrix(2))
        [[ 0.5 -0.5]
         [-0.5  0.5]]

    Source: arXiv 2004.01461, section 3.
    """
    try:
        m = operator.index(m)
    except TypeError:
        raise TypeError(f"`m` must be an integer, the fan-in, got {m!r}.") from None
    if m < 1:
        raise ValueError(f"`m` must be a fan-in of 1 or more, got {m}.")
    return jnp.eye(m) - 1 / m


def mean_component(updates: optax.Updates, fan_in: FanInTree | FanInFn | None = None) -> PyTree:
    r"""What `centralize` removes from each output unit's gradient: its component along \(e\).

    \[ g_j - P g_j = e e^T g_j = \tfrac{1}{M} \textstyle\sum_i g_{ij} \, \mathbf{1}. \]

    So `updates - mean_component(updates) = centralize(updates)`, up to the rounding of the
    leaf's dtype if that has 16 bits or fewer. The two parts are orthogonal, so their squared
    norms add up.

    Args:
        updates: A tree of arrays of any shapes.
        fan_in: As for `centralize`: a tree of `FanIn`, a prefix of one, or a function.

    Returns:
        A tree like `updates`: each leaf has the shape, dtype and unit of its gradient (the mean is
        repeated at every entry that it averages, so that norms are right). Leaves that
        `centralize` passes through are 0, or None if they are not numbers.

    Raises:
        ValueError: An axis is out of range or repeated, or the tree does not fit `updates`.
        TypeError: Something that is not a `FanIn` stands where one is expected.

    Examples:
        >>> import gc_optax, gc_optax.diagnostics, jax.numpy as jnp
        >>> grads = {"kernel": jnp.array([[5., 1., 9., -2.], [3., 5., 1., 2.]])}
        >>> print(gc_optax.diagnostics.mean_component(grads)["kernel"])
        [[4. 3. 5. 0.]
         [4. 3. 5. 0.]]

    Source: arXiv 2004.01461, section 3.
    """

    def of_leaf(path: KeyPath, spec: FanIn, leaf) -> jax.Array | None:
        if axes := _centralized_axes(path, spec, leaf):
            mean = _widened(leaf).mean(axes, keepdims=True)
            return jnp.broadcast_to(mean.astype(jnp.asarray(leaf).dtype), leaf.shape)
        is_number = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.number)
        return jnp.zeros_like(leaf) if is_number else None

    return map_with_fan_in(of_leaf, fan_in, updates)


def removed_fraction(updates: optax.Updates, fan_in: FanInTree | FanInFn | None = None) -> PyTree:
    r"""How much of each leaf `centralize` removes, as a share of its squared norm.

    \[ \frac{\sum_j \| e e^T g_j \|^2}{\sum_j \| g_j \|^2}
       = 1 - \frac{\| P g \|^2}{\| g \|^2}. \]

    For random gradients with zero mean it is \(1 / M\) on average.

    Args:
        updates: A tree of arrays of any shapes.
        fan_in: As for `centralize`: a tree of `FanIn`, a prefix of one, or a function.

    Returns:
        A tree like `updates` of dimensionless scalars from 0 to 1, in float32 (float64 for
        float64): 0 where nothing is centralized or the gradient is 0, NaN where the gradient is
        not finite.

    Raises:
        ValueError: An axis is out of range or repeated, or the tree does not fit `updates`.
        TypeError: Something that is not a `FanIn` stands where one is expected.

    Examples:
        >>> import gc_optax, gc_optax.diagnostics, jax.numpy as jnp
        >>> grads = {"kernel": jnp.array([[3.], [1.]]), "bias": jnp.ones(1)}
        >>> for name, share in gc_optax.diagnostics.removed_fraction(grads).items():
        ...     print(name, share)
        bias 0.0
        kernel 0.8

    Source: arXiv 2004.01461, section 4.2 (the norm of the gradient shrinks).
    """

    def of_leaf(path: KeyPath, spec: FanIn, leaf) -> jax.Array:
        axes = _centralized_axes(path, spec, leaf)
        if not axes:
            dtype = jnp.abs(_widened(leaf)).dtype if is_centralizable(leaf) else jnp.float32
            return jnp.zeros((), dtype)
        leaf = _widened(leaf)
        # In units of the largest entry, the squares of no gradient overflow or vanish.
        largest = jnp.abs(leaf).max()
        leaf = leaf / jnp.where(largest == 0, 1, largest).astype(leaf.dtype)
        removed = fan_in_size(axes, leaf.shape) * _squared_norm(leaf.mean(axes))
        share = removed / jnp.where(largest == 0, 1, _squared_norm(leaf))
        return jnp.minimum(share, 1)

    return map_with_fan_in(of_leaf, fan_in, updates)


def weight_means(params: PyTree, fan_in: FanInTree | FanInFn | None = None) -> PyTree:
    r"""The mean of each output unit's weights, \(\tfrac{1}{M} \sum_i w_{ij} = e^T w_j / \sqrt{M}\).

    If the final update of each step is centralized, it never changes. Multiplied by \(M\) it is
    the sum of the weights, which is how far a shift of all inputs by 1 moves the output.

    Args:
        params: A tree of arrays of any shapes, or an NNX module.
        fan_in: As for `centralize`: a tree of `FanIn`, a prefix of one, or a function.

    Returns:
        A tree like `params`: each leaf has the shape of the parameter without its fan-in axes
        (one number per output unit, and per copy of the layer along batch axes), in the unit of
        the weights, in float32 for 16-bit (and smaller) floats. Leaves that are not centralized
        are None, so the leaves of the result are the constraints.

    Raises:
        ValueError: An axis is out of range or repeated, or the tree does not fit `params`.
        TypeError: Something that is not a `FanIn` stands where one is expected.

    Examples:
        >>> import gc_optax, gc_optax.diagnostics, jax.numpy as jnp
        >>> params = {"kernel": jnp.array([[1., 4.], [3., 4.]]), "bias": jnp.ones(2)}
        >>> gc_optax.diagnostics.weight_means(params)
        {'bias': None, 'kernel': Array([2., 4.], dtype=float32)}

    Source: arXiv 2004.01461, section 4.1 (constrained descent).
    """
    params = params_tree(params)

    def of_leaf(path: KeyPath, spec: FanIn, leaf) -> jax.Array | None:
        axes = _centralized_axes(path, spec, leaf)
        return _widened(leaf).mean(axes) if axes else None

    return map_with_fan_in(of_leaf, fan_in, params)


def drift(params: PyTree, initial: PyTree, fan_in: FanInTree | FanInFn | None = None) -> PyTree:
    r"""How far each output unit's weights have moved off the hyperplane that they started on.

    \[ e^T w_t - e^T w_0, \qquad e = \mathbf{1} / \sqrt{M}: \]

    the signed distance from the hyperplane \(e^T w = e^T w_0\). Divided by \(\sqrt{M}\) it is the
    change in the weights' mean; multiplied by \(\sqrt{M}\), the change in their sum. If the final
    update of each step is centralized, it is 0 up to rounding.

    Args:
        params: The weights now, \(w_t\): a tree of arrays of any shapes, or an NNX module.
        initial: The weights at the start, \(w_0\), with the same structure and shapes. Leaves that
            `params` does not have are ignored.
        fan_in: As for `centralize`: a tree of `FanIn`, a prefix of one, or a function.

    Returns:
        A tree like `params`: each leaf has the shape of the parameter without its fan-in axes,
        in the unit of the weights, in float32 for 16-bit (and smaller) floats. Leaves that are
        not centralized are None.

    Raises:
        ValueError: `initial` lacks a leaf or has it with a different shape; or an axis is out of
            range or repeated, or the tree of `FanIn` does not fit `params`.
        TypeError: Something that is not a `FanIn` stands where one is expected.

    Examples:
        >>> import gc_optax, gc_optax.diagnostics, jax.numpy as jnp
        >>> initial = {"kernel": jnp.zeros((4, 2))}
        >>> params = {"kernel": jnp.ones((4, 2)) * jnp.array([[1., -3.]])}
        >>> print(gc_optax.diagnostics.drift(params, initial)["kernel"])
        [ 2. -6.]

    Source: arXiv 2004.01461, section 4.1.
    """
    params, initial = params_tree(params), params_tree(initial)
    before = dict(jax.tree_util.tree_leaves_with_path(initial))

    def of_leaf(path: KeyPath, spec: FanIn, leaf) -> jax.Array | None:
        axes = _centralized_axes(path, spec, leaf)
        if not axes:
            return None
        first: Any = before.get(path)
        if not is_centralizable(first) or jnp.shape(first) != leaf.shape:
            there = f"has shape {jnp.shape(first)}" if is_centralizable(first) else "is missing"
            raise ValueError(
                f"`initial` does not fit: {leaf_name(path, leaf)} of `params` {there} in "
                "`initial`. Give the parameters that training started from."
            )
        now, then = _widened(leaf), _widened(first)
        dtype = jnp.promote_types(now.dtype, then.dtype)
        # The difference first: it is what is small, and so its mean loses no digits.
        moved = now.astype(dtype) - then.astype(dtype)
        return math.sqrt(fan_in_size(axes, leaf.shape)) * moved.mean(axes)

    return map_with_fan_in(of_leaf, fan_in, params)


def center_weights(params: PyTree, fan_in: FanInTree | FanInFn | None = None) -> PyTree:
    r"""Weights that sum to zero in each output unit: \(P w_j = w_j - \tfrac{1}{M} \sum_i w_{ij}\).

    Use them as initial weights. If centralized updates then keep the sum at zero, a shift of all
    inputs of the layer by a constant \(c\) moves its output by \(c \, \mathbf{1}^T w_0 = 0\)
    throughout training. Independently drawn weights lose \(1/M\) of their variance.

    Args:
        params: A tree of arrays of any shapes, or an NNX module (which is not changed:
            `nnx.update(module, center_weights(module))` does that).
        fan_in: As for `centralize`: a tree of `FanIn`, a prefix of one, or a function.

    Returns:
        A tree like `params`, of the same shapes and dtypes; what `centralize` leaves alone is
        left alone. Sums are zero up to the rounding of the dtype.

    Raises:
        ValueError: An axis is out of range or repeated, or the tree does not fit `params`.
        TypeError: Something that is not a `FanIn` stands where one is expected.

    Examples:
        >>> import gc_optax, gc_optax.diagnostics, jax.numpy as jnp
        >>> params = {"kernel": jnp.array([[1., 4.], [3., 4.]]), "bias": jnp.ones(2)}
        >>> print(gc_optax.diagnostics.center_weights(params)["kernel"])
        [[-1.  0.]
         [ 1.  0.]]

    Source: arXiv 2004.01461, section 4.1 (output space regularization).
    """
    # The operator is the same on weights as on gradients.
    return centralize(fan_in).update(params_tree(params), optax.EmptyState())[0]


def _centralized_axes(path: KeyPath, fan_in: FanIn, leaf) -> tuple[int, ...]:
    """The axes over which `centralize` takes the mean of the leaf; `()` if it lets it pass."""
    if not fan_in.axes or not is_centralizable(leaf):
        return ()
    axes = normalized_axes(fan_in, leaf.shape, leaf_name(path, leaf))
    return axes if fan_in_size(axes, leaf.shape) > 1 and 0 not in leaf.shape else ()


def _widened(leaf) -> jax.Array:
    """The leaf in the dtype in which its mean is taken, as `centralize` does."""
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.float32) if leaf.dtype.itemsize < 4 else leaf


def _squared_norm(array: jax.Array) -> jax.Array:
    return jnp.sum(jnp.abs(array) ** 2)
