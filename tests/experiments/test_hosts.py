"""`gc-optax compare` in two processes with four devices each, as one process with eight."""

import csv
import json
import os
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from gc_optax.experiments import main
from gc_optax.experiments.commands import cli as _cli
from gc_optax.experiments.execution import distributed
from tests.test_hosts import environment, free_address, started

HEARTBEAT = 10  # seconds
# At a small learning rate, so that the order of summation stays a matter of the last digits.
RUN = (
    "compare --model mlp --arms none gc --seeds 1 --epochs 4 --batch-size 200 "
    "--learning-rate 0.005 --checkpoint-every 2"
).split()
PROGRAM = f"""
import os, signal, sys
from gc_optax.experiments.execution import distributed
from gc_optax.experiments.execution import trainer as _training
from gc_optax.experiments import main
distributed.HEARTBEAT_SECONDS = {HEARTBEAT}
run = _training.Trainer.run

def watched(self, arm, rate, seeds, state, at):
    print(f"{{arm}} from epoch {{at}}", file=sys.stderr)
    for number, result in enumerate(run(self, arm, rate, seeds, state, at)):
        if sys.argv[1] == "dies" and arm == "gc" and number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield result

_training.Trainer.run = watched
sys.exit(main(sys.argv[2:]))
"""


def both(*arguments: str, dies: bool = False):
    group = ["--coordinator", free_address(), "--process-count", "2", "--process-index"]
    program = [sys.executable, "-c", PROGRAM]
    return started(
        [*program, "lives", *arguments, *group, "0"],
        [*program, "dies" if dies else "lives", *arguments, *group, "1"],
    )


def finished(processes) -> list[str]:
    """What they printed; they go on from the checkpoint, and do not begin again."""
    printed = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert [line for line in err.splitlines() if " from epoch " in line] == ["gc from epoch 2"]
        printed.append(out)
    return printed


def without_gloo(printed: str) -> str:
    """Without Gloo's word on its connections, which its threads print in pieces, mixed up."""
    words = r"\[Gloo\] Rank|is connected to|Expected number of connected|peer ranks\.?|is :"
    pieces = re.sub(rf"({words}) *\d*", "", printed)
    return re.sub(r"^[01\s]*$", "", pieces)  # ranks and counts that were torn off


def rows_of(folder) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def record_of(folder) -> dict:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.usefixtures("default_promotion")
def test_two_processes_give_the_metrics_of_one_and_go_on_when_one_was_killed(tmp_path):
    run, alone = tmp_path / "run", tmp_path / "alone"
    with both(*RUN, "--output", str(run), dies=True) as (left, killed):
        killed.wait(timeout=300)
        _, err = left.communicate(timeout=300)  # it must not hang
    assert killed.returncode == -signal.SIGKILL
    assert left.returncode != 0
    assert "another task died" in err or "cannot reach each other" in err, err
    assert record_of(run)["complete"] is False
    with both("compare", "--resume", str(run)) as processes:
        first, second = finished(processes)
    assert "on 8 devices of 2 processes" in first
    assert "Test accuracy" in first
    assert without_gloo(second) == ""
    record = record_of(run)
    assert record["complete"] is True
    assert record["device"]["processes"] == 2
    assert record["device"]["used"] == 8
    assert not (run / "checkpoints").exists()

    assert main([*RUN, "--output", str(alone)]) == 0  # this process has eight devices
    assert record_of(alone)["device"]["used"] == 8
    together, single = rows_of(run), rows_of(alone)
    assert len(together) == len(single) == 2 * 4
    for ours, theirs in zip(together, single, strict=True):
        for name, value in theirs.items():
            if "loss" in name or "accuracy" in name:
                np.testing.assert_allclose(float(ours[name]), float(value), rtol=1e-5)
            else:
                assert ours[name] == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--distributed", "--output must be given on several hosts: a folder that all of them see"),
        ("--process-index 1", "--coordinator must be given with the others of its group."),
        ("--coordinator localhost:1 --process-count 2", "--process-index must be given with the"),
        ("--process-count two", "--process-count: must be a whole number, got 'two'"),
    ],
)
def test_options_for_several_hosts_that_cannot_be_used_are_one_line(options, message, capsys):
    assert main(["compare", *options.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_processes_that_cannot_reach_each_other_are_one_line(monkeypatch, capsys):
    def lost(*arguments):
        raise jax.errors.JaxRuntimeError("UNKNOWN: Connection closed by peer\nand more")

    monkeypatch.setattr(distributed, "is_distributed", lambda: True)
    monkeypatch.setattr(_cli, "_compare", lost)
    assert main(["compare"]) == 1
    assert capsys.readouterr().err == (
        "gc-optax: the processes of this run cannot reach each other any more, perhaps since one "
        "has ended: UNKNOWN: Connection closed by peer\n"
    )


@pytest.mark.slow
def test_without_a_cluster_it_says_what_to_give(tmp_path):
    command = [sys.executable, "-m", "gc_optax.experiments", "compare", "--distributed"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "run")],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=environment(),
    )
    assert done.returncode == 2
    assert done.stderr.startswith("gc-optax: --distributed found no other processes: ")
    assert done.stderr.endswith("give --coordinator, --process-count and --process-index.\n")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
