"""The verdict on each leaf of a model."""

import dataclasses
import time
import warnings
from typing import Any

import jax

import gc_optax
from benchmarks.zoo.case import UNUSED, Case, Right, key_of, leaves_of

TRACE = ("right", "wrong", "left alone wrongly", "no oracle")
NAMES = ("right", "guess", "wrong", "no oracle")


@dataclasses.dataclass(frozen=True)
class Finding:
    """A leaf that is not right, with what came and what should have."""

    by: str
    verdict: str
    leaf: str
    shape: tuple[int, ...]
    came: tuple[int, ...]
    reason: str
    right: tuple[int, ...] | None
    owner: str


def matter(axes, shape) -> set[int]:
    """The axes that are no matter of taste: an axis of size 1 changes no mean."""
    return {axis % len(shape) for axis in axes if shape[axis] != 1}


def fits(fan_in, shape, right: Right) -> bool:
    """Whether the axes are those of the oracle, or others that are as right."""
    return any(matter(fan_in.axes, shape) == matter(axes, shape) for axes in _right(right))


def _right(right: Right) -> tuple[tuple[int, ...], ...]:
    return () if right.axes is None else (right.axes, *right.also)


def by_trace(fan_in, shape, right: Right) -> str:
    """Right, wrong without a word, or left alone wrongly."""
    if right.owner == UNUSED:
        return "wrong" if matter(fan_in.axes, shape) else "right"
    if right.axes is None:
        return "no oracle"
    if fits(fan_in, shape, right):
        return "right"
    return "wrong" if matter(fan_in.axes, shape) else "left alone wrongly"


def by_name(fan_in, shape, right: Right) -> str:
    """Right, a guess that says so (whatever its axes), or wrong without a word."""
    if fan_in.guess:
        return "guess"
    if right.owner == UNUSED:
        return "right"
    if right.axes is None:
        return "no oracle"
    return "right" if fits(fan_in, shape, right) else "wrong"


def judged(case: Case) -> dict[str, Any]:
    """The row of a model: how many leaves got which verdict, seconds, and what is not right."""
    row: dict[str, Any] = {"warnings": []}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        traced = gc_optax.fan_in_by_trace(case.fn, case.params, *case.args)
        row["seconds"] = round(time.perf_counter() - start, 3)
    row["warnings"] = [str(w.message)[:300] for w in caught if "left alone" in str(w.message)]
    params = case.params if case.named is None else case.named
    named = gc_optax.fan_in_by_name(params)
    findings: list[Finding] = []
    counts = {"trace": dict.fromkeys(TRACE, 0), "names": dict.fromkeys(NAMES, 0)}
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves_of(params).items()}
    for by, tree, verdict in (("trace", traced, by_trace), ("names", named, by_name)):
        of_leaf = _fan_ins(tree)
        for path, shape in shapes.items():
            fan_in, right = of_leaf[path], case.right[path]
            said = verdict(fan_in, shape, right)
            counts[by][said] += 1
            if said not in ("right", "guess"):
                came = fan_in.axes, fan_in.reason
                findings.append(Finding(by, said, path, shape, *came, right.axes, right.owner))
    row["leaves"] = len(shapes)
    row["matrices"] = sum(len(shape) >= 2 for shape in shapes.values())
    return row | counts | {"findings": [dataclasses.asdict(finding) for finding in findings]}


def _fan_ins(tree) -> dict[str, gc_optax.FanIn]:
    return {key_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
