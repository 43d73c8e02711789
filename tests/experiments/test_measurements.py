"""`Measurements` and what follows from them: seeds that are done, under way, ended, read back."""

import math
from typing import Any

import numpy as np
import pytest

from gc_optax.experiments.runs import analysis
from gc_optax.experiments.runs.folder import RunFolder
from gc_optax.experiments.runs.measurements import (
    COLUMNS,
    TIME_COLUMNS,
    Cell,
    Design,
    Group,
    Measurements,
    Seconds,
)
from gc_optax.experiments.runs.reader import read_measurements, whole_epochs
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.epoch import Metrics

NONE, GC = Cell("none", 0.1), Cell("gc", 0.1)
CONFIG = Config(
    model="mlp", arms=("none", "gc"), seeds=3, epochs=2, learning_rate=(0.1,), seeds_at_once=1
)
DESIGN = Design.of(vars(CONFIG))
ALL = [Group(cell, range(seed, seed + 1)) for seed in range(3) for cell in (NONE, GC)]


def add(measured, group, *accuracies, loss: Any = 1.0):
    losses = np.broadcast_to(np.float32(loss), len(accuracies))
    correct = np.array(accuracies, np.float32)
    measured.add(group, Metrics(losses, correct, losses, correct), Seconds(0.75, 0.5))


def one(cell, seed):
    return Group(cell, range(seed, seed + 1))


@pytest.fixture
def measured():
    """Seed 0 is done in both arms, seed 1 without GC, and with GC after one epoch."""
    measured = Measurements(DESIGN)
    for group, accuracies in (
        (one(NONE, 0), (0.25, 0.5)),
        (one(GC, 0), (0.25, 0.75)),
        (one(NONE, 1), (0.125, 0.25)),
        (one(GC, 1), (1.0,)),
    ):
        for accuracy in accuracies:
            add(measured, group, accuracy)
    return measured


def test_seeds_count_in_the_epochs_that_they_have_got_to(measured):
    assert analysis.values(measured, GC, "test_accuracy", 1) == {0: 0.25, 1: 1.0}
    assert analysis.values(measured, GC, "test_accuracy", 2) == {0: 0.75}
    assert analysis.furthest_seeds(measured, NONE) == [0, 1]
    assert analysis.furthest_seeds(measured, GC) == [0]


def test_while_no_seed_is_done_those_under_way_have_got_the_furthest():
    measured = Measurements(DESIGN)
    add(measured, Group(GC, range(2)), 0.5, 0.25)
    assert analysis.furthest(measured, GC) == 1
    assert analysis.furthest_seeds(measured, GC) == [0, 1]
    assert not analysis.is_finished(measured, GC)


def test_a_cell_is_finished_when_all_seeds_are_done(measured):
    assert not analysis.is_finished(measured, NONE)
    for accuracy in (0.5, 0.5):
        add(measured, one(NONE, 2), accuracy)
    assert analysis.is_finished(measured, NONE)


def test_differences_are_paired_over_the_seeds_that_both_have(measured):
    found = analysis.difference(measured, GC, "test_accuracy", 2)
    assert found is not None
    assert found.interval.mean == 0.25  # of seed 0; with seed 1 of the baseline it would be another
    assert found.pairs == 1
    assert analysis.difference(measured, NONE, "test_accuracy", 2) is None


def test_a_group_ends_when_no_loss_is_finite_and_counts_as_if_it_had_gone_on():
    measured = Measurements(DESIGN)
    group = Group(GC, range(3))
    add(measured, group, 0.0, 0.0, 0.0, loss=math.nan)
    assert measured.is_done(group)
    assert measured.ended == {group: 1}
    assert analysis.is_finished(measured, GC)
    assert analysis.furthest(measured, GC) == 2
    assert analysis.values(measured, GC, "test_accuracy", 2) == {0: 0, 1: 0, 2: 0}
    assert np.isnan(list(analysis.values(measured, GC, "test_loss", 2).values())).all()
    assert analysis.diverged(measured, GC) == [0, 1, 2]
    assert len(list(measured.rows())) == 3  # what was run


def test_a_group_goes_on_while_any_loss_is_finite():
    measured = Measurements(DESIGN)
    group = Group(GC, range(2))
    add(measured, group, 0.0, 0.5, loss=[math.inf, 1.0])
    assert not measured.ended
    assert not measured.is_done(group)
    assert analysis.diverged(measured, GC) == [0]


def test_arms_take_turns_where_each_has_several_groups(measured):
    assert analysis.takes_turns(measured)
    alone = Measurements(DESIGN)
    for cell in (NONE, GC):
        add(alone, Group(cell, range(3)), 0.5, 0.5, 0.5)
    assert not analysis.takes_turns(alone)


def written(measured, path):
    folder = RunFolder(path)
    folder.write_csv("metrics.csv", COLUMNS, measured.rows())
    folder.write_csv("times.csv", TIME_COLUMNS, measured.time_rows())
    return path


def read_back(measured, path):
    return read_measurements(written(measured, path), DESIGN)


def test_what_is_read_back_is_what_was_written(measured, tmp_path):
    add(measured, one(GC, 1), 1 / 3, loss=math.nan)
    for again in (
        read_back(measured, tmp_path),
        whole_epochs(read_back(measured, tmp_path), ALL)[0],
    ):
        assert str(list(again.rows())) == str(list(measured.rows()))
        assert list(again.time_rows()) == list(measured.time_rows())


def test_an_ended_group_is_ended_when_it_is_read_back(tmp_path):
    measured = Measurements(DESIGN)
    add(measured, one(GC, 0), 0.0, loss=math.nan)
    assert read_back(measured, tmp_path).ended == {one(GC, 0): 1}


def test_an_epoch_without_its_time_or_with_a_seed_missing_is_not_kept(measured, tmp_path):
    found = read_back(measured, tmp_path)
    del found.seconds[one(NONE, 0)][2]
    assert whole_epochs(found, ALL)[0].measured(one(NONE, 0)) == 1
    found = read_back(measured, tmp_path)
    del found.metrics[NONE][0][1]
    # Its second epoch without its first is nothing.
    assert whole_epochs(found, ALL)[0].measured(one(NONE, 0)) == 0


def test_epochs_after_a_checkpoint_are_cut_off(measured):
    measured.cut(one(NONE, 0), 1)
    assert measured.measured(one(NONE, 0)) == 1
    assert analysis.values(measured, NONE, "test_accuracy", 1)[0] == 0.25
    measured.cut(one(NONE, 0), 0)
    measured.cut(one(NONE, 1), 0)
    assert NONE not in measured.metrics
