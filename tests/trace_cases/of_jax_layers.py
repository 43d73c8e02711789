"""Layers in plain JAX: attention, recurrence, embeddings."""

import jax
import jax.numpy as jnp

from tests.abstract import f32, i32
from tests.trace_cases.registry import case

# Attention.


@case
def fused_query_key_value():
    def attention(p, x):
        q, k, v = jnp.split(x @ p["qkv"], 3, axis=-1)
        heads = [y.reshape(*y.shape[:-1], 2, 4) for y in (q, k, v)]
        return jax.nn.dot_product_attention(*heads).reshape(x.shape) @ p["out"]

    return attention, {"qkv": f32(8, 24), "out": f32(8, 8)}, (f32(2, 5, 8),), {
        "qkv": (0,),
        "out": (0,),
    }  # fmt: skip


@case
def kernels_reshaped_to_heads():
    def attention(p, x):
        q = jnp.einsum("ntd,dhk->nthk", x, p["q"].reshape(8, 2, 4))
        return jnp.einsum("nthk,hkd->ntd", q, p["out"].reshape(2, 4, 8))

    return attention, {"q": f32(8, 8), "out": f32(8, 8)}, (f32(2, 5, 8),), {
        "q": (0,),
        "out": (0,),
    }  # fmt: skip


@case
def rotary_positions_and_key_value_cache():
    def attention(p, x, cache, position):
        angle = jnp.arange(4) * jnp.float32(0.1)
        k = x @ p["k"] * jnp.cos(angle)
        cache = jax.lax.dynamic_update_slice(cache, k, (position, 0))
        return jax.nn.softmax(x @ p["q"] @ cache.T) @ cache @ p["out"]

    return attention, {"q": f32(8, 4), "k": f32(8, 4), "out": f32(4, 8)}, (
        f32(1, 8), f32(6, 4), i32(),
    ), {"q": (0,), "k": (0,), "out": (0,)}  # fmt: skip


# Recurrence.


@case
def unrolled_recurrence_from_zeros():
    def run(p, xs):
        h = jnp.zeros((2, 4))
        for x in xs:
            h = jnp.tanh(x @ p["i"] + h @ p["h"])
        return h

    return run, {"i": f32(3, 4), "h": f32(4, 4)}, (f32(3, 2, 3),), {"i": (0,), "h": (0,)}


@case
def learned_initial_state():
    def run(p, xs):
        h, _ = jax.lax.scan(
            lambda h, x: (jnp.tanh(x @ p["i"] + h @ p["h"]), None),
            jnp.broadcast_to(p["h0"], (2, 4)),
            xs,
        )
        return h

    params = {"i": f32(3, 4), "h": f32(4, 4), "h0": f32(1, 4)}
    return run, params, (f32(3, 2, 3),), {"i": (0,), "h": (0,)}


@case
def initial_state_tiled_over_the_batch():
    def run(p, x):
        return jnp.tanh(x @ p["i"] + jnp.tile(p["h0"], (x.shape[0], 1)) @ p["h"])

    params = {"i": f32(3, 4), "h": f32(4, 4), "h0": f32(1, 4)}
    return run, params, (f32(2, 3),), {"i": (0,), "h": (0,)}


# Embeddings and tokens.


@case
def position_embedding_and_class_token():
    def vit(p, x):
        x = x @ p["patches"]
        token = jnp.broadcast_to(p["token"], (x.shape[0], 1, 8))
        x = jnp.concatenate([token, x], axis=1) + p["position"]
        return (x + p["table"][jnp.arange(6)]) @ p["head"]

    params = {
        "patches": f32(12, 8),
        "token": f32(1, 1, 8),
        "position": f32(1, 6, 8),
        "table": f32(10, 8),
        "head": f32(8, 3),
    }
    return vit, params, (f32(2, 5, 12),), {"patches": (0,), "head": (0,)}


@case
def latent_queries_repeated_over_the_batch():
    def perceiver(p, x):
        latents = jnp.broadcast_to(p["latents"], (x.shape[0], *p["latents"].shape))
        scores = jnp.einsum("nld,ntd->nlt", latents @ p["q"], x @ p["k"])
        return jax.nn.softmax(scores) @ x @ p["out"]

    params = {"latents": f32(3, 8), "q": f32(8, 4), "k": f32(6, 4), "out": f32(6, 2)}
    return perceiver, params, (f32(2, 5, 6),), {"q": (0,), "k": (0,), "out": (0,)}


@case
def network_over_constants_that_biases_attention():
    def layer(p, x):
        offsets = jnp.arange(10, dtype=jnp.float32).reshape(5, 2)
        bias = jax.nn.relu(offsets @ p["first"]) @ p["second"]
        return (x + bias) @ p["out"]

    params = {"first": f32(2, 7), "second": f32(7, 4), "out": f32(4, 3)}
    return layer, params, (f32(3, 5, 4),), {"first": (0,), "second": (0,), "out": (0,)}


@case
def axial_position_embeddings():
    def layer(p, x):
        position = (p["rows"][:, None] + p["columns"][None]).reshape(20, 8)
        return (x + position) @ p["w"]

    params = {"rows": f32(4, 8), "columns": f32(5, 8), "w": f32(8, 3)}
    return layer, params, (f32(2, 20, 8),), {"w": (0,)}


@case
def codebook_of_a_vector_quantizer():
    def quantize(p, x):
        z = x @ p["w"]
        distances = (p["codes"] ** 2).sum(-1) - 2 * z @ p["codes"].T
        codes = jax.nn.one_hot(distances.argmin(-1), 9) @ p["codes"]
        return ((jax.lax.stop_gradient(z) - codes) ** 2).mean() + (z**2).mean()

    return quantize, {"w": f32(6, 4), "codes": f32(9, 4)}, (f32(5, 6),), {"w": (0,)}
