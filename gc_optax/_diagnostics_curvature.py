"""`top_eigenvalue`: the largest curvature of a loss, with and without the constraint."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gc_optax._centralize import centralize
from gc_optax._fan_in import is_centralizable
from gc_optax._matching import resolve
from gc_optax._nnx import as_function_of_params
from gc_optax._trees import FanInFn, FanInTree, PyTree, leaf_name

# Up to here the whole Hessian is cheaper than an iteration, and exact. (LOBPCG itself needs more
# than five parameters.)
_DENSE = 64


def top_eigenvalue(
    loss: Callable[..., Any],
    params: PyTree,
    fan_in: FanInTree | FanInFn | None = None,
    *,
    key: jax.Array | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 100,
) -> jax.Array:
    r"""The largest eigenvalue of the loss's Hessian \(H\), or of \(P H P\) if `fan_in` is given.

    \(P H P\) is the Hessian of the constrained loss \(v \mapsto L(w + P v)\), on which descent
    with centralized gradients takes place. Its largest eigenvalue is at most that of \(H\) (if
    that is not negative), and at least 0, the eigenvalue of the directions that \(P\) removes.

    "Largest" is in the algebraic sense: where the curvature is negative in all directions, the
    result is the one closest to zero, and strong negative curvature does not show.

    The Hessian is never formed (except for up to 64 parameters, where the eigenvalues are
    computed directly): LOBPCG needs four Hessian-vector products per iteration, three of them at
    once. Its result is a Rayleigh quotient, so apart from rounding it is never above the true
    value. There is no error if it has not converged: if more iterations raise the result,
    they were needed.

    Without `jax.jit` around it, each call recompiles. In a training loop, jit a function of
    the parameters (and the batch) that calls it.

    Args:
        loss: The function of `params` that returns the real scalar loss, on a fixed batch.
        params: A tree of arrays of any shapes, or an NNX module: then `loss` takes the module,
            and changes to the module's statistics are discarded. Leaves that are not floats
            are held constant.
        fan_in: As for `centralize`, or None for \(H\) itself.
        key: The PRNG key for the first search direction. By default a fixed one, so that equal
            arguments give equal results.
        tolerance: The iteration stops when \(\|H u - \lambda u\|\) is below
            `tolerance` \(\cdot (\lambda + \|H u\|)\) for the unit vector \(u\) found. The error of
            \(\lambda\) is at most that residual, and typically its square.
        max_iterations: The maximum number of iterations.

    Returns:
        A scalar in the unit of the loss over that of the squared parameters; float32, or float64
        if a parameter is. The loss sees the parameters in their own dtypes, so for 16-bit
        parameters the products have 16-bit rounding.

    Raises:
        ValueError: There are no parameters; or an axis is out of range or repeated, or the tree
            does not fit `params`.
        TypeError: A parameter is complex, the loss is not a real scalar, or something that is
            not a `FanIn` stands where one is expected.

    Examples:
        >>> import gc_optax, gc_optax.diagnostics, jax.numpy as jnp
        >>> # Steepest (curvature 8) along (1, 1), which is what centralizing removes.
        >>> loss = lambda params: 2 * params["kernel"].sum() ** 2 + (params["kernel"] ** 2).sum()
        >>> params = {"kernel": jnp.zeros((2, 1))}
        >>> print(round(float(gc_optax.diagnostics.top_eigenvalue(loss, params)), 4))
        10.0
        >>> fan_in = gc_optax.fan_in_by_name
        >>> print(round(float(gc_optax.diagnostics.top_eigenvalue(loss, params, fan_in)), 4))
        2.0

    Source: arXiv 2004.01461, section 4.2; A. Knyazev, "Toward the optimal preconditioned
    eigensolver: LOBPCG", 2001, as in `jax.experimental.sparse.linalg`.
    """
    loss, params, state, _ = as_function_of_params(loss, params)
    dtype = _vector_dtype(params)
    # Only shapes, for LOBPCG's cache holds on to all that the function it gets refers to.
    shapes = jax.tree.map(_shape_of_floats, params)
    size = sum(leaf.size for leaf in jax.tree.leaves(shapes) if is_centralizable(leaf))

    def to_vector(tree: PyTree) -> jax.Array:
        floats = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree) if is_centralizable(leaf)]
        return jnp.concatenate([leaf.ravel().astype(dtype) for leaf in floats])

    def to_tree(vector: jax.Array, own_dtypes: bool) -> PyTree:
        leaves, structure = jax.tree.flatten(shapes)
        end = 0
        for i, leaf in enumerate(leaves):
            if is_centralizable(leaf):
                start, end = end, end + leaf.size
                values = vector[start:end].reshape(leaf.shape)
                leaves[i] = values.astype(leaf.dtype) if own_dtypes else values
        return jax.tree.unflatten(structure, leaves)

    def project(vector: jax.Array) -> jax.Array:
        tree = to_tree(vector, own_dtypes=False)
        return to_vector(centralize(resolved).update(tree, optax.EmptyState())[0])

    resolved = None if fan_in is None else resolve(fan_in, params)

    def eigenvalue(vector: jax.Array, state: PyTree, key: jax.Array) -> jax.Array:
        def loss_of(vector: jax.Array) -> jax.Array:
            # Flax lets a module write to its statistics only at the trace level that made them.
            copies = jax.tree.map(lambda leaf: leaf, state)
            return loss(to_tree(vector, own_dtypes=True), *copies)

        hessian = jax.linearize(jax.grad(loss_of), vector)[1]

        def product(vector: jax.Array) -> jax.Array:
            return hessian(vector) if fan_in is None else project(hessian(project(vector)))

        products = jax.vmap(product, in_axes=1, out_axes=1)
        if size <= _DENSE:
            return jnp.linalg.eigvalsh(products(jnp.eye(size, dtype=dtype)))[-1]
        from jax.experimental.sparse.linalg import lobpcg_standard  # slow to import

        first = jax.random.normal(key, (size, 1), dtype)
        # LOBPCG squares numbers of the size of the eigenvalue, so it gets them of ordinary size.
        scale = jnp.abs(products(first)).max()
        scaled = lambda vectors: products(vectors) / jnp.where(scale == 0, 1, scale)  # noqa: E731
        # It multiplies its tolerance by 10 n, with which a network of a million parameters would
        # count as converged at once.
        values, _, _ = lobpcg_standard(scaled, first, max_iterations, tolerance / (10 * size))
        # Of a Hessian that is 0 (of a linear loss) it makes NaN.
        return jnp.where(scale == 0, 0, scale * values[0])

    # Inside a jit, so that what LOBPCG's cache holds on to are tracers and not arrays.
    key = jax.random.key(0) if key is None else key
    return jax.jit(eigenvalue)(to_vector(params), state, key)


def _vector_dtype(params: PyTree) -> Any:
    """The dtype of the vector of all float parameters; raises if there is no such vector."""
    floats = [
        (path, leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if is_centralizable(leaf)
    ]
    if not any(leaf.size for _, leaf in floats):
        raise ValueError("`params` has no array of floats, so the loss has no Hessian.")
    for path, leaf in floats:
        if jnp.iscomplexobj(leaf):
            raise TypeError(
                f"The Hessian is that of real parameters, but {leaf_name(path, leaf)} is complex: "
                "give its real and imaginary parts."
            )
    is_wide = any(jnp.asarray(leaf).dtype == jnp.float64 for _, leaf in floats)
    return jnp.float64 if is_wide else jnp.float32


def _shape_of_floats(leaf) -> Any:
    """Shape and dtype of an array of floats; anything else as it is."""
    if not is_centralizable(leaf):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, jnp.asarray(leaf).dtype)
