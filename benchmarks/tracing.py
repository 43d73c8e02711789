"""What `fan_in_by_trace` costs: decoders of 12 to 96 layers, and one of 8 billion parameters.

Run `python benchmarks/tracing.py`. Everything is traced from shapes alone. The times are processor
seconds, the fastest of several repetitions in turn; the machine is whatever it is run on, so read
the ratios: the share of the inference over `jax.make_jaxpr`, and the growth from row to row.
"""

import argparse
import gc
import math
import resource
import time

import jax
import jax.numpy as jnp

import gc_optax
from gc_optax._tracing.trace import _interpreted, _traced


def decoder(params, tokens):
    """A decoder-only transformer (RMS norm, grouped-query attention, gated MLP); the mean loss."""
    x = params["embedding"][tokens]
    _, t, _ = x.shape
    mask = jnp.tril(jnp.ones((t, t), bool))
    for p in params["layers"]:
        y = _rms_norm(x, p["attention_norm"])
        q = jnp.einsum("ntd,dkgh->ntkgh", y, p["query"])
        k, v = (jnp.einsum("nsd,dkh->nskh", y, p[name]) for name in ("key", "value"))
        scores = jnp.einsum("ntkgh,nskh->nkgts", q, k) / math.sqrt(k.shape[-1])
        weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf))
        heads = jnp.einsum("nkgts,nskh->ntkgh", weights, v)
        x = x + jnp.einsum("ntkgh,kghd->ntd", heads, p["out"])
        y = _rms_norm(x, p["mlp_norm"])
        x = x + (jax.nn.silu(y @ p["gate"]) * (y @ p["up"])) @ p["down"]
    logits = _rms_norm(x, params["norm"]) @ params["head"]
    losses = -jax.nn.log_softmax(logits[:, :-1])
    return jnp.take_along_axis(losses, tokens[:, 1:, None], axis=-1).mean()


def _rms_norm(x, scale):
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scale


def shapes(layers, width, groups, heads_per_group, head, hidden, vocabulary):
    """The parameters, as shapes."""

    def array(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    layer = {
        "attention_norm": array(width),
        "query": array(width, groups, heads_per_group, head),
        "key": array(width, groups, head),
        "value": array(width, groups, head),
        "out": array(groups, heads_per_group, head, width),
        "mlp_norm": array(width),
        "gate": array(width, hidden),
        "up": array(width, hidden),
        "down": array(hidden, width),
    }
    return {
        "embedding": array(vocabulary, width),
        "layers": [layer] * layers,
        "norm": array(width),
        "head": array(width, vocabulary),
    }


def fastest(functions, repetitions):
    """Processor seconds of the fastest call of each function, called in turn."""
    times = [[] for _ in functions]
    for _ in range(repetitions):
        for function, seen in zip(functions, times, strict=True):
            jax.clear_caches()
            gc.collect()
            start = time.process_time()
            function()
            seen.append(time.process_time() - start)
    return [min(seen) for seen in times]


def check(fan_in):
    """Every kernel over its fan-in, and nothing else."""
    for layer in fan_in["layers"]:
        axes = {name: spec.axes for name, spec in layer.items() if spec.axes}
        kernels = dict.fromkeys(("query", "key", "value", "gate", "up", "down"), (0,))
        assert axes == {**kernels, "out": (0, 1, 2)}, axes
    assert fan_in["embedding"].axes == ()
    assert fan_in["head"].axes == (0,)


def main():
    """Prints the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    repetitions = parser.parse_args().repetitions
    print(f"JAX {jax.__version__}, gc_optax {gc_optax.__version__}, CPU only\n")
    tokens = jax.ShapeDtypeStruct((2, 128), jnp.int32)
    print("| layers | make_jaxpr, s | inference, s | share | fan_in_by_trace, s | s per layer |")
    print("|---|---|---|---|---|---|")
    for layers in (12, 24, 48, 96):
        params = shapes(layers, 512, 4, 2, 64, 1408, 32_000)
        check(gc_optax.fan_in_by_trace(decoder, params, tokens))
        closed, _ = _traced(decoder, ((params, tokens), {}))
        leaves = range(len(jax.tree.leaves(params)))
        trace, inference, whole = fastest(
            [
                lambda p=params: jax.make_jaxpr(decoder)(p, tokens),
                lambda c=closed, n=leaves: _interpreted(c, n, 0, 1),
                lambda p=params: gc_optax.fan_in_by_trace(decoder, p, tokens),
            ],
            repetitions,
        )
        print(
            f"| {layers} | {trace:.3f} | {inference:.3f} | {inference / trace:.0%} | {whole:.3f} "
            f"| {whole / layers:.4f} |"
        )
    before = _peak()
    params = shapes(32, 4096, 8, 4, 128, 14_336, 128_256)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    start = time.perf_counter()
    check(gc_optax.fan_in_by_trace(decoder, params, jax.ShapeDtypeStruct((1, 8192), jnp.int32)))
    seconds = time.perf_counter() - start
    print(
        f"\nA decoder of {count / 1e9:.2f} billion parameters ({4 * count / 2**30:.0f} GiB in "
        f"float32): {seconds:.2f} s, peak memory of the process {_peak():.0f} MiB, of which "
        f"{_peak() - before:.0f} MiB more than before."
    )


def _peak():
    """The largest resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
