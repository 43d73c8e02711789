"""Each error is one sentence that names the leaf and says what to do, also under `jit`."""

import re
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

import gc_optax
from gc_optax import FanIn, diagnostics

KERNEL = jnp.ones((3, 2))
UPDATES = {"layer": {"kernel": KERNEL, "bias": jnp.ones(2)}}


def run(fan_in, updates: Any = UPDATES) -> Any:
    return gc_optax.centralize(fan_in).update(updates, optax.EmptyState())


CASES = {
    "axis out of range": (
        {"layer": {"kernel": FanIn((0, 2)), "bias": FanIn(())}},
        UPDATES,
        ValueError,
        "Axis 2 of FanIn(axes=(0, 2)) is out of range for leaf "
        "`layer/kernel` of shape (3, 2), which has rank 2: give axes of that leaf, or FanIn(()) "
        "to leave it alone.",
    ),
    "negative axis out of range": (
        {"layer": {"kernel": FanIn((-3,)), "bias": FanIn(())}},
        UPDATES,
        ValueError,
        "Axis -3 of FanIn(axes=(-3,)) is out of range for leaf "
        "`layer/kernel` of shape (3, 2), which has rank 2: give axes of that leaf, or FanIn(()) "
        "to leave it alone.",
    ),
    "axis of a scalar": (
        FanIn((0,)),
        jnp.float32(1.0),
        ValueError,
        "Axis 0 of FanIn(axes=(0,)) is out of range for the only "
        "leaf of shape (), which has rank 0: give axes of that leaf, or FanIn(()) to leave it "
        "alone.",
    ),
    "axis repeated by its negative": (
        {"layer": {"kernel": FanIn((0, -2)), "bias": FanIn(())}},
        UPDATES,
        ValueError,
        "FanIn(axes=(0, -2)) names an axis twice for leaf "
        "`layer/kernel` of shape (3, 2), which has rank 2: an axis and its negative are the same "
        "one.",
    ),
    "missing leaf": (
        {"layer": {"kernel": FanIn((0,))}},
        UPDATES,
        ValueError,
        "The FanIn tree does not fit: it has no FanIn for leaf `layer/bias` of shape (2,). Build "
        "it from this tree, or add FanIn(()) there to leave the leaf alone.",
    ),
    "extra leaf": (
        {"layer": {"kernel": FanIn((0,)), "bias": FanIn(()), "scale": FanIn(())}},
        UPDATES,
        ValueError,
        "The FanIn tree does not fit: it has a FanIn for `layer/scale`, where the updates have no "
        "leaf. Build the FanIn tree from the parameters being updated.",
    ),
    "FanIn below a leaf of the updates": (
        {"layer": {"kernel": {"value": FanIn((0,))}, "bias": FanIn(())}},
        UPDATES,
        ValueError,
        "The FanIn tree does not fit: it has no FanIn for leaf `layer/kernel` of shape (3, 2). "
        "Build it from this tree, or add FanIn(()) there to leave the leaf alone.",
    ),
    "a FanIn of all variables over the gradients of the parameters": (
        {"params": {"layer": FanIn((0,))}, "batch_stats": {"norm": FanIn(())}},
        UPDATES,
        ValueError,
        "The FanIn tree does not fit: it has no FanIn for leaf `layer/bias` of shape (2,). Its "
        'paths begin with `params/`: use `fan_in["params"]`.',
    ),
    "a function that forgets a leaf": (
        lambda updates: {"layer": {"kernel": FanIn((0,))}},
        UPDATES,
        ValueError,
        "The FanIn tree does not fit: it has no FanIn for leaf `layer/bias` of shape (2,). "
        "`fan_in` is a function: return a FanIn for each leaf, FanIn(()) to leave it alone.",
    ),
    "a leaf of another rank": (
        FanIn((0,), rank=2),
        {"kernel": jnp.ones((8, 3, 2))},
        ValueError,
        "FanIn(axes=(0,), rank=2) was made for a leaf of rank 2, and leaf `kernel` of shape "
        "(8, 3, 2) has rank 3: its axes would be others there. Give a FanIn for this rank, or use "
        "`jax.vmap` over an axis that was added in front, such as that of per-example gradients.",
    ),
    "axes alone": (
        (0, 1),
        UPDATES,
        TypeError,
        "Leaf `0` of the FanIn tree is 0 (int), not a gc_optax.FanIn: write axes as "
        "gc_optax.FanIn((0, 1)).",
    ),
    "one axis alone": (
        {"layer": 0},
        UPDATES,
        TypeError,
        "Leaf `layer` of the FanIn tree is 0 (int), not a gc_optax.FanIn: write axes as "
        "gc_optax.FanIn((0,)).",
    ),
    "not a FanIn": (
        {"layer": {"kernel": (0,), "bias": FanIn(())}},
        UPDATES,
        TypeError,
        "Leaf `layer/kernel/0` of the FanIn tree is 0 (int), not a gc_optax.FanIn: write axes as "
        "gc_optax.FanIn((0,)).",
    ),
    "a string": (
        "by name",
        UPDATES,
        TypeError,
        "`fan_in` is 'by name' (str), not a gc_optax.FanIn: give a tree of FanIn, such as "
        "gc_optax.fan_in_by_name(params), or a function that returns one.",
    ),
    "the class": (
        FanIn,
        UPDATES,
        TypeError,
        "`fan_in` is <class 'gc_optax._fan_in.FanIn'> (type), not a gc_optax.FanIn: give a tree of "
        "FanIn, such as gc_optax.fan_in_by_name(params), or a function that returns one.",
    ),
    "the parameters themselves": (
        UPDATES,
        UPDATES,
        TypeError,
        "Leaf `layer/bias` of the FanIn tree is an array of shape (2,), not a gc_optax.FanIn: "
        "give a tree of FanIn, such as gc_optax.fan_in_by_name(params), or a function that "
        "returns one.",
    ),
    "one parameter itself": (
        KERNEL,
        KERNEL,
        TypeError,
        "`fan_in` is an array of shape (3, 2), not a gc_optax.FanIn: give a tree of FanIn, such "
        "as gc_optax.fan_in_by_name(params), or a function that returns one.",
    ),
    "a function that returns no FanIn": (
        lambda updates: jax.tree.map(jnp.ndim, updates),
        UPDATES,
        TypeError,
        "Leaf `layer/bias` of the FanIn tree is 1 (int), not a gc_optax.FanIn: write axes as "
        "gc_optax.FanIn((1,)).",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("jit", [False, True])
def test_centralize_names_the_leaf_and_the_remedy(case, jit):
    fan_in, updates, error, text = CASES[case]
    update = gc_optax.centralize(fan_in).update
    if jit:
        update = jax.jit(update)
    with pytest.raises(error) as raised:
        update(updates, optax.EmptyState())
    assert str(raised.value) == text


def test_errors_are_raised_at_trace_time_without_running_anything():
    abstract = {"kernel": jax.ShapeDtypeStruct((3, 2), jnp.float32)}
    update = gc_optax.centralize({"kernel": FanIn((5,))}).update
    with pytest.raises(ValueError, match=r"^Axis 5 of .* for leaf `kernel` of shape \(3, 2\)"):
        jax.eval_shape(update, abstract, optax.EmptyState())


def test_summary_raises_the_same_error():
    fan_in, params, error, text = CASES["axis out of range"]
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        gc_optax.summary(params, fan_in)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            (0,),
            TypeError,
            "`axes` of a FanIn must be a tuple of integers such as (0,), got 0.",
        ),
        (
            ((0.5,),),
            TypeError,
            "`axes` of a FanIn must be a tuple of integers such as (0,), got (0.5,).",
        ),
        (
            ("01",),
            TypeError,
            "`axes` of a FanIn must be a tuple of integers such as (0,), got '01'.",
        ),
        (
            ((0,), "dense", 1),
            TypeError,
            "`batch_axes` of a FanIn must be a tuple of integers such as (0,), got 1.",
        ),
        (((0,), 1), TypeError, "`reason` of a FanIn must be a string, got 1."),
        (
            ((0, 0),),
            ValueError,
            "A FanIn must name each axis once, got axes=(0, 0) and batch_axes=().",
        ),
        (
            ((0, 1), "dense", (1,)),
            ValueError,
            "A FanIn must name each axis once, got axes=(0, 1) and batch_axes=(1,).",
        ),
    ],
)
def test_a_fan_in_says_which_argument_is_wrong(arguments, error, text):
    with pytest.raises(error) as raised:
        FanIn(*arguments)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("field", "value", "error", "text"),
    [
        (
            "kind",
            "convolution",
            ValueError,
            "`kind` of a FanIn must be one of 'dense', 'conv', 'other', got 'convolution'.",
        ),
        ("guess", "yes", TypeError, "`guess` of a FanIn must be True or False, got 'yes'."),
        ("groups", 0, ValueError, "`groups` of a FanIn must be at least 1, got 0."),
        ("groups", 1.5, TypeError, "`groups` of a FanIn must be an integer or None, got 1.5."),
        ("rank", -1, ValueError, "`rank` of a FanIn must be at least 0, got -1."),
        ("rank", "2", TypeError, "`rank` of a FanIn must be an integer or None, got '2'."),
    ],
)
def test_a_fan_in_says_which_field_is_wrong(field, value, error, text):
    with pytest.raises(error) as raised:
        FanIn((0,), **{field: value})
    assert str(raised.value) == text


