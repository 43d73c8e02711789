"""The devices that a batch is spread over."""

from typing import Any

import jax

from gc_optax.experiments.errors import InvalidSettingError
from gc_optax.experiments.execution import distributed
from gc_optax.experiments.settings.config import Config


def devices_of(config: Config) -> list[Any]:
    """Those asked for; else as many as divide the batch. Each process has as many of them."""
    processes = jax.process_count() if distributed.is_distributed() else 1
    there = [jax.local_devices(process_index=i) for i in range(processes)]
    most = processes * min(map(len, there))
    wanted = config.devices
    if wanted is None:
        fitting = [n for n in range(processes, most + 1, processes) if config.batch_size % n == 0]
        wanted = max(fitting, default=processes)
    if wanted > most:
        kind = "local devices" if processes == 1 else f"devices of {processes} processes"
        raise InvalidSettingError(
            "devices", f"must be at most {most}, the number of {kind}, got {wanted}."
        )
    if wanted % processes:
        raise InvalidSettingError(
            "devices", f"must be a multiple of {processes}, the number of processes, got {wanted}."
        )
    if config.batch_size % wanted:
        raise InvalidSettingError(
            "devices", f"must divide --batch-size {config.batch_size}, got {wanted}."
        )
    return [device for local in there for device in local[: wanted // processes]]


def multiple(number: int, of: int) -> int:
    """`number` rounded up to a multiple of `of`."""
    return -(-number // of) * of
