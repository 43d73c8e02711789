"""Parameter trees of published networks, as shapes: nothing is allocated.

Leaves are named and laid out as Flax does, so that `gc_optax.fan_in_by_name` knows their axes.
"""

import math

import jax
import jax.numpy as jnp


def count(params) -> int:
    """The number of parameters of a tree of shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _norm(width: int) -> dict:
    return {"scale": _array(width), "bias": _array(width)}


def _dense(inputs: int, outputs: int) -> dict:
    return {"kernel": _array(inputs, outputs), "bias": _array(outputs)}


def resnet50() -> dict:
    """ResNet-50 for ImageNet: He et al., 2015, arXiv 1512.03385, table 1."""
    params: dict = {"conv_init": {"kernel": _array(7, 7, 3, 64)}, "bn_init": _norm(64)}
    inputs = 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            outputs = 4 * width
            layers = {
                "Conv_0": {"kernel": _array(1, 1, inputs, width)},
                "Conv_1": {"kernel": _array(3, 3, width, width)},
                "Conv_2": {"kernel": _array(1, 1, width, outputs)},
                "BatchNorm_0": _norm(width),
                "BatchNorm_1": _norm(width),
                "BatchNorm_2": _norm(outputs),
            }
            if block == 0:
                layers["conv_proj"] = {"kernel": _array(1, 1, inputs, outputs)}
                layers["norm_proj"] = _norm(outputs)
            params[f"stage_{stage}_block_{block}"] = layers
            inputs = outputs
    return {**params, "Dense_0": _dense(inputs, 1000)}


def _transformer_block(width: int, heads: int) -> dict:
    head = width // heads
    projection = {"kernel": _array(width, heads, head), "bias": _array(heads, head)}
    return {
        "ln_1": _norm(width),
        "attn": {
            **dict.fromkeys(("query", "key", "value"), projection),
            "out": {"kernel": _array(heads, head, width), "bias": _array(width)},
        },
        "ln_2": _norm(width),
        "mlp": {"fc": _dense(width, 4 * width), "proj": _dense(4 * width, width)},
    }


def gpt2_small() -> dict:
    """GPT-2 small, its output tied to the tokens' table: Radford et al., 2019, table 2."""
    return {
        "wte": {"embedding": _array(50_257, 768)},
        "wpe": {"embedding": _array(1024, 768)},
        **{f"h_{layer}": _transformer_block(768, 12) for layer in range(12)},
        "ln_f": _norm(768),
    }


def vit_b16(layers: int = 12) -> dict:
    """ViT-B/16 for images of 224 x 224 in 1,000 classes: Dosovitskiy et al., arXiv 2010.11929."""
    return {
        "cls": _array(1, 1, 768),
        "patches": {"kernel": _array(16, 16, 3, 768), "bias": _array(768)},
        "pos_embedding": _array(1, 197, 768),
        **{f"h_{layer}": _transformer_block(768, 12) for layer in range(layers)},
        "ln_f": _norm(768),
        "head": _dense(768, 1000),
    }


def tiny_leaves() -> dict:
    """1,000 kernels of 16 x 16: all of the time goes into starting the work."""
    return {f"layer_{index}": {"kernel": _array(16, 16)} for index in range(1000)}


TREES = {
    # name, its shapes, the published number of parameters
    "ResNet-50": (resnet50, 25_557_032),
    "GPT-2 small": (gpt2_small, 124_439_808),
    "ViT-B/16": (vit_b16, 86_567_656),
    "1,000 leaves of 16 x 16": (tiny_leaves, 256_000),
}
