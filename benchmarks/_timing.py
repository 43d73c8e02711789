"""Times calls in turn, so that what else the machine does falls on all of them alike."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SHORTEST_SAMPLE = 0.02
"""Seconds; shorter calls are repeated until they take about as long."""

Call = Callable[[], Any]


def samples(calls: dict[str, Call], rounds: int) -> dict[str, dict[str, np.ndarray]]:
    """Wall and processor seconds of every call in every round, after two rounds to warm up."""
    for call in calls.values():
        call()
    start = time.perf_counter()
    for call in calls.values():
        call()
    once = (time.perf_counter() - start) / len(calls)
    repeats = max(1, math.ceil(SHORTEST_SAMPLE / once))
    names, rng = list(calls), np.random.default_rng(0)
    taken = {name: {"wall": np.empty(rounds), "processor": np.empty(rounds)} for name in names}
    for index in range(rounds):
        for name in (names[i] for i in rng.permutation(len(names))):
            wall, processor = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                calls[name]()
            taken[name]["wall"][index] = (time.perf_counter() - wall) / repeats
            taken[name]["processor"][index] = (time.process_time() - processor) / repeats
    return taken


def spread(values: np.ndarray) -> dict[str, Any]:
    """The median and the quartiles."""
    low, middle, high = np.percentile(values, [25, 50, 75]).tolist()
    return {"median": middle, "quartiles": [low, high]}


def ratio(taken, name: str, to: str, clock: str = "wall") -> dict[str, Any]:
    """One variant's time over another's in the same round."""
    return spread(taken[name][clock] / taken[to][clock])
