"""`fan_in_by_name` on small trees: what the bias beside a kernel tells, and what stands around."""

import jax
import jax.numpy as jnp
import optax
import pytest

import gc_optax
from gc_optax import FanIn

GUESS = "a guess"


def by_name(**shapes):
    """The `FanIn` of each path; `__` stands for a slash."""
    params = {
        path.replace("__", "/"): jax.ShapeDtypeStruct(shape, jnp.float32)
        for path, shape in shapes.items()
    }
    return gc_optax.fan_in_by_name(params)


@pytest.mark.parametrize(
    ("kernel", "bias", "axes", "batch_axes"),
    [
        ((64, 4, 16), (4, 16), (0,), ()),
        ((3, 64, 32), (3, 32), (1,), (0,)),
        ((128, 32), (128,), (1,), ()),
        ((32, 128), (128,), (0,), ()),
        ((3, 3, 8, 16), (16,), (0, 1, 2), ()),
        ((3, 3, 16, 8), (16,), GUESS, ()),  # transposed, which its name does not say
        ((5, 3, 8, 16), (5, 16), GUESS, ()),  # or heads that share biases
        ((2, 3, 64, 32), (2, 3, 32), (2,), (0, 1)),
        ((2, 64, 4, 16), (2, 4, 16), (1,), (0,)),
        ((32, 32), (32,), (0,), ()),
        ((4, 4, 16), (4, 16), GUESS, ()),
        ((3, 3, 16, 16), (16,), GUESS, ()),
        ((3, 16, 8), (16,), GUESS, ()),
        ((8, 4, 16), (4, 1), (0,), ()),  # Keras' EinsumDense with a bias for each head
        ((3, 8, 16), (16,), GUESS, ()),  # a convolution, or heads that share biases
        ((3, 8, 16), (3, 8), (2,), (0,)),
        ((16, 3, 8), (8, 3), (0,), (1,)),  # by `nn.scan` with `variable_axes={"params": 1}`
        ((8, 3, 8), (8, 3), GUESS, ()),  # either of these
        ((8, 16), (4,), GUESS, ()),
        ((8, 16), (8, 16), GUESS, ()),
    ],
)
def test_the_bias_tells_the_outputs_of_a_kernel_of_any_name(kernel, bias, axes, batch_axes):
    fan_in = by_name(layer__kernel=kernel, layer__bias=bias)["layer/kernel"]
    if axes == GUESS:
        assert fan_in.guess
    else:
        assert (fan_in.axes, fan_in.batch_axes, fan_in.guess) == (axes, batch_axes, False)


def test_the_bias_of_two_kernels_tells_nothing():
    fan_in = by_name(cell__kernel=(8, 4), cell__bias=(8,), cell__recurrent_kernel=(2, 8))
    assert fan_in["cell/kernel"] == FanIn((0,), kind="dense")


@pytest.mark.parametrize(
    ("leaf", "beside"),
    [
        ("w", {"hidden": (6,), "visible": (4,)}),  # a Boltzmann machine
        ("w", {"h": (4, 6)}),  # tables of positions
        ("w", {"q": (6, 6), "k": (6, 6)}),
        ("w", {"u": (4, 6), "b": (4,)}),  # planar flows
        ("kernel", {"visible": (4,)}),
        ("weight", {"table": (4, 6)}),
        ("beta", {"lambda": (4, 3)}),
    ],
)
def test_beside_leaves_that_no_layer_of_a_framework_has_a_leaf_is_a_guess(leaf, beside):
    beside = {f"linear__{name}": shape for name, shape in beside.items()}
    fan_in = by_name(**{f"linear__{leaf}": (4, 6)}, **beside)
    assert fan_in[f"linear/{leaf}"].guess


def test_low_rank_factors_beside_a_kernel_leave_it_its_bias():
    shapes = {"q__kernel": (8, 2, 3), "q__bias": (2, 3), "q__lora_kernel_a": (8, 2, 4)}
    fan_in = by_name(**shapes)
    assert fan_in["q/kernel"] == FanIn((0,), kind="dense")
    assert fan_in["q/lora_kernel_a"].guess


def test_axes_of_size_1_make_no_difference():
    assert not by_name(conv__kernel=(1, 3, 3, 2, 4), conv__bias=(1, 4))["conv/kernel"].guess
    assert by_name(layer__kernel=(1, 1, 5, 5))["layer/kernel"].guess is not None


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("layers__q_proj__kernel", (3, 32, 32)),
        ("blocks__conv__kernel", (3, 3, 8, 16)),
        ("Conv_0__kernel", (3, 3, 8, 16)),
        ("moe__w", (8, 16, 32)),
        ("net__layers__0__weight", (8, 16)),
        ("attention__query__kernel", (16, 4, 8)),
        ("up__conv_transpose__kernel", (3, 3, 4, 8)),
        ("h__c_attn__kernel", (8, 16)),
        ("dw__kernel", (3, 3, 8, 2)),
        ("lora__b", (3, 7)),
        ("wn__g", (8, 1)),
        ("input_embedding", (8, 4)),
        ("x_embed__weight", (16, 6)),
        ("adapter__B", (16, 16)),
    ],
)
def test_a_leaf_alone_is_a_guess_where_other_layers_have_its_name_and_shape(path, shape):
    (fan_in,) = by_name(**{path: shape}).values()
    assert fan_in.guess
    assert fan_in.reason.startswith("a guess: ")


