"""Deliberate bugs of the core, each with the tests that must catch it.

The text to replace stands exactly once in its file. `tests/test_mutations.py` makes each bug in a
copy of the package and runs its tests against the copy.
"""

from typing import NamedTuple


class Mutation(NamedTuple):
    """One bug: in `file` of the package, `old` becomes `new`."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _tests(module: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/{module}.py::{name}" for name in names)


MUTATIONS = {
    # The operator.
    "the axis after the one that was given": Mutation(
        "_fan_in.py",
        "tuple(axis % rank for axis in fan_in.axes)",
        "tuple((axis + 1) % rank for axis in fan_in.axes)",
        _tests("test_centralize_leaves", "test_one_fan_in_serves_the_whole_tree"),
    ),
    "no guard for a fan-in of 1 or 0": Mutation(
        "_centralize.py",
        "<= 1:\n        return leaf",
        "< 0:\n        return leaf",
        _tests(
            "test_centralize_leaves",
            "test_a_leaf_with_a_fan_in_of_1_passes_unchanged",
            "test_an_empty_leaf_passes_without_a_warning",
        ),
    ),
    "the sum for the mean": Mutation(
        "_means.py",
        "leaf.astype(wide).sum(axes) / size",
        "leaf.astype(wide).sum(axes)",
        _tests("test_centralize_leaves", "test_one_fan_in_serves_the_whole_tree"),
    ),
    "the dtype of the leaf is lost": Mutation(
        "_means.py",
        "jnp.expand_dims(mean, axes)).astype(leaf.dtype)",
        "jnp.expand_dims(mean, axes))",
        _tests("test_centralize_leaves", "test_the_dtype_is_preserved"),
    ),
    "the mean of 16-bit floats in 16 bits": Mutation(
        "_means.py",
        "wide = jnp.dtype(jnp.float32) if leaf.dtype.itemsize < 4 else leaf.dtype",
        "wide = leaf.dtype",
        _tests(
            "test_centralize_leaves",
            "test_the_mean_of_16_bit_floats_is_accumulated_in_float32",
        ),
    ),
    "of a part only the first axis is summed": Mutation(
        "_means.py",
        "[1 + a for a in axes if a >= axis]",
        "[1 + axis]",
        _tests("test_means", "test_large_leaves_lose_their_mean"),
    ),
    "the batch axes are averaged too": Mutation(
        "_centralize.py",
        "normalized_axes(fan_in, shape, leaf_name(path, leaf))",
        "normalized_axes(FanIn(fan_in.axes + fan_in.batch_axes), shape, leaf_name(path, leaf))",
        _tests(
            "test_trace_numbers",
            "test_centralizing_equals_the_gradient_of_centered_inputs[linen_vmap_ensemble]",
        ),
    ),
    "the axes of a leaf of another rank": Mutation(
        "_fan_in.py",
        "if fan_in.axes and fan_in.rank not in (None, rank):",
        "if not fan_in.axes and fan_in.rank not in (None, rank):",
        _tests("test_errors", "test_a_leaf_of_another_rank_is_an_error_in_all_that_take_a_fan_in"),
    ),
    "integers are centralized": Mutation(
        "_fan_in.py",
        "jnp.issubdtype(leaf.dtype, jnp.inexact)",
        "jnp.issubdtype(leaf.dtype, jnp.number)",
        _tests("test_centralize_leaves", "test_integers_and_booleans_pass_unchanged"),
    ),
    "the shards of a fan-in are summed": Mutation(
        "_means.py",
        "jax.lax.pmean(mean, mesh_axes)",
        "jax.lax.psum(mean, mesh_axes)",
        _tests("test_shard_map", "test_16_bit_shards_get_the_unsharded_result"),
    ),
    # Trees of FanIn.
    "an axis and its negative may both be named": Mutation(
        "_fan_in.py",
        "if len(set(axes)) != len(axes):",
        "if len(set(axes)) > len(axes):",
        _tests("test_errors", "test_centralize_names_the_leaf_and_the_remedy"),
    ),
    "a FanIn without a leaf is not noticed": Mutation(
        "_matching.py",
        "if len(used) < len(specs):",
        "if len(used) > len(specs):",
        _tests("test_errors", "test_centralize_names_the_leaf_and_the_remedy"),
    ),
    "a FanIn serves its own leaf only": Mutation(
        "_matching.py",
        "(path[:n] for n in range(len(path) + 1) if path[:n] in specs)",
        "(path[:n] for n in [len(path)] if path[:n] in specs)",
        _tests("test_centralize_leaves", "test_a_prefix_serves_all_leaves_below_it"),
    ),
    "exclude keeps what it should empty": Mutation(
        "_selection.py",
        'FanIn((), "excluded", rank=leaf.rank)\n            if any(',
        "leaf\n            if any(",
        _tests("test_selection", "test_exclude_empties_the_leaves_whose_path_matches"),
    ),
    "convolutions_only keeps everything else": Mutation(
        "_selection.py",
        'leaf if leaf.kind == "conv" else',
        'leaf if leaf.kind != "conv" else',
        _tests("test_selection", "test_convolutions_only_keeps_convolutions_and_empties_the_rest"),
    ),
    # Axes by name.
    "the heads of an attention kernel are averaged": Mutation(
        "_layouts.py",
        '"attention heads", "dense", "i h k", "h k"',
        '"attention heads", "dense", "i j k", "j k"',
        _tests("test_names", "test_linen_layers"),
    ),
    # Axes by trace.
    "the contracted axes of the other operand": Mutation(
        "_tracing/dot_general.py",
        "contracted = side.contracted.difference(chosen)",
        "contracted = other.contracted.difference(chosen)",
        _tests("test_trace_layers", "test_traced_axes_are_those_known_by_hand[linen_dense]"),
    ),
    "a tied embedding is not left alone": Mutation(
        "_tracing/verdict.py",
        'if lookups := at_kind("lookup"):',
        'if (lookups := at_kind("lookup")) and not uses:',
        _tests("test_trace", "test_tied_embedding_is_left_alone_without_a_warning"),
    ),
    "conflicting uses are merged silently": Mutation(
        "_tracing/verdict.py",
        "for use in uses}) > 1:",
        "for use in uses}) > len(uses):",
        _tests("test_trace", "test_conflicting_uses_warn_once_and_name_leaf_and_places"),
    ),
    "the layers of a stack count as fan-in": Mutation(
        "_tracing/verdict.py",
        "            axes,\n            kind,\n",
        "            tuple(sorted({*axes, *batch})),\n            kind,\n",
        _tests("test_trace_layers", "test_traced_axes_are_those_known_by_hand"),
    ),
    "a transposition is not followed": Mutation(
        "_tracing/structure.py",
        'layout.dims[d] for d in eqn.params["permutation"]',
        "dim for dim in layout.dims",
        _tests("test_trace", "test_conflicting_uses_warn_once_and_name_leaf_and_places"),
    ),
    "an axis contracted in part passes": Mutation(
        "_tracing/verdict.py",
        "if any(use.partial for use in uses) or",
        "if",
        _tests("test_trace", "test_axis_contracted_in_part_is_a_conflict"),
    ),
    # What is built on top.
    "Muon takes the copies of a layer for outputs": Mutation(
        "_muon.py",
        "if axis not in axes + batch",
        "if axis not in axes",
        _tests("test_muon", "test_stacked_layers_are_orthogonalized_one_by_one"),
    ),
    "a depthwise kernel is one matrix": Mutation(
        "_muon.py",
        "fan_in.groups == 1",
        "fan_in.groups != 0",
        _tests("test_muon", "test_one_channel_of_a_depthwise_kernel_does_not_move_the_others"),
    ),
    "guesses are not warned of": Mutation(
        "_guesses.py",
        "if spec.guess and fan_in_size",
        "if not spec.guess and fan_in_size",
        _tests("test_guesses", "test_init_lists_the_guesses_in_one_warning"),
    ),
    "drift is the change of the mean": Mutation(
        "_diagnostics.py",
        "return math.sqrt(fan_in_size(axes, leaf.shape)) * moved.mean(axes)",
        "return moved.mean(axes)",
        _tests("test_diagnostics", "test_drift_compares_weights_of_different_precision"),
    ),
}
