from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import gc_optax
from gc_optax.experiments.training.optimizers import chain, links, written

# Optax's own Adam takes the power of a float and an integer.
pytestmark = pytest.mark.usefixtures("default_promotion")

GC = "gc_optax.centralize()"
SGD = "optax.sgd(learning_rate, momentum=0.9)"
ADAM = "optax.adam(learning_rate)"
ADAMW = "optax.adamw(learning_rate, weight_decay=0.01)"
L2 = "optax.add_decayed_weights(0.01)"
MUON = "optax.contrib.muon(learning_rate, weight_decay=0.01, adam_weight_decay=0.01)"
RATE = 0.1

# What design and paper say, as code and as written.
CHAINS = {
    ("none", "sgd", "gradient"): (
        f"{L2}, {SGD}",
        lambda: (optax.add_decayed_weights(0.01), optax.sgd(RATE, momentum=0.9)),
    ),
    ("gc", "sgd", "gradient"): (
        f"{L2}, {GC}, {SGD}",
        lambda: (
            optax.add_decayed_weights(0.01),
            gc_optax.centralize(),
            optax.sgd(RATE, momentum=0.9),
        ),
    ),
    ("optax", "sgd", "gradient"): (
        f"{L2}, optax.centralize(), {SGD}",
        lambda: (
            optax.add_decayed_weights(0.01),
            optax.centralize(),
            optax.sgd(RATE, momentum=0.9),
        ),
    ),
    ("gc", "sgd", "update"): (
        f"{L2}, {SGD}, {GC}",
        lambda: (
            optax.add_decayed_weights(0.01),
            optax.sgd(RATE, momentum=0.9),
            gc_optax.centralize(),
        ),
    ),
    ("gc", "adam", "gradient"): (
        f"{L2}, {GC}, {ADAM}",
        lambda: (optax.add_decayed_weights(0.01), gc_optax.centralize(), optax.adam(RATE)),
    ),
    ("gc", "adam", "update"): (
        f"{L2}, {ADAM}, {GC}",
        lambda: (optax.add_decayed_weights(0.01), optax.adam(RATE), gc_optax.centralize()),
    ),
    ("none", "adamw", "gradient"): (ADAMW, lambda: (optax.adamw(RATE, weight_decay=0.01),)),
    ("gc", "adamw", "gradient"): (
        f"{GC}, {ADAMW}",
        lambda: (gc_optax.centralize(), optax.adamw(RATE, weight_decay=0.01)),
    ),
    ("gc", "adamw", "update"): (
        f"{ADAMW}, {GC}",
        lambda: (optax.adamw(RATE, weight_decay=0.01), gc_optax.centralize()),
    ),
    ("none", "muon", "gradient"): (
        MUON,
        lambda: (optax.contrib.muon(RATE, weight_decay=0.01, adam_weight_decay=0.01),),
    ),
    ("gc", "muon", "update"): (
        f"{MUON}, {GC}",
        lambda: (
            optax.contrib.muon(RATE, weight_decay=0.01, adam_weight_decay=0.01),
            gc_optax.centralize(),
        ),
    ),
    ("gcc", "adamw", "gradient"): (
        "gc_optax.centralize(gc_optax.convolutions_only(gc_optax.fan_in_by_name)), " + ADAMW,
        lambda: (
            gc_optax.centralize(gc_optax.convolutions_only(gc_optax.fan_in_by_name)),
            optax.adamw(RATE, weight_decay=0.01),
        ),
    ),
}

PRESERVES_THE_MEAN = {
    ("gc", "sgd", "gradient"),
    ("gc", "sgd", "update"),
    ("gc", "adam", "update"),
    ("gc", "adamw", "update"),
    ("gc", "muon", "update"),
}


def arm_links(arm, optimizer, placement, learning_rate, weight_decay=0.01):
    momentum = 0.9 if optimizer == "sgd" else None
    return links(
        arm, optimizer, placement, learning_rate, momentum=momentum, weight_decay=weight_decay
    )


