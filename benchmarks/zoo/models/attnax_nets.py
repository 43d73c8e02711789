"""Transformers of `attnax`, and its experts."""

import itertools

import attnax
import jax.numpy as jnp

from benchmarks.zoo.case import ALONE, Entry
from benchmarks.zoo.oracles.nnx import case

PACKAGES = ["attnax", "flax"]

TOKENS, SEQUENCE = jnp.arange(20).reshape(2, 10) % 7 + 1, jnp.ones((2, 10, 8))
IMAGE = jnp.ones((2, 16, 16, 3))
SMALL = {"d_model": 8, "num_heads": 2, "num_layers": 2, "d_ff": 12, "dropout_rate": 0.0}
CHUNKS = {"attention_block_size": 5, "linear_attention_chunk_size": 5}
EXPERT = "an expert's layer, stored (experts, in, out)"
HAND = (
    (r"cls_token|.*pos\w*/embedding", (), "learned tokens and positions"),
    (r".*/self_attn/gate_proj/kernel", (0,), "a closure holds the layer as it was made", ALONE),
    (r"router", (0,), "(in, experts)"),
    (r"(gate|up|down)_proj", (1,), EXPERT),
)


def text(cls, **options):
    """A stack on tokens."""
    config = attnax.TransformerConfig(vocab_size=11, max_len=16, **SMALL | options)
    return lambda rngs: cls(rngs, config)


def vision(**options):
    """A stack on patches."""
    config = attnax.VisionTransformerConfig(
        image_size=16, patch_size=4, num_channels=3, num_classes=5, **SMALL | options
    )
    return lambda rngs: attnax.VisionTransformer(rngs, config)


def experts(**options):
    """A mixture of experts by itself."""
    return lambda rngs: attnax.MixtureOfExperts(rngs, d_model=8, d_ff=12, num_experts=3, **options)


def call(model, *args):
    """Without dropout."""
    return model(*args, deterministic=True)


def entries() -> list[Entry]:
    """Stacks by kind of attention, by positions and perceptrons; images; experts."""
    models = {}
    for kind in attnax.AttentionType:
        models[f"decoder, attention {kind.value}"] = (
            text(attnax.TransformerDecoder, attention_type=kind, **CHUNKS),
            TOKENS,
        )
    for position, act in itertools.product(("rope", "alibi", "none"), ("relu", "swiglu")):
        models[f"encoder, {position}, {act}"] = (
            text(
                attnax.TransformerEncoder,
                pos_emb_type=position,
                ff_activation=act,
                norm_type="rms",
                num_kv_heads=1,
            ),
            TOKENS,
        )
    models["ViT"] = vision(), IMAGE
    models["ViT, mean of patches"] = vision(use_cls_token=False, pool="mean"), IMAGE
    models["experts"] = experts(), SEQUENCE
    models["experts, one of them, no gate"] = experts(top_k=1, ff_activation="relu"), SEQUENCE
    return [
        Entry(name, lambda make=make, x=x: case(make, x, call=call, hand=HAND, real=True))
        for name, (make, x) in models.items()
    ]