@pytest.mark.parametrize(
    ("path", "shape", "axes"),
    [
        ("Dense_0__kernel", (8, 16), (0,)),
        ("linear__w", (8, 16), (0,)),
        ("linear__weight", (8, 16), (1,)),
        ("embed_proj__kernel", (8, 16), (0,)),
        ("embedding_hidden_mapping_in__kernel", (8, 16), (0,)),
        ("conv2_d__w", (3, 3, 8, 16), (0, 1, 2)),
        ("conv2d_1__kernel", (3, 5, 8, 16), (0, 1, 2)),
        ("conv2d__weight", (16, 8, 3, 3), (1, 2, 3)),
        ("depthwise_conv2d__kernel", (3, 3, 32, 2), (0, 1)),
        ("separable__depthwise_kernel", (3, 3, 1, 2), GUESS),
        ("embedding__embeddings", (8, 16), ()),
        ("wte__weight", (8, 16), ()),
        ("token_embed__weight", (8, 16), ()),
        ("bias__b", (8, 16), ()),
    ],
)
def test_what_names_alone_tell(path, shape, axes):
    (fan_in,) = by_name(**{path: shape}).values()
    assert fan_in.guess if axes == GUESS else (fan_in.axes, fan_in.guess) == (axes, False)


NORMS = {"blocks__norm1__scale": (3, 8), "blocks__norm2__scale": (3, 8)}


def test_two_vectors_of_rank_2_show_that_all_below_their_module_is_stacked():
    fan_in = by_name(blocks__up__kernel=(3, 8, 16), blocks__down__kernel=(3, 16, 8), **NORMS)
    for name in ("up", "down"):
        expected = FanIn((1,), batch_axes=(0,), kind="dense")
        assert fan_in[f"blocks/{name}/kernel"] == expected


@pytest.mark.parametrize(
    "other",
    [
        {"blocks__norm2__scale": (3, 8)},  # one alone may be a norm over two axes
        {**NORMS, "blocks__down__kernel": (4, 16, 8)},  # another leading size
        {**NORMS, "blocks__norm3__scale": (3,)},
        {**NORMS, "blocks__shift": ()},
    ],
)
def test_without_a_leading_size_that_all_share_nothing_is_known_to_be_stacked(other):
    assert by_name(blocks__up__kernel=(3, 8, 16), **other)["blocks/up/kernel"].guess


def test_a_second_axis_that_all_share_may_be_that_of_the_stack():
    assert by_name(blocks__up__kernel=(3, 8, 8), **NORMS)["blocks/up/kernel"].guess


def test_a_norm_elsewhere_tells_nothing_of_a_layer_that_may_be_stacked_by_itself():
    fan_in = by_name(block__norm__scale=(8,), block__experts__kernel=(3, 8, 16))
    assert fan_in["block/experts/kernel"].guess


def test_a_norm_beside_a_convolution_without_bias_shows_that_it_is_not_stacked():
    norms = {"net__norm__scale": (16,), "net__norm__bias": (16,)}
    fan_in = by_name(net__conv__kernel=(3, 3, 8, 16), **norms)
    assert fan_in["net/conv/kernel"] == FanIn((0, 1, 2), kind="conv")
    for shape in ((3, 1, 8, 16), (3, 3, 8, 32), (3, 3, 3, 8, 16)):
        assert by_name(net__conv__kernel=shape, **norms)["net/conv/kernel"].guess
    fan_in = by_name(net__norm__scale=(1, 1, 1, 16), net__conv__w=(3, 3, 8, 16))  # Haiku
    assert fan_in["net/conv/w"] == FanIn((0, 1, 2), kind="conv")


def test_beside_a_norm_of_keras_a_kernel_may_be_depthwise():
    beside = {"bn__gamma": (16,), "bn__beta": (16,)}
    assert not by_name(conv__kernel=(3, 3, 8, 16), **beside)["conv/kernel"].guess
    assert by_name(conv__kernel=(3, 3, 8, 2), **beside)["conv/kernel"].guess
    assert by_name(conv__kernel=(3, 3, 16, 2), **beside)["conv/kernel"].guess
    flax = by_name(conv__kernel=(3, 3, 16, 2), bn__scale=(16,))
    assert flax["conv/kernel"] == FanIn((0, 1, 2), kind="conv")


def test_what_linen_named_is_stacked_only_with_a_module_around_it():
    around = {"Block_0__BatchNorm_0__scale": (16,)}
    fan_in = by_name(Block_0__Conv_0__kernel=(3, 1, 8, 16), **around)
    assert fan_in["Block_0/Conv_0/kernel"] == FanIn((0, 1, 2), kind="conv")


def test_b_is_a_bias_beside_its_w_only():
    assert not by_name(linear__w=(3, 8, 4), linear__b=(3, 4))["linear/b"].guess
    assert by_name(linear__w=(8, 4), linear__b=(2, 4))["linear/b"].guess
    assert by_name(linear__w=(8, 4), linear__b=(2, 4), linear__a=(8, 2))["linear/b"].guess


def test_masking_takes_evidence_away():
    params = {"layer": {"kernel": jnp.ones((3, 8, 4)), "bias": jnp.ones((3, 4))}}
    masked = {"layer": {**params["layer"], "bias": optax.MaskedNode()}}
    assert not gc_optax.fan_in_by_name(params)["layer"]["kernel"].guess
    assert gc_optax.fan_in_by_name(masked)["layer"]["kernel"].guess
