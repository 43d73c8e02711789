"""Random trees under random `FanIn` prefixes: the right result, or a documented error.

What is right is said here a second time, in NumPy and without JAX's tree functions.
"""

import collections
import dataclasses
import re
from typing import Any, NamedTuple

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given, settings

import gc_optax
from gc_optax import FanIn, diagnostics
from tests import strategies


class Pair(NamedTuple):
    kernel: Any
    bias: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    kernel: Any
    weight: Any


# What is drawn.


@st.composite
def leaves(draw) -> Any:
    """An array of any dtype, or what else optimizers meet where an array is due."""
    shape = draw(strategies.shapes(max_rank=3))
    kind = draw(st.sampled_from(["float"] * 6 + ["integer", "key", "float0", "NumPy", "number"]))
    if kind == "float":
        return draw(strategies.arrays(shape, draw(strategies.dtypes())))
    if kind == "integer":
        return jnp.asarray(np.ones(shape, draw(st.sampled_from(strategies.INTEGERS))))
    if kind == "key":
        size = int(np.prod(shape))
        return jax.random.wrap_key_data(jnp.asarray(np.ones((size, 2), np.uint32))).reshape(shape)
    if kind == "float0":
        return np.zeros(shape, jax.dtypes.float0)
    if kind == "NumPy":
        return draw(strategies.values(shape)).astype(np.float32)[...]
    return draw(st.sampled_from([2.5, 3, True]))


NAMES = ("kernel", "bias", "w", "embedding", "Conv_0", "a/b", "")
BUILDERS = ("names", "numbers", "list", "tuple", "NamedTuple", "dataclass")


@st.composite
def trees(draw, depth: int = 3) -> Any:
    """A tree of all kinds of containers and leaves, the outermost most often a container."""
    containers, others = ((0, 5), (1, 5), (3, 3), (8, 1))[depth]
    kind = draw(st.sampled_from(["container"] * containers + ["leaf"] * others + ["hole"]))
    if kind == "hole":
        return draw(st.sampled_from([None, optax.MaskedNode()]))
    if kind == "leaf":
        return draw(leaves())
    builder = draw(st.sampled_from(BUILDERS))
    size = 2 if builder in ("NamedTuple", "dataclass") else draw(st.sampled_from([0, 1, 2, 2, 3]))
    parts = [draw(trees(depth - 1)) for _ in range(size)]
    if builder == "names":
        first = draw(st.integers(0, len(NAMES) - 3))
        return dict(zip(NAMES[first:], parts, strict=False))
    if builder == "numbers":
        return dict(zip((3, 0, 10), parts, strict=False))
    if builder in ("list", "tuple"):
        return parts if builder == "list" else tuple(parts)
    return Pair(*parts) if builder == "NamedTuple" else Layer(*parts)


FOREIGN = (0, "dense", 1.5, object(), np.ones((2, 3)), (0,), [("conv",)], {"axes": 0})
"""What people may give in the place of a `FanIn`, or around one."""

DAMAGES = {
    "none": "right",
    "an axis that is not there": "range",
    "an axis and its negative": "twice",
    "something else for a FanIn": "foreign",
    "a FanIn less": "missing",
    "a FanIn below the leaf": "missing",
    "a FanIn more": "unused",
}
"""What is done to a tree of `FanIn` that may fit, and what comes of it at least sometimes."""


@st.composite
def damaged(draw, tree, spec, damage: str) -> tuple[Any, Any]:
    """A tree and a `FanIn` tree for it that most often does not fit."""
    if damage == "a FanIn more":
        return {"kernel": tree}, {"kernel": spec, "bias": draw(strategies.fan_ins(1))}
    leaves, _ = flattened(tree)
    specs, _ = flattened(spec)
    places = sorted({server(specs, path) or () for path in leaves}, key=name_of)
    if damage == "none" or not places:
        return tree, spec
    place = draw(st.sampled_from(places))
    rank = max(np.ndim(leaf) for path, leaf in leaves.items() if path[: len(place)] == place)
    new = {
        "an axis that is not there": st.sampled_from([FanIn((rank,)), FanIn((-rank - 1,))]),
        "an axis and its negative": st.just(FanIn((0, -rank)) if rank else FanIn(())),
        "something else for a FanIn": st.sampled_from(FOREIGN),
        # None in the place of all of them is the default.
        "a FanIn less": st.sampled_from([None, {}, (), optax.MaskedNode()][not place :]),
        "a FanIn below the leaf": st.sampled_from(
            [{"value": FanIn(())}, [FanIn((0,))], Pair(FanIn(()), FanIn(()))]
        ),
    }[damage]
    return tree, _replaced(spec, place, draw(new))


