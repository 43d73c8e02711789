"""`Results`: seeds that are done, under way, ended, and read back."""

import csv
import io
import math

import numpy as np
import pytest

from gc_optax.experiments.execution.trainer import EpochResult
from gc_optax.experiments.runs.measurements import COLUMNS, TIME_COLUMNS, Cell, Group, Results
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.epoch import METRICS

NONE, GC = Cell("none", 0.1), Cell("gc", 0.1)
CONFIG = Config(
    model="mlp", arms=("none", "gc"), seeds=3, epochs=2, learning_rate=(0.1,), seeds_at_once=1
)


def epoch(*accuracies, loss=1.0):
    values = {m: np.full(len(accuracies), loss, np.float32) for m in METRICS}
    values["test_accuracy"] = np.array(accuracies, np.float32)
    return EpochResult(values, 0.5, 0.75)


def one(cell, seed):
    return Group(cell, range(seed, seed + 1))


@pytest.fixture
def results():
    """Seed 0 is done in both arms, seed 1 without GC, and with GC after one epoch."""
    results = Results(CONFIG)
    for group, accuracies in (
        (one(NONE, 0), (0.25, 0.5)),
        (one(GC, 0), (0.25, 0.75)),
        (one(NONE, 1), (0.125, 0.25)),
        (one(GC, 1), (1.0,)),
    ):
        for accuracy in accuracies:
            results.add(group, epoch(accuracy))
    return results


def test_while_some_seeds_are_done_only_they_count(results):
    assert results.seeds(NONE) == [0, 1]
    assert results.seeds(GC) == [0]
    assert results.values(GC, "test_accuracy").tolist() == [[0.25], [0.75]]
    assert results.epochs(GC) == 2


def test_while_no_seed_is_done_those_under_way_count():
    results = Results(CONFIG)
    results.add(Group(GC, range(2)), epoch(0.5, 0.25))
    assert results.seeds(GC) == [0, 1]
    assert results.epochs(GC) == 1
    assert not results.is_finished(GC)


def test_a_cell_is_finished_when_all_seeds_are_done(results):
    assert not results.is_finished(NONE)
    for accuracy in (0.5, 0.5):
        results.add(one(NONE, 2), epoch(accuracy))
    assert results.is_finished(NONE)


def test_differences_are_paired_over_the_seeds_that_both_have(results):
    difference = results.difference(GC, "test_accuracy", 2)
    assert difference is not None
    assert difference.mean == 0.25  # of seed 0; with seed 1 of the baseline it would be another
    assert results.difference(NONE, "test_accuracy", 2) is None


def test_a_group_ends_when_no_loss_is_finite_and_counts_as_if_it_had_gone_on():
    results = Results(CONFIG)
    group = Group(GC, range(3))
    results.add(group, epoch(0.0, 0.0, 0.0, loss=math.nan))
    results.end_if_nothing_is_finite(group)
    assert results.is_done(group)
    assert results.ended == {group: 1}
    assert results.is_finished(GC)
    assert results.values(GC, "test_accuracy").tolist() == [[0, 0, 0], [0, 0, 0]]
    assert np.isnan(results.values(GC, "test_loss")).all()
    assert results.diverged(GC) == 3
    assert len(list(results.rows())) == 3  # what was run


def test_a_group_goes_on_while_any_loss_is_finite():
    results = Results(CONFIG)
    group = Group(GC, range(2))
    result = epoch(0.0, 0.5)
    result.metrics["train_loss"][0] = result.metrics["test_loss"][0] = math.inf
    results.add(group, result)
    results.end_if_nothing_is_finite(group)
    assert not results.ended
    assert results.diverged(GC) == 1


def as_text(columns, rows):
    """What a CSV file gives back."""
    file = io.StringIO()
    csv.writer(file).writerows([columns, *rows])
    return list(csv.DictReader(io.StringIO(file.getvalue())))


ALL = [one(cell, seed) for seed in range(3) for cell in (NONE, GC)]


def read_back(results):
    again = Results(CONFIG)
    again.restore(ALL, as_text(COLUMNS, results.rows()), as_text(TIME_COLUMNS, results.time_rows()))
    return again


def test_what_is_read_back_is_what_was_written(results):
    result = epoch(1 / 3)
    result.metrics["train_loss"][:] = math.nan
    results.add(one(GC, 1), result)
    again = read_back(results)
    assert str(list(again.rows())) == str(list(results.rows()))
    assert list(again.time_rows()) == list(results.time_rows())


def test_an_ended_group_is_ended_when_it_is_read_back():
    results = Results(CONFIG)
    results.add(one(GC, 0), epoch(0.0, loss=math.nan))
    again = read_back(results)
    assert again.ended == {one(GC, 0): 1}


def test_an_epoch_without_its_time_or_with_a_seed_missing_is_not_read_back(results):
    again = Results(CONFIG)
    times = as_text(TIME_COLUMNS, results.time_rows())
    metrics = as_text(COLUMNS, results.rows())
    again.restore(ALL, metrics, times[:1])
    assert again.epochs_measured == 1
    again = Results(CONFIG)
    again.restore(ALL, metrics[1:], times)
    assert again.measured(one(NONE, 0)) == 0  # its second epoch without its first is nothing


def test_epochs_after_a_checkpoint_are_cut_off(results):
    results.cut(one(NONE, 0), 1)
    assert results.measured(one(NONE, 0)) == 1
    assert results.values(NONE, "test_accuracy", [0]).tolist() == [[0.25], [0]]
    results.cut(one(NONE, 0), 0)
    results.cut(one(NONE, 1), 0)
    assert NONE not in results.cells
