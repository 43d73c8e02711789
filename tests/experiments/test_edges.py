"""What is at the edge of the command gets one line, and no traceback."""

import io
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gc_optax.experiments import main
from gc_optax.experiments.commands import cli
from gc_optax.experiments.commands.progress import Reporter
from gc_optax.experiments.execution import memory
from gc_optax.experiments.runs.folder import RunFolder
from gc_optax.experiments.runs.measurements import Cell, Design, Group, Measurements, Seconds
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.epoch import Metrics
from gc_optax.experiments.training.optimizers import ARMS
from tests.experiments.test_damage import OLD

TINY = "compare --model mlp --arms none gc --seeds 1 --epochs 1 --batch-size 500".split()


def said(capsys, *arguments, code=2):
    assert main([*map(str, arguments)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    return err


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "gc_optax.experiments", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(os.path.exists("/dev/accel0"), reason="there is a TPU")
def test_a_device_that_is_not_there_is_one_line(tmp_path):
    done = command(*TINY, "--output", tmp_path / "run", JAX_PLATFORMS="tpu")
    assert done.returncode == 1
    first, *others = done.stderr.splitlines()
    assert first.startswith("gc-optax: JAX has no device to train on: Unable to initialize backend")
    assert not others


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the shell is of POSIX")
def test_an_output_that_nobody_reads_ends_the_command_with_a_line(tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "gc_optax.experiments", *TINY, "--output", str(tmp_path / "run")],
        stdout=write,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        check=False,
    )
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == (
        "gc-optax: stopped, since what reads its output was closed; an unfinished run goes on with "
        "gc-optax compare --resume FOLDER\n"
    )


def test_a_number_too_large_is_one_line(capsys):
    assert said(capsys, "compare", "--epochs", "9" * 20) == (
        f"gc-optax: --epochs must be at most 2147483647, got {'9' * 20}.\n"
    )


def test_an_option_that_there_is_not_points_to_the_help_of_its_command(capsys):
    assert said(capsys, "compare", "--epoks", 1) == (
        "gc-optax compare: unrecognized arguments: --epoks 1; see gc-optax compare --help\n"
    )
    assert said(capsys, "--verbose") == (
        "gc-optax: unrecognized arguments: --verbose; see gc-optax --help\n"
    )


def test_seeds_on_a_cpu_are_bounded_by_its_memory(monkeypatch):
    device: Any = SimpleNamespace(platform="cpu", process_index=0)
    monkeypatch.setattr(memory, "_container_limits", lambda: [2**30])
    a_mebibyte = 2**20
    assert memory.fits(a_mebibyte, a_mebibyte, 3000, [device]) == int(0.6 * 2**10 / 2)
    monkeypatch.setattr(memory, "_container_limits", lambda: [2**50])
    assert memory.fits(a_mebibyte, a_mebibyte, 3, [device]) == 3


def test_an_output_that_holds_a_run_stopped_at_its_very_start_can_be_deleted(tmp_path, capsys):
    (tmp_path / "run.json").write_text("")
    assert said(capsys, *TINY, "--output", tmp_path) == (
        f"gc-optax: --output must not hold a run, but {tmp_path} has an empty run.json: unless a "
        "run is starting there just now, delete the folder, or name another one.\n"
    )
    stopped = f"run.json is empty: the run was stopped before it began, and {tmp_path} can be del"
    assert stopped in said(capsys, "compare", "--resume", tmp_path)
    assert stopped in said(capsys, "report", tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_in_the_run_folder_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    for name in (".run.json.tmp", "run.json", ".metrics.csv.tmp"):
        (run / name).symlink_to(precious)
    folder = RunFolder(run)
    folder.write_json("run.json", {"format": 2})
    folder.write_csv("metrics.csv", ["arm"], [["gc"]])
    assert precious.read_text() == "mine"
    assert not (run / "run.json").is_symlink()
    assert (run / "metrics.csv").read_text() == "arm\ngc\n"


def test_a_narrow_terminal_does_not_break_the_headers(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    assert cli._console().width == cli.NARROWEST
    assert cli._console(stderr=True).width == 40  # the bar is redrawn in place


@pytest.mark.parametrize("diverged", [1, 2])
def test_diverged_seeds_are_counted_in_english(diverged):
    config = Config(model="mlp", arms=("none",), seeds=2, epochs=1)
    measured = Measurements(Design.of(vars(config)))
    group = Group(Cell("none", 0.05), range(2))
    losses = np.array([np.inf, np.inf if diverged == 2 else 1.0])
    measured.add(group, Metrics(losses, losses, losses, losses), Seconds(1.0, 1.0))
    out = io.StringIO()
    Reporter(Console(file=out, width=200), config, 1).finished(group, measured, 1.0)
    assert {1: ", 1 seed diverged", 2: ", 2 seeds diverged"}[diverged] in out.getvalue()


def test_a_nul_in_a_table_is_one_line(tmp_path, capsys):
    shutil.copytree(OLD, tmp_path / "run")
    table = tmp_path / "run" / "metrics.csv"
    text = table.read_text()
    for old, new in (("none", "no\0ne"), ("gc,0.05", "gc,0.\0005")):
        table.write_text(text.replace(old, new, 1))
        capsys.readouterr()
        line = said(capsys, "report", tmp_path / "run", "--output", tmp_path / "out")
        assert line.startswith(f"gc-optax: {table}, line ")
        assert line.count("\n") == 1


def test_every_arm_has_a_name_that_a_table_can_hold():
    assert all(arm.isprintable() for arm in ARMS)
