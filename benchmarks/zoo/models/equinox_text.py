"""Transformers on text and proteins of `eqx-zoo` and `esm2quinox`."""

import jax.numpy as jnp
from eqx_zoo import CausalLM, Config, Encoder, EncoderConfig
from esm2quinox import ESM2

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.equinox import case

PACKAGES = ["eqx-zoo", "esm2quinox", "equinox"]

TOKENS = jnp.arange(20).reshape(2, 10) % 7 + 3
DECODER = {
    "architecture": "Qwen3ForCausalLM",
    "vocab_size": 12,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e4,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "qk_norm": True,
    "rope_scaling": None,
}
EXPERTS = {
    "num_experts": 3,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 6,
    "moe_layers": (1,),
    "norm_topk_prob": True,
}
BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 12,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
    "pad_token_id": 0,
}
HAND = (
    (r".*experts.*/(gate|up|down)\w*(/weight)?", (2,), "stored (experts, out, in)"),
    (r".*/inv_freq", (), "constants"),
    # It is a Linear, whose own axes are right as far as names go, and tied elsewhere.
    (r"logit_head/linear2/weight", (), "the table, too", ((1,),)),
)


def decoder(**options):
    """A decoder of this config."""
    return lambda key: CausalLM(Config(**DECODER | options), key=key)


def encoder(**options):
    """An encoder of this config."""
    return lambda key: Encoder(EncoderConfig.from_hf(BERT | options), key=key)


def protein(token_dropout):
    """A small ESM 2."""
    return lambda key: ESM2(2, 8, 2, token_dropout, key)


MODELS = {
    "decoder": decoder(),
    "decoder, tied, biases": decoder(tie_word_embeddings=True, attention_bias=True),
    "BERT": encoder(),
    "RoBERTa": encoder(architectures=["RobertaModel"], pad_token_id=1),
    "ESM 2": protein(False),
    "ESM 2, rescaled for dropped tokens": protein(True),
}


def outputs(model, tokens):
    """The arrays of what the model gives."""
    given = model(tokens)
    return (given.hidden, given.logits) if isinstance(model, ESM2) else given


def entries() -> list[Entry]:
    """All of the table, and experts, which JAX cannot map over a batch."""
    one = {"call": outputs, "hand": HAND, "real": True}
    experts = lambda: case(decoder(**EXPERTS), TOKENS[0], batch=False, **one)  # noqa: E731
    return [
        *(Entry(n, lambda make=make: case(make, TOKENS, **one)) for n, make in MODELS.items()),
        Entry("decoder with experts", experts),
    ]
