"""The network of a run as it is trained."""

from typing import Any

import jax
import jax.numpy as jnp

from gc_optax.experiments.data import Dataset
from gc_optax.experiments.errors import InvalidSettingError
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.network import (
    Network,
    as_patches,
    functional,
    maker,
    traced_fan_in,
)
from gc_optax.experiments.training.optimizers import ARMS


def network_of(config: Config, dataset: Dataset) -> tuple[Network, Any]:
    """The network as it is trained, and the fan-in traced from it as it is written."""
    shape = dataset.train.inputs.shape[1:]
    make = maker(config.network, shape, dataset.classes, config.dtype)
    try:
        network = functional(make)
    except ValueError as error:
        raise InvalidSettingError(
            "model", f"{config.model} does not fit {config.dataset}: {error}"
        ) from None
    dtype = dataset.train.inputs.dtype if dataset.is_text else jnp.float32
    traced = any(ARMS[arm].traced for arm in config.arms)
    fan_in = traced_fan_in(network, shape, dtype) if traced else None
    on_cpu = jax.default_backend() == "cpu"
    return (functional(as_patches(make)) if on_cpu else network), fan_in
