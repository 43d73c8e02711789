import errno
import json
import math
import os
from datetime import datetime

import pytest

from gc_optax.experiments.errors import CannotWriteError, InvalidSettingError
from gc_optax.experiments.runs.folder import RunFolder, default_path
from gc_optax.experiments.settings.config import Config


def test_a_folder_is_claimed_once(tmp_path):
    RunFolder.claim(tmp_path / "deep" / "run")
    with pytest.raises(
        InvalidSettingError, match=r"must not hold a run, but .* has an empty run\.json"
    ):
        RunFolder.claim(tmp_path / "deep" / "run")


@pytest.mark.parametrize("name", ["run.json", "metrics.csv", "curves.png", "learning_rates.png"])
def test_a_folder_with_any_file_of_a_run_is_refused_and_left_as_it_is(tmp_path, name):
    (tmp_path / name).write_text("kept")
    with pytest.raises(InvalidSettingError, match="must not hold a run"):
        RunFolder.claim(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "kept")]


def test_a_folder_with_other_files_may_be_used(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder.claim(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InvalidSettingError, match=r"must be a folder that can be written to; .*file"
    ):
        RunFolder.claim(tmp_path / "file")
    with pytest.raises(InvalidSettingError, match="must be a folder that can be written to"):
        RunFolder.claim(tmp_path / "file" / "below")


def test_a_file_that_fails_half_way_leaves_the_one_before_it(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_csv("metrics.csv", ["a"], [[1]])

    def rows():
        yield [2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.write_csv("metrics.csv", ["a"], rows())
    assert (tmp_path / "metrics.csv").read_text() == "a\n1\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_reported_with_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    message = r"metrics\.csv could not be written: No space left on device"
    with pytest.raises(CannotWriteError, match=message):
        RunFolder(tmp_path).write_csv("metrics.csv", ["a"], [[1]])
    assert list(tmp_path.iterdir()) == []


def test_json_has_null_where_a_number_is_not_finite(tmp_path):
    RunFolder(tmp_path).write_json("x.json", {"a": [1.5, math.nan], "b": {"c": (math.inf, None)}})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"a": [1.5, None], "b": {"c": [None, None]}}


def test_default_names_have_the_time_and_what_was_run_and_never_clash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    now = datetime(2025, 3, 4, 5, 6, 7)
    names = []
    for _ in range(3):
        path = default_path(Config(model="mlp"), now)
        RunFolder.claim(path)
        names.append(path.as_posix())
    first = "runs/2025-03-04_05-06-07_digits-mlp-sgd"
    assert names == [first, f"{first}-2", f"{first}-3"]
