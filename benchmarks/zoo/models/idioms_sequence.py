"""Idioms of public code in plain JAX: state spaces and mixing over time."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.zoo.oracles.stated import Idioms

PACKAGES = ["jax"]

SEQUENCE = jnp.linspace(-1.0, 1.0, 84).reshape(2, 7, 6)
IN_OUT, OUT_IN = "stored (in, out), applied as x @ w", "stored (out, in), applied as w @ x"
POLES = "a pole per channel and state"
STATES = "sums over the states, channel by channel: (channels, states)"
STEP = {"log_dt": ((6,), (), "a step per channel")}

idiom = Idioms()


@idiom(
    "S4D as a convolution",
    STEP
    | {
        "a_real": ((6, 4), (), POLES),
        "a_imaginary": ((6, 4), (), POLES),
        "c": ((6, 4, 2), (), "weights of each channel's constant kernels", ((1,), (1, 2))),
        "d": ((6,), (), "a skip"),
        "w": ((6, 12), (0,), IN_OUT),
    },
    SEQUENCE,
)
def s4d(p, x):
    """Diagonal state space: a kernel from poles, a product of spectra, a gated layer."""
    dt = jnp.exp(p["log_dt"])
    poles = -jnp.exp(p["a_real"]) + 1j * p["a_imaginary"]
    c = p["c"][..., 0] + 1j * p["c"][..., 1]
    powers = jnp.exp((poles * dt[:, None])[..., None] * jnp.arange(7))
    kernel = (
        2 * jnp.einsum("hn,hnl->hl", c * (jnp.exp(dt[:, None] * poles) - 1) / poles, powers).real
    )
    spectrum = jnp.fft.rfft(kernel, n=14) * jnp.fft.rfft(x.mT, n=14)
    y = jnp.fft.irfft(spectrum, n=14)[..., :7].mT + p["d"] * x
    a, b = jnp.split(jax.nn.gelu(y) @ p["w"], 2, -1)
    return a * jax.nn.sigmoid(b)


@idiom(
    "S4D as a recurrence",
    STEP
    | {
        "a": ((6, 4), (), POLES),
        "b": ((6, 4), (), "one input per channel: nothing is summed"),
        "c": ((6, 4), (1,), STATES),
    },
    SEQUENCE,
)
def s4d_recurrent(p, x):
    """The same by a scan over time."""
    dt = jnp.exp(p["log_dt"])[:, None]
    decay = jnp.exp(-dt * jnp.exp(p["a"]))

    def step(state, x):
        state = decay * state + dt * p["b"] * x[:, None]
        return state, jnp.sum(p["c"] * state, -1)

    return jax.vmap(lambda x: lax.scan(step, jnp.zeros((6, 4)), x)[1])(x)


LRU = {
    "nu": ((5,), (), POLES),
    "theta": ((5,), (), POLES),
    "gamma": ((5,), (), "a scale"),
    "b_re": ((5, 6), (1,), OUT_IN),
    "b_im": ((5, 6), (1,), OUT_IN),
    "c_re": ((6, 5), (1,), OUT_IN),
    "c_im": ((6, 5), (1,), OUT_IN),
    "d": ((6,), (), "a skip"),
}


def combine(one, two):
    """Two steps of a linear recurrence as one."""
    return one[0] * two[0], two[0] * one[1] + two[1]


@idiom("LRU by associative scan", LRU, SEQUENCE)
def lru(p, x):
    """Complex poles, a complex layer in and one out."""
    pole = jnp.exp(-jnp.exp(p["nu"]) + 1j * jnp.exp(p["theta"]))
    b = (p["b_re"] + 1j * p["b_im"]) * jnp.exp(p["gamma"])[:, None]
    c = p["c_re"] + 1j * p["c_im"]

    def one(x):
        inputs = jax.vmap(lambda u: b @ u)(x)
        poles = jnp.repeat(pole[None], x.shape[0], 0)
        _, states = lax.associative_scan(combine, (poles, inputs))
        return jax.vmap(lambda h, u: (c @ h).real + p["d"] * u)(states, x)

    return jax.vmap(one)(x)


@idiom("LRU by scan", LRU, SEQUENCE)
def lru_scan(p, x):
    """The same by a scan over time with a complex carry."""
    pole = jnp.exp(-jnp.exp(p["nu"]) + 1j * jnp.exp(p["theta"]))
    gain = jnp.exp(p["gamma"])

    def step(h, u):
        h = pole * h + gain * (lax.complex(p["b_re"], p["b_im"]) @ u)
        return h, (p["c_re"] @ h.real - p["c_im"] @ h.imag) + p["d"] * u

    return jax.vmap(lambda x: lax.scan(step, jnp.zeros(5, "c8"), x)[1])(x)


@idiom(
    "S5",
    {
        "poles": ((4, 2), (), POLES),
        "b": ((4, 6, 2), (1,), "(states, in, real and imaginary)"),
        "c": ((6, 4, 2), (1,), "(out, states, real and imaginary)", ((1, 2),)),
        "log_dt": ((4, 1), (), "a step per state"),
    },
    SEQUENCE,
)
def s5(p, x):
    """Zero-order hold of poles, and a layer in and out whose last axis makes complex numbers."""
    pole, dt = p["poles"][..., 0] + 1j * p["poles"][..., 1], jnp.exp(p["log_dt"][:, 0])
    b, c = p["b"][..., 0] + 1j * p["b"][..., 1], p["c"][..., 0] + 1j * p["c"][..., 1]
    decay = jnp.exp(pole * dt)
    b = ((decay - 1) / pole)[..., None] * b

    def one(x):
        _, states = lax.associative_scan(combine, (decay * jnp.ones((7, 4)), x @ b.T))
        return 2 * (states @ c.T).real

    return jax.vmap(one)(x)


@idiom(
    "Mamba",
    {
        "a": ((6, 4), (), POLES),
        "bc": ((6, 8), (0,), IN_OUT),
        "dt": ((6, 6), (0,), IN_OUT),
        "conv": ((3, 1, 6), (0,), "a depthwise convolution, stored (taps, 1, out)"),
        "d": ((6,), (), "a skip"),
    },
    SEQUENCE,
)
def mamba(p, x):
    """A selective scan after a short causal convolution."""
    x = lax.conv_general_dilated(
        *(x, p["conv"], (1,), [(2, 0)]),
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=6,
    )
    dt = jax.nn.softplus(x @ p["dt"])
    b, c = jnp.split(x @ p["bc"], 2, -1)
    decay = jnp.exp(dt[..., None] * -jnp.exp(p["a"]))
    inputs = (dt * x)[..., None] * b[..., None, :]
    _, states = lax.associative_scan(combine, (decay, inputs), axis=1)
    return jnp.einsum("btdn,btn->btd", states, c) + p["d"] * x


@idiom(
    "Linformer",
    dict.fromkeys("qkv", ((6, 6), (0,), IN_OUT))
    | {"e": ((7, 3), (0,), "a layer over time: (time, out)")},
    SEQUENCE,
)
def linformer(p, x):
    """Keys and values are projected over time by one kernel."""
    k, v = (jnp.einsum("btd,tk->bkd", x @ p[n], p["e"]) for n in "kv")
    return jax.nn.softmax((x @ p["q"]) @ k.mT) @ v


@idiom(
    "gMLP",
    {
        "in": ((6, 12), (0,), IN_OUT),
        "time": ((7, 7), (1,), "a layer over time: (out, in)"),
        "bias": ((7, 1), (), "a bias per place"),
        "out": ((6, 6), (0,), IN_OUT),
    },
    SEQUENCE,
)
def gmlp(p, x):
    """A gate that is a layer over time."""
    u, v = jnp.split(jax.nn.gelu(x @ p["in"]), 2, -1)
    return (u * (jnp.einsum("st,btd->bsd", p["time"], v) + p["bias"])) @ p["out"]


@idiom(
    "MLP-Mixer",
    {
        n: (s, (0,), IN_OUT)
        for n, s in {"t1": (7, 9), "t2": (9, 7), "c1": (6, 9), "c2": (9, 6)}.items()
    },
    SEQUENCE,
)
def mixer(p, x):
    """Layers over time by transposing, then over channels."""
    x = x + (jax.nn.gelu(x.mT @ p["t1"]) @ p["t2"]).mT
    return x + jax.nn.gelu(x @ p["c1"]) @ p["c2"]


@idiom(
    "AFT",
    dict.fromkeys("qkv", ((6, 6), (0,), IN_OUT))
    | {"w": ((7, 7), (1,), "exp(w) sums over time", ((),))},
    SEQUENCE,
)
def attention_free(p, x):
    """Weights of pairs of places instead of scores."""
    q, k, v = (x @ p[n] for n in "qkv")
    weights = jnp.exp(p["w"])
    sums = jnp.einsum("ts,bsd->btd", weights, jnp.exp(k) * v)
    return jax.nn.sigmoid(q) * sums / jnp.einsum("ts,bsd->btd", weights, jnp.exp(k))


entries = idiom.entries
