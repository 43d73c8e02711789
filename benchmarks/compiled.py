"""What XLA makes of `centralize`, compiled for TPUs and GPUs that are not there.

    pip install ".[experiments]" "jax[tpu]"     # or "jax[cuda12]", for GPUs
    python benchmarks/compiled.py v5e:2x2      # or v6e:2x2, v5e:4x4, H100, A100

Nothing is run, so this gives programs and no times: how many arrays as large as the parameters an
update moves to and from device memory, how many kernels it has, how much temporary memory it takes,
and what its devices send to each other. Update steps are those of ResNet-50, ViT-B/16, GPT-2 small
and 1,000 tiny leaves, on one device, with GC in four places of a chain: without it (`none`), by
`gc_optax.centralize()` (`gc`), by `optax.centralize()` (`optax`, which takes the mean over other
axes), and for the smallest tree by the mean as one would write it (`plain`). Other programs are
chosen by
`--programs`: the update and the whole training step of a decoder of 8 billion parameters, split
over all devices, and the training step of `notebooks/train_cifar_tpu.ipynb`.

What is compiled already is kept in the output and not compiled again, if the versions are the same.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import _targets  # before JAX, which reads what it sets in the environment

# isort: split
import _decoder
import _notebook_step
import jax
import jax.numpy as jnp
import optax
from _architectures import TREES as PUBLISHED
from _architectures import vit_b16
from _hlo import Program
from _places import ADAM, PLACES, variants
from jax.sharding import NamedSharding, PartitionSpec
from tables import SMALLEST, STEP

import gc_optax

RESULTS = Path(__file__).parent / "results" / "compiled"
TREES = {name: shapes for name, (shapes, _) in PUBLISHED.items()}
TREES[SMALLEST] = partial(vit_b16, layers=2)
DTYPES = ("float32", "bfloat16")


def plain(fan_in) -> optax.GradientTransformation:
    """GC as one would write it."""

    def centralized(spec, leaf):
        return leaf - leaf.mean(spec.axes, keepdims=True) if spec.axes else leaf

    return optax.stateless(lambda updates, _: jax.tree.map(centralized, fan_in, updates))


def size(tree) -> int:
    """Bytes of a tree of sharded shapes, on each device."""
    return sum(
        leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape))
        for leaf in jax.tree.leaves(tree)
    )


def sharded_like(params, state):
    """The optimizer's state: what is shaped as a parameter is split as it is."""
    mesh = jax.tree.leaves(params)[0].sharding.mesh
    of_shape = {leaf.shape: leaf.sharding for leaf in jax.tree.leaves(params)}
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=of_shape.get(s.shape, whole)),
        state,
    )


def compiled_update(params, grads, links):
    """The update step, with donated parameters and state."""
    chain = optax.chain(*links)
    state = sharded_like(params, jax.eval_shape(chain.init, params))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, (params, state))

    @partial(jax.jit, donate_argnums=(0, 1), out_shardings=shardings)
    def update(params, state, grads):
        updates, state = chain.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return update.lower(params, state, grads).compile()


def measured(compiled) -> dict[str, Any]:
    """What there is to say of any compiled program; sizes in bytes, on each device."""
    program, memory = Program(compiled.as_text()), compiled.memory_analysis()
    return {
        "kernels": program.kernels(),
        "moved": program.moved(),
        "temporary": memory.temp_size_in_bytes,
        "peak": memory.peak_memory_in_bytes,
        "collectives": program.collectives(),
    }


def updates(target: str, devices: int, names, dtypes) -> Iterator[tuple[dict, Any]]:
    """The update steps of whole trees on one device."""
    del devices
    here = NamedSharding(_targets.mesh_of(target, 1), PartitionSpec())

    def on_device(dtype, shapes):
        return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, dtype, sharding=here), shapes)

    for name in names:
        shapes = TREES[name]()
        fan_in = gc_optax.fan_in_by_name(shapes)
        params = on_device(jnp.dtype("float32"), shapes)
        for dtype in dtypes:
            grads = on_device(jnp.dtype(dtype), shapes)
            compared = variants(fan_in)
            if name == SMALLEST:
                compared["plain"] = plain(fan_in)
            about = {"tree": name, "gradients": dtype}
            yield from update_rows(about, params, grads, fan_in, compared)


def update_rows(about: dict, params, grads, fan_in, compared) -> Iterator[tuple[dict, Any]]:
    """What one row is about, and a function that compiles and measures it."""
    summary = gc_optax.summary(params, fan_in=fan_in)
    share = summary.centralized / summary.total
    of_params, of_grads = size(params), size(grads)
    for name, place in PLACES.items():
        least = of_grads + place.others * of_params
        added = share * (place.gradient_again * of_grads + place.more * of_params)
        for variant, gc in compared.items():

            def measure(place=place, gc=gc, least=least, added=added):
                found = measured(compiled_update(params, grads, place.chain(gc)))
                return {
                    **{"parameters": of_params, "needed": least + added, "needed_without": least},
                    **{"leaves": len(jax.tree.leaves(params))},
                    "centralized_leaves": sum(bool(spec.axes) for spec in jax.tree.leaves(fan_in)),
                    **found,
                }

            yield {**about, "place": name, "variant": variant}, measure


