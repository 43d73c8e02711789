"""`run.json`: the configuration, what it ran on, how long it took, and the statistics."""

import dataclasses
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
from gc_optax.experiments.execution.trainer import Trainer
from gc_optax.experiments.runs import analysis, statistics
from gc_optax.experiments.runs.measurements import Cell, Measurements
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.epoch import Metrics
from gc_optax.experiments.training.optimizers import BASELINE

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
"""What `configuration` gives; a resumed run keeps those of its start."""


def configuration(config: Config, dataset: Dataset, trainer: Trainer) -> dict[str, Any]:
    """What is known before training: settings, chains, sizes, versions and device."""
    return {
        "config": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(config).items()
        },
        "chains": {arm: config.chain_code(arm) for arm in config.arms},
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
        CannotReadError: It has settings that this version does not have, or that cannot be used.
    """
    unknown = record["config"].keys() - {field.name for field in dataclasses.fields(Config)}
    if unknown:
        raise CannotReadError(
            f"The record has settings that this version of gc-optax does not have: "
            f"{', '.join(sorted(unknown))}; install a newer one."
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
    run: Measurements, trainer: Trainer, compile_seconds: dict[str, float]
) -> dict[str, Any]:
    """What is known so far: wall times by arm, statistics by cell, and what ended early."""
    return {
        "compile_seconds": compile_seconds,
        "wall_times": wall_times(run, trainer.examples_per_epoch, compile_seconds),
        "confidence": statistics.CONFIDENCE,
        "ended_early": [
            {
                **group.cell._asdict(),
                "seeds": list(group.seeds),
                "epoch": epoch,
                "reason": "no loss was finite any more, of any seed, in training or in testing",
            }
            for group, epoch in run.ended.items()
        ],
        "results": [_cell(run, cell) for cell in run.metrics],
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn")
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
    run: Measurements, examples_per_epoch: int, compile_seconds: dict[str, float]
) -> dict[str, dict]:
    """Seconds by arm, all learning rates together; medians over epochs, of all seeds at once.

    The throughput counts the examples of all seeds, and the time without the evaluation. Where the
    arms were not trained in turns there is no ratio: they met the machine in different states.
    """
    times = {}
    for arm in run.design.arms:
        groups = [group for group in run.seconds if group.cell.arm == arm]
        taken = [(s, len(group.seeds)) for group in groups for s in run.seconds[group].values()]
        quartiles = analysis.epoch_seconds(run, arm)
        if quartiles is None:
            continue
        speeds = [examples_per_epoch * seeds / s.training for s, seeds in taken]
        times[arm] = {
            "compile": compile_seconds.get(arm, 0.0),
            "run": sum(seconds.epoch for seconds, _ in taken),
            "epoch": quartiles.median,
            "epoch_quartiles": [quartiles.low, quartiles.high],
            "examples_per_second": float(np.median(speeds)),
        }
    baseline = times.get(BASELINE) if analysis.takes_turns(run) else None
    for of_arm in times.values():
        of_arm["epoch_ratio_to_none"] = of_arm["epoch"] / baseline["epoch"] if baseline else None
    return times


def _cell(run: Measurements, cell: Cell) -> dict[str, Any]:
    return {
        **cell._asdict(),
        "seeds": analysis.furthest_seeds(run, cell),
        "epochs": analysis.furthest(run, cell),
        "finished": analysis.is_finished(run, cell),
        "diverged_seeds": len(analysis.diverged(run, cell)),
        **{metric: _metric(run, cell, metric) for metric in Metrics._fields},
    }


def _metric(run: Measurements, cell: Cell, metric: str) -> dict[str, Any]:
    """Lists with one entry per epoch."""
    epochs = range(1, analysis.furthest(run, cell) + 1)
    means = [analysis.mean(run, cell, metric, epoch) for epoch in epochs]
    differences = [analysis.difference(run, cell, metric, epoch) for epoch in epochs]
    return {
        "mean": [m and m.mean for m in means],
        "standard_error": [m and m.standard_error for m in means],
        "difference_from_none": [d and d.interval._asdict() for d in differences],
    }
