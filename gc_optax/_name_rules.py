"""The table of rules: what layers call their parameters, and the layouts that those stand for."""

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

from gc_optax import _layouts as layouts
from gc_optax._layouts import Layout
from gc_optax._surroundings import Leaf


class Rule(NamedTuple):
    """One row: what the leaf and the module around it are called, and what it can be then."""

    leaf: str  # regular expression for the whole name of the leaf, in lower case
    module: str  # the same for the nearest module above it; "" where the leaf has none
    layouts: Sequence[Layout] = ()
    by_bias: Sequence[Layout] = ()  # where none of `layouts` fits, and a bias shows one of these
    guess: bool = False  # whether such names tell nothing for sure


CONV = r".*conv.*"
UP_CONV = r"(.*_)?(up.*|.*convup.*|t_?conv.*|.*conv_?t\d*)"
CONV_TRANSPOSE = rf".*conv.*trans.*|.*trans.*conv.*|.*deconv.*|(?=.*conv){UP_CONV}"
POINTWISE = r"(?=.*conv).*(pw|point|1x1).*"  # often dense layers
HEADS = r"(.*_)?(q|k|v|query|key|value)(_?proj.*)?"
MERGE = r"(attention_)?(o|out|output)(_?proj.*)?"
NORM = r".*norm(alization)?(_?\d+)?|(.*_)?(ln|bn|gn)_?\d*"
LINEAR = r".*(dense|linear|mlp|proj).*|(.*_)?(lin|fc|head)_?\d*"
EMBEDDING = (
    r"(.*_)?(tok(en)?|word|pos(ition(al)?)?|type|segment)s?_?embed(ding)?s?|embeddings?|wte|wpe"
)
TABLE = (
    r"embeddings?|lora_embeddings_a|cls|wte|wpe|(.*_)?tokens?|(.*_)?pos(ition(al)?)?_?emb|"
    r"(.*_)?(pos(ition(al)?)?|token|word|type|class|segment)s?_?embed(ding)?s?"
)

NOT_CONV = (layouts.DENSE, layouts.CONV_TRANSPOSE, layouts.DEPTHWISE)

