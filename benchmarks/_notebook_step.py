"""The training step of `notebooks/train_cifar_tpu.ipynb`, from its cells, at the paper's sizes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "train_cifar_tpu.ipynb"


def steps(mesh: Mesh) -> Callable[[str], Any]:
    """A function from an arm (`none`, `gc`, `optax`) to its compiled training step."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict[str, Any] = {"__name__": "notebook", "target_mesh": mesh, "jax": jax}

    def run(start: str, changes: dict[str, str]) -> None:
        (source,) = (source for source in sources if source.startswith(start))
        for old, new in changes.items():
            if old not in source:
                raise ValueError(f"The notebook's cell {start!r} has no {old!r} any more.")
            source = source.replace(old, new)
        exec(compile(source, f"{NOTEBOOK.name}: {start}", "exec"), names)

    # The devices are not there, so JAX itself sees a CPU.
    backend = {'jax.config.update("jax_num_cpu_devices", 8)': "pass"}
    run("import os", backend | {'jax.default_backend() == "cpu"': "False"})
    every_device = 'jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))'
    names["target_mesh"] = Mesh(mesh.devices, ("data",), axis_types=mesh.axis_types)
    run("import functools", {every_device: "target_mesh"})
    batch = names["BATCH"]
    names |= {
        "train_labels": np.zeros(names["TRAIN_IMAGES"], np.int32),
        # Numbers of about the right size: the program is the same.
        "pixel_mean": np.full(3, 120, np.float32),
        "pixel_deviation": np.full(3, 60, np.float32),
        "images": _split((batch, 32, 32, 3), jnp.uint8, names["split"]),
        "labels": _split((batch,), jnp.int32, names["split"]),
    }
    for start in ("def make_model", "steps_per_epoch", "def crop_and_flip"):
        run(start, {})

    def compiled(arm: str) -> Any:
        static, state = _initial(names, arm)
        step = names["train_step"].lower(static, state, names["images"], names["labels"], 0)
        return step.compile()

    return compiled


def _split(shape, dtype, sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _initial(names: dict[str, Any], arm: str) -> tuple[Any, Any]:
    """What the notebook's `initial` gives, as shapes."""
    nnx, found = names["nnx"], {}

    def make():
        model = names["make_model"](0)
        optimizer = nnx.Optimizer(model, names["optimizers"][arm], wrt=nnx.Param)
        found["static"], state = nnx.split((model, optimizer))
        return state

    state = jax.eval_shape(make)
    replicated = names["replicated"]
    return found["static"], jax.tree.map(lambda s: _split(s.shape, s.dtype, replicated), state)
