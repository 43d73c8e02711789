"""Kernels that are computed: normalized, structured, complex, put together of blocks."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.abstract import f32
from tests.trace_idioms_registry import INDEX, ROWS, idiom, normal, stacked

KERNEL = {"w": (8, 6)}
SQUARE = {"w": (8, 8)}


@idiom("a running sum over rows", KERNEL, ROWS, w=(0,))
def _(p, x):
    return x @ jnp.cumsum(p["w"], 0)


@idiom("a kernel whose columns sum to one", KERNEL, ROWS, w=(0,))
def _(p, x):
    return x @ jax.nn.softmax(p["w"], 0)


@idiom("a kernel whose rows sum to one", KERNEL, ROWS, w=(0,))
def _(p, x):
    return x @ jax.nn.softmax(p["w"], 1)


@idiom("a mean of several kernels", {"w": (3, 8, 6)}, ROWS, w=(0, 1))
def _(p, x):
    # All have the same gradient, so its mean over one or over all is the same.
    return x @ p["w"].mean(0)


@idiom("a kernel divided by its largest singular value", KERNEL, ROWS, w=(0,))
def _(p, x):
    return x @ (p["w"] / jnp.linalg.norm(p["w"], 2))


@idiom("a triangular kernel", SQUARE, ROWS, w=(0,))
def _(p, x):
    return x @ jnp.triu(p["w"])


@idiom("a learned mask", {"w": (8, 6), "mask": (8, 6)}, ROWS, w=(0,), mask=(0,))
def _(p, x):
    return x @ (p["w"] * jax.nn.sigmoid(p["mask"]))


@idiom("a learned mask of a frozen kernel", {"mask": (8, 6)}, ROWS, mask=(0,))
def _(p, x):
    return x @ (jnp.asarray(normal(8, 6)) * jax.nn.sigmoid(p["mask"]))


@idiom("as many outputs as an argument says", KERNEL, ROWS, INDEX, w=(0,))
def _(p, x, n):
    return x @ jnp.where(jnp.arange(6) < n, p["w"], 0.0)


@idiom("outputs of which any first few are enough", {"w": (8, 6), "v": (6, 3)}, ROWS,
       conflict=True, w=(0,))  # fmt: skip
def _(p, x):
    h = x @ p["w"]
    return [h[:, :n] @ p["v"][:n] for n in (2, 4, 6)]


@idiom("means of neighboring rows", KERNEL, ROWS, w=(0,))
def _(p, x):
    return x @ ((p["w"] + jnp.roll(p["w"], 1, 0)) / 2)


@idiom("rows that are interpolated to more", {"w": (4, 6)}, ROWS, w=(0,))
def _(p, x):
    weights = np.abs(normal(8, 4))
    return x @ (jnp.asarray(weights / weights.sum(1, keepdims=True)) @ p["w"])


@idiom("a rotation before and after", KERNEL, ROWS, w=(0,))
def _(p, x):
    rotation = jnp.asarray(np.linalg.qr(normal(8, 8))[0])
    return (x @ rotation) @ (rotation.T @ p["w"])


@idiom("a power of a matrix", SQUARE, ROWS)
def _(p, x):
    return x @ jnp.linalg.matrix_power(p["w"], 3)


@idiom("a matrix exponential", SQUARE, ROWS)
def _(p, x):
    return x @ jax.scipy.linalg.expm(p["w"])


@idiom("an orthogonal matrix by Cayley", SQUARE, ROWS)
def _(p, x):
    skew = p["w"] - p["w"].T
    return x @ jnp.linalg.solve(jnp.eye(8) + skew, jnp.eye(8) - skew)


@idiom("an orthogonal matrix by Newton and Schulz", KERNEL, ROWS)
def _(p, x):
    w = p["w"] / jnp.linalg.norm(p["w"])
    for _ in range(3):
        w = 1.5 * w - 0.5 * w @ w.T @ w
    return x @ w


@idiom("a Kronecker product", {"a": (2, 3), "b": (4, 2)}, ROWS)
def _(p, x):
    return x @ jnp.kron(p["a"], p["b"])


@idiom("a Kronecker product, factor by factor", {"a": (2, 3), "b": (4, 2)}, ROWS, a=(0,), b=(0,))
def _(p, x):
    return jnp.einsum("bij,io,jp->bop", x.reshape(5, 2, 4), p["a"], p["b"])


@idiom("a tensor train", {"a": (2, 3, 2), "b": (2, 4, 2)}, ROWS)
def _(p, x):
    return x @ jnp.einsum("ior,rjp->ijop", p["a"], p["b"]).reshape(8, 6)


@idiom("two block-diagonal factors", {"a": (2, 4, 4), "b": (4, 2, 2)}, ROWS,
       a=stacked(1, batch=(0,)), b=stacked(1, batch=(0,)))  # fmt: skip
def _(p, x):
    h = jnp.einsum("bkj,kjl->blk", x.reshape(5, 2, 4), p["a"])
    return jnp.einsum("blk,lkm->blm", h, p["b"])


@idiom("blocks of a diagonal from two leaves", {"a": (3, 2), "b": (5, 4)}, ROWS, a=(0,), b=(0,))
def _(p, x):
    return x @ jax.scipy.linalg.block_diag(p["a"], p["b"])


@idiom("blocks of a diagonal, written in a loop", {"w": (2, 4, 3)}, ROWS, w=stacked(1, batch=(0,)))
def _(p, x):
    def write(i, kernel):
        return lax.dynamic_update_slice(kernel, p["w"][i], (4 * i, 3 * i))

    return x @ lax.fori_loop(0, 2, write, jnp.zeros((8, 6)))


@idiom("a quaternion layer", dict.fromkeys("rijk", (2, 3)), ROWS, **dict.fromkeys("rijk", (0,)))
def _(p, x):
    r, i, j, k = (p[name] for name in "rijk")
    return x @ jnp.block([[r, i, j, k], [-i, r, -k, j], [-j, k, r, -i], [-k, -j, i, r]])


@idiom("a complex kernel of two leaves", {"re": (8, 6), "im": (8, 6)}, ROWS, re=(0,), im=(0,))
def _(p, x):
    return (x @ (p["re"] + 1j * p["im"])).real


@idiom("a complex kernel on a spectrum", {"re": (5, 6), "im": (5, 6)}, ROWS, re=(0,), im=(0,))
def _(p, x):
    return jnp.abs(jnp.fft.rfft(x) @ lax.complex(p["re"], p["im"]))


@idiom("a Fourier operator", {"re": (3, 8, 6), "im": (3, 8, 6)}, f32(2, 9, 8),
       re=stacked(1, batch=(0,)), im=stacked(1, batch=(0,)))  # fmt: skip
def _(p, x):
    modes = jnp.fft.rfft(x, axis=1)[:, :3]
    modes = jnp.einsum("bki,kio->bko", modes, p["re"] + 1j * p["im"])
    return jnp.fft.irfft(jnp.pad(modes, ((0, 0), (0, 2), (0, 0))), n=9, axis=1)


@idiom("a singular value decomposition", {"u": (8, 4), "s": (1, 4), "v": (4, 6)}, ROWS,
       u=(0,), v=(0,))  # fmt: skip
def _(p, x):
    return ((x @ p["u"]) * p["s"]) @ p["v"]


@idiom("low rank and a diagonal", {"w": (8, 8), "d": (1, 8)}, ROWS, w=(0,))
def _(p, x):
    return x @ (p["w"] + jnp.eye(8) * p["d"])


@idiom("a product that is summed", KERNEL, ROWS)
def _(p, x):
    return (x[:, :, None] * p["w"]).sum(1)


@idiom("`inner` with a kernel stored transposed", {"w": (6, 8)}, ROWS, w=(1,))
def _(p, x):
    return jnp.inner(x, p["w"])


@idiom("`matvec` with a kernel stored transposed", {"w": (6, 8)}, ROWS, w=(1,))
def _(p, x):
    return jnp.matvec(p["w"], x)


@idiom("`tensordot` over two axes", {"w": (2, 4, 6)}, f32(5, 2, 4), w=(0, 1))
def _(p, x):
    return jnp.tensordot(x, p["w"], 2)


@idiom("a distance in a learned space", KERNEL, ROWS, ROWS, w=(0,))
def _(p, x, y):
    return (((x - y) @ p["w"]) ** 2).sum(-1)


@idiom("a learned metric", KERNEL, ROWS, ROWS)
def _(p, x, y):
    return jnp.einsum("bi,ij,bj->b", x, p["w"] @ p["w"].T, y)


@idiom("a factorization machine", {"v": (8, 4)}, ROWS, v=(0,))
def _(p, x):
    return ((x @ p["v"]) ** 2 - x**2 @ p["v"] ** 2).sum(-1)


@idiom("a bilinear core", {"a": (8, 4), "b": (6, 3), "core": (4, 3, 5)}, ROWS, f32(5, 6),
       a=(0,), b=(0,))  # fmt: skip
def _(p, x, y):
    return jnp.einsum("bi,bj,ijo->bo", x @ p["a"], y @ p["b"], p["core"])