def trained(transformation, params, steps=5) -> Any:
    state = transformation.init(params)
    for step in range(steps):
        grads = jax.tree.map(lambda p: jnp.sin(3 * p + step) + 0.5, params)  # noqa: B023
        updates, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.fixture
def params():
    keys = jax.random.split(jax.random.key(0))
    return {
        "conv1": {"kernel": jax.random.normal(keys[0], (3, 3, 2, 4)), "bias": jnp.zeros(4)},
        "head": {"kernel": jax.random.normal(keys[1], (6, 3)), "bias": jnp.zeros(3)},
    }


@pytest.mark.parametrize("arm", CHAINS, ids=" ".join)
def test_an_arm_is_the_chain_that_the_table_of_the_papers_code_says(arm, params):
    code, make = CHAINS[arm]
    assert written(arm_links(*arm, learning_rate=RATE)) == code
    expected = trained(optax.chain(*make()), params)
    actual = trained(chain(arm_links(*arm, learning_rate=RATE)), params)
    jax.tree.map(_equal, actual, expected)


def _equal(a, b):
    assert (a == b).all()


@pytest.mark.parametrize("arm", CHAINS, ids=" ".join)
def test_an_arm_preserves_the_weight_mean_where_the_table_says_so_and_only_there(arm, params):
    after = trained(chain(arm_links(*arm, learning_rate=RATE)), params)
    for layer, axes in (("conv1", (0, 1, 2)), ("head", (0,))):
        moved = after[layer]["kernel"].mean(axes) - params[layer]["kernel"].mean(axes)
        if arm in PRESERVES_THE_MEAN:
            assert jnp.abs(moved).max() < 1e-6
        else:
            assert jnp.abs(moved).max() > 1e-4


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_without_weight_decay_there_is_no_link_for_it(optimizer):
    assert "decay" not in written(arm_links("gc", optimizer, "gradient", RATE, weight_decay=0.0))


@pytest.mark.parametrize("arm", CHAINS, ids=" ".join)
def test_a_traced_learning_rate_gives_what_the_number_gives(arm, params):
    expected = trained(chain(arm_links(*arm, learning_rate=RATE)), params)
    traced = jax.jit(lambda rate: trained(chain(arm_links(*arm, learning_rate=rate)), params))
    actual = traced(jnp.float32(RATE))
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert jnp.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_arm_muon_traced_is_muon_on_the_matrices_that_tracing_finds(params):
    def loss(params, x, images):
        y = jax.lax.conv_general_dilated(
            images,
            params["conv1"]["kernel"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return (x @ params["head"]["kernel"]).sum() + (y + params["conv1"]["bias"]).sum()

    fan_in = gc_optax.fan_in_by_trace(loss, params, jnp.ones((2, 6)), jnp.ones((2, 8, 8, 2)))
    numbers = gc_optax.muon_dimension_numbers(fan_in)
    made = links("muon-traced", "muon", "gradient", RATE, weight_decay=0.01, fan_in=fan_in)
    assert written(made) == (
        "optax.contrib.muon(learning_rate, weight_decay=0.01, adam_weight_decay=0.01, "
        "muon_weight_dimension_numbers=gc_optax.muon_dimension_numbers(fan_in))"
    )
    expected = optax.contrib.muon(
        RATE,
        weight_decay=0.01,
        adam_weight_decay=0.01,
        muon_weight_dimension_numbers=numbers,
    )
    jax.tree.map(_equal, trained(chain(made), params), trained(expected, params))
    by_default = trained(chain(arm_links("none", "muon", "gradient", RATE)), params)
    kernels = [after["conv1"]["kernel"] for after in (by_default, trained(chain(made), params))]
    assert jnp.abs(kernels[0] - kernels[1]).max() > 1e-3  # by default it is left to Adam


def test_the_arm_gcc_leaves_dense_layers_alone_and_centralizes_convolutions(params):
    grads = jax.tree.map(jnp.ones_like, params)
    gcc = links("gcc", "sgd", "gradient", 1.0)[0].transformation
    updates: Any = gcc.update(grads, gcc.init(params), params)[0]
    assert (updates["head"]["kernel"] == 1).all()
    assert (updates["conv1"]["kernel"] == 0).all()
