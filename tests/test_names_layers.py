"""`fan_in_by_name` on real layers of each framework: right, or a guess; never wrong without a word.

Sizes that coincide (square kernels, as many heads as inputs, as many copies as taps) are the ones
that mislead, so they are among the presets, and Hypothesis draws few different sizes.
"""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from hypothesis import given, settings

import gc_optax
from gc_optax.models import MODELS
from tests.layers import Layer, Sizes, of_equinox, of_haiku, of_keras, of_linen, of_nnx

FRAMEWORKS = {
    "linen": of_linen.LAYERS,
    "nnx": of_nnx.LAYERS,
    "haiku": of_haiku.LAYERS,
    "equinox": of_equinox.LAYERS,
    "keras": of_keras.LAYERS,
}
PRESETS = [
    pytest.param(Sizes(), marks=pytest.mark.slow, id="different"),
    pytest.param(Sizes(4, 4, 4, 4, 4, 4), id="equal"),
]
CASES = [
    pytest.param(framework, layer, id=f"{framework}-{layer.id}-{number}")
    for framework, layers in FRAMEWORKS.items()
    for number, layer in enumerate(layers)
]
Leaves = dict[str, tuple[tuple[int, ...], frozenset[int]]]


def stacked(leaves: Leaves, copies: tuple[int, ...]) -> Leaves:
    """As `nn.scan`, `nn.vmap`, `nnx.vmap`, `filter_vmap` and `layer_stack` stack: at the front."""
    return {
        path: (copies + shape, frozenset(len(copies) + axis for axis in axes))
        for path, (shape, axes) in leaves.items()
    }


def norm(framework: str, size: int, copies: tuple[int, ...] = ()) -> Leaves:
    scale, bias = ("gamma", "beta") if framework == "keras" else ("scale", "bias")
    return {name: ((*copies, size), frozenset()) for name in (scale, bias)}


def under(module: str, leaves: Leaves) -> Leaves:
    return {f"{module}/{path}": leaf for path, leaf in leaves.items()}


def surroundings(framework: str, own: Leaves, sizes: Sizes, name: str, depth: int):
    """A layer by itself, beside a norm that is not stacked, and in a block of two that are."""
    copies = (sizes.copies, sizes.h)[:depth]
    leaves = under(name, stacked(own, copies))
    if framework == "linen" and depth and name.endswith("_0"):
        leaves = under("ScanBlock_0", leaves)  # how Linen calls what it stacks
    yield leaves
    # Known and accepted: as many one-dimensional convolutions as each has taps (in Equinox: any
    # number that have as many inputs as taps), without biases and beside one norm for all, look
    # like a two-dimensional one.
    if not copies or sizes.w not in (*copies, sizes.i):
        yield leaves | under("norm", norm(framework, sizes.o))
        yield leaves | under("norm", norm(framework, sizes.i))
    block = leaves | under("norm1", norm(framework, sizes.i, copies))
    block |= under("norm2", norm(framework, sizes.o, copies))
    yield under("blocks", block)


def check(leaves: Leaves) -> int:
    """Every leaf is right up to axes of size 1, or a guess. Returns how many are guesses."""
    params = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, (shape, _) in leaves.items()}
    guesses = 0
    for path, fan_in in gc_optax.fan_in_by_name(params).items():
        shape, axes = leaves[path]
        guesses += fan_in.guess
        if not fan_in.guess:
            summed = {axis for axis in fan_in.axes if shape[axis] > 1}
            assert summed == {axis for axis in axes if shape[axis] > 1}, (path, fan_in, params)
        assert fan_in.rank == len(shape)
    return guesses


def names(framework: str, layer: Layer) -> tuple[str, ...]:
    own = f"{layer.id}_0" if framework == "linen" else layer.id
    return (own, *layer.names)


def depths(framework: str) -> tuple[int, ...]:
    return (0,) if framework == "keras" else (0, 1, 2)  # Keras stacks no layers


@pytest.mark.usefixtures("default_promotion")
@pytest.mark.parametrize("sizes", PRESETS)
@pytest.mark.parametrize(("framework", "layer"), CASES)
def test_a_layer_is_right_or_a_guess_whatever_stands_around_it(framework, layer, sizes):
    for bias in (True, False) if layer.has_bias else (True,):
        own = layer.leaves(sizes, bias)
        for name in names(framework, layer):
            for depth in depths(framework):
                for leaves in surroundings(framework, own, sizes, name, depth):
                    check(leaves)


@pytest.mark.usefixtures("default_promotion")
@pytest.mark.parametrize(
    ("framework", "number"),
    [(framework, n) for framework, ls in FRAMEWORKS.items() for n in range(len(ls))],
)
@pytest.mark.slow
def test_layers_of_any_sizes_are_right_or_guesses(framework, number):
    layer = FRAMEWORKS[framework][number]
    few = st.sampled_from([1, 2, 3, 4, 6])

    @settings(max_examples=60)
    @given(st.builds(Sizes, few, few, few, few, few, few), st.booleans(), st.data())
    def of_any_sizes(sizes, bias, data):
        name = data.draw(st.sampled_from(names(framework, layer)))
        depth = data.draw(st.sampled_from(depths(framework)))
        own = layer.leaves(sizes, bias)
        for leaves in surroundings(framework, own, sizes, name, depth):
            check(leaves)

    of_any_sizes()


@settings(max_examples=40)
@given(st.data())
def test_layers_of_drawn_sizes_are_right_or_guesses(data):
    framework = data.draw(st.sampled_from(sorted(FRAMEWORKS)))
    layer = data.draw(st.sampled_from(FRAMEWORKS[framework]))
    few = st.sampled_from([1, 2, 3, 4, 6])
    sizes = data.draw(st.builds(Sizes, few, few, few, few, few, few))
    name = data.draw(st.sampled_from(names(framework, layer)))
    depth = data.draw(st.sampled_from(depths(framework)))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        own = layer.leaves(sizes, data.draw(st.booleans()))
        for leaves in surroundings(framework, own, sizes, name, depth):
            check(leaves)


COMMON = {
    "linen": ("Dense", "Conv", "LayerNorm", "BatchNorm", "Embed", "MultiHeadDotProductAttention"),
    "nnx": ("linear", "conv", "attention", "norm", "embed", "lora", "gru", "lstm"),
    "haiku": ("linear", "conv1_d", "conv2_d", "conv3_d", "batch_norm", "gru", "lstm", "embed"),
    "equinox": ("linear", "conv", "mlp", "gru", "lstm"),
    "keras": ("dense", "conv1d", "conv2d", "depthwise_conv2d", "multi_head_attention", "lstm"),
}


@pytest.mark.usefixtures("default_promotion")
@pytest.mark.parametrize(("framework", "layer"), CASES)
def test_common_layers_with_bias_are_no_guesses(framework, layer):
    own = names(framework, layer)[0]
    guesses = check(under(own, layer.leaves(Sizes(), True)))
    assert guesses == 0 or layer.id not in COMMON[framework]


def shapes_of_network(name: str):
    shape, classes = ((64,), 65) if name == "gpt" else ((32, 32, 3), 100)
    make = functools.partial(MODELS[name], shape, classes)
    return nnx.as_pure(nnx.state(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))), nnx.Param))


@pytest.mark.parametrize("name", MODELS)
def test_no_leaf_of_the_networks_of_this_library_is_a_guess(name):
    specs = jax.tree.leaves(gc_optax.fan_in_by_name(shapes_of_network(name)))
    assert not [spec for spec in specs if spec.guess]
