"""How the leaves are split inside `jax.shard_map`, where a function sees a shard of each."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.tree_util import KeyPath

from gc_optax._trees import PyTree, leaf_name, path_name

SpecTree = Any
"""A `PartitionSpec` or `NamedSharding`, or a tree of them that is a prefix of the updates' tree."""

Split = tuple[tuple[Hashable, ...], ...]
"""For each dimension of a leaf, the mesh axes that it is split over by hand."""


def splits(specs: SpecTree, tree: PyTree) -> dict[KeyPath, Split]:
    """How each leaf of `tree` is split here; nothing is split by hand outside of `shard_map`."""
    given = dict(jax.tree_util.tree_leaves_with_path(specs))
    for path, spec in given.items():
        if not isinstance(spec, PartitionSpec | NamedSharding):
            where = f"Leaf `{path_name(path)}` of `specs`" if path else "`specs`"
            raise TypeError(
                f"{where} is of type {type(spec).__name__}, not a PartitionSpec or a "
                "NamedSharding: give what `in_specs` of `jax.shard_map` has for the parameters."
            )
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        prefix = next((path[:n] for n in range(len(path) + 1) if path[:n] in given), None)
        if prefix is None:
            raise ValueError(
                f"`specs` does not fit: it has no PartitionSpec for {leaf_name(path, leaf)}. "
                "Build it from this tree, or add PartitionSpec() there for a leaf that is whole."
            )
        found[path] = _split(given[prefix], path, leaf)
    return found


def whole(tree: PyTree, splits: dict[KeyPath, Split]) -> PyTree:
    """`tree` with the shapes of the whole arrays in the place of shards."""

    def shape_of(path: KeyPath, leaf):
        if not any(splits[path]):
            return leaf
        sizes = [size * shards(names) for size, names in zip(leaf.shape, splits[path], strict=True)]
        return jax.ShapeDtypeStruct(tuple(sizes), leaf.dtype)

    return jax.tree_util.tree_map_with_path(shape_of, tree)


def shards(names: Sequence[Hashable]) -> int:
    """The number of shards that a split over the mesh axes `names` gives."""
    return math.prod(jax.lax.axis_size(name) for name in names)


def _split(spec: PartitionSpec | NamedSharding, path: KeyPath, leaf) -> Split:
    spec = spec.spec if isinstance(spec, NamedSharding) else spec
    rank = jnp.ndim(leaf)
    if len(spec) > rank:
        raise ValueError(
            f"{spec} in `specs` is for arrays of at least {len(spec)} dimensions, and "
            f"{leaf_name(path, leaf)} has {rank}."
        )
    entries = [*spec, *[None] * (rank - len(spec))]
    named = [
        () if entry is None else entry if isinstance(entry, tuple) else (entry,)
        for entry in entries
    ]
    return tuple(
        tuple(name for name in names if _is_by_hand(name, spec, path, leaf)) for names in named
    )


def _is_by_hand(name: Hashable, spec: PartitionSpec, path: KeyPath, leaf) -> bool:
    """Whether a collective over the mesh axis `name` is the program's affair, and not XLA's."""
    try:
        jax.lax.axis_size(name)
    except NameError:
        mesh = jax.sharding.get_abstract_mesh()
        # Without a mesh, `jit` sees whole arrays, wherever they lie.
        if mesh.empty or name in mesh.axis_names:
            return False
        raise ValueError(
            f"{spec} in `specs` splits {leaf_name(path, leaf)} over {name!r}, and the mesh has the "
            f"axes {', '.join(map(repr, mesh.axis_names))}: name one of them."
        ) from None
    return True
