import errno
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gc_optax.experiments.errors import CannotWriteError
from gc_optax.experiments.execution.checkpoint import Checkpoints
from gc_optax.experiments.training.epoch import State


def state_of(number):
    params = {"kernel": jnp.full((2, 3), number / 3, jnp.float32), "bias": jnp.zeros(3)}
    optimizer = optax.chain(optax.centralize(), optax.sgd(lambda count: 0.1, momentum=0.9))
    return State(params, {"mean": jnp.full(2, number, jnp.float32)}, optimizer.init(params))


def abstract():
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state_of(0)
    )


def test_a_state_comes_back_as_it_was(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() is None
    checkpoints.save(3, 10, state_of(1))
    assert checkpoints.latest() == (3, 10)
    again = checkpoints.restore(3, 10, abstract())
    assert jax.tree.structure(again) == jax.tree.structure(state_of(1))
    jax.tree.map(np.testing.assert_array_equal, again, state_of(1))


def test_only_the_last_state_is_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for group, epoch in ((0, 5), (0, 10), (1, 5), (1, 5)):
        checkpoints.save(group, epoch, state_of(epoch))
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["1-5", "1-5.sha256"]
    checkpoints.clear()
    assert list(tmp_path.iterdir()) == []
    checkpoints.clear()


def test_a_half_written_state_is_not_taken_for_a_whole_one(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, 5, state_of(1))
    shutil.copytree(
        tmp_path / "checkpoints" / "0-5", tmp_path / "checkpoints" / "0-10.orbax-checkpoint-tmp"
    )
    assert checkpoints.latest() == (0, 5)


def test_a_damaged_state_is_not_read(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, 5, state_of(1))
    for path in (tmp_path / "checkpoints" / "0-5").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    assert checkpoints.restore(0, 5, abstract()) is None


def test_a_full_disk_is_one_error_that_names_the_file_and_keeps_what_was_there(
    tmp_path, monkeypatch
):
    import orbax.checkpoint as ocp

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, 5, state_of(1))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ocp.StandardCheckpointer, "save", full)
    with pytest.raises(CannotWriteError, match=r"0-10 could not be written: No space left on dev"):
        checkpoints.save(0, 10, state_of(2))
    assert checkpoints.latest() == (0, 5)
