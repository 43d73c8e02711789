"""Sharded arrays under `jit`: the unsharded numbers, and only the means travel between devices."""

import functools
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gc_optax
from gc_optax import FanIn

BITS = {"pred": 8, "s32": 32, "u32": 32, "bf16": 16, "f16": 16, "f32": 32, "f64": 64}
# A tuple's layouts may have parentheses of their own.
TYPE = r"(\((?:[^()]|\([^()]*\))*\)|\S+)"
KIND = r"(all-gather|all-reduce|reduce-scatter|(?:ragged-)?all-to-all|collective-\w+|send|recv)"
INSTRUCTION = rf"^ *(?:ROOT )?%?[\w.-]+ = {TYPE} {KIND}(?:-start)?\("


class Collective(NamedTuple):
    """One communication of a compiled program: its name, and what each device gets from it."""

    kind: str
    elements: int
    bytes: int


def collectives(hlo: str | None) -> list[Collective]:
    """All communication in the text of a compiled program.

    The result of an instruction may be a tuple, when XLA has merged several of them. What starts
    an asynchronous one may give out its operands, too: they count as if they were sent.
    """
    assert hlo is not None
    instructions = re.findall(INSTRUCTION, hlo, re.MULTILINE)
    found = []
    for result, kind in instructions:
        arrays = re.findall(r"(\w+)\[([\d,]*)\]", result)
        assert arrays, result
        sizes = [(math.prod(map(int, filter(None, dims.split(",")))), t) for t, dims in arrays]
        elements = sum(size for size, _ in sizes)
        found.append(Collective(kind, elements, sum(size * BITS[t] // 8 for size, t in sizes)))
    return found


def mesh_of(kind: AxisType) -> jax.sharding.Mesh:
    return jax.make_mesh((4, 2), BOTH, axis_types=(kind,) * 2)


LEAVES = {
    "embedding": ((32, 16), FanIn(())),
    "query": ((16, 8, 4), FanIn((0,))),
    "attention_out": ((8, 4, 16), FanIn((0, 1))),
    "query_bias": ((8, 4), FanIn(())),
    "up": ((16, 32), FanIn((0,))),
    "down": ((32, 16), FanIn((0,))),
    "torch_linear": ((24, 16), FanIn((1,))),
    "experts": ((8, 16, 24), FanIn((1,), "dense", (0,))),
    "conv": ((3, 3, 8, 16), FanIn((0, 1, 2), "conv")),
    "scale": ((16,), FanIn(())),
}
FAN_IN = {name: fan_in for name, (_, fan_in) in LEAVES.items()}

BOTH = ("data", "model")
LAYOUTS = {
    "fan-in": {
        "query": P("data"),
        "attention_out": P("model", "data"),
        "up": P(BOTH),
        "down": P("model"),
        "torch_linear": P(None, "data"),
        "experts": P(None, "data"),
        "conv": P(None, None, ("model", "data")),
    },
    "fan-out": {
        "query": P(None, "data", "model"),
        "attention_out": P(None, None, "data"),
        "up": P(None, BOTH),
        "down": P(None, "model"),
        "torch_linear": P("data"),
        "experts": P(None, None, "data"),
        "conv": P(None, None, None, ("model", "data")),
    },
    "batch axis": {"experts": P(BOTH)},
    "batch axis and fan-in": {"experts": P("model", "data")},
    "FSDP": {  # the longest dimension
        "embedding": P(BOTH),
        "query": P(BOTH),
        "attention_out": P(None, None, BOTH),
        "query_bias": P(BOTH),
        "up": P(None, BOTH),
        "down": P(BOTH),
        "torch_linear": P(BOTH),
        "experts": P(None, None, BOTH),
        "conv": P(None, None, None, BOTH),
        "scale": P(BOTH),
    },
    "tensor parallel": {
        "embedding": P("model"),
        "query": P(None, "model"),
        "attention_out": P("model"),
        "query_bias": P("model"),
        "up": P(None, "model"),
        "down": P("model"),
        "torch_linear": P("model"),
        "experts": P("model"),
        "conv": P(None, None, None, "model"),
    },
    "FSDP x tensor parallel": {
        "embedding": P("model", "data"),
        "query": P("data", "model"),
        "attention_out": P("model", None, "data"),
        "query_bias": P("model"),
        "up": P("data", "model"),
        "down": P("model", "data"),
        "torch_linear": P("model", "data"),
        "experts": P("model", "data"),
        "conv": P(None, None, "data", "model"),
        "scale": P("data"),
    },
    "replicated": {},
}


def specs_of(layout: str) -> dict[str, P]:
    return {name: LAYOUTS[layout].get(name, P()) for name in LEAVES}


def names_at(spec: P, axes: Sequence[int]) -> tuple[str, ...]:
    """The axes of the mesh over which a leaf is split along `axes`."""
    entries = [spec[axis] for axis in axes if axis < len(spec)]
    return sum((e if isinstance(e, tuple) else (e,) for e in entries if e is not None), ())


def means_to_send(specs: dict[str, P], mesh: Any, *, by_dimension: bool) -> int:
    """How many numbers a device must get: the fan-out vectors of leaves with a split fan-in.

    XLA sums over one split dimension after the other, `by_dimension`; `pmean` over all at once.
    """
    total = 0
    for name, (shape, fan_in) in LEAVES.items():
        split = [axis for axis in fan_in.axes if names_at(specs[name], [axis])]
        others = [axis for axis in range(len(shape)) if axis not in fan_in.axes]
        pieces = math.prod(mesh.shape[n] for n in names_at(specs[name], others))
        vector = math.prod(shape[axis] for axis in others) // pieces
        total += vector * (len(split) if by_dimension else bool(split))
    return total


@functools.cache
def gradients(dtype: Any = jnp.float32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(1.0, 1.0, shape).astype(dtype) for name, (shape, _) in LEAVES.items()}


@functools.cache
def unsharded(dtype: Any = jnp.float32) -> Any:
    """What one device makes of the gradients."""
    update = jax.jit(gc_optax.centralize(FAN_IN).update)
    return update(jax.tree.map(jnp.asarray, gradients(dtype)), optax.EmptyState())[0]


def in_float32(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float32), tree)


def assert_the_same(found: Any, expected: Any, dtype: Any = jnp.float32):
    """Up to the order of summation; a 16-bit result may then be its neighbor."""
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    atol, rtol = (2e-6, 0.0) if dtype == jnp.float32 else (1e-6, 2.0**-7)
    chex.assert_trees_all_close(in_float32(found), in_float32(expected), atol=atol, rtol=rtol)


def only_means_travel(hlo: str | None, means: int) -> bool:
    found = collectives(hlo)
    # The mean of 16-bit gradients is wide.
    return (
        all(one.kind == "all-reduce" and one.bytes == 4 * one.elements for one in found)
        and sum(one.elements for one in found) == means
        and bool(found) == bool(means)
    )


@pytest.mark.parametrize(
    "kind", [AxisType.Auto, pytest.param(AxisType.Explicit, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("layout", "dtype"),
    [*[(layout, jnp.float32) for layout in LAYOUTS], ("FSDP x tensor parallel", jnp.bfloat16)],
)
def test_under_jit_only_the_means_of_a_split_fan_in_travel(layout, dtype, kind):
    mesh, specs = mesh_of(kind), specs_of(layout)
    placement = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    gc = gc_optax.centralize(FAN_IN)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(gradients(dtype), placement)
        compiled = jax.jit(gc.update).lower(sharded, optax.EmptyState()).compile()
        updates: Any = compiled(sharded, optax.EmptyState())[0]
    means = means_to_send(specs, mesh, by_dimension=True)
    assert only_means_travel(compiled.as_text(), means)
    for name, leaf in updates.items():
        assert leaf.sharding.is_equivalent_to(placement[name], leaf.ndim), name
    assert_the_same(updates, unsharded(dtype), dtype)


@pytest.mark.slow
def test_in_a_chain_with_adam_nothing_else_travels_either():
    mesh, specs = mesh_of(AxisType.Auto), specs_of("FSDP x tensor parallel")
    placement = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    params = jax.device_put(gradients(), placement)
    optimizer = optax.chain(gc_optax.centralize(FAN_IN), optax.adamw(1e-3))
    # Optax's Adam raises a Python float to an integer array's power, which strict promotion bars.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        state = jax.jit(optimizer.init)(params)
        # The moments lie as the parameters do.
        state = optax.tree_map_params(optimizer, jax.device_put, state, placement)
        compiled = jax.jit(optimizer.update).lower(params, state, params).compile()
    means = means_to_send(specs, mesh, by_dimension=True)
    assert only_means_travel(compiled.as_text(), means)


def test_a_split_that_leaves_a_rest_gives_the_unsharded_result():
    # Inside a program a dimension may be split unevenly; XLA fills the last shard up.
    mesh = mesh_of(AxisType.Auto)
    grads = jnp.asarray(gradients()["up"][:10, :7])
    gc = gc_optax.centralize(FanIn((0,)))

    @jax.jit
    def update(grads):
        placed = jax.lax.with_sharding_constraint(grads, NamedSharding(mesh, P("data", "model")))
        return gc.update(placed, optax.EmptyState())[0]

    whole = jax.device_put(grads, NamedSharding(mesh, P()))
    assert_the_same(update(whole), gc.update(grads, optax.EmptyState())[0])


def test_a_whole_training_step_sends_the_means_and_nothing_else_more():
    """FSDP x tensor parallel, forward and backward, against the same step without GC."""
    mesh = mesh_of(AxisType.Auto)
    specs = {"up": P("data", "model"), "down": P("model", "data")}
    placement = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    params = jax.device_put({name: gradients()[name] for name in specs}, placement)
    batch = jax.device_put(jnp.ones((64, 16)), NamedSharding(mesh, P("data")))

    def loss(params, batch):
        return jnp.mean((jnp.tanh(batch @ params["up"]) @ params["down"] - 1.0) ** 2)

    def sent(transformation) -> dict[str, int]:
        def step(params, batch):
            grads = jax.lax.with_sharding_constraint(jax.grad(loss)(params, batch), placement)
            updates, _ = transformation.update(grads, transformation.init(params), params)
            return jax.tree.map(lambda p, u: p - 0.1 * u, params, updates)

        hlo = jax.jit(step, out_shardings=placement).lower(params, batch).compile().as_text()
        total: dict[str, int] = {}
        for one in collectives(hlo):
            total[one.kind] = total.get(one.kind, 0) + one.elements
        return total

    without = sent(optax.identity())
    assert without["all-gather"] > 0
    means = 32 // 2 + 16 // 4
    assert sent(gc_optax.centralize(FanIn((0,)))) == {
        **without,
        "all-reduce": without["all-reduce"] + means,
    }


@pytest.mark.parametrize(
    ("spec", "constraint", "kind", "elements"),
    [
        (P("data", "model"), P(), "all-gather", 16 * 8),
        (P("data"), P(None, "data"), "all-to-all", 16 * 2),
    ],
)
def test_a_gradient_that_travels_would_be_seen(spec, constraint, kind, elements):
    mesh = mesh_of(AxisType.Auto)
    grads = jax.device_put(jnp.ones((16, 8)), NamedSharding(mesh, spec))

    def wrong(grads):
        moved = jax.lax.with_sharding_constraint(grads, NamedSharding(mesh, constraint))
        return moved - moved.mean(0, keepdims=True)

    found = collectives(jax.jit(wrong).lower(grads).compile().as_text())
    assert max(one.elements for one in found if one.kind == kind) >= elements


def test_all_ways_to_write_a_collective_are_read():
    hlo = """
  %all-reduce.1 = f32[4]{0} all-reduce(%a), channel_id=1, to_apply=%add
  ROOT %r = (f32[1,8]{1,0}, bf16[2,3]{1,0:T(8,128)(2,1)}) all-reduce(%a, %b), channel_id=2
  %s = (f32[2,8]{1,0}, f32[16,8]{1,0}) all-gather-start(%a), channel_id=3, dimensions={0}
  %d = f32[16,8]{1,0} all-gather-done(%s)
  %reduce-scatter = f32[] reduce-scatter(%a), channel_id=4
  %p = (f32[8]{0}, f32[8]{0}, u32[], u32[]) collective-permute-start(%a)
  %t = (/*index=0*/f32[2]{0}, f32[2]{0}) all-to-all(%a, %b)
  %f = f32[8]{0} fusion(%all-reduce.1), kind=kLoop, calls=%all-reduce_fusion
  %g = f32[8]{0} get-tuple-element(%all-reduce.7), index=0, metadata={op_name="all-reduce(x)"}
"""
    assert collectives(hlo) == [
        ("all-reduce", 4, 16),
        ("all-reduce", 14, 44),
        ("all-gather", 144, 576),
        ("reduce-scatter", 1, 4),
        ("collective-permute", 18, 72),
        ("all-to-all", 4, 16),
    ]
