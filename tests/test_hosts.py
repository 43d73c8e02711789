"""Two processes with four devices each train as one process with eight, and resume when one dies.

Run as a program, this file is one of the processes.
"""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gc_optax
from gc_optax import FanIn

STEPS = 6
SPECS = {"up": P("data", "model"), "down": P("model", "data")}
FAN_IN = FanIn((0,))
HEARTBEAT = 10  # seconds


def initial() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"up": (16, 32), "down": (32, 8)}
    return {name: 0.3 * rng.normal(1.0, 1.0, s).astype(np.float32) for name, s in shapes.items()}


def batch_of(step: int) -> np.ndarray:
    return np.random.default_rng(step).normal(1.0, 1.0, (64, 16)).astype(np.float32)


def loss(params, batch):
    return jnp.mean((jnp.tanh(batch @ params["up"]) @ params["down"] - 1.0) ** 2)


def train(folder: pathlib.Path | None = None, dies_at: int | None = None) -> Any:
    """The parameters after `STEPS` steps by all devices, from the last checkpoint in `folder`."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    placement = {name: NamedSharding(mesh, spec) for name, spec in SPECS.items()}

    def placed(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    gc = gc_optax.centralize(FAN_IN)
    # Of the gradient, and of the update, so that the mean of the weights stays what it is.
    optimizer = optax.chain(gc, optax.trace(0.9), gc, optax.scale(-0.1))

    @jax.jit
    def step(params, state, batch):
        updates, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    params = {name: placed(array, placement[name]) for name, array in initial().items()}
    shapes = jax.eval_shape(optimizer.init, params)
    placements = optax.tree_map_params(optimizer, lambda _, where: where, shapes, placement)
    state = jax.jit(optimizer.init, out_shardings=placements)(params)
    start = 0
    with _checkpointer(folder) as checkpointer:
        done = [int(path.name) for path in folder.glob("[0-9]")] if folder is not None else []
        if checkpointer and folder and done:
            start = max(done)
            abstract = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
                (params, state),
            )
            params, state = checkpointer.restore(folder / str(start), abstract)
        for number in range(start, STEPS):
            if number == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            # Each process brings the examples of its own devices.
            batch = placed(batch_of(number), NamedSharding(mesh, P("data")))
            params, state = step(params, state, batch)
            if checkpointer and folder:
                checkpointer.save(folder / str(number + 1), (params, state))
                checkpointer.wait_until_finished()
    print(f"steps {start} to {STEPS}", flush=True)
    return params


def _checkpointer(folder: pathlib.Path | None) -> Any:
    if folder is None:
        return contextlib.nullcontext()
    import orbax.checkpoint as ocp

    return ocp.StandardCheckpointer()


def one_of_several(address: str, count: str, index: str, folder: str, dies_at: str):
    jax.distributed.initialize(
        address,
        int(count),
        int(index),
        heartbeat_timeout_seconds=HEARTBEAT,
        shutdown_timeout_seconds=HEARTBEAT,
    )
    assert jax.device_count() == 8
    assert jax.local_device_count() == 4
    params = train(pathlib.Path(folder), int(dies_at) if dies_at else None)
    # Each has a part only, so that the numbers are those of both.
    assert not params["up"].is_fully_addressable
    whole = {n: multihost_utils.process_allgather(p, tiled=True) for n, p in params.items()}
    if jax.process_index() == 0:
        np.savez(pathlib.Path(folder) / "params.npz", **whole)
    jax.distributed.shutdown()


def free_address() -> str:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{server.getsockname()[1]}"


def environment() -> dict[str, str]:
    return {**os.environ, "JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}


@contextlib.contextmanager
def started(*commands: list[str]):
    """The processes of these commands; none of them outlives the block."""
    processes = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=environment(),
        )
        for command in commands
    ]
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def both(folder: pathlib.Path, dies: int | None = None, at: int = 0):
    address = free_address()
    program = [sys.executable, str(pathlib.Path(__file__)), address, "2"]
    return started(
        *([*program, str(i), str(folder), str(at) if i == dies else ""] for i in range(2))
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("dies", [0, 1])  # the first one is the coordinator
def test_two_processes_train_as_one_and_resume_when_one_was_killed(dies, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    with both(tmp_path, dies=dies, at=3) as processes:
        killed, left = processes[dies], processes[1 - dies]
        killed.wait(timeout=300)
        _, err = left.communicate(timeout=300)  # it must not hang
    assert killed.returncode == -signal.SIGKILL
    assert left.returncode != 0
    assert "another task died" in err or "Connection closed by peer" in err, err
    assert not (tmp_path / "params.npz").exists()
    with both(tmp_path) as resumed:
        for process in resumed:
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
            assert "steps 3 to 6" in out
    found = np.load(tmp_path / "params.npz")
    expected = train()  # by this process, which has eight devices
    for name, array in initial().items():
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
        np.testing.assert_allclose(found[name].mean(0), array.mean(0), atol=1e-6)
        assert np.abs(found[name] - array).max() > 1e-2


if __name__ == "__main__":
    one_of_several(*sys.argv[1:])