@st.composite
def prefixes(draw, node) -> Any:
    """A tree of `FanIn` for `node`, or a prefix of one, that most often fits."""
    parts = children(node)
    if parts is None or draw(st.integers(0, 3)) == 0:
        ranks = [np.ndim(leaf) for leaf in flattened(node)[0].values() if is_array(leaf)]
        return draw(strategies.fan_ins(min(ranks, default=2)))
    if not parts and draw(st.booleans()):
        # A tree made for all parameters has these where the updates have none.
        return draw(st.sampled_from([{"kernel": FanIn((5,))}, [FanIn(()), FanIn((0,))]]))
    return rebuilt(node, [draw(prefixes(child)) for child in parts.values()])


class Case(NamedTuple):
    tree: Any
    fan_in: Any
    jit: bool
    as_function: bool


@st.composite
def cases(draw, damage: str | None = None) -> Case:
    tree = draw(trees())
    damage = damage or draw(st.sampled_from(sorted(DAMAGES)))
    tree, fan_in = draw(damaged(tree, draw(prefixes(tree)), damage))
    return Case(tree, fan_in, draw(st.booleans()), draw(st.booleans()))


# Trees, without JAX.

Path = tuple[tuple[str, Any], ...]


def children(node) -> dict[Any, Any] | None:
    """The parts of a container by their keys; None for a leaf."""
    if node is None:
        return {}
    if isinstance(node, dict):
        return {("key", key): node[key] for key in sorted(node)}
    if isinstance(node, tuple) and type(node) is not tuple:
        names = getattr(node, "_fields")  # noqa: B009 - of a NamedTuple, which has no type
        return {("name", name): getattr(node, name) for name in names}
    if isinstance(node, list | tuple):
        return {("index", i): part for i, part in enumerate(node)}
    if isinstance(node, Layer):
        return {("name", name): getattr(node, name) for name in ("kernel", "weight")}
    return None


def rebuilt(node, parts: list) -> Any:
    """A container like `node` with other parts."""
    if node is None:
        return None
    if isinstance(node, dict):
        return dict(zip(sorted(node), parts, strict=True))
    if isinstance(node, list):
        return list(parts)
    if type(node) is tuple:
        return tuple(parts)
    return type(node)(*parts)


def flattened(node, path: Path = ()) -> tuple[dict[Path, Any], set[Path]]:
    """The leaves by path, and the paths of the outermost nodes without leaves."""
    parts = children(node)
    if parts is None:
        return {path: node}, set()
    found: dict[Path, Any] = {}
    empty: set[Path] = set()
    for key, part in parts.items():
        below, holes = flattened(part, (*path, key))
        found |= below
        empty |= holes
    return (found, empty) if found else ({}, {path})


def _replaced(node, path: Path, new) -> Any:
    if not path:
        return new
    parts = children(node)
    assert parts is not None
    changed = [_replaced(p, path[1:], new) if k == path[0] else p for k, p in parts.items()]
    return rebuilt(node, changed)


def name_of(path: Path) -> str:
    return "/".join(str(key) for _, key in path)


# What is right.


def is_array(leaf, jit: bool = False) -> bool:
    # To a jitted function, a Python number is an array.
    return hasattr(leaf, "dtype") or jit


def is_float(leaf, jit: bool) -> bool:
    if not hasattr(leaf, "dtype"):
        return jit and isinstance(leaf, float)
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def is_count(tree) -> bool:
    """Whether this may be the number of a step, which Optax gives to schedules."""
    return isinstance(tree, jax.Array) and tree.shape == () and tree.dtype == jnp.int32


def server(specs: dict[Path, Any], path: Path) -> Path | None:
    """The path of the `FanIn` that stands at `path` or above it."""
    above = [path[:n] for n in range(len(path) + 1) if path[:n] in specs]
    return above[0] if above else None


Problem = tuple[type[Exception], str, str]
"""The type of an error, its kind, and how it names the leaf."""


def problems(case: Case) -> list[Problem]:
    """All that is wrong with a case."""
    specs, _ = flattened(case.fan_in)
    leaves, empty = flattened(case.tree)
    foreign: list[Problem] = [
        (TypeError, "foreign", f"Leaf `{name_of(path)}` of the FanIn tree" if path else "`fan_in`")
        for path, spec in specs.items()
        if not isinstance(spec, FanIn)
    ]
    if foreign:
        return foreign
    found: list[Problem] = []
    for path, leaf in leaves.items():
        named = f"leaf `{name_of(path)}` of shape" if path else "the only leaf of shape"
        above = server(specs, path)
        if above is None:
            if is_array(leaf, case.jit):  # what is no array needs none
                found.append((ValueError, "missing", named))
        elif is_float(leaf, case.jit):
            rank, axes = np.ndim(leaf), specs[above].axes
            if any(axis >= rank or axis < -rank for axis in axes):
                found.append((ValueError, "range", named))
            elif len({axis % rank for axis in axes}) < len(axes):
                found.append((ValueError, "twice", named))
    used = {server(specs, path) for path in leaves}
    for path in specs.keys() - used:
        if not any(path[: len(e)] == e or e[: len(path)] == path for e in empty):
            found.append((ValueError, "unused", f"`{name_of(path)}`"))
    return found