def decoder_updates(target: str, devices: int, names, dtypes) -> Iterator[tuple[dict, Any]]:
    """The update of the decoder, split over all devices."""
    del names
    params = _decoder.params(_targets.mesh_of(target, devices))
    fan_in = decoder_fan_in()
    for dtype in dtypes:
        grads = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, jnp.dtype(dtype), sharding=s.sharding),  # noqa: B023
            params,
        )
        about = {"tree": "decoder, 8 billion", "devices": devices, "gradients": dtype}
        yield from update_rows(about, params, grads, fan_in, variants(fan_in))


def decoder_fan_in():
    """The axes of the decoder's layers, traced at full size."""
    tokens = jax.ShapeDtypeStruct((2, 129), jnp.int32)
    return gc_optax.fan_in_by_trace(_decoder.loss_fn, _decoder.params(), tokens)


def decoder_steps(target: str, devices: int, names, dtypes) -> Iterator[tuple[dict, Any]]:
    """The whole training step of the decoder by Adam, one example on each device."""
    del names, dtypes
    mesh = _targets.mesh_of(target, devices)
    params, fan_in = _decoder.params(mesh), decoder_fan_in()
    tokens = jax.ShapeDtypeStruct(
        (devices, _decoder.LENGTH + 1),
        jnp.int32,
        sharding=NamedSharding(mesh, PartitionSpec(_decoder.DEVICES)),
    )
    for variant in ("none", "gc"):

        def measure(variant=variant):
            chain = optax.chain(variants(fan_in)[variant], ADAM())
            state = sharded_like(params, jax.eval_shape(chain.init, params))
            shardings = jax.tree.map(lambda leaf: leaf.sharding, (params, state))
            whole = NamedSharding(mesh, PartitionSpec())

            @partial(jax.jit, donate_argnums=(0, 1), out_shardings=(*shardings, whole))
            def step(params, state, tokens):
                loss, grads = jax.value_and_grad(_decoder.loss_fn)(params, tokens, mesh)
                updates, state = chain.update(grads, state, params)
                return optax.apply_updates(params, updates), state, loss

            compiled = step.lower(params, state, tokens).compile()
            return {"parameters": size(params), **measured(compiled)}

        about = {"tree": "decoder, 8 billion", "devices": devices, "gradients": "float32"}
        yield {**about, "place": f"{STEP}centralize, adam", "variant": variant}, measure


def notebook_steps(target: str, devices: int, names, dtypes) -> Iterator[tuple[dict, Any]]:
    """The training step of the notebook, at the paper's sizes, over all devices."""
    del names, dtypes
    steps = _notebook_step.steps(_targets.mesh_of(target, devices))
    for variant in ("none", "gc", "optax"):
        about = {"tree": "ResNet-18 (notebook)", "devices": devices, "gradients": "float32"}
        about["place"] = f"{STEP}add_decayed_weights, centralize, sgd"
        yield {**about, "variant": variant}, lambda v=variant: measured(steps(v))


PROGRAMS = {
    "update": updates,
    "decoder": decoder_updates,
    "decoder-step": decoder_steps,
    "notebook": notebook_steps,
}


def versions() -> dict[str, str]:
    """Of what decides on the program."""
    found = {}
    for package in ("jax", "optax", "libtpu", "jax-cuda12-plugin", "nvidia-cuda-nvcc-cu12"):
        try:
            found[package] = version(package)
        except ModuleNotFoundError:  # of another target
            continue
    return found


def run(rows: Iterator[tuple[dict, Any]], output: Path) -> None:
    """Compiles what `output` lacks, and writes it after each program."""
    content: dict[str, Any] = {"versions": versions(), "rows": []}
    if output.exists():
        before = json.loads(output.read_text(encoding="utf-8"))
        if before["versions"] == content["versions"]:
            content = before
    for about, measure in rows:
        if any(about.items() <= row.items() for row in content["rows"]):
            continue
        start = time.perf_counter()
        row = {**about, **measure()}
        content["rows"].append(row)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        arrays = row["moved"] / row["parameters"] if "parameters" in row else math.nan
        print(
            *about.values(),
            f"{arrays:.2f} arrays, {row['kernels']} kernels,",
            f"{row['temporary'] / 2**20:.1f} MiB temporary,",
            f"compiled in {time.perf_counter() - start:.0f} s",
            flush=True,
        )


def main():
    """Compiles, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", help="H100, A100, or a TPU's topology such as v5e:2x2")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=["update"])
    parser.add_argument("--devices", type=int, help="of the target, for all programs but `update`")
    parser.add_argument("--trees", nargs="+", choices=TREES, default=list(TREES))
    parser.add_argument("--gradients", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--output", type=Path, help="a JSON file (benchmarks/results/compiled/)")
    options = parser.parse_args()
    output = options.output or RESULTS / f"{options.target.replace(':', '_')}.json"
    topology = options.target.partition(":")[2] or "1"
    devices = options.devices or math.prod(int(size) for size in topology.split("x"))
    for program in options.programs:
        run(PROGRAMS[program](options.target, devices, options.trees, options.gradients), output)


if __name__ == "__main__":
    main()
