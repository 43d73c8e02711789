import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from gc_optax.experiments.commands.report import report
from gc_optax.experiments.errors import CannotReadError, CannotWriteError, InvalidSettingError
from gc_optax.experiments.presentation import forest, plots
from gc_optax.experiments.presentation.report_tables import headline_table, main_table
from gc_optax.experiments.runs import analysis
from gc_optax.experiments.runs.measurements import Cell
from gc_optax.experiments.runs.reader import read_run

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
COMMITTED = sorted((path.parent for path in RESULTS.glob("*/run.json")), key=lambda p: f"{p}/")
assert COMMITTED
COLUMNS = ["arm", "learning_rate", "seed", "epoch"]
COLUMNS += ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
TIMES = ["arm", "learning_rate", "seed", "seeds", "epoch", "seconds", "training_seconds"]
NAN = math.nan
# Student's t for 95% with 2 and with 1 degrees of freedom, from a printed table.
T2, T1 = 4.302653, 12.7062


@pytest.fixture
def undrawn(monkeypatch):
    """For tests that look at the text only: most of the time of a report is its plots."""
    for module, name in (
        (plots, "curves"),
        (plots, "learning_rates"),
        (plots, "times"),
        (forest, "forest"),
    ):
        monkeypatch.setattr(module, name, lambda *arguments, **_: arguments[-1].write_text(""))


