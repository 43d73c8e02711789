"""Diagonals, poles of state spaces, scopes, what is used and is no layer, and shards."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from tests.abstract import f32
from tests.trace_idioms_registry import ROWS, idiom, stacked

KERNEL = {"w": (8, 6)}


def states(p, u, times):
    poles = -jnp.exp(p["poles"])
    c = p["c"] * (jnp.exp(poles) - 1) / poles
    powers = jnp.exp(poles[..., None] * times)
    kernel = jnp.einsum("hn,nl->hl" if poles.ndim == 1 else "hn,hnl->hl", c, powers)
    return jnp.fft.irfft(jnp.fft.rfft(u, n=40) * jnp.fft.rfft(kernel, n=40), n=40)[..., :20]


@idiom("poles of a state space", {"c": (6, 8), "poles": (6, 8)}, f32(2, 6, 20),
       c=stacked(1, batch=(0,)))  # fmt: skip
def _(p, u):
    return states(p, u, jnp.arange(20))


@idiom("poles that channels share", {"c": (6, 8), "poles": (8,)}, f32(2, 6, 20), c=(1,))
def _(p, u):
    return states(p, u, jnp.arange(20))


@idiom("a state space by a scan", dict.fromkeys(("poles", "b", "c"), (6, 8)), f32(20, 6))
def _(p, u):
    decay = jnp.exp(-jnp.exp(p["poles"]))

    def step(h, x):
        h = decay * h + x[:, None] * p["b"]
        return h, (h * p["c"]).sum(-1)

    return lax.scan(step, jnp.zeros((6, 8)), u)[1]


@idiom("a scope called transpose", KERNEL, ROWS, w=(0,))
def _(p, x):
    with jax.named_scope("transpose(jvp(x))"), jax.named_scope("rematted_computation"):
        return x @ p["w"]


@idiom("a sorted column as an index", {"w": (5, 3)}, ROWS)
def _(p, x):
    return x[jnp.argsort(p["w"][:, 0])]


@idiom("a mask of signs", {"w": (5, 8)}, ROWS)
def _(p, x):
    return jnp.where(p["w"] > 0, x, 0.0)


@idiom("the largest entries", {"w": (5, 8)}, ROWS)
def _(p, x):
    return x * lax.top_k(p["w"], 8)[0]


@idiom("a penalty alone", {"w": (5, 8)}, ROWS)
def _(p, x):
    return x.sum() + (p["w"] ** 2).sum()


@idiom("a determinant", {"w": (8, 8)}, ROWS)
def _(p, x):
    return x.sum() * jnp.linalg.det(p["w"])


@idiom("a linear system", {"w": (8, 8)}, ROWS)
def _(p, x):
    return jnp.linalg.solve(p["w"] + jnp.eye(8), x.T)


@idiom("conjugate gradients", {"w": (8, 8)}, ROWS)
def _(p, x):
    return jax.scipy.sparse.linalg.cg(lambda v: p["w"] @ v, x[0])[0]


@idiom("a filter in the frequency domain", {"w": (5, 8)}, ROWS)
def _(p, x):
    return jnp.fft.irfft(jnp.fft.rfft(x) * jnp.fft.rfft(p["w"]))


@idiom("a leaf that nothing uses", {"w": (8, 6), "rest": (8, 6)}, ROWS, w=(0,), unused=("rest",))
def _(p, x):
    return x @ p["w"]


MESH = jax.make_mesh((2,), ("d",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])


@idiom("shards of rows and a sum", KERNEL, ROWS, w=(0,))
def _(p, x):
    layer = jax.shard_map(
        lambda w, x: lax.psum(x @ w, "d"), mesh=MESH, in_specs=(P("d"), P(None, "d")), out_specs=P()
    )
    return layer(p["w"], x)


@idiom("shards of rows that are gathered", KERNEL, f32(4, 8), w=(0,))
def _(p, x):
    layer = jax.shard_map(
        lambda w, x: x @ lax.all_gather(w, "d", tiled=True), mesh=MESH,
        in_specs=(P("d"), P("d")), out_specs=P("d"),
    )  # fmt: skip
    return layer(p["w"], x)


@idiom("shards of rows that are gathered, untiled", KERNEL, f32(4, 8), w=(0,))
def _(p, x):
    layer = jax.shard_map(
        lambda w, x: x @ lax.all_gather(w, "d").reshape(8, 6), mesh=MESH,
        in_specs=(P("d"), P("d")), out_specs=P("d"),
    )  # fmt: skip
    return layer(p["w"], x)


@idiom("shards of columns that are gathered, untiled", KERNEL, f32(4, 8), w=(0,))
def _(p, x):
    def layer(w, x):
        return x @ jnp.moveaxis(lax.all_gather(w, "d"), 0, 1).reshape(8, 6)

    return jax.shard_map(layer, mesh=MESH, in_specs=(P(None, "d"), P("d")), out_specs=P("d"))(
        p["w"], x
    )


@idiom("poles at times of an argument", {"c": (6, 8), "poles": (6, 8)}, f32(2, 6, 20), f32(20),
       c=stacked(1, batch=(0,)))  # fmt: skip
def _(p, u, times):
    return states(p, u, times)


@idiom("a diagonal from a row", {"d": (3, 8)}, ROWS)
def _(p, x):
    return x @ jnp.diag(p["d"][0])


@idiom("diagonals in a scan", {"d": (3, 8)}, ROWS)
def _(p, x):
    return lax.scan(lambda h, d: (jnp.tanh(h @ jnp.diag(d)), None), x, p["d"])[0]


@idiom("diagonals for a batch", {"d": (3, 8)}, f32(3, 5, 8))
def _(p, x):
    return jax.vmap(lambda x, d: x @ jnp.diag(d))(x, p["d"])


@idiom("a diagonal by an identity", {"d": (8, 1)}, ROWS)
def _(p, x):
    return x @ (jnp.eye(8) * p["d"])


@idiom("singular values by a diagonal", {"u": (8, 4), "s": (2, 4), "v": (4, 6)}, ROWS,
       u=(0,), v=(0,))  # fmt: skip
def _(p, x):
    return x @ p["u"] @ jnp.diag(p["s"][0]) @ p["v"]


@idiom("Householder reflections", {"v": (3, 8)}, ROWS)
def _(p, x):
    for v in p["v"]:
        x = x - 2 * jnp.outer(x @ v, v) / (v @ v)
    return x