def test_the_fields_that_programs_decide_from_are_given_by_name():
    with pytest.raises(TypeError, match="positional argument"):
        FanIn((0,), "given", (), "conv")  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    "use",
    [
        lambda fan_in, tree: gc_optax.centralize(fan_in).update(tree, optax.EmptyState()),
        lambda fan_in, tree: gc_optax.summary(tree, fan_in),
        gc_optax.muon_dimension_numbers,
        lambda fan_in, tree: gc_optax.muon_dimension_numbers(fan_in)(tree),
        lambda fan_in, tree: diagnostics.mean_component(tree, fan_in),
        lambda fan_in, tree: diagnostics.removed_fraction(tree, fan_in),
        lambda fan_in, tree: diagnostics.weight_means(tree, fan_in),
        lambda fan_in, tree: diagnostics.drift(tree, tree, fan_in),
        lambda fan_in, tree: diagnostics.center_weights(tree, fan_in),
        lambda fan_in, tree: diagnostics.top_eigenvalue(
            lambda p: p["layer"]["kernel"].sum(), tree, fan_in
        ),
    ],
)
@pytest.mark.parametrize("axes", [(0,), (-2,)])
def test_a_leaf_of_another_rank_is_an_error_in_all_that_take_a_fan_in(use, axes):
    stacked = {"layer": {"kernel": jnp.ones((8, 3, 2)), "bias": jnp.ones((8, 2))}}
    fan_in = {"layer": {"kernel": FanIn(axes, rank=2), "bias": FanIn((), rank=1)}}
    text = rf"^{re.escape(repr(FanIn(axes, rank=2)))} was made for a leaf of rank 2, and leaf "
    with pytest.raises(ValueError, match=text + r"`layer/kernel` of shape \(8, 3, 2\) has rank 3"):
        use(fan_in, stacked)