def write_run(
    path, accuracies, *, losses=None, epochs=2, seeds=3, seconds=None, record=None, **config
):
    """A run folder from `{(arm, rate): {seed: [accuracy of each epoch]}}`, in percent.

    `losses` is the same for the test losses; they are 1 without. `seconds` gives the seconds of
    each epoch by `(arm, rate, first seed, seeds)`.
    """
    path.mkdir(parents=True)
    rows = [
        (*cell, seed, epoch, loss, accuracy / 100, loss, accuracy / 100)
        for cell, of_cell in accuracies.items()
        for seed, of_seed in of_cell.items()
        for epoch, accuracy in enumerate(of_seed, start=1)
        for loss in [losses[cell][seed][epoch - 1] if losses else 1.0]
    ]
    write_csv(path / "metrics.csv", [COLUMNS, *rows])
    if seconds is not None:
        taken = [
            (*group, epoch, of_epoch, of_epoch)
            for group, of_group in seconds.items()
            for epoch, of_epoch in enumerate(of_group, start=1)
        ]
        write_csv(path / "times.csv", [TIMES, *taken])
    content = {
        "complete": True,
        "format": 2,
        "command": ["gc-optax", "compare", "--output", "a folder"],
        "config": {
            "dataset": "digits",
            "model": "mlp",
            "optimizer": "sgd",
            "arms": list(dict.fromkeys(arm for arm, _ in accuracies)),
            "seeds": seeds,
            "epochs": epochs,
            "learning_rate": list(dict.fromkeys(rate for _, rate in accuracies)),
            **config,
        },
        "versions": {"python": "3.12.1", "jax": "0.12.0", "somelib": "1"},
        "parameters": 1234,
        **(record or {}),
    }
    (path / "run.json").write_text(json.dumps(content))
    return path


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def rows_of(markdown):
    """The rows of a table in Markdown, without the header."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def written(runs, output, accuracy=None):
    assert report(runs, output, Console(file=io.StringIO()), accuracy) == 0
    return (output / "report.md").read_text()


def section(text, title):
    """What stands below a heading, up to the next one."""
    return re.split(r"^#+ ", text.split(title, 1)[1], maxsplit=1, flags=re.M)[0]


# Differences of gc at the end: 1, 2, 3 points, mean 2, standard error 1 / sqrt(3).
PAIRED = {
    ("none", 0.1): {0: [50, 80], 1: [60, 82], 2: [70, 84]},
    ("gc", 0.1): {0: [60, 81], 1: [75, 84], 2: [80, 87]},
}


def test_means_and_paired_differences_are_those_computed_by_hand(tmp_path):
    run = read_run(write_run(tmp_path / "run", PAIRED))
    none, gc = rows_of(main_table([run]))
    # Deviations of none -2, 0, 2: error 2 / sqrt(3). Of gc -3, 0, 3: error 3 / sqrt(3).
    assert none == ["digits, mlp, sgd", "0.1", "`none`", "82.00 ± 1.15", "", "", "2", "3"]
    assert gc[2:5] == ["`gc`", "84.00 ± 1.73", "+2.00 [-0.48, +4.48]"]
    assert gc[5:] == ["+0.000 [+0.000, +0.000]", "2", "3"]
    found = analysis.difference(run.measurements, Cell("gc", 0.1), "test_accuracy", 2)
    assert found is not None
    half = T2 * 0.01 / math.sqrt(3)
    assert found.interval == pytest.approx((0.02, 0.02 - half, 0.02 + half), rel=1e-5)


def test_an_interval_that_excludes_0_is_bold_whichever_side_it_is_on(tmp_path):
    one = {0: [80], 1: [82], 2: [84]}
    better, worse = {0: [81.9], 1: [84], 2: [86.1]}, {0: [78.1], 1: [80], 2: [81.9]}
    run = {("none", 0.1): one, ("gc", 0.1): better, ("optax", 0.1): worse}
    rows = rows_of(main_table([read_run(write_run(tmp_path / "run", run, epochs=1))]))
    # Half the interval is 4.302653 * 0.1 / sqrt(3) = 0.248.
    assert rows[1][4] == "**+2.00 [+1.75, +2.25]**"
    assert rows[2][4] == "**-2.00 [-2.25, -1.75]**"


def test_an_interval_that_excludes_0_by_little_has_the_digits_to_show_it(tmp_path):
    one = {0: [80], 1: [82], 2: [84]}
    # Half the interval is 0.248 again.
    run = {("none", 0.1): one, ("gc", 0.1): {0: [80.15], 1: [82.25], 2: [84.35]}}
    rows = rows_of(main_table([read_run(write_run(tmp_path / "run", run, epochs=1))]))
    assert rows[1][4] == "**+0.250 [+0.002, +0.498]**"


def test_seeds_that_only_one_arm_has_are_not_paired(tmp_path):
    accuracies = PAIRED | {("gc", 0.1): {1: [75, 84], 2: [80, 87]}}
    run = read_run(write_run(tmp_path / "run", accuracies, record={"complete": False}))
    gc = rows_of(main_table([run]))[1]
    # Differences 2 and 3: mean 2.5, error 0.5; the mean is that of the seeds there are.
    half = T1 * 0.5
    assert gc[-1] == "2 of 3"
    assert gc[3:5] == ["85.50 ± 1.50", f"+2.50 [{2.5 - half:+.2f}, {2.5 + half:+.2f}]"]
    accuracies = PAIRED | {("none", 0.1): {0: [50, 80]}}
    one_pair = read_run(write_run(tmp_path / "other", accuracies))
    assert rows_of(main_table([one_pair]))[1][4] == "+1.00 (1 pair)"


def test_without_a_baseline_there_are_no_differences_and_no_plot_of_them(tmp_path):
    accuracies = {("gc", 0.1): PAIRED["gc", 0.1], ("optax", 0.1): PAIRED["none", 0.1]}
    path = write_run(tmp_path / "run", accuracies)
    text = written([path], tmp_path / "out")
    assert [row[4] for row in rows_of(main_table([read_run(path)]))] == ["", ""]
    assert not (tmp_path / "out" / "differences.png").exists()
    assert "Time to 82% test accuracy" in text  # the highest that the mean of both reaches


def test_an_arm_of_another_version_is_reported_and_drawn_like_the_others(tmp_path):
    accuracies = PAIRED | {("new|er", 0.1): PAIRED["gc", 0.1]}
    text = written([write_run(tmp_path / "run", accuracies)], tmp_path / "out")
    assert "| `new\\|er` | 84.00 ± 1.73 | +2.00 [-0.48, +4.48] |" in text


TIMED = {
    ("none", 0.1): {0: [50, 80, 90], 1: [50, 79, 89], 2: [80, 85, 91]},
    ("gc", 0.1): {0: [80, 80, 90], 1: [50, 60, 70], 2: [50, 60, 95]},
}


@pytest.mark.usefixtures("undrawn")
def test_time_to_an_accuracy_is_the_wall_time_of_the_seeds_trained_side_by_side(tmp_path):
    seconds = {
        ("none", 0.1, 0, 2): [1.0, 2.0, 4.0],
        ("none", 0.1, 2, 1): [10.0, 20.0, 40.0],
        ("gc", 0.1, 0, 3): [1.0, 1.0, 1.5],
    }
    path = write_run(tmp_path / "run", TIMED, epochs=3, seconds=seconds)
    text = section(written([path], tmp_path / "out", accuracy=80), "### Time to 80% test accuracy")
    # none: epochs 2, 3, 1 and seconds 3, 7, 10. gc: epochs 1 and 3, seconds 1 and 3.5, and never.
    assert rows_of(text) == [
        ["0.1", "`none`", "3 of 3", "2", "7", "2"],
        ["", "`gc`", "2 of 3", "2", "2.25", "3"],
    ]
    assert (tmp_path / "out" / "run-times.png").exists()
    assert "highest whole percent" not in text


@pytest.mark.usefixtures("undrawn")
def test_more_seeds_that_do_not_reach_it_than_do_leave_no_median_of_all(tmp_path):
    path = write_run(tmp_path / "run", TIMED, epochs=3)
    text = section(written([path], tmp_path / "out", accuracy=90), "### Time to 90% test accuracy")
    assert [row[2:] for row in rows_of(text)] == [
        ["2 of 3", "3", "", "3"],
        ["2 of 3", "3", "", "3"],
    ]
    text = section(written([path], tmp_path / "out", accuracy=95), "### Time to 95% test accuracy")
    assert [row[2:] for row in rows_of(text)] == [
        ["0 of 3", "", "", "more than 3"],
        ["1 of 3", "3", "", "more than 3"],
    ]


@pytest.mark.usefixtures("undrawn")
def test_by_default_the_time_is_to_the_whole_percent_that_the_baselines_mean_reaches(tmp_path):
    # The means of none: 53, 58, 50.5 at the one rate and 57.99, 1, 1 at the other.
    accuracies = {
        ("none", 0.1): {0: [53, 58, 50.5]},
        ("none", 0.2): {0: [57.99, 1, 1]},
        ("gc", 0.1): {0: [53, 99, 99]},
    }
    run = read_run(write_run(tmp_path / "run", accuracies, epochs=3))
    assert analysis.common_accuracy(run.measurements) == 0.58
    float32 = {("none", 0.1): {0: [100 * float(np.float32(0.96))]}}
    run = read_run(write_run(tmp_path / "float32", float32, epochs=1))
    assert analysis.common_accuracy(run.measurements) == 0.96
    assert len(analysis.reached(analysis.times_to(run.measurements, Cell("none", 0.1), 0.96))) == 1
    run = read_run(write_run(tmp_path / "low", {("none", 0.1): {0: [0.9]}}, epochs=1))
    assert analysis.common_accuracy(run.measurements) is None
    assert "Time to" not in written([tmp_path / "low"], tmp_path / "out")


def test_format_1_takes_the_typical_epoch_of_the_arm_for_each(tmp_path):
    record = {"format": 1, "wall_times": {"none": {"epoch": 0.5}, "gc": {"epoch": None}}}
    run = read_run(write_run(tmp_path / "run", TIMED, epochs=3, record=record))
    times = analysis.times_to(run.measurements, Cell("none", 0.1), 0.8, run.typical_seconds("none"))
    assert times == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert run.typical_seconds("gc") is None
    assert math.isnan(analysis.times_to(run.measurements, Cell("gc", 0.1), 0.8)[0].seconds)


@pytest.mark.usefixtures("undrawn")
def test_seeds_that_were_ended_early_stay_in_the_means_and_are_listed(tmp_path):
    accuracies = PAIRED | {("gc", 0.1): {0: [60, 81], 1: [0], 2: [80, 87]}}
    losses = {
        ("none", 0.1): {seed: [1, 1] for seed in range(3)},
        ("gc", 0.1): {0: [1, 1], 1: [NAN], 2: [1, 1]},
    }
    ended = {"arm": "gc", "learning_rate": 0.1, "seeds": [1], "epoch": 1, "reason": "all was NaN"}
    path = write_run(tmp_path / "run", accuracies, losses=losses, record={"ended_early": [ended]})
    gc = rows_of(main_table([read_run(path)]))[1]
    # 81, 0 and 87: mean 56, deviations 25, -56, 31, variance 2361, error 28.05.
    assert gc[-1] == "3, 1 diverged"
    assert gc[3] == "56.00 ± 28.05"
    assert gc[4].startswith("-26.00 [")
    assert gc[5] == "nan"
    text = written([path], tmp_path / "out")
    assert "- `gc` at learning rate 0.1, seeds 1: after epoch 1, all was NaN" in text


def test_a_run_that_diverged_from_the_first_epoch_is_reported(tmp_path):
    accuracies = {(arm, rate): {0: [0]} for arm in ("none", "gc") for rate in (1.0, 10.0)}
    losses = {cell: {0: [loss]} for cell, loss in zip(accuracies, [NAN, math.inf] * 2, strict=True)}
    path = write_run(tmp_path / "run", accuracies, losses=losses, seeds=1)
    text = written([path], tmp_path / "out")
    assert "1, 1 diverged" in text
    assert "### Time to" not in text


def test_an_incomplete_run_is_marked_and_compared_where_its_arms_are(tmp_path):
    accuracies = {
        ("none", 0.1): {0: [50, 80, 85], 1: [60, 82, 86]},
        ("gc", 0.1): {0: [60, 81], 1: [70, 84]},
        ("none", 0.2): {0: [50, 60, 70, 80], 1: [50, 60, 70, 81]},
        ("gc", 0.2): {0: [55], 1: [55]},
    }
    path = write_run(
        tmp_path / "run", accuracies, seeds=2, epochs=4, record={"complete": False},
        arms=["none", "gc", "optax"],
    )  # fmt: skip
    rows = rows_of(main_table([read_run(path)]))
    assert [[*row[:4], *row[-2:]] for row in rows] == [
        ["digits, mlp, sgd **(incomplete)**", "0.1", "`none`", "81.00 ± 1.00", "**2 of 4**", "2"],
        ["", "", "`gc`", "82.50 ± 1.50", "**2 of 4**", "2"],
        ["", "", "`optax`", "not run", "**2 of 4**", "0 of 2"],
        ["", "0.2", "`none`", "80.50 ± 0.50", "4", "2"],
        ["", "", "`gc`", "at epoch 1 of 4", "4", "0 of 2"],
        ["", "", "`optax`", "not run", "4", "0 of 2"],
    ]
    text = written([path], tmp_path / "out")
    assert "## digits, mlp, sgd (incomplete)\n\n**This run is incomplete:** `none` at 0.1: " in text
    assert "`gc` at 0.2: 0 of 2 seeds done, epoch 1 of 4; `optax` at 0.2: not begun." in text
    # Seeds that are on their way have not failed to reach the accuracy.
    times = rows_of(section(text, "### Time to 85% test accuracy"))
    assert [row[2] for row in times] == ["2 of 2", "", "", "0 of 2", "", ""]


@pytest.mark.usefixtures("undrawn")
def test_the_best_rate_of_each_arm_is_compared_with_that_of_the_baseline(tmp_path):
    accuracies = {
        ("none", 0.1): {0: [80], 1: [82]},
        ("none", 0.2): {0: [70], 1: [72]},
        ("gc", 0.1): {0: [60], 1: [60]},
        ("gc", 0.2): {0: [83], 1: [86]},
    }
    path = write_run(tmp_path / "run", accuracies, epochs=1, seeds=2)
    text = section(written([path], tmp_path / "out"), "### Best learning rate")
    half = T1 * 0.5  # differences 3 and 4
    assert rows_of(text) == [
        ["`none`", "0.1", "81.00 ± 1.00", ""],
        ["`gc`", "0.2", "84.50 ± 1.50", f"+3.50 [{3.5 - half:+.2f}, +{3.5 + half:.2f}]"],
    ]
    assert "chosen on the test set, so these values are optimistic" in text


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_was_judged_on_what_is_held_out_says_so(tmp_path, undrawn):
    accuracies = {("none", rate): {0: [70.0, 80.0]} for rate in (0.1, 0.2)}
    write_run(tmp_path / "run", accuracies, seeds=1, validation_examples=300)
    text = written([tmp_path / "run"], tmp_path / "out")
    assert "held out" in text
    assert "validation accuracy, %: epoch 1" in text
    assert "validation loss, nats: epoch 1" in text
    assert "chosen on the validation set" in text
    assert "### Time to 80% validation accuracy" in text
    write_run(tmp_path / "other", accuracies, seeds=1, validation_examples=None)
    assert "validation" not in written([tmp_path / "other"], tmp_path / "out")


def test_text_has_its_loss_first(tmp_path):
    losses = {cell: {s: [2.0, 1.5] for s in of} for cell, of in PAIRED.items()}
    path = write_run(tmp_path / "run", PAIRED, losses=losses, dataset="shakespeare", model="gpt")
    none = rows_of(main_table([read_run(path)]))[0]
    assert none[3:-2] == ["82.00 ± 1.15", "", "1.500 ± 0.000", ""]
    text = written([path], tmp_path / "out")
    assert "| learning rate | arm | test loss, nats per character: epoch 1 | loss: end |" in text
    assert "Its main metric is the test loss, in nats per character." in text


def test_a_report_has_the_command_versions_and_every_plot_that_it_shows(tmp_path):
    rates = PAIRED | {(arm, 0.2): PAIRED[arm, 0.1] for arm in ("none", "gc")}
    record = {"device": {"platform": "gpu", "kind": "H100"}, "examples": {"train": 50_000}}
    first = write_run(tmp_path / "a" / "same name", rates, record=record, placement="update")
    second = write_run(tmp_path / "b" / "same name", PAIRED, protocol="paper-x")
    text = written([first, second], tmp_path / "out")
    assert "```bash\ngc-optax compare --output 'a folder'\n```" in text
    assert "- versions: python 3.12.1, jax 0.12.0\n" in text
    assert "- parameters: 1,234\n- examples: 50,000 to train\n- device: platform gpu" in text
    assert "## digits, mlp, sgd, GC on the update\n" in text
    assert "## digits, mlp, sgd\n" in text
    assert "protocol paper-x" in text
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert sorted(shown) == [
        "differences.png",
        "headline.png",
        "same-name-2-curves.png",
        "same-name-2-times.png",
        "same-name-curves.png",
        "same-name-learning-rates.png",
        "same-name-times.png",
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*shown, "report.md"}
    for name in shown:
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_runs_that_would_have_the_same_name_are_told_apart_by_their_folder(tmp_path):
    runs = [read_run(write_run(tmp_path / name, PAIRED)) for name in ("one", "two")]
    names = [row[0] for row in rows_of(main_table(runs)) if row[0]]
    assert names == ["digits, mlp, sgd (one)", "digits, mlp, sgd (two)"]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_the_committed_results_give_the_statistics_of_their_record(path):
    run = read_run(path)
    assert len(run.record["results"]) == len(run.measurements.metrics)
    for result in run.record["results"]:
        cell = Cell(result["arm"], result["learning_rate"])
        for metric in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            said = {
                # JSON has no NaN: of a seed that diverged there is none.
                name: math.nan if result[metric][name][-1] is None else result[metric][name][-1]
                for name in ("mean", "standard_error")
            }
            found = analysis.mean(run.measurements, cell, metric, run.design.epochs)
            assert found == pytest.approx(tuple(said.values()), nan_ok=True)
            difference = analysis.difference(run.measurements, cell, metric, run.design.epochs)
            if difference is None:
                assert cell.arm == "none"
            else:
                expected = {
                    name: math.nan if value is None else value
                    for name, value in result[metric]["difference_from_none"][-1].items()
                }
                assert difference.interval._asdict() == pytest.approx(expected, nan_ok=True)


@pytest.mark.slow
def test_the_committed_report_is_that_of_the_committed_runs(tmp_path):
    assert written(COMMITTED, tmp_path) == (RESULTS / "report.md").read_text(encoding="utf-8")


def test_the_headline_has_each_run_where_the_baseline_does_best(tmp_path):
    accuracies = {
        ("none", 0.1): {0: [80], 1: [82]},
        ("none", 0.2): {0: [70], 1: [72]},
        ("gc", 0.1): {0: [60], 1: [60]},
        ("gc", 0.2): {0: [83], 1: [86]},
    }
    one = read_run(write_run(tmp_path / "one", accuracies, epochs=1, seeds=2))
    other = read_run(write_run(tmp_path / "other", PAIRED, model="cnn"))
    half = T1 * 1.0  # differences -20 and -22
    assert rows_of(headline_table([one, other])) == [
        [
            "digits, mlp, sgd",
            "0.1",
            "1",
            "2",
            "81.00 ± 1.00",
            f"**-21.00 [{-21 - half:.2f}, {-21 + half:.2f}]**",
        ],
        ["digits, cnn, sgd", "0.1", "2", "3", "82.00 ± 1.15", "+2.00 [-0.48, +4.48]"],
    ]


def replace(path, name, old, new):
    text = (path / name).read_text()
    assert old in text
    (path / name).write_text(text.replace(old, new, 1))


def truncate(path):
    text = (path / "run.json").read_text()
    (path / "run.json").write_text(text[: len(text) // 2])


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (lambda p: (p / "run.json").unlink(), r"run is not a run folder: no run\.json\."),
        (truncate, r"run\.json is not JSON, or was cut off: "),
        (
            lambda p: (p / "run.json").write_text(""),
            r"run\.json is empty: the run was ",
        ),
        (lambda p: (p / "run.json").write_bytes(b"\xff\xfe"), r"run\.json is not text in UTF-8\."),
        (lambda p: (p / "run.json").write_text("[]"), r"not the record of a run: it has no"),
        (
            lambda p: replace(p, "run.json", '"format": 2', '"format": 3'),
            r"run\.json has the format 3, and this version of gc-optax reads up to 2: install",
        ),
        (
            lambda p: replace(p, "run.json", '"epochs": 2', '"epochs": "two"'),
            r"run\.json is not the record of a run: no `config\.epochs`\.",
        ),
        (
            lambda p: replace(p, "run.json", "[0.1]", '["0.1"]'),
            r"run\.json: `config\.learning_rate` must be a list of numbers\.",
        ),
        (lambda p: (p / "metrics.csv").unlink(), r"run is not a run folder: no metrics\.csv\."),
        (
            lambda p: replace(p, "metrics.csv", "test_loss,test_accuracy", "test_loss,accuracy"),
            r"metrics\.csv lacks the columns test_accuracy\.",
        ),
        (lambda p: (p / "metrics.csv").write_text(""), r"metrics\.csv lacks the columns arm, "),
        (
            lambda p: replace(p, "metrics.csv", "none,0.1,0,2,", "none,0.1,0,x,"),
            r"metrics\.csv, line 3: 'x' is not a whole number\.",
        ),
        (
            lambda p: replace(p, "metrics.csv", "none,0.1,0,2,1.0,", "none,0.1,0,2,one,"),
            r"metrics\.csv, line 3: 'one' is not a number\.",
        ),
        (
            lambda p: replace(p, "metrics.csv", "none,0.1,0,2,", "none,nan,0,2,"),
            r"metrics\.csv, line 3: 'nan' is not a learning rate\.",
        ),
        (
            lambda p: replace(p, "metrics.csv", "none,0.1,0,2,1.0,", "none,0.1,0,2,"),
            r"metrics\.csv, line 3: 7 fields, not 8\.",
        ),
        (
            lambda p: replace(p, "metrics.csv", "none,0.1,0,2,", "none,0.1,0,1,"),
            r"metrics\.csv, line 3: was there before\.",
        ),
        (
            lambda p: write_csv(p / "metrics.csv", [COLUMNS]),
            r"metrics\.csv has no rows: no epoch is finished\.",
        ),
        (
            lambda p: write_csv(p / "times.csv", [TIMES, ["none", 0.1, 0, 0, 1, 1.0, 1.0]]),
            r"times\.csv, line 2: 0 is less than 1\.",
        ),
    ],
)
def test_a_folder_that_is_not_a_run_is_refused_in_one_line(tmp_path, breaking, message):
    path = write_run(tmp_path / "run", PAIRED)
    breaking(path)
    with pytest.raises(CannotReadError, match=message) as error:
        written([path], tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_path_that_is_not_a_folder_is_named(tmp_path):
    with pytest.raises(CannotReadError, match=r"nothing is not a folder\."):
        written([tmp_path / "nothing"], tmp_path / "out")


def test_a_run_given_twice_is_refused_however_it_is_written(tmp_path):
    path = write_run(tmp_path / "run", PAIRED)
    with pytest.raises(CannotReadError, match=r"run is given twice\."):
        written([path, tmp_path / "run" / ".." / "run"], tmp_path / "out")


@pytest.mark.parametrize("accuracy", [0, -1, 100.5, NAN])
def test_an_accuracy_that_is_not_a_percentage_is_refused(tmp_path, accuracy):
    with pytest.raises(InvalidSettingError, match="must be a percentage above 0 and up to 100"):
        written([write_run(tmp_path / "run", PAIRED)], tmp_path / "out", accuracy)


def test_an_output_that_cannot_be_written_to_is_named(tmp_path):
    path = write_run(tmp_path / "run", PAIRED)
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CannotWriteError, match=r"file.* cannot be a folder: "):
            written([path], output)


@pytest.mark.usefixtures("undrawn")
def test_a_report_that_fails_half_way_leaves_the_one_before_it(tmp_path, monkeypatch):
    path = write_run(tmp_path / "run", PAIRED)
    before = written([path], tmp_path / "out")
    monkeypatch.setattr(plots, "times", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        written([path], tmp_path / "out", accuracy=50)
    assert (tmp_path / "out" / "report.md").read_text() == before
    assert not [p for p in (tmp_path / "out").iterdir() if p.suffix not in (".png", ".md")]


def test_a_report_that_fails_leaves_its_plots_too(tmp_path, monkeypatch):
    path = write_run(tmp_path / "run", PAIRED)
    written([path], tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(plots, "times", lambda *_: 1 / 0)
    other = write_run(tmp_path / "other" / "run", TIMED, epochs=3)
    with pytest.raises(ZeroDivisionError):
        written([other], tmp_path / "out", accuracy=50)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before


def test_a_damaged_record_is_refused_in_one_line(tmp_path):
    path = write_run(tmp_path / "run", PAIRED, record={"ended_early": [{}]})
    with pytest.raises(CannotReadError, match=r"run.json is damaged: KeyError"):
        written([path], tmp_path / "out")
    path = write_run(tmp_path / "other", PAIRED, record={"parameters": None})
    with pytest.raises(CannotReadError, match=r"run.json is damaged: TypeError"):
        written([path], tmp_path / "out")


def test_metrics_that_were_cut_off_are_not_taken_for_whole(tmp_path):
    path = write_run(tmp_path / "run", PAIRED)
    text = (path / "metrics.csv").read_text()
    (path / "metrics.csv").write_text(text[:-3])
    with pytest.raises(CannotReadError, match=r"metrics.csv was cut off"):
        read_run(path)
    lines = text.splitlines(keepends=True)
    (path / "metrics.csv").write_text("".join(lines[:-1]))
    assert not read_run(path).complete
