"""The zoo's oracles know the layers, and its verdicts see what is wrong."""

import dataclasses
import json
from pathlib import Path

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax.numpy as jnp
import pytest
from flax import nnx

import gc_optax
from benchmarks.zoo import tables, verdicts
from benchmarks.zoo.case import ALONE, NO_ORACLE, UNUSED, Right
from benchmarks.zoo.models import haiku_nets, linen_layers, nnx_layers
from benchmarks.zoo.oracles import equinox, haiku, linen
from benchmarks.zoo.oracles import nnx as nnx_oracle
from gc_optax import FanIn

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "zoo.json"
FLAT, IMAGE = jnp.ones((2, 7)), jnp.ones((1, 8, 8, 4))
pytestmark = pytest.mark.usefixtures("default_promotion")


def axes(case):
    return {path: right.axes for path, right in case.right.items()}


def test_linen_layers_say_what_they_sum_over():
    assert axes(linen.case(nn.Dense(3), FLAT)) == {"kernel": (0,), "bias": ()}
    plain = linen.case(nn.ConvTranspose(6, (3, 3)), IMAGE)
    assert axes(plain)["kernel"] == (0, 1, 2)
    swapped = linen.case(nn.ConvTranspose(6, (3, 3), transpose_kernel=True), IMAGE)
    assert axes(swapped)["kernel"] == (0, 1, 3)
    assert axes(linen.case(nn.ConvLocal(6, (3, 3)), IMAGE))["kernel"] == (2,)


def test_a_stack_has_its_axis_in_front_or_where_the_entry_says():
    first = linen.case(linen_layers.stack(linen_layers.ConvBlock), IMAGE)
    assert axes(first)["ScanConvBlock_0/Conv_0/kernel"] == (1, 2, 3)
    assert axes(first)["ScanConvBlock_0/GroupNorm_0/scale"] == ()
    second = linen_layers.ensemble(nn.Dense, 5, axis=1)
    assert axes(linen.case(second, FLAT, stack_axis=1))["VmapDense_0/kernel"] == (0,)


def test_a_leaf_whose_module_never_runs_is_unused():
    class Half(nn.Module):
        def setup(self):
            self.used, self.left = nn.Dense(3), nn.Dense(3)

        def __call__(self, x):
            return self.used(x) + (self.left(x) if self.is_initializing() else 0)

    right = linen.case(Half(), FLAT).right
    assert right["used/kernel"].owner == "Dense"
    assert right["left/kernel"] == Right((), UNUSED)


def test_nnx_equinox_and_haiku_layers_say_what_they_sum_over():
    general = nnx_oracle.case(lambda r: nnx.LinearGeneral((2, 7), 3, axis=(0, 1), rngs=r), FLAT)
    assert axes(general)["kernel"] == (0, 1)
    stack = nnx_oracle.case(
        lambda r: nnx_layers.Ensemble(lambda r: nnx.Conv(4, 6, (3, 3), rngs=r), r), IMAGE
    )
    assert axes(stack)["members/kernel"] == (1, 2, 3)
    mlp = equinox.case(lambda key: eqx.nn.MLP(7, 3, 5, 1, key=key), FLAT)
    assert axes(mlp)["layers/0/weight"] == (1,)
    conv = haiku.case(lambda x: hk.Conv2DTranspose(6, 3)(x), IMAGE)
    assert axes(conv) == {"conv2_d_transpose/w": (0, 1, 3), "conv2_d_transpose/b": ()}
    table = haiku.case(*haiku_nets.MODELS["transformer by layer_stack, tied"])
    assert axes(table)["__layer_stack_no_per_layer/linear_1/w"] == (1,)


def test_a_leaf_of_no_known_type_is_listed_and_not_right():
    class Bare(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x @ self.param("w", nn.initializers.ones, (7, 3))

    row = verdicts.judged(linen.case(Bare(), FLAT))
    assert row["trace"]["no oracle"] == 1
    assert row["trace"]["right"] == 0
    stated = linen.case(Bare(), FLAT, hand=((r"w", (0,), "x @ w"),))
    assert verdicts.judged(stated)["trace"]["right"] == 1


@pytest.mark.parametrize(
    ("came", "trace", "names"),
    [
        (FanIn((0,)), "right", "right"),
        (FanIn((1,)), "wrong", "wrong"),
        (FanIn((0, 1)), "wrong", "wrong"),
        (FanIn(()), "left alone wrongly", "wrong"),
        (FanIn((1,), guess=True), "wrong", "guess"),
        (FanIn((0, 2)), "right", "right"),
    ],
)
def test_verdicts_see_what_is_wrong(came, trace, names):
    shape, right = (7, 3, 1), Right((0,), "Dense")
    assert verdicts.by_trace(came, shape, right) == trace
    assert verdicts.by_name(came, shape, right) == names


def test_claims_on_what_is_not_known_or_not_used_are_never_right():
    assert verdicts.by_trace(FanIn((0,)), (7, 3), NO_ORACLE) == "no oracle"
    assert verdicts.by_trace(FanIn((0,)), (7, 3), Right((), UNUSED)) == "wrong"
    assert verdicts.by_trace(FanIn(()), (7, 3), Right((0,), "noise", ALONE)) == "right"
    assert verdicts.by_trace(FanIn((1,)), (7, 3), Right((0,), "noise", ALONE)) == "wrong"


def test_a_wrong_tree_is_flagged_with_its_leaf(monkeypatch):
    case = linen.case(nn.Dense(3), FLAT)
    wrong = {"kernel": FanIn((1,), "dense"), "bias": FanIn(())}
    monkeypatch.setattr(gc_optax, "fan_in_by_trace", lambda *args: wrong)
    row = verdicts.judged(case)
    assert row["trace"] == {"right": 1, "wrong": 1, "left alone wrongly": 0, "no oracle": 0}
    (finding,) = row["findings"]
    assert (finding["leaf"], finding["came"], finding["right"]) == ("kernel", (1,), (0,))
    assert "kernel (7, 3): came (1,) (dense), right (0,) [Dense]" in tables.finding(finding)


def test_totals_add_up_and_make_a_table():
    row = verdicts.judged(linen.case(nn.Dense(3), FLAT))
    content = {"packages": {"a": {"models": {"x": row, "y": row}}, "b": {"models": {}}}}
    summed = tables.totals(content)
    assert (summed["models"], summed["leaves"], summed["trace right"]) == (2, 4, 4)
    assert "| **all** | 2 | 4 | 4 | 0 | 0 |" in tables.markdown(content)
    assert dataclasses.is_dataclass(verdicts.Finding)


def test_the_committed_table_is_complete():
    content = json.loads(RESULTS.read_text())
    summed = tables.totals(content)
    assert summed["models"] >= 150
    assert summed["leaves"] >= 6000
    assert all("jax" in package["versions"] for package in content["packages"].values())


def test_nothing_in_the_committed_table_is_wrong_without_a_word():
    summed = tables.totals(json.loads(RESULTS.read_text()))
    assert (summed["trace wrong"], summed["names wrong"], summed["no oracle"]) == (0, 0, 0)
