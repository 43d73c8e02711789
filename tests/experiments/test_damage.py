"""What is damaged, renamed or edited of an unfinished run is never resumed as if it were whole."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from gc_optax.experiments import main
from gc_optax.experiments.execution.trainer import Trainer

OLD = Path(__file__).parent / "data" / "run_without_digests"
RUN = (
    "compare --arms none gc --seeds 1 --epochs 3 --batch-size 100 --train-examples 200 "
    "--checkpoint-every 2 --devices 1 --model"
).split()
AGAIN = "not what the run wrote: it is run again from what is whole"

pytestmark = pytest.mark.usefixtures("default_promotion")


class Killed(BaseException):
    """The process is gone: nothing that comes after it is run."""


def whole_and_killed(path, model):
    """The folder of a whole run, and of one that was killed with GC, after a checkpoint."""
    run = Trainer.run

    def dies(self, arm, *rest):
        for number, result in enumerate(run(self, arm, *rest)):
            if (arm, number) == ("gc", 2):
                raise Killed
            yield result

    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as monkeypatch:
        assert main([*RUN, model, "--output", str(path / "whole")]) == 0
        monkeypatch.setattr(Trainer, "run", dies)
        with pytest.raises(Killed):
            main([*RUN, model, "--output", str(path / "killed")])
    return path / "whole", path / "killed"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return whole_and_killed(tmp_path_factory.mktemp("runs"), "mlp")


@pytest.fixture
def whole(both):
    return both[0]


@pytest.fixture
def killed(both, tmp_path):
    return shutil.copytree(both[1], tmp_path / "run")


def metrics_of(folder):
    return (folder / "metrics.csv").read_bytes()


def resumed(folder, capsys):
    """What is said of the past when the run is resumed, which must end well."""
    capsys.readouterr()
    assert main(["compare", "--resume", str(folder)]) == 0
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return [line for line in err.splitlines() if "test accuracy" not in line]


def flip(file, byte, bit):
    content = bytearray(file.read_bytes())
    content[byte] ^= 1 << bit
    file.write_bytes(content)


def data_file(folder):
    files = (path for path in (folder / "checkpoints").rglob("*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


def test_a_whole_checkpoint_is_taken_without_a_word(whole, killed, capsys, monkeypatch):
    started = []
    run = Trainer.run

    def counted(self, arm, rate, seeds, state=None, epoch=0):
        started.append((arm, epoch))
        return run(self, arm, rate, seeds, state, epoch)

    monkeypatch.setattr(Trainer, "run", counted)
    assert resumed(killed, capsys) == []
    assert started == [("gc", 2)]
    assert metrics_of(killed) == metrics_of(whole)


def test_a_flipped_bit_is_noticed(whole, killed, capsys):
    file = data_file(killed)
    flip(file, file.stat().st_size // 2, 3)
    assert resumed(killed, capsys) == [
        f"the checkpoint of gc at learning rate 0.05, seed 0, epoch 2, is {AGAIN}"
    ]
    assert metrics_of(killed) == metrics_of(whole)


@pytest.mark.parametrize("names", [["1-2"], ["1-2", "1-2.sha256"]])
def test_a_checkpoint_that_was_renamed_is_noticed(names, whole, killed, capsys):
    for name in names:
        (killed / "checkpoints" / name).rename(killed / "checkpoints" / name.replace("1-2", "1-1"))
    assert resumed(killed, capsys) == [
        f"the checkpoint of gc at learning rate 0.05, seed 0, epoch 1, is {AGAIN}"
    ]
    assert metrics_of(killed) == metrics_of(whole)


def test_a_digest_that_is_not_text_is_noticed(whole, killed, capsys):
    (killed / "checkpoints" / "1-2.sha256").write_bytes(b"\xff\xfe")
    assert len(resumed(killed, capsys)) == 1
    assert metrics_of(killed) == metrics_of(whole)


@pytest.mark.parametrize("file", ["metrics.csv", "times.csv"])
def test_edited_metrics_are_noticed(file, whole, killed, capsys):
    header, first, *rest = (killed / file).read_text().splitlines(keepends=True)
    first = first.replace("1,0.", "1,0.9", 1) if file == "times.csv" else first.replace("1,", "1,9")
    (killed / file).write_text("".join([header, first, *rest]))
    assert resumed(killed, capsys) == [
        f"the metrics of none at learning rate 0.05, seed 0, epoch 1, are {AGAIN}"
    ]
    assert sorted(metrics_of(killed).splitlines()) == sorted(metrics_of(whole).splitlines())


def test_a_run_of_an_older_version_is_resumed_and_said_to_be_unverified(
    tmp_path, capsys, monkeypatch
):
    folder = shutil.copytree(OLD, tmp_path / "old")
    before = metrics_of(folder)
    started = []
    run = Trainer.run

    def counted(self, arm, rate, seeds, state=None, epoch=0):
        started.append((arm, epoch))
        return run(self, arm, rate, seeds, state, epoch)

    monkeypatch.setattr(Trainer, "run", counted)
    said = [line for line in resumed(folder, capsys) if "when the run began" not in line]
    assert said == [
        "an older version wrote this run without digests: what is there is not verified"
    ]
    assert started == [("gc", 2)]
    assert metrics_of(folder).startswith(before)
    assert main(["compare", *RUN[1:], "cnn", "--epochs", "4", "--output", f"{tmp_path}/new"]) == 0
    ours, theirs = (
        np.loadtxt(path / "metrics.csv", delimiter=",", skiprows=1, usecols=range(1, 8))
        for path in (folder, tmp_path / "new")
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)  # it began on another machine


def test_a_run_of_an_older_version_is_reported(tmp_path):
    assert main(["report", str(OLD), "--output", str(tmp_path)]) == 0
    assert "epoch 2 of 4" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet8"])
def test_flipped_bits_anywhere_change_no_number(model, tmp_path, capsys):
    whole, killed = whole_and_killed(tmp_path, model)
    draw = random.Random(model)
    for number in range(34):
        folder = shutil.copytree(killed, tmp_path / f"flip-{number}")
        files = sorted(p for p in (folder / "checkpoints").rglob("*") if p.is_file())
        file = draw.choice(files) if number % 2 else data_file(folder)
        flip(file, draw.randrange(file.stat().st_size), draw.randrange(8))
        assert len(resumed(folder, capsys)) <= 1
        assert metrics_of(folder) == metrics_of(whole), file
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_run_killed_at_20_random_moments_ends_with_the_numbers_of_the_whole(
    tmp_path, monkeypatch
):
    options = "--model mlp --arms none gc --seeds 2 --epochs 100 --checkpoint-every 7 --output"
    command = [sys.executable, "-m", "gc_optax.experiments", "compare"]
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    whole, run = tmp_path / "whole", tmp_path / "run"
    begin = time.monotonic()
    subprocess.run([*command, *options.split(), str(whole)], check=True, capture_output=True)
    seconds = time.monotonic() - begin
    draw = random.Random(0)
    for _ in range(20):
        begun = run.exists() and (run / "run.json").exists() and (run / "run.json").read_text()
        if begun and json.loads(begun)["complete"]:
            shutil.rmtree(run)
            begun = False
        if run.exists() and not begun:
            shutil.rmtree(run)  # killed at the very start
        how = ["--resume", str(run)] if begun else [*options.split(), str(run)]
        process = subprocess.Popen(
            [*command, *how], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
        )
        time.sleep(draw.uniform(0, seconds))
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        assert "Traceback" not in err
    last = ["--resume", str(run)] if (run / "run.json").exists() else [*options.split(), str(run)]
    done = subprocess.run([*command, *last], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert metrics_of(run) == metrics_of(whole)
