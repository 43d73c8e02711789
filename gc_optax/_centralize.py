"""`centralize`: Gradient Centralization as an Optax gradient transformation."""

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import KeyPath

from gc_optax._fan_in import FanIn, fan_in_size, is_centralizable, normalized_axes
from gc_optax._guesses import warn_of_guesses
from gc_optax._matching import map_with_fan_in
from gc_optax._means import minus_mean
from gc_optax._shards import SpecTree, Split, shards, splits, whole
from gc_optax._trees import FanInFn, FanInTree, leaf_name


def centralize(
    fan_in: FanInTree | FanInFn | None = None, specs: SpecTree | None = None
) -> optax.GradientTransformation:
    r"""Subtracts from each output unit's gradient vector its mean over the fan-in.

    For the gradient \(g_j\) of the \(M\) weights of output unit \(j\):

    \[ GC(g_j) = g_j - \tfrac{1}{M} \textstyle\sum_i g_{ij} = P g_j, \qquad
       P = I - e e^T, \quad e = \mathbf{1} / \sqrt{M}. \]

    Its place in a chain determines what is centralized: before an optimizer the gradient, after
    it the update. If the final update is centralized, the sum of each unit's weights never
    changes.

    The mean of 16-bit (and smaller) floats is accumulated in float32, and the result has the
    leaf's dtype. Integers, PRNG keys, empty leaves and leaves with a fan-in of 1 (which would
    become zero) pass through. The function is pure and holds no state; under `jit`, XLA fuses
    the subtraction into what follows.

    Under `jit`, nothing else is needed for sharded arrays: where the fan-in is split over
    devices, XLA adds an all-reduce of the means, one number per output unit. Inside
    `jax.shard_map` a function sees one shard of each array. There, without `specs`, each shard is
    centralized by its own mean, which is wrong for leaves whose fan-in is split, and right for all
    others.

    Args:
        fan_in: The axes of each leaf: a tree of `FanIn` that has the updates' structure or is a
            prefix of it (one `FanIn` then applies to all leaves), or a function from the updates
            to such a tree. By default the axes come from names and shapes, see `fan_in_by_name`;
            if these are not enough for some leaves, `init` warns and lists them. Passing the
            function `fan_in_by_name` itself accepts guesses silently. The updates of an
            `nnx.Optimizer` may have only some of the leaves of the tree, since it may train only
            part of the module.
        specs: For use inside `jax.shard_map`: how the updates are split, as a tree of
            `PartitionSpec` or `NamedSharding` like the parameters' `in_specs`, or a prefix
            of it. Means are then taken over all shards of a fan-in, and `fan_in`, if it is a
            function, sees the shapes of the whole arrays. Mesh axes that are not manual
            are left to XLA, so the same transformation also works outside of `shard_map`.

    Returns:
        An `optax.GradientTransformation` with `optax.EmptyState`; updates keep their structure,
        shapes and dtypes.

    Raises:
        ValueError: (on update) An axis is out of range or repeated, or the tree of `FanIn` or
            of `specs` does not fit the updates, or `specs` names an axis that the mesh lacks.
        TypeError: (on update) Something that is not a `FanIn` (in `specs`: not a `PartitionSpec`
            or `NamedSharding`) stands where one is expected.

    Warns:
        UserWarning: (on init) `fan_in` is None, and there are leaves whose axes are guessed.

    Examples:
        >>> import gc_optax, jax.numpy as jnp, optax
        >>> params = {"kernel": jnp.ones((2, 4)), "bias": jnp.zeros(4)}
        >>> optimizer = optax.chain(gc_optax.centralize(), optax.sgd(1.0))
        >>> state = optimizer.init(params)
        >>> grads = {"kernel": jnp.array([[3., 2., 1., 0.], [5., 4., 9., 0.]]), "bias": jnp.ones(4)}
        >>> updates, state = optimizer.update(grads, state, params)
        >>> print(updates["kernel"])
        [[ 1.  1.  4. -0.]
         [-1. -1. -4. -0.]]

    Source: Yong, Huang, Hua, Zhang, "Gradient Centralization", 2020, arXiv 2004.01461, section 3.
    """

    def init(params: optax.Params) -> optax.EmptyState:
        if fan_in is None:
            warn_of_guesses(params if specs is None else whole(params, splits(specs, params)))
        return optax.EmptyState()

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        del params
        split = {} if specs is None else splits(specs, updates)
        shapes = whole(updates, split) if split else updates

        def leaf_update(path: KeyPath, fan_in: FanIn, leaf: jax.Array) -> jax.Array:
            return _centralize_leaf(path, fan_in, leaf, split.get(path, ()))

        return map_with_fan_in(leaf_update, fan_in, updates, shapes), state

    return optax.GradientTransformation(init, update)


def _centralize_leaf(path: KeyPath, fan_in: FanIn, leaf: jax.Array, split: Split) -> jax.Array:
    if not fan_in.axes or not is_centralizable(leaf):
        return leaf
    shape = jnp.shape(leaf)
    axes = normalized_axes(fan_in, shape, leaf_name(path, leaf))
    mesh_axes = tuple(name for axis in axes for name in split[axis]) if split else ()
    if fan_in_size(axes, shape) * shards(mesh_axes) <= 1:
        return leaf
    return minus_mean(jnp.asarray(leaf), axes, mesh_axes)
