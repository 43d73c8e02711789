import math

import numpy as np
import pytest
from scipy import stats

from gc_optax.experiments.runs import statistics as statistics


def test_mean_and_standard_error_are_those_computed_by_hand():
    # Deviations -2, 0, 2: variance (4 + 0 + 4) / 2 = 4, error 2 / sqrt(3).
    assert statistics.mean(np.array([1.0, 3.0, 5.0])) == pytest.approx((3.0, 2 / math.sqrt(3)))


def test_one_value_has_a_mean_and_no_standard_error():
    center, error = statistics.mean(np.array([0.5]))
    assert center == 0.5
    assert math.isnan(error)


@pytest.mark.parametrize("seeds", [2, 3, 8, 30])
def test_paired_interval_is_that_of_scipys_paired_t_test(seeds):
    rng = np.random.default_rng(seeds)
    values, baseline = rng.normal(size=seeds), rng.normal(size=seeds)
    expected = stats.ttest_rel(values, baseline).confidence_interval(0.95)
    interval = statistics.paired_difference(values, baseline)
    assert interval.mean == pytest.approx((values - baseline).mean())
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_what_a_seed_does_to_both_arms_falls_out_of_the_paired_difference():
    baseline = np.array([0.1, 0.9, 0.5])
    interval = statistics.paired_difference(baseline + 0.25, baseline)
    assert interval == pytest.approx((0.25, 0.25, 0.25))


def test_one_pair_has_a_difference_and_no_interval():
    center, low, high = statistics.paired_difference(np.array([3.0]), np.array([1.0]))
    assert center == 2.0
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_not_left_out_of_the_mean(loss):
    center, error = statistics.mean(np.array([1.0, loss, 2.0], np.float32))
    assert not math.isfinite(center)
    assert math.isnan(error)
    infinite = np.array([1.0, loss])
    assert math.isnan(statistics.paired_difference(infinite, infinite).mean)
