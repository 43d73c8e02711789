"""Flax models of `transformers`: Linen's oracle, and the package's own layers."""

import functools
import inspect

import jax
import jax.numpy as jnp

from benchmarks.zoo.case import ByHand, Case, completed
from benchmarks.zoo.oracles.linen import owners

HAND: ByHand = (
    (r"final_logits_bias", (), "a bias of the logits"),
    (r".*/relative_attention_bias/embedding", (), "a table of relative positions"),
    (r".*(cls_token|position_embeddings?|class_embedding|mask_token)", (), "learned tokens"),
    (r"quantizer/codevectors", (), "a codebook whose rows are looked up"),
    (r".*/weight_g", (), "the gain of a weight norm"),
    (r".*/weight_v", (1, 2), "the direction of a weight norm, stored (out, in, taps)"),
    (r".*(lambda_.*|layer_scale.*)", (), "a scale"),
)

RULES = {
    # GPT-2's layer stores (out, in) and transposes.
    "FlaxConv1D": lambda module, leaf, shape: (1,) if leaf == "kernel" else (),
}


def accept_old_keywords() -> None:
    """`transformers` calls `jnp.clip` by keywords that JAX has renamed since."""
    if "a_max" not in inspect.signature(jnp.clip).parameters:
        clip = jnp.clip

        @functools.wraps(clip)
        def old(arr=None, /, min=None, max=None, *, a=None, a_min=None, a_max=None):
            arr, min, max = (
                old if new is None else new for new, old in ((arr, a), (min, a_min), (max, a_max))
            )
            return clip(arr, min, max)

        jnp.clip = old


def case(cls, config, inputs, hand: ByHand = (), shapes_only=True, **options) -> Case:
    """A model of `transformers` from its config, on the arrays `inputs`.

    Args:
        cls: The class of the model.
        config: Its config.
        inputs: The inputs by keyword.
        hand: What is right for leaves without an owner of a known type.
        shapes_only: Whether the class can be made without computing its weights.
        **options: Passed to the class.
    """
    accept_old_keywords()
    model = cls(config, _do_init=not shapes_only, **options)
    if shapes_only:
        variables = jax.eval_shape(
            lambda key: model.init_weights(key, model.input_shape), jax.random.key(0)
        )
    else:
        variables = jax.eval_shape(lambda: model.params)
    has_state = "batch_stats" in variables
    params = dict(variables["params"] if has_state else variables)
    state = {"batch_stats": variables["batch_stats"]} if has_state else {}
    flags = {"return_dict": False}
    if "train" in inspect.signature(cls.__call__).parameters:
        flags["train"] = False

    def forward(params, state, inputs):
        weights = {"params": params, **state} if state else params
        outputs = model(**inputs, params=weights, **flags)
        return [leaf for leaf in jax.tree.leaves(outputs) if hasattr(leaf, "shape")]

    found = owners(forward, params, state, inputs, rules=RULES)
    return Case(forward, params, (state, inputs), completed(found, params, (*hand, *HAND)))
