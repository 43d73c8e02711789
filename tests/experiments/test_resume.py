"""A run that is interrupted or killed goes on where it was, and ends as if nothing had been."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from gc_optax.experiments import main
from gc_optax.experiments.errors import CannotWriteError
from gc_optax.experiments.execution import trainer as training
from gc_optax.experiments.execution.checkpoint import Checkpoints
from gc_optax.experiments.runs.folder import RunFolder
from gc_optax.experiments.training.epoch import State

RUN = (
    "compare --model mlp --arms none gc --seeds 2 --seeds-at-once 1 --epochs 6 --batch-size 200 "
    "--checkpoint-every 2 --schedule one-cycle --devices 1 --output"
).split()


# Optax's schedules multiply a float and an integer.
pytestmark = pytest.mark.usefixtures("default_promotion")


class Killed(BaseException):
    """The process is gone: nothing that comes after it is run."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with jax.numpy_dtype_promotion("standard"):
        assert main([*RUN, str(folder)]) == 0
    return folder


def metrics_of(folder):
    return (folder / "metrics.csv").read_bytes()


def record_of(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def killed_at(monkeypatch, folder, arm, first_seed, epoch):
    """Runs until the given arm has begun the epoch after `epoch`."""
    run = training.Trainer.run

    def dies(self, a, rate, seeds, state=None, at=0):
        for result in run(self, a, rate, seeds, state, at):
            yield result
            at += 1
            if (a, seeds[0], at) == (arm, first_seed, epoch):
                raise Killed

    monkeypatch.setattr(training.Trainer, "run", dies)
    with pytest.raises(Killed):
        main([*RUN, str(folder)])
    monkeypatch.undo()


# Between two checkpoints, right after one, before the first one, and in the second group.
@pytest.mark.parametrize(
    "at",
    [
        ("gc", 0, 3),
        pytest.param(("none", 0, 4), marks=pytest.mark.slow),
        pytest.param(("none", 0, 1), marks=pytest.mark.slow),
        pytest.param(("gc", 1, 5), marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(
    at, whole, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "run"
    killed_at(monkeypatch, folder, *at)
    assert record_of(folder)["complete"] is False
    capsys.readouterr()
    assert main(["compare", "--resume", str(folder)]) == 0
    assert metrics_of(folder) == metrics_of(whole)
    record = record_of(folder)
    assert record["complete"] is True
    assert len(record["resumed"]) == 1
    assert record["results"] == record_of(whole)["results"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in whole.iterdir()
    )
    out, err = capsys.readouterr()
    assert "none" in out
    assert "numbers may differ" not in err


def test_a_run_that_began_before_there_was_a_validation_set_goes_on(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    killed_at(monkeypatch, folder, "gc", 0, 3)
    record = record_of(folder)
    del record["config"]["validation_examples"]
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert main(["compare", "--resume", str(folder)]) == 0
    assert metrics_of(folder) == metrics_of(whole)


def test_a_run_on_a_validation_set_goes_on_with_the_same(tmp_path, monkeypatch):
    run = [*RUN[:-1], "--validation-examples", "300", "--output"]
    assert main([*run, str(tmp_path / "whole")]) == 0
    monkeypatch.setitem(globals(), "RUN", run)
    killed_at(monkeypatch, tmp_path / "run", "gc", 0, 3)
    assert main(["compare", "--resume", str(tmp_path / "run")]) == 0
    assert metrics_of(tmp_path / "run") == metrics_of(tmp_path / "whole")


@pytest.mark.slow
def test_only_what_came_after_the_checkpoint_is_run_again(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    killed_at(monkeypatch, folder, "gc", 0, 5)
    ran = []
    run = training.Trainer.run

    def counted(self, arm, rate, seeds, state=None, at=0):
        ran.append((arm, seeds[0], at))
        return run(self, arm, rate, seeds, state, at)

    monkeypatch.setattr(training.Trainer, "run", counted)
    assert main(["compare", "--resume", str(folder)]) == 0
    assert ran == [("gc", 0, 4), ("none", 1, 0), ("gc", 1, 0)]
    assert metrics_of(folder) == metrics_of(whole)


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on(whole, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    run = training.Trainer.run

    def interrupted(self, arm, rate, seeds, state=None, at=0):
        for result in run(self, arm, rate, seeds, state, at):
            if arm == "gc":
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(training.Trainer, "run", interrupted)
    assert main([*RUN, str(folder)]) == 130
    monkeypatch.undo()
    assert f"with gc-optax compare --resume {folder}\n" in capsys.readouterr().err
    assert main(["compare", "--resume", str(folder)]) == 0
    assert metrics_of(folder) == metrics_of(whole)


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_time_and_nothing_else(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    killed_at(monkeypatch, folder, "gc", 0, 5)
    for path in (folder / "checkpoints").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    assert main(["compare", "--resume", str(folder)]) == 0
    assert metrics_of(folder) == metrics_of(whole)


def test_a_whole_run_is_shown_again_and_not_trained(whole, tmp_path, monkeypatch, capsys):
    before = metrics_of(whole)
    monkeypatch.setattr(training.Trainer, "run", None)
    assert main(["compare", "--resume", str(whole)]) == 0
    assert "Test accuracy" in capsys.readouterr().out
    assert metrics_of(whole) == before
    assert record_of(whole)["complete"] is True


def changed(folder, **changes):
    record = record_of(folder)
    (folder / "run.json").write_text(json.dumps({**record, **changes}), encoding="utf-8")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "killed"
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as monkeypatch:
        killed_at(monkeypatch, folder, "none", 0, 3)
    return folder


@pytest.fixture
def begun(killed, tmp_path):
    return shutil.copytree(killed, tmp_path / "run")


def refused(capsys, *options):
    assert main(["compare", *map(str, options)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_what_cannot_be_resumed_is_one_line(tmp_path, begun, capsys):
    capsys.readouterr()
    assert "is not a folder" in refused(capsys, "--resume", tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "is not a run folder: no run.json" in refused(capsys, "--resume", tmp_path / "empty")
    whole = (begun / "run.json").read_text()
    for broken, what in (
        ("", f"is empty: the run was stopped before it began, and {begun} can be deleted."),
        (whole[: len(whole) // 2], "is not JSON, or was cut off"),
        ("[]", "is not the record of a run"),
    ):
        (begun / "run.json").write_text(broken)
        assert f"run.json {what}" in refused(capsys, "--resume", begun)
    (begun / "run.json").write_text(whole)
    changed(begun, data="other")
    assert "the data are not those that the run began with" in refused(capsys, "--resume", begun)
    changed(begun, format=99)
    assert "has the format 99" in refused(capsys, "--resume", begun)
    settings = record_of(begun)["config"]
    changed(begun, format=2, config={**settings, "model": "lenet"})
    assert "settings cannot be used: `model` must be one of" in refused(capsys, "--resume", begun)
    changed(begun, config={**settings, "sharpness": 1})
    assert "settings that this version of gc-optax does not have: sharpness; install" in refused(
        capsys, "--resume", begun
    )


def test_broken_metrics_are_one_line(begun, capsys):
    capsys.readouterr()
    (begun / "metrics.csv").write_text("arm,seed\nnone,0\n")
    assert "lacks the columns learning_rate, epoch, " in refused(capsys, "--resume", begun)
    (begun / "metrics.csv").write_text("arm,seed\nnone,0")
    assert "metrics.csv was cut off" in refused(capsys, "--resume", begun)
    (begun / "metrics.csv").unlink()
    assert "is not a run folder: no metrics.csv" in refused(capsys, "--resume", begun)


def test_a_record_that_lacks_something_is_one_line(begun, capsys):
    capsys.readouterr()
    for missing in ({"versions": None}, {"seeds_at_once": None}, {"total_seconds": "long"}):
        before = record_of(begun)
        changed(begun, **missing)
        assert "the record or the metrics cannot be read: " in refused(capsys, "--resume", begun)
        changed(begun, **before)
    changed(begun, format=1)
    assert "older version, and can be reported" in refused(capsys, "--resume", begun)


def test_a_complete_run_whose_metrics_were_changed_is_refused(whole, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    text = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(text[: text.rindex("none")])
    assert "is not what the run wrote when it was complete" in refused(capsys, "--resume", folder)
    assert metrics_of(folder) == text[: text.rindex("none")].encode()


@pytest.mark.skipif(os.name == "nt", reason="there is no lock")
def test_a_run_that_another_process_uses_is_left_alone(begun, capsys):
    capsys.readouterr()
    with RunFolder(begun).locked():
        assert main(["compare", "--resume", str(begun)]) == 1
    assert "another process is using this run" in capsys.readouterr().err


def test_settings_beside_resume_are_refused(begun, capsys):
    capsys.readouterr()
    message = "cannot be given with --resume, which takes the settings of the run."
    assert f"--epochs {message}" in refused(capsys, "--resume", begun, "--epochs", 3)
    assert f"--output {message}" in refused(capsys, "--resume", begun, "--output", "x")


@pytest.mark.slow
def test_another_version_is_said_and_does_not_stop_the_run(begun, capsys):
    record = record_of(begun)
    changed(begun, versions={**record["versions"], "jax": "0.0.1"})
    capsys.readouterr()
    assert main(["compare", "--resume", str(begun)]) == 0
    assert "jax was 0.0.1 when the run began" in capsys.readouterr().err


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_line_and_leaves_no_whole_result(
    whole, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "run"
    save, replace = Checkpoints.save, os.replace

    def full(source, target):
        if str(target).endswith(".csv"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    def saves_and_fills_up(*arguments):
        save(*arguments)
        monkeypatch.setattr(os, "replace", full)

    monkeypatch.setattr(Checkpoints, "save", saves_and_fills_up)
    assert main([*RUN, str(folder)]) == 1
    err = capsys.readouterr().err
    assert "metrics.csv could not be written: No space left on device\n" in err
    assert "Traceback" not in err
    assert record_of(folder)["complete"] is False
    monkeypatch.undo()
    assert main(["compare", "--resume", str(folder)]) == 0
    assert metrics_of(folder) == metrics_of(whole)


def test_threads_that_end_after_a_failed_checkpoint_print_nothing(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)

    def fails(*arguments, **options):
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointer.save", fails)
    with pytest.raises(CannotWriteError, match="File too large"):
        Checkpoints(tmp_path).save(0, 1, State({}, {}, {}))
    late: Any = SimpleNamespace(exc_value=RuntimeError("Event loop is closed"))
    sys.unraisablehook(late)
    assert not said
    another: Any = SimpleNamespace(exc_value=RuntimeError("something else"))
    sys.unraisablehook(another)
    assert said == [another]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the limit is of POSIX")
@pytest.mark.parametrize(
    ("limit", "file"),
    [(3000, "run.json"), (30_000, "checkpoints"), (30_000, "curves.png")],
)
def test_a_file_that_cannot_grow_is_one_line(limit, file, tmp_path):
    every = ["--checkpoint-every", "0" if file == "curves.png" else "2"]
    code = (
        "import resource, sys; from gc_optax.experiments import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES, BYTES)); sys.exit(main(sys.argv[1:]))"
    )
    code = code.replace("BYTES", str(limit))
    done = subprocess.run(
        [sys.executable, "-c", code, *RUN, str(tmp_path / "run"), *every],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1
    *progress, last = done.stderr.splitlines()
    assert all("test accuracy" in line for line in progress), done.stderr
    assert last.startswith("gc-optax: ")
    assert file in last
    assert "could not be written: " in last
    assert len(last) < 400
    record = tmp_path / "run" / "run.json"
    assert not record.read_text() or record_of(tmp_path / "run")["complete"] is False


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("model", ["mlp", "vgg11"])
def test_kill_9_and_resume_give_the_numbers_of_a_run_that_was_left_alone(
    model, tmp_path, tiny_cifar100
):
    options = {
        # Many quick epochs, and a few with batch statistics, dropout and augmentation.
        "mlp": "--model mlp --seeds 2 --epochs 300 --checkpoint-every 20",
        "vgg11": "--model vgg11 --dataset cifar100 --batch-size 4 "
        "--seeds 1 --epochs 6 --checkpoint-every 1 --augmentation crop-flip "
        "--learning-rate 0.001",
    }[model]
    environment = {**os.environ, "GC_OPTAX_DATA_DIR": str(tiny_cifar100)}
    if model == "vgg11":  # takes half a minute to compile, which the whole run does for all
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "compiled")
    command = [sys.executable, "-m", "gc_optax.experiments", "compare", "--arms", "none", "gc"]
    command += options.split()
    whole = [*command, "--output", str(tmp_path / "whole")]
    subprocess.run(whole, check=True, capture_output=True, env=environment)
    run = tmp_path / "run"
    for kill in range(3):
        resumed = ["--resume", str(run)] if kill else ["--output", str(run)]
        started = command[:4] + resumed if kill else [*command, *resumed]
        process = subprocess.Popen(
            started,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
        )
        known = Checkpoints(run).latest()
        deadline = time.monotonic() + 300
        while Checkpoints(run).latest() in (None, known) and process.poll() is None:
            assert time.monotonic() < deadline, "there is no checkpoint"
            time.sleep(0.02)
        time.sleep(0.3 * kill)
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        # A fast machine may have been done before.
        assert process.returncode in (-signal.SIGKILL, 0), err
    last = [*command[:4], "--resume", str(run)]
    subprocess.run(last, check=True, capture_output=True, env=environment)
    assert metrics_of(run) == metrics_of(tmp_path / "whole")
    assert record_of(run)["complete"] is True
    assert len(record_of(run)["resumed"]) == 3