TEXTS = {
    "foreign": r".* is .*, not a gc_optax\.FanIn: (give a tree of FanIn, such as "
    r"gc_optax\.fan_in_by_name\(params\), or a function that returns one|"
    r"write axes as gc_optax\.FanIn\(\(\d,\)\))\.",
    "missing": r"The FanIn tree does not fit: it has no FanIn for .*\. ("
    r"Build it from this tree, or add FanIn\(\(\)\) there to leave the leaf alone"
    r"|Its paths begin with `.*/`: use `fan_in\[.*\]`"
    r"|`fan_in` is a function: return a FanIn for each leaf, FanIn\(\(\)\) to leave it alone)\.",
    "range": r"Axis -?\d+ of FanIn\(.*\) is out of range for .*, which has rank \d: give axes of "
    r"that leaf, or FanIn\(\(\)\) to leave it alone\.",
    "twice": r"FanIn\(.*\) names an axis twice for .*, which has rank \d: an axis and its negative "
    r"are the same one\.",
    "unused": r"The FanIn tree does not fit: it has a FanIn for .*, where the updates have no "
    r"leaf\. Build the FanIn tree from the parameters being updated\.",
}


def check_error(error: Exception, expected: list[Problem]) -> str:
    """The kind of the error, which must be one of those that are due."""
    for kind, text, named in expected:
        message = str(error)
        if type(error) is kind and re.fullmatch(TEXTS[text], message) and named in message:
            return text
    raise AssertionError(f"{error!r} is none of {expected}")


def reference(leaf, axes: tuple[int, ...]) -> np.ndarray:
    """The gradient minus its mean, in float64."""
    wide = np.asarray(leaf).astype(np.complex128)
    return wide - wide.mean(axes, keepdims=True)


def tolerance(leaf, exact) -> np.ndarray:
    """One rounding to the leaf's dtype, after sums of a few numbers in float32."""
    narrow = jnp.finfo(leaf.dtype)
    scale = np.max(np.abs(np.asarray(leaf).astype(np.complex128)), initial=0.0)
    sums = 8 * scale * float(jnp.finfo(jnp.float32).eps)
    return np.abs(exact) * float(narrow.eps) + sums + float(narrow.smallest_subnormal)


def check_leaf(before, after, axes: tuple[int, ...], jit: bool) -> None:
    if not is_float(before, jit) or np.prod([np.shape(before)[axis] for axis in axes]) <= 1:
        if not jit:
            assert after is before
        elif jnp.issubdtype(after.dtype, jax.dtypes.prng_key):
            assert (jax.random.key_data(after) == jax.random.key_data(before)).all()
        else:
            chex.assert_trees_all_equal(after, before)
        return
    assert isinstance(after, jax.Array)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, before)
    exact = reference(before, axes) if 0 not in before.shape else np.zeros(before.shape)
    error = np.abs(np.asarray(after).astype(np.complex128) - exact)
    assert (error <= tolerance(before, exact)).all()


def check(case: Case) -> str:
    """Centralizes, compares with what is right, and says what came out."""
    fan_in = (lambda updates: case.fan_in) if case.as_function else case.fan_in
    update = gc_optax.centralize(fan_in).update
    expected = problems(case)
    try:
        result, _ = (jax.jit(update) if case.jit else update)(case.tree, optax.EmptyState())
    except (TypeError, ValueError) as error:
        return check_error(error, expected)
    assert not expected
    assert jax.tree.structure(result) == jax.tree.structure(case.tree)
    specs, _ = flattened(case.fan_in)
    after, _ = flattened(result)
    for path, before in flattened(case.tree)[0].items():
        above = server(specs, path)
        check_leaf(before, after[path], () if above is None else specs[above].axes, case.jit)
    return "right"


def check_cases(damage: str, number: int) -> None:
    outcomes: collections.Counter[str] = collections.Counter()

    @given(case=cases(damage))
    @settings(max_examples=number)
    def check_one(case):
        outcomes.update([check(case)])

    check_one()
    # The strategies are good for something.
    assert outcomes[DAMAGES[damage]] > number / 10, outcomes