def test_a_leaf_of_another_rank_that_is_left_alone_is_no_error():
    biases = jnp.ones((8, 2))
    assert run(FanIn((), rank=1), biases)[0] is biases


def test_under_vmap_the_rank_is_that_of_the_leaf_itself():
    grads = jnp.arange(48.0).reshape(8, 3, 2)
    updates = jax.vmap(lambda grad: run(FanIn((0,), rank=2), grad)[0])(grads)
    chex.assert_trees_all_close(updates, grads - grads.mean(1, keepdims=True))


FAN_IN = {"body": {"kernel": FanIn((0,))}, "head": {"kernel": FanIn((0,))}}


def test_exclude_names_a_pattern_without_a_match_and_the_leaves_there_are():
    text = (
        "The pattern 'haed' matches no leaf. The leaves are `body/kernel`, `head/kernel`: "
        "`gc_optax.summary(params)` shows them all."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        gc_optax.exclude(FAN_IN, "body", "haed")


def test_exclude_says_that_there_is_no_leaf_at_all():
    text = (
        "The pattern 'head' matches no leaf, for the FanIn tree has none: give the parameters' own "
        "tree, or no pattern."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        gc_optax.exclude({}, "head")


def test_exclude_shows_no_more_than_five_leaves():
    fan_in = {f"layer_{i}": FanIn((0,)) for i in range(7)}
    text = (
        "The pattern 'haed' matches no leaf. The leaves are `layer_0`, `layer_1`, `layer_2`, "
        "`layer_3`, `layer_4`, ...: `gc_optax.summary(params)` shows them all."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        gc_optax.exclude(fan_in, "haed")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(", r"^'\(' is not a regular expression: missing \), unterminated subpattern.*\.$"),
        (3, r"^3 is not a regular expression: .*\.$"),
    ],
)
def test_exclude_names_a_pattern_that_is_no_regular_expression(pattern, text):
    with pytest.raises(ValueError, match=text):
        gc_optax.exclude(gc_optax.fan_in_by_name, pattern)


@pytest.mark.parametrize("fan_in", [gc_optax.fan_in_by_name, FAN_IN])
def test_exclude_takes_its_patterns_one_by_one(fan_in):
    text = (
        "`exclude` takes its patterns one by one and not in a list: write exclude(fan_in, 'body', "
        "'head')."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        gc_optax.exclude(fan_in, ["body", "head"])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "select", [gc_optax.convolutions_only, lambda fan_in: gc_optax.exclude(fan_in, "head")]
)
def test_there_is_nothing_to_select_from_none(select):
    text = (
        "`fan_in` is None: give a tree of FanIn or a function to one, such as "
        "gc_optax.fan_in_by_name."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        select(None)


def test_exclude_of_a_function_finds_the_pattern_without_a_match_when_it_is_used():
    update = gc_optax.centralize(gc_optax.exclude(gc_optax.fan_in_by_name, "haed")).update
    with pytest.raises(ValueError, match=r"^The pattern 'haed' matches no leaf\. The leaves are"):
        jax.jit(update)(UPDATES, optax.EmptyState())


@pytest.mark.parametrize(
    "select", [gc_optax.convolutions_only, lambda fan_in: gc_optax.exclude(fan_in, "kernel")]
)
def test_selecting_from_what_is_no_fan_in_names_the_leaf(select):
    text = (
        "Leaf `layer/bias` of the FanIn tree is an array of shape (2,), not a gc_optax.FanIn: "
        "give a tree of FanIn, such as gc_optax.fan_in_by_name(params), or a function that "
        "returns one."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        select(UPDATES)
