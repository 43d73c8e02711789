"""`run.json`: the configuration, what it ran on, how long it took, and the statistics."""

import importlib.metadata
import os
import platform
from typing import Any

import jax
import numpy as np

import gc_optax
from gc_optax.experiments import _statistics as statistics
from gc_optax.experiments._config import Config
from gc_optax.experiments._data import Dataset
from gc_optax.experiments._optimizers import BASELINE, links, written
from gc_optax.experiments._results import Cell, Results
from gc_optax.experiments._training import METRICS

FORMAT = 1
"""Grows when a reader of older records could no longer read newer ones."""


def configuration(config: Config, dataset: Dataset, parameters: int) -> dict[str, Any]:
    """What is known before training: settings, chains, sizes, versions and device."""
    return {
        "config": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(config).items()
        },
        "chains": {arm: chain_code(config, arm) for arm in config.arms},
        "parameters": parameters,
        "images": {"train": len(dataset.train.labels), "test": len(dataset.test.labels)},
        "versions": versions(),
        "device": device(),
    }


def measurements(results: Results, compile_seconds: dict[str, float]) -> dict[str, Any]:
    """What is known so far: wall times by arm, and statistics by cell."""
    return {
        "wall_times": wall_times(results, compile_seconds),
        "confidence": statistics.CONFIDENCE,
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
        )
    )


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn")
    return {
        "python": platform.python_version(),
        "gc_optax": gc_optax.__version__,
        **{name: importlib.metadata.version(name) for name in packages},
    }


def device() -> dict[str, Any]:
    """What JAX runs on."""
    first = jax.devices()[0]
    return {
        "platform": first.platform,
        "kind": first.device_kind,
        "used": 1,
        "cpu_cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def wall_times(results: Results, compile_seconds: dict[str, float]) -> dict[str, dict]:
    """Seconds by arm, all learning rates together; the ratio is that of the median epochs."""
    runs = {arm: results.seconds(arm) for arm in compile_seconds}
    epochs = {arm: float(np.median(seconds)) for arm, seconds in runs.items() if seconds.size}
    baseline = epochs.get(BASELINE)
    return {
        arm: {
            "compile": compile_seconds[arm],
            "run": float(seconds.sum()),
            "epoch": epochs.get(arm),
            "epoch_ratio_to_none": epochs[arm] / baseline if baseline and arm in epochs else None,
        }
        for arm, seconds in runs.items()
    }


def _cell(results: Results, cell: Cell) -> dict[str, Any]:
    return {
        **cell._asdict(),
        "epochs": results.epochs(cell),
        "finished": results.is_finished(cell),
        "diverged_seeds": results.diverged(cell),
        **{metric: _metric(results, cell, metric) for metric in METRICS},
    }


def _metric(results: Results, cell: Cell, metric: str) -> dict[str, Any]:
    """Lists with one entry per epoch."""
    epochs = range(1, results.epochs(cell) + 1)
    means = [results.mean(cell, metric, epoch) for epoch in epochs]
    differences = [results.difference(cell, metric, epoch) for epoch in epochs]
    return {
        "mean": [m.mean for m in means],
        "standard_error": [m.standard_error for m in means],
        "difference_from_none": [d and d._asdict() for d in differences],
    }
