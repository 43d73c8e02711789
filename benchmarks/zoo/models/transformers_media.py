"""Flax models of `transformers` for images, sound and both, small from a config."""

import jax.numpy as jnp
import transformers as hf

from benchmarks.zoo.case import Entry
from benchmarks.zoo.models.transformers_text import BERT, TOKENS
from benchmarks.zoo.oracles.transformers import case

PACKAGES = ["transformers", "flax"]

IMAGE = jnp.zeros((2, 3, 32, 32))
SMALL_IMAGES = {"image_size": 32, "patch_size": 8, "num_channels": 3}
BODY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
VIT = BODY | SMALL_IMAGES
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16, 24], "depths": [1, 2, 1]}
WHISPER = {
    "vocab_size": 99,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_mel_bins": 16,
    "max_source_positions": 20,
    "max_target_positions": 24,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
    "begin_suppress_tokens": None,
    "suppress_tokens": None,
}
WAV2VEC2 = BODY | {
    "conv_dim": (16, 16),
    "conv_kernel": (4, 3),
    "conv_stride": (4, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
    "vocab_size": 20,
    "num_codevectors_per_group": 4,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
}
CLIP_TEXT = {**BERT, "projection_dim": 16}
CLIP_VISION = {**VIT, "projection_dim": 16}

IMAGE_MODELS = {
    "ViT": (hf.ViTConfig, VIT, ("Model", "ForImageClassification")),
    "Beit": (
        hf.BeitConfig,
        VIT | {"vocab_size": 99},
        ("Model", "ForImageClassification", "ForMaskedImageModeling"),
    ),
    "Dinov2": (hf.Dinov2Config, VIT, ("Model", "ForImageClassification")),
    "ResNet": (hf.ResNetConfig, STAGES, ("Model", "ForImageClassification")),
    "RegNet": (
        hf.RegNetConfig,
        STAGES | {"groups_width": 4},
        ("Model", "ForImageClassification"),
    ),
}
VARIANTS = {
    ("Beit", "relative"): {"use_relative_position_bias": True},
    ("Beit", "shared"): {"use_shared_relative_position_bias": True},
    ("Beit", "absolute"): {"use_absolute_position_embeddings": True},
    ("Dinov2", "SwiGLU"): {"use_swiglu_ffn": True},
    ("ResNet", "basic"): {"layer_type": "basic"},
}


def images(name: str, task: str, variant: str = "") -> Entry:
    """An image model with a task's head."""
    make, options, _ = IMAGE_MODELS[name]
    changed = VARIANTS.get((name, variant), {})

    def build():
        return case(
            getattr(hf, f"Flax{name}{task}"),
            make(**options | changed),
            {"pixel_values": IMAGE},
            hand=(
                (r".*relative_position_bias_table", (), "a table of relative positions"),
                (r".*position_embeddings", (), "learned positions"),
            ),
        )

    return Entry(f"{name}{task}{variant and ', ' + variant}", build)


def clip(task: str) -> Entry:
    """CLIP or a half of it."""

    def build():
        text, vision = hf.CLIPTextConfig(**CLIP_TEXT), hf.CLIPVisionConfig(**CLIP_VISION)
        words = {"input_ids": TOKENS, "attention_mask": jnp.ones_like(TOKENS)}
        pixels = {"pixel_values": IMAGE}
        cls = getattr(hf, f"FlaxCLIP{task}")
        if task.startswith("Text"):
            return case(cls, text, words)
        if task.startswith("Vision"):
            return case(cls, vision, pixels)
        whole = hf.CLIPConfig(
            text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16
        )
        return case(cls, whole, words | pixels)

    return Entry(f"CLIP{task}", build)


def whisper(task: str) -> Entry:
    """Whisper with a task's head."""

    def build():
        inputs = {"input_features": jnp.zeros((2, 16, 40))}
        if "Audio" not in task:
            inputs["decoder_input_ids"] = TOKENS
        cls = getattr(hf, f"FlaxWhisper{task}")
        return case(cls, hf.WhisperConfig(**WHISPER), inputs, input_shape=(1, 16, 40))

    return Entry(f"Whisper{task}", build)


def wav2vec2(task: str) -> Entry:
    """Wav2Vec2 with a task's head."""

    def build():
        config = hf.Wav2Vec2Config(**WAV2VEC2)
        cls = getattr(hf, f"FlaxWav2Vec2{task}")
        return case(cls, config, {"input_values": jnp.zeros((2, 512))}, input_shape=(1, 512))

    return Entry(f"Wav2Vec2{task}", build)


def pair(kind: str) -> Entry:
    """An encoder of one kind and a decoder of another."""

    def build():
        text = hf.GPT2Config(
            vocab_size=99, n_embd=32, n_layer=2, n_head=4, n_positions=64, add_cross_attention=True
        )
        words = {"decoder_input_ids": TOKENS}
        if kind == "VisionEncoderDecoder":
            config = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
                hf.ViTConfig(**VIT), text
            )
            inputs = {"pixel_values": IMAGE}
            shape = ((1, 32, 32, 3), (1, 16))
        elif kind == "SpeechEncoderDecoder":
            config = hf.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
                hf.Wav2Vec2Config(**WAV2VEC2 | {"add_adapter": True}), text
            )
            inputs = {"inputs": jnp.zeros((2, 512))}
            shape = ((1, 512), (1, 16))
        else:
            config = hf.EncoderDecoderConfig.from_encoder_decoder_configs(
                hf.BertConfig(**BERT),
                hf.BertConfig(**BERT, is_decoder=True, add_cross_attention=True),
            )
            inputs = {"input_ids": TOKENS, "attention_mask": jnp.ones_like(TOKENS)}
            shape = ((1, 16), (1, 16))
        config.pad_token_id, config.decoder_start_token_id = 0, 1
        cls = getattr(hf, f"Flax{kind}Model")
        return case(cls, config, inputs | words, input_shape=shape, shapes_only=False)

    return Entry(kind, build)


def vision_text() -> Entry:
    """Two towers: a ViT and a BERT."""

    def build():
        config = hf.VisionTextDualEncoderConfig.from_vision_text_configs(
            hf.ViTConfig(**VIT), hf.BertConfig(**BERT), projection_dim=16
        )
        inputs = {"input_ids": TOKENS, "attention_mask": jnp.ones_like(TOKENS)}
        inputs["token_type_ids"] = TOKENS
        inputs["pixel_values"] = IMAGE
        shape = ((1, 16), (1, 32, 32, 3))
        return case(
            hf.FlaxVisionTextDualEncoderModel, config, inputs, input_shape=shape, shapes_only=False
        )

    return Entry("VisionTextDualEncoder", build)


def entries() -> list[Entry]:
    """Images, CLIP, sound, and pairs of an encoder and a decoder."""
    return [
        *(images(name, task) for name, row in IMAGE_MODELS.items() for task in row[2]),
        *(images(name, "ForImageClassification", variant) for name, variant in VARIANTS),
        *map(clip, ("Model", "TextModel", "TextModelWithProjection", "VisionModel")),
        *map(whisper, ("Model", "ForConditionalGeneration", "ForAudioClassification")),
        *map(wav2vec2, ("Model", "ForCTC", "ForPreTraining")),
        *map(pair, ("EncoderDecoder", "VisionEncoderDecoder", "SpeechEncoderDecoder")),
        vision_text(),
    ]
