"""Stacked layers and experts in plain JAX: loops, branches, maps."""

import jax
import jax.numpy as jnp

from tests.abstract import f32, i32
from tests.trace_cases.registry import case


@case
def fori_loop_over_stacked_layers():
    def stack(p, x):
        return jax.lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ p["w"][i]) * p["s"][i], x)

    return stack, {"w": f32(3, 4, 4), "s": f32(3, 4)}, (f32(2, 4),), {"w": ((1,), (0,))}


@case
def python_loop_over_stacked_layers():
    def stack(p, x):
        for w in p:
            x = jnp.tanh(x @ w)
        return x

    return stack, f32(3, 4, 4), (f32(2, 4),), {"": ((1,), (0,))}


@case
def while_loop_until_converged():
    def solve(p, x):
        def going_on(state):
            return (state[0] < 10) & (jnp.abs(state[1]).max() > 0)

        return jax.lax.while_loop(going_on, lambda s: (s[0] + 1, jnp.tanh(s[1] @ p)), (0, x))[1]

    return solve, f32(4, 4), (f32(2, 4),), {"": (0,)}


@case
def while_loop_over_stacked_layers():
    def stack(p, x, n):
        def step(state):
            i, x = state
            return i + 1, jnp.tanh(x @ p[i].T)

        return jax.lax.while_loop(lambda state: state[0] < n, step, (0, x))[1]

    return stack, f32(3, 4, 4), (f32(2, 4), i32()), {"": ((2,), (0,))}


@case
def switch_over_experts():
    def experts(p, x, i):
        return jax.lax.switch(i, [lambda x, w=w: x @ w for w in p], x)

    return experts, [f32(4, 5), f32(4, 5)], (f32(2, 4), i32()), {"0": (0,), "1": (0,)}


@case
def cond_that_chooses_weights():
    def layer(p, x, flag):
        return x @ jax.lax.cond(flag[0] > 0, lambda: p["a"], lambda: p["b"])

    return layer, {"a": f32(4, 5), "b": f32(4, 5)}, (f32(2, 4), f32(1)), {"a": (0,), "b": (0,)}


@case
def vmap_of_switch_over_experts():
    def experts(p, x, i):
        branches = [lambda x, w=w: w @ x for w in p]
        return jax.vmap(lambda x, i: jax.lax.switch(i, branches, x))(x, i)

    return experts, [f32(5, 4), f32(5, 4)], (f32(2, 4), i32(2)), {"0": (1,), "1": (1,)}


@case
def experts_by_einsum():
    def mixture(p, x):
        gates = jax.nn.softmax(x @ p["router"])
        dispatch = jax.nn.one_hot(gates.argmax(-1), 3)
        inputs = jnp.einsum("te,td->etd", dispatch, x)
        hidden = jax.nn.gelu(jnp.einsum("etd,edf->etf", inputs, p["up"]))
        outputs = jnp.einsum("etf,efd->etd", hidden, p["down"])
        return jnp.einsum("etd,te->td", outputs, gates)

    params = {"router": f32(4, 3), "up": f32(3, 4, 6), "down": f32(3, 6, 4)}
    return mixture, params, (f32(7, 4),), {
        "router": (0,),
        "up": ((1,), (0,)),
        "down": ((1,), (0,)),
    }  # fmt: skip


@case
def experts_by_ragged_dot():
    def mixture(p, x, sizes):
        return jax.lax.ragged_dot(
            jax.nn.relu(jax.lax.ragged_dot(x, p["up"], sizes)), p["down"], sizes
        )

    params = {"up": f32(3, 4, 6), "down": f32(3, 6, 4)}
    return mixture, params, (f32(7, 4), i32(3)), {"up": ((1,), (0,)), "down": ((1,), (0,))}


@case
def kernels_stacked_and_mapped():
    def experts(p, x):
        return jax.vmap(lambda w, x: jnp.tanh(x @ w))(jnp.stack(p), x)

    return experts, [f32(4, 5), f32(4, 5)], (f32(2, 3, 4),), {"0": (0,), "1": (0,)}
