"""`run.json`: the configuration, what it ran on, how long it took, and the statistics."""

import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import gc_optax
from gc_optax.experiments.data import Dataset
from gc_optax.experiments.errors import CannotReadError, InvalidSettingError
from gc_optax.experiments.execution import distributed
from gc_optax.experiments.execution.trainer import METRICS, Trainer
from gc_optax.experiments.runs import statistics as statistics
from gc_optax.experiments.runs.measurements import Cell, Results
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.optimizers import BASELINE, links, written

FORMAT = 2
"""Grows when a reader of older records could no longer read newer ones."""

CONFIGURATION = (
    "config",
    "chains",
    "parameters",
    "examples",
    "data",
    "seeds_at_once",
    "versions",
    "device",
)
"""What `configuration` gives; it is that of the start also when a run is gone on with."""


def configuration(config: Config, dataset: Dataset, trainer: Trainer) -> dict[str, Any]:
    """What is known before training: settings, chains, sizes, versions and device."""
    return {
        "config": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(config).items()
        },
        "chains": {arm: chain_code(config, arm) for arm in config.arms},
        "parameters": trainer.parameters,
        "examples": {
            "train": len(dataset.train.labels),
            config.judge: len(dataset.test.labels),
        },
        "data": fingerprint(dataset),
        "seeds_at_once": len(trainer.groups[0]),
        "versions": versions(),
        "device": device(trainer.devices),
    }


def fingerprint(dataset: Dataset) -> str:
    """The SHA-256 of all examples and labels."""
    digest = hashlib.sha256()
    for array in (*dataset.train, *dataset.test):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def config(record: dict[str, Any]) -> Config:
    """The settings of a record; those that its version did not have are the defaults.

    Raises:
        CannotReadError: It is of a newer format, or has settings that there are not.
    """
    if not isinstance(record.get("format"), int) or record["format"] > FORMAT:
        raise CannotReadError(
            f"The record has the format {record.get('format')}, and this version of gc-optax reads "
            f"up to {FORMAT}."
        )
    try:
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in record["config"].items()
        }
        return Config(**settings)
    except (AttributeError, KeyError, TypeError, InvalidSettingError) as error:
        raise CannotReadError(f"The record's settings cannot be used: {error}.") from None


def measurements(
    results: Results, trainer: Trainer, compile_seconds: dict[str, float]
) -> dict[str, Any]:
    """What is known so far: wall times by arm, statistics by cell, and what ended early."""
    return {
        "compile_seconds": compile_seconds,
        "wall_times": wall_times(results, trainer.examples_per_epoch, compile_seconds),
        "confidence": statistics.CONFIDENCE,
        "ended_early": [
            {
                **group.cell._asdict(),
                "seeds": list(group.seeds),
                "epoch": epoch,
                "reason": "no loss was finite any more, of any seed, in training or in testing",
            }
            for group, epoch in results.ended.items()
        ],
        "results": [_cell(results, cell) for cell in results.cells],
    }


def chain_code(config: Config, arm: str) -> str:
    """The chain of `arm`, as people write it."""
    return written(
        links(
            arm,
            config.optimizer,
            config.placement,
            0.0,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        ),
        config.schedule,
    )


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "datasets")
    return {
        "python": platform.python_version(),
        "gc_optax": gc_optax.__version__,
        **{name: importlib.metadata.version(name) for name in packages},
    }


def device(devices: Sequence[Any]) -> dict[str, Any]:
    """What the networks are trained on."""
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "used": len(devices),
        "cpu_cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        **({"processes": jax.process_count()} if distributed.is_distributed() else {}),
    }


def wall_times(
    results: Results, examples_per_epoch: int, compile_seconds: dict[str, float]
) -> dict[str, dict]:
    """Seconds by arm, all learning rates together; medians over epochs, of all seeds at once.

    The throughput counts the examples of all seeds, and the time without the evaluation.
    """
    times = {}
    for arm in results.config.arms:
        seconds = results.seconds(arm)
        if not len(seconds):
            continue
        whole, training, seeds = seconds.T
        times[arm] = {
            "compile": compile_seconds.get(arm, 0.0),
            "run": float(whole.sum()),
            "epoch": float(np.median(whole)),
            "examples_per_second": float(np.median(examples_per_epoch * seeds / training)),
        }
    baseline = times.get(BASELINE)
    for of_arm in times.values():
        of_arm["epoch_ratio_to_none"] = of_arm["epoch"] / baseline["epoch"] if baseline else None
    return times


def _cell(results: Results, cell: Cell) -> dict[str, Any]:
    return {
        **cell._asdict(),
        "seeds": results.seeds(cell),
        "epochs": results.epochs(cell),
        "finished": results.is_finished(cell),
        "diverged_seeds": results.diverged(cell),
        **{metric: _metric(results, cell, metric) for metric in METRICS},
    }


def _metric(results: Results, cell: Cell, metric: str) -> dict[str, Any]:
    """Lists with one entry per epoch."""
    means, differences = results.means(cell, metric), results.differences(cell, metric)
    return {
        "mean": [m.mean for m in means],
        "standard_error": [m.standard_error for m in means],
        "difference_from_none": [d and d._asdict() for d in differences],
    }
