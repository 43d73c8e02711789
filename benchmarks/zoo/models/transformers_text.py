"""Flax language models of `transformers`, small from a config, with the heads of several tasks."""

import jax.numpy as jnp
import transformers as hf

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.transformers import case

PACKAGES = ["transformers", "flax"]
TOKENS = jnp.zeros((2, 16), "i4")

BERT = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
SEQ2SEQ = {
    "vocab_size": 99,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
}
T5 = {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
LLAMA = BERT | {"num_key_value_heads": 2}

CONFIGS = {
    "Bert": (hf.BertConfig, BERT),
    "Roberta": (hf.RobertaConfig, BERT),
    "RobertaPreLayerNorm": (hf.RobertaPreLayerNormConfig, BERT),
    "XLMRoberta": (hf.XLMRobertaConfig, BERT),
    "RoFormer": (hf.RoFormerConfig, BERT),
    "Electra": (hf.ElectraConfig, BERT | {"embedding_size": 24}),
    "Albert": (hf.AlbertConfig, BERT | {"embedding_size": 24}),
    "BigBird": (hf.BigBirdConfig, BERT | {"attention_type": "original_full"}),
    "DistilBert": (
        hf.DistilBertConfig,
        {"vocab_size": 99, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    ),
    "GPT2": (
        hf.GPT2Config,
        {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
    "GPTJ": (
        hf.GPTJConfig,
        {
            "vocab_size": 99,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 64,
            "rotary_dim": 4,
        },
    ),
    "GPTNeo": (
        hf.GPTNeoConfig,
        {
            "vocab_size": 99,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 64,
        },
    ),
    "Llama": (hf.LlamaConfig, LLAMA),
    "Mistral": (hf.MistralConfig, LLAMA),
    "Gemma": (hf.GemmaConfig, LLAMA | {"head_dim": 8}),
    "Bloom": (hf.BloomConfig, {"vocab_size": 99, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "OPT": (
        hf.OPTConfig,
        {
            "vocab_size": 99,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 48,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 24,
        },
    ),
    "XGLM": (
        hf.XGLMConfig,
        {"vocab_size": 99, "d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48},
    ),
    "T5": (hf.T5Config, T5),
    "T5-gated": (hf.T5Config, T5 | {"feed_forward_proj": "gated-gelu"}),
    "MT5": (hf.MT5Config, T5),
    "LongT5": (hf.LongT5Config, T5 | {"local_radius": 4}),
    "LongT5-global": (
        hf.LongT5Config,
        T5
        | {
            "local_radius": 4,
            "encoder_attention_type": "transient-global",
            "global_block_size": 4,
        },
    ),
    "Bart": (hf.BartConfig, SEQ2SEQ),
    "MBart": (hf.MBartConfig, SEQ2SEQ),
    "Marian": (hf.MarianConfig, SEQ2SEQ | {"pad_token_id": 0, "decoder_start_token_id": 0}),
    "Pegasus": (hf.PegasusConfig, SEQ2SEQ),
    "Blenderbot": (hf.BlenderbotConfig, SEQ2SEQ),
    "BlenderbotSmall": (hf.BlenderbotSmallConfig, SEQ2SEQ),
}

TASKS = (
    "Model",
    "ForPreTraining",
    "ForMaskedLM",
    "ForCausalLM",
    "LMHeadModel",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "ForConditionalGeneration",
    "MTModel",
    "ForNextSentencePrediction",
)
UNTIED = ("Bert", "Llama", "GPT2", "T5", "OPT")


def entry(name: str, task: str, config_options: dict | None = None) -> Entry | None:
    """A model with a task's head, or None where the package has none."""
    family = name.partition("-")[0]
    cls = getattr(hf, f"Flax{family}{task}", None)
    if cls is None:
        return None
    make, options = CONFIGS[name]
    inputs = {"input_ids": TOKENS, "attention_mask": jnp.ones_like(TOKENS)}
    if "Multiple" in task:
        inputs = {key: value[:, None].repeat(2, 1) for key, value in inputs.items()}

    def build():
        config = make(**options | (config_options or {}))
        given = dict(inputs)
        if config.is_encoder_decoder and "Causal" not in task:
            given["decoder_input_ids"] = TOKENS
        return case(cls, config, given)

    suffix = ", untied" if config_options else ""
    return Entry(f"{name}{task}{suffix}", build)


def entries() -> list[Entry]:
    """Every family with every head that it has, and some with an untied head."""
    found = [entry(name, task) for name in CONFIGS for task in TASKS]
    untied = {"tie_word_embeddings": False}
    found += [entry(name, task, untied) for name in UNTIED for task in TASKS[1:5] + TASKS[9:10]]
    return [e for e in found if e is not None]