RULES = (
    Rule(r"(.*_)?bias(es)?(_.*)?|beta|offset", r".*", (layouts.BIAS,)),
    Rule(r"b", r"bias(_\d+)?", (layouts.BIAS,)),
    Rule(r"b", r".*", (layouts.BIAS,), guess=True),
    Rule(r"(.*_)?scale|gamma", r".*", (layouts.SCALE,)),
    Rule(r"alpha", r".*p_?re_?lu.*", (layouts.SCALE,)),
    Rule(r"(weight_)?g", r".*", (layouts.SCALE,), guess=True),
    Rule(TABLE, r".*", (layouts.EMBEDDING,)),
    # Flax (Linen and NNX) and Keras.
    Rule(r".*kernel.*", r".*einsum.*", (layouts.DENSE, layouts.HEADS), guess=True),
    Rule(r"kernel", r".*conv_?local.*", (layouts.LOCAL_CONV,)),
    Rule(r"kernel", r".*depthwise_conv[123]d.*", (layouts.DEPTHWISE,), (layouts.CONV,)),
    Rule(r"kernel", CONV_TRANSPOSE, (layouts.CONV, layouts.CONV_TRANSPOSE)),
    Rule(
        r"kernel",
        r".*(depthwise|dw).*",
        (layouts.GROUP_OF_ONE, layouts.ONE_FOR_EACH),
        (layouts.DEPTHWISE, layouts.CONV),
    ),
    Rule(r"kernel", POINTWISE, (layouts.CONV, layouts.DENSE)),
    # Linen names a module after its class, Keras after its class and the number of dimensions.
    Rule(r"kernel", r"conv_\d+|conv[123]d(_\d+)?", (layouts.CONV,), NOT_CONV),
    Rule(r"kernel", CONV, (layouts.CONV, layouts.DEPTHWISE), NOT_CONV),
    Rule(
        r"kernel",
        HEADS,
        (layouts.HEADS, layouts.DENSE),
        (layouts.OUT_FIRST, layouts.CONV, layouts.CONV_TRANSPOSE, *layouts.SHARED_BIASES),
    ),
    Rule(
        r"kernel",
        MERGE,
        (layouts.HEADS_IN, layouts.DENSE, layouts.CONV, layouts.CONV_TRANSPOSE),
        (layouts.OUT_FIRST, layouts.HEADS),
    ),
    Rule(r"kernel", r".*general.*", (layouts.DENSE, layouts.HEADS, layouts.HEADS_IN)),
    # The Flax models of `transformers` that are stored as GPT-2 is.
    Rule(r"kernel", r"c_(attn|proj|fc)|q_attn", (layouts.DENSE, layouts.OUT_FIRST)),
    Rule(
        r"kernel",
        r".*",
        (
            *(layouts.SQUARE_CONV, layouts.DENSE, layouts.HEADS, layouts.HEADS_IN),
            *(layouts.CONV, layouts.CONV_TRANSPOSE, *layouts.SHARED_BIASES),
        ),
        (layouts.OUT_FIRST, layouts.STACKED_SECOND),
    ),
    Rule(r"recurrent_kernel", r".*", (layouts.DENSE, layouts.CONV)),
    Rule(r"depthwise_kernel", r".*", (layouts.DEPTHWISE,)),
    Rule(r"pointwise_kernel", r".*", (layouts.CONV,)),
    Rule(r"lora_kernel_a", r".*", (layouts.DENSE, layouts.HEADS, layouts.CONV)),
    Rule(r"lora_(kernel_b|a|b|embeddings_b)|reverse_embeddings", r".*", (layouts.DENSE,)),
    # Haiku.
    Rule(r"w", CONV_TRANSPOSE, layouts.HAIKU_TRANSPOSE),
    Rule(r"w", POINTWISE, (*layouts.HAIKU_CONV, layouts.DENSE)),
    Rule(r"w", CONV, layouts.HAIKU_CONV, (layouts.DENSE, *layouts.HAIKU_TRANSPOSE)),
    Rule(
        r"w",
        r".*",
        (layouts.SQUARE_CONV, layouts.DENSE, *layouts.HAIKU_CONV, *layouts.HAIKU_TRANSPOSE),
        (layouts.OUT_FIRST,),
    ),
    Rule(r"w_[ih]", r".*", (layouts.DENSE,)),
    # Equinox, and whoever else stores as PyTorch does.
    Rule(r"weight", NORM, (layouts.NORM,), (layouts.LINEAR, layouts.CONV_OUT_FIRST)),
    Rule(r"weight", EMBEDDING, (layouts.LOOKUP,), (layouts.LINEAR, layouts.CONV_OUT_FIRST)),
    Rule(r"weight", POINTWISE, (layouts.CONV_OUT_FIRST, layouts.LINEAR)),
    Rule(r"weight", CONV, (layouts.CONV_OUT_FIRST,), (layouts.LINEAR, layouts.NORM)),
    Rule(r"weight", LINEAR, (layouts.LINEAR, layouts.CONV_OUT_FIRST), (layouts.NORM,)),
    Rule(
        r"weight",
        r".*",
        (layouts.LINEAR, layouts.CONV_OUT_FIRST, layouts.NORM, layouts.LOOKUP),
        (layouts.DENSE,),
    ),
    Rule(r"weight_[ih]h", r".*", (layouts.LINEAR,)),
    Rule(r"(?!.*(kernel|weight|proj)).*embed.*", r".*", (layouts.EMBEDDING,), guess=True),
    Rule(r".*", r".*"),
)


def rule_for(leaf: Leaf) -> Rule:
    """The first rule whose names match."""
    return _rule(leaf.name, leaf.module)


@functools.lru_cache(maxsize=4096)  # large models repeat few names
def _rule(leaf: str, module: str) -> Rule:
    return next(
        rule
        for rule in RULES
        if re.fullmatch(rule.leaf, leaf) and re.fullmatch(rule.module, module)
    )
