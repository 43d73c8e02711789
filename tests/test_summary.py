"""`summary`: the table for people, as text and as HTML."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import gc_optax
from gc_optax import FanIn

PARAMS = {
    "Conv_0": {"kernel": jnp.ones((3, 3, 8, 128)), "bias": jnp.ones(128)},
    "Dense_0": {"kernel": jnp.ones((64, 10)), "bias": jnp.zeros(10)},
    "gate": {"kernel": jnp.ones((1, 4))},
    "step": jnp.zeros((), jnp.int32),
}

TEXT = """\
path            shape           axes     fan-in  reason
--------------  --------------  -------  ------  -----------------
Conv_0/bias     (128,)          -             -  rank below 2
Conv_0/kernel   (3, 3, 8, 128)  0, 1, 2      72  conv
Dense_0/bias    (10,)           -             -  rank below 2
Dense_0/kernel  (64, 10)        0            64  dense
gate/kernel     (1, 4)          -             -  fan-in of 1
step            ()              -             -  not a float array
--------------  --------------  -------  ------  -----------------
9,856 of 9,999 parameters (98.6%), in 2 of 6 leaves, are centralized."""


def test_the_text_is_a_table_with_totals():
    assert repr(gc_optax.summary(PARAMS)) == TEXT


def test_shapes_alone_are_enough():
    assert repr(gc_optax.summary(jax.eval_shape(lambda: PARAMS))) == TEXT


def test_numbers_are_there_for_programs_too():
    table = gc_optax.summary(PARAMS)
    assert (table.centralized, table.total) == (3 * 3 * 8 * 128 + 640, 9999)
    row = table.rows[1]
    assert (row.path, row.shape, row.axes) == ("Conv_0/kernel", (3, 3, 8, 128), (0, 1, 2))
    assert (row.fan_in, row.reason) == (72, "conv")


def test_large_numbers_have_separators():
    table = gc_optax.summary(
        {"kernel": jax.ShapeDtypeStruct((4096, 1024), jnp.bfloat16)}, FanIn((0,))
    )
    assert "4,096  given" in repr(table)
    assert "4,194,304 of 4,194,304 parameters (100.0%), in 1 of 1 leaves" in repr(table)


def test_the_html_has_a_cell_for_each_entry_and_the_totals():
    text = gc_optax.summary({"kernel": jnp.ones((64, 10))}, FanIn((0,), "dense"))._repr_html_()
    assert text == (
        "<table><tr><th>path</th><th>shape</th><th>axes</th><th>fan-in</th><th>reason</th></tr>"
        "<tr><td>kernel</td><td>(64, 10)</td><td>0</td><td>64</td><td>dense</td></tr></table>"
        "<p>640 of 640 parameters (100.0%), in 1 of 1 leaves, are centralized.</p>"
    )


def test_the_html_is_escaped():
    params = {"<script>": jnp.ones((3, 2))}
    text = gc_optax.summary(params, FanIn((0,), "a < b & c"))._repr_html_()
    assert "<td>&lt;script&gt;</td>" in text
    assert "<td>a &lt; b &amp; c</td>" in text
    assert "<script>" not in text


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        (jnp.ones((1, 3)), "fan-in of 1"),
        (jnp.ones((0, 3)), "empty"),
        (jnp.ones((4, 3), jnp.int32), "not a float array"),
        (jax.random.split(jax.random.key(0), 4), "not a float array"),
    ],
)
def test_a_leaf_that_passes_through_is_shown_so_whatever_its_fan_in_says(leaf, reason):
    table = gc_optax.summary({"leaf": leaf}, FanIn((0,), "dense"))
    assert (table.rows[0].axes, table.rows[0].reason, table.centralized) == ((), reason, 0)


def test_negative_axes_are_shown_from_the_front():
    table = gc_optax.summary(jnp.ones((2, 3, 4)), FanIn((-2, 0)))
    assert table.rows[0].axes == (1, 0)
    assert table.rows[0].path == "(the only leaf)"
    assert table.rows[0].fan_in == 6


def test_a_prefix_a_function_and_a_tree_are_understood():
    params = {"a": jnp.ones((3, 2)), "b": np.ones((4, 2), np.float32)}
    by_prefix = repr(gc_optax.summary(params, FanIn((0,))))
    by_tree = repr(gc_optax.summary(params, {"a": FanIn((0,)), "b": FanIn((0,))}))
    by_function = repr(gc_optax.summary(params, lambda params: FanIn((0,))))
    assert by_prefix == by_tree == by_function
    assert "14 of 14 parameters" in by_prefix


GUESSES = {
    "a": FanIn((0,), "<unsure>", kind="dense", guess=True),
    "b": FanIn((0, 1), guess=True),
    "c": FanIn((0,)),
    "d": FanIn((0,), guess=True),
}

GUESSES_TEXT = """\
path  shape      axes    fan-in  reason
----  ---------  ------  ------  -----------
a     (3, 2)     0 ?          3  <unsure>
b     (3, 2, 5)  0, 1 ?       6  given
c     (3, 2)     0            3  given
d     (1, 4)     -            -  fan-in of 1
----  ---------  ------  ------  -----------
42 of 46 parameters (91.3%), in 3 of 4 leaves, are centralized. 2 leaves are guesses (?)."""


def test_guesses_are_counted_and_marked():
    shapes = {"a": (3, 2), "b": (3, 2, 5), "c": (3, 2), "d": (1, 4)}
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    table = gc_optax.summary(params, GUESSES)
    assert repr(table) == GUESSES_TEXT
    assert table.guesses == 2
    assert [row.guess for row in table.rows] == [True, True, False, False]
    assert "<td>0, 1 ?</td>" in table._repr_html_()
    assert "2 leaves are guesses (?).</p>" in table._repr_html_()


def test_one_guess_is_one_and_none_is_not_mentioned():
    params = {"a": jnp.ones((3, 2))}
    assert repr(gc_optax.summary(params, GUESSES["a"])).endswith(" 1 leaf is a guess (?).")
    table = gc_optax.summary(params, FanIn((0,)))
    assert table.guesses == 0
    assert "guess" not in repr(table)


def test_masked_and_missing_leaves_have_no_row():
    assert gc_optax.summary({"a": None, "b": jnp.ones((3, 2))}, FanIn((0,))).total == 6


def test_an_empty_tree_has_an_empty_table():
    assert "0 of 0 parameters (0.0%), in 0 of 0 leaves" in repr(gc_optax.summary({}))


def test_a_module_stands_for_its_trainable_state():
    module = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.BatchNorm(4, rngs=nnx.Rngs(0)))
    paths = [row.path for row in gc_optax.summary(module).rows]
    assert sorted(paths) == sorted(
        ["layers/0/bias", "layers/0/kernel", "layers/1/bias", "layers/1/scale"]
    )


def test_the_axes_of_a_stack_are_shown_by_trace_by_name_and_by_hand():
    def layers(params, x):
        def layer(x, p):
            return x @ p["kernel"] + p["bias"][None], None

        return jax.lax.scan(layer, x, params["layers"])[0]

    params = {"layers": {"kernel": jnp.ones((3, 8, 8)), "bias": jnp.ones((3, 8))}}
    traced = gc_optax.fan_in_by_trace(layers, params, jnp.ones((2, 8)))
    by_hand = {"layers": {"kernel": FanIn((-2,), "dense", (-3,)), "bias": FanIn(())}}
    for fan_in in (traced, gc_optax.fan_in_by_name, by_hand):
        table = gc_optax.summary(params, fan_in)
        assert "8  dense, stacked over axis 0\n" in repr(table)
        assert [row.batch_axes for row in table.rows] == [(), (0,)]


def test_a_stack_that_its_reason_names_is_named_once():
    params = {"layers": {"kernel": jnp.ones((8, 3, 16)), "bias": jnp.ones((16, 3))}}
    table = gc_optax.summary(params)
    assert [row.batch_axes for row in table.rows] == [(), (1,)]
    assert "8  dense, stacked over axis 1\n" in repr(table)


def test_a_batch_axis_out_of_range_is_an_error():
    wrong = FanIn((0,), batch_axes=(7,))
    with pytest.raises(ValueError, match="`kernel` of shape"):
        gc_optax.summary({"kernel": jnp.ones((2, 3, 4))}, wrong)
