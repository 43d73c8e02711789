"""The networks of `equimo` for images, sound, tables and series."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from equimo.audio.models import ast
from equimo.tabular.models.tabpfn import TabPFN
from equimo.timeseries.models.t0 import T0
from equimo.vision.models import (
    convnext,
    iformer,
    lowformer,
    mlla,
    mobilenet,
    parcae,
    reduceformer,
    vit,
    vssd,
)

from benchmarks.zoo.case import ALONE, Entry
from benchmarks.zoo.oracles.equinox import case

PACKAGES = ["equimo", "equinox"]

IMAGE = jnp.zeros((1, 3, 64, 64))
SMALL = {"img_size": 64, "in_channels": 3, "num_classes": 10}
TINY = SMALL | {"dim": 16, "patch_size": 16, "num_heads": 2, "depths": [2]}

MODELS = {
    "ViT": (vit.VisionTransformer, TINY),
    "ViT, one token, a mask token": (
        vit.VisionTransformer,
        TINY | {"reg_tokens": 0, "use_mask_token": True, "global_pool": "token"},
    ),
    "ViT, positions interpolated": (
        vit.VisionTransformer,
        TINY | {"img_size": 96, "dynamic_img_size": True},
    ),
    "ViT, rotary positions": (
        vit.VisionTransformer,
        TINY | {"use_global_pos_embed": False, "use_local_pos_embed": True},
    ),
    "ViT, SwiGLU, layer scale": (
        vit.VisionTransformer,
        TINY | {"ffn_layer": "swiglu", "init_values": 1e-5, "qk_norm": True},
    ),
    "ViT-5": (vit.vit5_small, {"img_size": 64}),
    "DINOv2": (vit.dinov2_vits14, {"img_size": 56}),
    "DINOv3": (vit.dinov3_vits16_pretrain_lvd1689m, {"img_size": 64}),
    "SigLIP 2": (vit.siglip2_vitb32_256, {"img_size": 64}),
    "EUPE": (vit.eupe_vitt16, {"img_size": 64}),
    "ConvNeXt": (convnext.convnext_atto, {}),
    "ConvNeXt, overlapping stem": (convnext.convnext_atto_ols, {}),
    "ConvNeXt, RMS norms": (convnext.convnext_zepto_rms, {}),
    "ConvNeXt 2": (convnext.convnextv2_atto, {}),
    "IFormer": (iformer.iformer_t, {"in_channels": 3}),
    "LowFormer": (lowformer.lowformer_backbone_b0, {"in_channels": 3, "attention_type": "softmax"}),
    "MLLA": (
        mlla.Mlla,
        SMALL | {"dim": 16, "depths": [1, 1], "num_heads": [2, 4]},
    ),
    "MobileNet 3": (mobilenet.mobilenetv3_small, {"in_channels": 3}),
    "ReduceFormer": (reduceformer.reduceformer_backbone_b1, {"in_channels": 3}),
    "VSSD": (
        vssd.Vssd,
        SMALL
        | {
            "dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 4],
            "attentions_layers": ("mamba2mixer", "attention"),
        },
    ),
    "Parcae": (
        parcae.VisionParcae,
        {name: value for name, value in TINY.items() if name != "depths"},
    ),
    "Parcae, linear injection": (
        parcae.VisionParcae,
        {name: value for name, value in TINY.items() if name != "depths"}
        | {"injection_type": "linear"},
    ),
}

HAND = (
    (r".*(pos_embed|pos_embed_\w*)(/weight)?", (), "learned positions"),
    (r".*(cls|reg|mask|dist|qa)_tokens?", (), "learned tokens"),
    (r".*(rotations|periods|freqs|relative_coords_table)", (), "constants"),
    (r".*(weight_g|layer_scale\w*|gamma|difference_control)", (), "a scale"),
    (r".*inducing_vectors", (), "learned inputs"),
    (r".*/0/attn1/attn/q_proj/weight", (1,), "a layer on learned inputs alone", ALONE),
    (r".*/0/attn1/attn/softmax_scaling/query_mlp/fc1/weight", (1,), "the same", ALONE),
    (r"adapter/B", (1,), "a layer stored (out, in)"),
    (r".*weight_v", (1,), "the direction of a weight norm, stored (out, in)"),
)


def without_inference(model, *args):
    """The model, without dropout."""
    return model(*args, key=jax.random.key(0), inference=True)


def built(make, options, key):
    """The model, without its state."""
    made = make(**options, key=key)
    return made if isinstance(made, eqx.Module) else made[0]


def entry(name: str, make, options) -> Entry:
    """One network on one image."""
    image = jnp.zeros((1, 3, 56, 56)) if make is vit.dinov2_vits14 else IMAGE
    make = functools.partial(built, make, options)
    return Entry(name, lambda: case(make, image, call=without_inference, hand=HAND))


def sound() -> Entry:
    """A transformer on a spectrogram."""
    make = lambda key: ast.ast_tiny_patch16_224(input_fdim=32, input_tdim=64, key=key)  # noqa: E731
    x = jnp.zeros((1, 64, 32))
    return Entry("AST", lambda: case(make, x, call=without_inference, hand=HAND))


def table() -> Entry:
    """TabPFN on rows, of which the first have labels."""
    make = lambda key: TabPFN(  # noqa: E731
        num_classes=4, dim=16, depths=(1, 1, 2), num_heads=(2, 2, 2), key=key
    )
    call = lambda model, x, y: without_inference(model, x, y, 6)  # noqa: E731
    args = jnp.zeros((1, 9, 5)), jnp.zeros((1, 6), "i4")
    return Entry("TabPFN", lambda: case(make, *args, call=call, hand=HAND))


def series() -> Entry:
    """T0 on series of several variates."""
    make = lambda key: T0(  # noqa: E731
        embed_dim=16, num_layers=3, num_heads=2, mlp_hidden_dim=32, patch_size=8, key=key
    )
    ones = jnp.ones((1, 2, 32), "i4")
    args = jnp.zeros((1, 2, 32)), ones, ones, ones
    return Entry("T0", lambda: case(make, *args, call=without_inference, hand=HAND))


def entries() -> list[Entry]:
    """All of the table, and what does not see images."""
    return [*(entry(name, *row) for name, row in MODELS.items()), sound(), table(), series()]
