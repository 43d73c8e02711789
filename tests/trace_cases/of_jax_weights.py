"""Weights that are computed before they are used: merged, scaled, quantized, joined."""

import jax
import jax.numpy as jnp

from tests.abstract import f32
from tests.trace_cases.registry import case


@case
def weight_standardization():
    def conv(p, x):
        w = p["kernel"]
        mean = w.mean((0, 1, 2), keepdims=True)
        w = (w - mean) / jnp.sqrt(w.var((0, 1, 2), keepdims=True) + jnp.float32(1e-5))
        return jax.lax.conv_general_dilated(
            x, w * p["gain"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    params = {"kernel": f32(3, 3, 4, 6), "gain": f32(1, 1, 1, 6)}
    return conv, params, (f32(2, 8, 8, 4),), {"kernel": (0, 1, 2)}


@case
def low_rank_adapter_merged():
    def layer(p, x):
        return x @ (p["w"] + 2 * (p["a"] @ p["b"]))

    params = {"w": f32(4, 6), "a": f32(4, 2), "b": f32(2, 6)}
    return layer, params, (f32(3, 4),), {"w": (0,), "a": (0,), "b": (0,)}


@case
def low_rank_adapter_merged_in_the_other_layout():
    def layer(p, x):
        return x @ (p["w"] + p["b"] @ p["a"]).T

    params = {"w": f32(6, 4), "a": f32(2, 4), "b": f32(6, 2)}
    return layer, params, (f32(3, 4),), {"w": (1,), "a": (1,), "b": (1,)}


@case
def low_rank_adapter_beside():
    def layer(p, x):
        return x @ p["w"] + x @ p["a"] @ p["b"]

    params = {"w": f32(4, 6), "a": f32(4, 2), "b": f32(2, 6)}
    return layer, params, (f32(3, 4),), {"w": (0,), "a": (0,), "b": (0,)}


@case
def quantized_weights():
    def layer(p, x):
        return x @ (p["w"].astype(jnp.float32) * p["scale"])

    params = {"w": jax.ShapeDtypeStruct((4, 6), jnp.int8), "scale": f32(6)}
    return layer, params, (f32(3, 4),), {"w": (0,)}


@case
def quantization_aware_training():
    def layer(p, x):
        w = p["w"]
        scale = jnp.abs(w).max(0) / 127
        rounded = jnp.clip(jnp.round(w / scale), -128, 127).astype(jnp.int8)
        return x @ (w + jax.lax.stop_gradient(rounded.astype(jnp.float32) * scale - w))

    return layer, {"w": f32(4, 6)}, (f32(3, 4),), {"w": (0,)}


@case
def weights_scaled_by_a_statistic_of_the_data():
    def layer(p, x):
        return (x / jnp.abs(x).max()) @ (p["w"] * jnp.abs(x).max())

    return layer, {"w": f32(4, 6)}, (f32(3, 4),), {"w": (0,)}


@case
def dense_with_inputs_in_two_parts():
    def layer(p, x, y):
        return x @ p["w"][:3] + y @ p["w"][3:]

    return layer, {"w": f32(5, 6)}, (f32(2, 3), f32(2, 2)), {"w": (0,)}


@case
def kernels_joined_before_one_product():
    def layer(p, x):
        return x @ jnp.concatenate([p["q"], p["k"], jnp.zeros((4, 1))], axis=1)

    return layer, {"q": f32(4, 3), "k": f32(4, 2)}, (f32(2, 4),), {"q": (0,), "k": (0,)}


@case
def low_rank_adapter_on_a_weight_that_is_closed_over():
    base = jnp.ones((4, 6))

    def layer(p, x):
        return x @ (base + p["a"] @ p["b"])

    return layer, {"a": f32(4, 2), "b": f32(2, 6)}, (f32(3, 4),), {"a": (0,), "b": (0,)}


@case
def weight_decomposed_adapter():
    def layer(p, x):
        v = p["w"] + p["a"] @ p["b"]
        return x @ (p["m"] * v / jnp.linalg.norm(v, axis=0, keepdims=True))

    params = {"w": f32(4, 6), "a": f32(4, 2), "b": f32(2, 6), "m": f32(1, 6)}
    return layer, params, (f32(3, 4),), {"w": (0,), "a": (0,), "b": (0,)}


@case
def gain_before_a_reshape():
    def layer(p, x):
        return x @ (p["v"] * p["g"]).reshape(36, 6)

    params = {"v": f32(3, 3, 4, 6), "g": f32(1, 1, 1, 6)}
    return layer, params, (f32(2, 36),), {"v": (0, 1, 2)}
