"""Means over seeds, their standard errors, and paired differences with confidence intervals."""

import math
from typing import NamedTuple

import numpy as np
from scipy import special

CONFIDENCE = 0.95


class Mean(NamedTuple):
    """The mean of a sample and its standard error, which is NaN for a single value."""

    mean: float
    standard_error: float


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval, which are NaN for a single pair."""

    mean: float
    low: float
    high: float


def mean(values: np.ndarray) -> Mean:
    """The mean over seeds and its standard error, `s / sqrt(n)` with `s` over `n - 1`.

    Nothing is left out: a value that is not finite, of a diverged seed, makes both so.
    """
    values = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):  # infinite losses
        deviation = values.std(ddof=1) if len(values) > 1 else math.nan
        return Mean(float(values.mean()), float(deviation) / math.sqrt(len(values)))


def paired_difference(
    values: np.ndarray, baseline: np.ndarray, confidence: float = CONFIDENCE
) -> Interval:
    """The mean over seeds of `values - baseline`, with its interval by Student's t.

    Seed by seed, so what a seed's weights and data order do to both falls out of the difference.
    """
    with np.errstate(invalid="ignore"):
        differences = np.asarray(values, np.float64) - np.asarray(baseline, np.float64)
    center, error = mean(differences)
    # scipy.special has the quantile itself; scipy.stats takes a second to import.
    freedom = len(differences) - 1
    t = float(special.stdtrit(freedom, (1 + confidence) / 2)) if freedom else math.nan
    return Interval(center, center - t * error, center + t * error)
