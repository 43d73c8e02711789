"""A decoder of 8 billion parameters as Llama 3's (arXiv 2407.21783, table 3), split as FSDP does.

Layers are stacked for `scan`, and the width of every array is split over all devices.
"""

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

LAYERS, WIDTH, HEADS, KEY_HEADS, HEAD, HIDDEN, TOKENS = 32, 4096, 32, 8, 128, 14336, 128256
LENGTH = 2048
DEVICES = "devices"

SHAPES = {
    "embed": (TOKENS, WIDTH),
    "layers": {
        "attention_norm": (LAYERS, WIDTH),
        "query": (LAYERS, WIDTH, HEADS, HEAD),
        "key": (LAYERS, WIDTH, KEY_HEADS, HEAD),
        "value": (LAYERS, WIDTH, KEY_HEADS, HEAD),
        "out": (LAYERS, HEADS, HEAD, WIDTH),
        "mlp_norm": (LAYERS, WIDTH),
        "gate": (LAYERS, WIDTH, HIDDEN),
        "up": (LAYERS, WIDTH, HIDDEN),
        "down": (LAYERS, HIDDEN, WIDTH),
    },
    "norm": (WIDTH,),
    "head": (WIDTH, TOKENS),
}


def params(mesh: Mesh | None = None) -> dict:
    """The shapes of the parameters, in float32, and how they are split over the mesh."""

    def leaf(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        is_vector = len(shape) == 1 or shape == (LAYERS, WIDTH)
        split = (DEVICES if size == WIDTH and not is_vector else None for size in shape)
        sharding = mesh and NamedSharding(mesh, PartitionSpec(*split))
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)

    return jax.tree.map(leaf, SHAPES, is_leaf=lambda node: isinstance(node, tuple))


def loss_fn(params: dict, tokens: jax.Array, mesh: Mesh | None = None) -> jax.Array:
    """The mean cross-entropy in nats of tokens `(batch, length + 1)`, computed in bfloat16."""

    def split_by_example(x):
        sharding = mesh and NamedSharding(mesh, PartitionSpec(DEVICES))
        return x if sharding is None else jax.lax.with_sharding_constraint(x, sharding)

    def norm(x, scale):
        wide = x.astype(jnp.float32)
        wide *= jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + 1e-5)
        return wide.astype(x.dtype) * scale.astype(x.dtype)

    @jax.checkpoint
    def layer(x, weights):
        w = jax.tree.map(lambda leaf: leaf.astype(x.dtype), weights)
        y = norm(x, w["attention_norm"])
        heads = (jnp.einsum("btd,dhk->bthk", y, w[name]) for name in ("query", "key", "value"))
        y = jax.nn.dot_product_attention(*heads, is_causal=True)
        x = split_by_example(x + jnp.einsum("bthk,hkd->btd", y, w["out"]))
        y = norm(x, w["mlp_norm"])
        y = (jax.nn.silu(y @ w["gate"]) * (y @ w["up"])) @ w["down"]
        return split_by_example(x + y), None

    x = split_by_example(params["embed"].astype(jnp.bfloat16)[tokens[:, :-1]])
    x, _ = jax.lax.scan(layer, x, params["layers"])
    logits = norm(x, params["norm"]) @ params["head"].astype(x.dtype)
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), tokens[:, 1:]
    )
    return losses.mean()