@pytest.mark.parametrize("damage", DAMAGES)
def test_random_trees_are_centralized_or_the_error_names_what_does_not_fit(damage):
    check_cases(damage, 50 if damage == "none" else 15)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_many_random_trees_are_centralized_or_the_error_names_what_does_not_fit(damage):
    check_cases(damage, 600 if damage == "none" else 200)


@given(case=cases())
@settings(max_examples=30)
def test_everything_that_takes_a_fan_in_tree_accepts_and_rejects_the_same(case):
    assume(not is_count(case.tree))
    uses = {
        "summary": lambda: gc_optax.summary(case.tree, case.fan_in),
        "muon": lambda: gc_optax.muon_dimension_numbers(case.fan_in, case.tree),
        "mean_component": lambda: diagnostics.mean_component(case.tree, case.fan_in),
        "weight_means": lambda: diagnostics.weight_means(case.tree, case.fan_in),
    }
    expected = problems(case._replace(jit=False))
    for use in uses.values():
        try:
            use()
        except (TypeError, ValueError) as error:
            check_error(error, expected)
        else:
            assert not expected


@given(tree=trees(), jit=st.booleans())
@settings(max_examples=30)
def test_any_tree_can_be_centralized_by_name_and_summarized(tree, jit):
    assume(not is_count(tree))
    fan_in = gc_optax.fan_in_by_name(tree)
    assert jax.tree.structure(fan_in) == jax.tree.structure(tree)
    check(Case(tree, fan_in, jit, as_function=False))
    rows = gc_optax.summary(tree).rows
    assert [row.axes for row in rows] == [spec.axes for spec in jax.tree.leaves(fan_in)]
    repr(gc_optax.summary(tree))


@given(tree=trees())
@settings(max_examples=30)
def test_the_layers_of_any_tree_are_found_by_trace(tree):
    def is_layer(leaf) -> bool:
        return is_float(leaf, jit=False) and np.ndim(leaf) == 2 and 0 not in np.shape(leaf)

    def loss(params, inputs):
        layers = [leaf for leaf in flattened(params)[0].values() if is_layer(leaf)]
        return sum(
            jnp.abs(inputs[len(layer)].astype(layer.dtype) @ layer).astype(jnp.float32).sum()
            for layer in layers
        )

    inputs = {size: jnp.ones((2, size)) for size in range(1, 5)}
    fan_in = gc_optax.fan_in_by_trace(loss, tree, inputs)
    assert jax.tree.structure(fan_in) == jax.tree.structure(tree)
    for path, spec in flattened(fan_in)[0].items():
        leaf = flattened(tree)[0][path]
        assert spec.axes == ((0,) if is_layer(leaf) and len(leaf) > 1 else ())


# What is not finite.


@st.composite
def poisoned(draw) -> tuple[jax.Array, jax.Array, FanIn, np.ndarray]:
    """A gradient, the same with numbers in one output vector that are not finite, and where."""
    layout = draw(strategies.summing_layouts())
    clean = np.array(draw(strategies.arrays(layout.shape, draw(strategies.dtypes()))))
    entry = tuple(draw(st.integers(0, size - 1)) for size in layout.shape)
    dirty = clean.copy()
    dirty[entry] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    vector = tuple(slice(None) if a in layout.axes else i for a, i in enumerate(entry))
    mask = np.zeros(layout.shape, bool)
    mask[vector] = True
    return jnp.asarray(clean), jnp.asarray(dirty), layout.fan_in, mask


@given(arrays=poisoned(), jit=st.booleans())
@settings(max_examples=20)
def test_nan_and_infinity_stay_inside_their_own_output_vector(arrays, jit):
    clean, dirty, fan_in, mask = arrays
    update = gc_optax.centralize(fan_in).update
    update = jax.jit(update) if jit else update
    before: Any = update(clean, optax.EmptyState())[0]
    after: Any = update(dirty, optax.EmptyState())[0]
    others = np.asarray(after)[~mask], np.asarray(before)[~mask]
    assert others[0].tobytes() == others[1].tobytes()
    assert not np.isfinite(np.asarray(after)[mask].astype(np.complex64)).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_leaf_that_is_not_finite_leaves_the_other_leaves_alone(value):
    rng = np.random.default_rng(0)
    tree = {name: jnp.asarray(rng.normal(size=(8, 4)).astype(np.float32)) for name in "ab"}
    update = jax.jit(gc_optax.centralize(FanIn((0,))).update)
    before: Any = update(tree, optax.EmptyState())[0]
    after: Any = update(tree | {"a": jnp.full((8, 4), value)}, optax.EmptyState())[0]
    assert np.asarray(after["b"]).tobytes() == np.asarray(before["b"]).tobytes()
    assert not jnp.isfinite(after["a"]).any()
