"""What `compare` prints of a run, `report` prints too, to the digit; also of an interrupted one."""

import re

import numpy as np
import pytest

from gc_optax.experiments import main
from gc_optax.experiments.execution.trainer import Trainer

RUN = (
    "compare --model mlp --arms none gc --seeds 3 --seeds-at-once 1 --epochs 3 --batch-size 200 "
    "--checkpoint-every 0 --devices 1 --output"
).split()


@pytest.fixture
def interrupted(monkeypatch):
    """With GC, seed 1 has a training loss that is infinite, and is interrupted after 2 epochs."""
    run = Trainer.run

    def stops(self, arm, rate, seeds, state=None, epoch=0):
        for number, (now, result) in enumerate(run(self, arm, rate, seeds, state, epoch)):
            if (arm, seeds[0]) == ("gc", 1):
                if number == 2:
                    raise KeyboardInterrupt
                infinite = np.full(1, np.inf, np.float32)
                result = result._replace(metrics=result.metrics._replace(train_loss=infinite))
            yield now, result

    monkeypatch.setattr(Trainer, "run", stops)


def printed_and_reported(folder, capsys):
    """The rows of arms that `compare` printed, as lists of cells, and all cells of the report."""
    printed = capsys.readouterr().out.partition("Wall time")[0]
    rows = [
        re.split(r"\s{2,}", line.strip())
        for line in printed.splitlines()
        if re.match(r"\s*(none|gc)\s+\d", line)
    ]
    assert [arm for arm, *_ in rows] == ["none", "gc"] * 2  # of accuracy, and of loss
    assert main(["report", str(folder), "--output", str(folder / "report")]) == 0
    report = (folder / "report" / "report.md").read_text(encoding="utf-8")
    return rows, {cell.strip(" *`") for cell in report.replace("\n", "|").split("|")}


@pytest.mark.usefixtures("interrupted")
def test_of_an_interrupted_run_the_console_and_the_report_say_the_same(tmp_path, capsys):
    assert main([*RUN, str(tmp_path)]) == 130
    rows, in_report = printed_and_reported(tmp_path, capsys)
    # Two seeds with GC have got to the first epoch and one to the last; the other has diverged.
    assert "1 of 3, 1 diverged" in in_report
    assert [row[-1] for row in rows] == ["0 of 3", "1 of 3"] * 2
    for _, first, _, *last, _ in rows:  # the report has no second epoch
        assert in_report.issuperset([first, *last])


@pytest.mark.slow
def test_of_a_whole_run_the_console_and_the_report_say_the_same(tmp_path, capsys):
    assert main([*RUN, str(tmp_path), "--seeds", "2", "--epochs", "1"]) == 0
    rows, in_report = printed_and_reported(tmp_path, capsys)
    for _, *cells in rows:
        assert in_report.issuperset(cells)
