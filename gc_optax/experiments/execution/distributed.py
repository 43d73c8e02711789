"""Several processes, on as many hosts, that run the same command on all their devices together.

All of them train, and all get the same numbers. Only the first one prints and writes the run
folder, and where they could differ, by their clocks or by what they find on a disk, they do what
the first one says. Alone, a process is the first one.
"""

import os
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils

from gc_optax.experiments.errors import InvalidSettingError

HEARTBEAT_SECONDS = 100  # without a sign of life, after which a process counts as gone
LEAVING_SECONDS = 60  # that one which is done waits for the others


def join(coordinator: str | None = None, count: int | None = None, index: int | None = None):
    """Meets the other processes; before anything is computed.

    Args:
        coordinator: The address of the first one, `host:port`. Without it, all three are what the
            cluster says: a TPU pod, Slurm, Open MPI or Kubernetes.
        count: How many processes there are.
        index: Which one this is, from 0.

    Raises:
        InvalidSettingError: The cluster does not say, or they do not meet in five minutes.
    """
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=LEAVING_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidSettingError(
            "distributed",
            f"found no other processes: {line} Where no cluster says what there is, give "
            "--coordinator, --process-count and --process-index.",
        ) from None


def is_distributed() -> bool:
    """Whether this process has others beside it."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_primary() -> bool:
    """Whether this process is the one that prints and writes."""
    return not is_distributed() or jax.process_index() == 0


def broadcast(*numbers: int) -> tuple[int, ...]:
    """The numbers that the first process has; each at most 2**31 - 1."""
    if not is_distributed():
        return numbers
    found = multihost_utils.broadcast_one_to_all(np.array(numbers, np.int32))
    return tuple(int(number) for number in found)


def all_agree(yes: bool) -> bool:
    """Whether `yes` holds in all processes."""
    return bool(multihost_utils.process_allgather(np.int32(yes)).all()) if is_distributed() else yes


def barrier(name: str):
    """Waits until all processes have come to the place `name`."""
    if is_distributed():
        multihost_utils.sync_global_devices(name)


def shutdown(code: int) -> int:
    """Ends what `join` began, and gives back the exit code.

    With an error the process ends at once: waiting for others, who wait for it, helps nobody, and
    they learn of it when their connections close.
    """
    if jax.distributed.is_initialized():
        if code:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        jax.distributed.shutdown()
    return code
