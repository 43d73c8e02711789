"""Real layers of Linen, NNX, Haiku, Equinox and Keras, and what each sums over.

The oracle is the layer's own definition: each `Layer` states for every kernel of its layer over
which axes the layer contracts it. Whatever it does not name is summed over nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

KEY = jax.random.key(0)
Axes = tuple[int, ...]
Shape = tuple[int, ...]


class Sizes(NamedTuple):
    """Of a layer: inputs, outputs, heads, features of each, windows, stacked copies."""

    i: int = 6
    o: int = 8
    h: int = 4
    k: int = 5
    w: int = 3
    copies: int = 7


class Layer(NamedTuple):
    id: str
    shapes: Callable[[Sizes, bool], dict[str, Shape]]
    axes: dict[str, Axes]  # negative ones count from the last
    names: tuple[str, ...]  # that people give to such a layer, besides the framework's own
    has_bias: bool = True  # whether it can do with and without

    def leaves(self, sizes: Sizes, bias: bool) -> dict[str, tuple[Shape, frozenset[int]]]:
        """For each path below the layer the shape and the axes that are summed over."""
        shapes = self.shapes(sizes, bias)
        assert set(self.axes) <= set(shapes)
        return {
            path: (shape, frozenset(axis % len(shape) for axis in self.axes.get(path, ())))
            for path, shape in shapes.items()
        }


def shapes_of(tree) -> dict[str, Shape]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in leaves
        if hasattr(leaf, "shape")
    }


def row(s):
    return (2, s.i)


def sequence(s):
    return (2, 5, s.i)


def image(s):
    return (2, 6, 6, s.i)


def volume(s):
    return (2, 4, 4, 4, s.i)


INPUTS = {1: sequence, 2: image, 3: volume}
DENSE_NAMES = ("linear", "fc1", "proj", "query", "q_proj", "out", "o_proj", "up", "dense", "lin")
DENSE_NAMES += ("c_proj", "layers/0", "patch_embed/proj", "embed_proj", "router", "pwconv1", "head")
CONV_NAMES = ("conv", "conv1", "stem", "shortcut", "layers/0", "downsample", "patch_embed/proj")
CONV_NAMES += ("conv_0", "initial_conv", "out", "convolution", "group_conv", "proj")
TRANSPOSE_NAMES = ("deconv", "conv_transpose", "up", "upsample", "upconv", "conv_up", "decoder")
TRANSPOSE_NAMES += ("layers/0", "out")
DEPTHWISE_NAMES = ("dwconv", "depthwise", "conv_dw_1", "depthwise_conv", "conv")
HEADS_NAMES = ("query", "key", "q_proj", "proj", "layer", "dense", "qkv")
OUTPUT_NAMES = ("out", "o_proj", "attention_output", "layer", "output")


def rnn(*kernels: str) -> dict[str, Axes]:
    return {f"{kernel}/kernel": (0,) for kernel in kernels}
