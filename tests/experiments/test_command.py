import csv
import importlib.util
import json
import math
import os
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from gc_optax import FanIn
from gc_optax.experiments import main
from gc_optax.experiments.commands.inspect import _differences
from gc_optax.experiments.execution import trainer as training
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.settings.presets import PROTOCOLS
from gc_optax.models import MODELS

ARMS = ("none", "gc", "optax")
RATES = (0.02, 0.1)
TINY = "compare --model mlp --seeds 2 --epochs 3 --batch-size 200 --devices 1".split()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small sweep: its folder and what the command printed."""
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    command = [*TINY, "--learning-rate", "0.02", "0.1", "--output", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "gc_optax.experiments", *command],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


def record_of(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def rows_of(folder):
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_its_files_and_names_the_folder(run):
    folder, out, _ = run
    names = ["curves.png", "learning_rates.png", "metrics.csv", "run.json", "times.csv"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert f"Run folder: {folder}\n  {', '.join(names)}\n" in out


def test_the_csv_has_one_row_per_arm_rate_seed_and_epoch(run):
    rows = rows_of(run[0])
    assert list(rows[0]) == [
        "arm",
        "learning_rate",
        "seed",
        "epoch",
        "train_loss",
        "train_accuracy",
        "test_loss",
        "test_accuracy",
    ]
    keys = [(r["arm"], float(r["learning_rate"]), int(r["seed"]), int(r["epoch"])) for r in rows]
    expected = [(a, r, s, e) for r in RATES for a in ARMS for s in (0, 1) for e in (1, 2, 3)]
    assert keys == expected
    assert all(0 <= float(row["test_accuracy"]) <= 1 for row in rows)


def test_the_record_has_configuration_versions_device_and_times(run):
    folder, _, _ = run
    record = record_of(folder)
    assert record["complete"] is True
    assert record["command"][:2] == ["gc-optax", "compare"]
    assert record["config"] == {
        "protocol": None,
        "dataset": "digits",
        "model": "mlp",
        "optimizer": "sgd",
        "placement": "gradient",
        "arms": list(ARMS),
        "seeds": 2,
        "seed": 0,
        "epochs": 3,
        "batch_size": 200,
        "learning_rate": list(RATES),
        "schedule": "constant",
        "decay_epochs": None,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "augmentation": "none",
        "dtype": "float32",
        "train_examples": None,
        "validation_examples": None,
        "seeds_at_once": None,
        "devices": 1,
        "checkpoint_every": None,
    }
    assert record["examples"] == {"train": 1000, "test": 797}
    assert record["seeds_at_once"] == 2
    assert len(record["data"]) == 64
    assert record["chains"]["gc"] == "gc_optax.centralize(), optax.sgd(learning_rate, momentum=0.9)"
    assert {"python", "jax", "jaxlib", "flax", "optax", "gc_optax"} <= set(record["versions"])
    assert record["device"]["platform"] in ("cpu", "gpu", "tpu")
    assert list(record["wall_times"]) == list(ARMS)
    for times in record["wall_times"].values():
        low, high = times["epoch_quartiles"]
        assert 0 < low <= times["epoch"] <= high < times["run"] < record["total_seconds"]
        assert times["epoch_ratio_to_none"] is None  # one arm was trained after the other
        # 1,000 examples of 2 seeds an epoch, of which the evaluation is a part.
        assert times["examples_per_second"] > 2 * 1000 / times["epoch"]
        assert 0 < times["compile"] < record["total_seconds"]


def test_a_run_on_a_validation_set_says_so_wherever_it_says_what_was_measured(tmp_path, capsys):
    folder = tmp_path / "run"
    command = [*TINY, "--arms", "none", "--seeds", "1", "--epochs", "1"]
    assert main([*command, "--validation-examples", "300", "--output", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "700 training and 300 validation images" in out
    words = " ".join(out.split())  # a narrow table breaks its title
    assert "Validation accuracy, %" in words
    assert "Validation loss, nats" in words
    assert "validation accuracy" in err
    assert "test" not in (out + err).lower().replace(str(tmp_path).lower(), "")
    record = record_of(folder)
    assert record["config"]["validation_examples"] == 300
    assert record["examples"] == {"train": 700, "validation": 300}
    # So many of them are right that it can only be of 300 images, and of no other number.
    right = 300 * float(rows_of(folder)[0]["test_accuracy"])
    assert right == pytest.approx(round(right), abs=1e-3)


def test_the_records_statistics_are_those_of_the_csv(run):
    folder, _, _ = run
    rows = rows_of(folder)

    def values(arm, rate, metric):
        chosen = (r for r in rows if r["arm"] == arm and float(r["learning_rate"]) == rate)
        return np.array([float(row[metric]) for row in chosen]).reshape(2, 3)  # seeds, epochs

    cells = record_of(folder)["results"]
    assert [(c["arm"], c["learning_rate"]) for c in cells] == [(a, r) for r in RATES for a in ARMS]
    for cell in cells:
        assert (cell["epochs"], cell["finished"], cell["diverged_seeds"]) == (3, True, 0)
        for metric in ("train_loss", "test_accuracy"):
            mine = values(cell["arm"], cell["learning_rate"], metric)
            base = values("none", cell["learning_rate"], metric)
            assert cell[metric]["mean"] == pytest.approx(mine.mean(0))
            # Of two values, the standard error is half their distance.
            error = np.abs(mine[0] - mine[1]) / 2
            assert cell[metric]["standard_error"] == pytest.approx(error)
            differences = cell[metric]["difference_from_none"]
            if cell["arm"] == "none":
                assert differences == [None, None, None]
            else:
                assert [d["mean"] for d in differences] == pytest.approx((mine - base).mean(0))
                assert all(d["low"] <= d["mean"] <= d["high"] for d in differences)


@pytest.mark.parametrize("name", ["curves.png", "learning_rates.png"])
def test_the_plots_are_images(run, name):
    content = (run[0] / name).read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    assert len(content) > 10_000


def test_the_tables_show_what_the_record_has(run):
    folder, out, _ = run
    assert "26,122 parameters" in out
    assert "Test accuracy, %" in out
    assert "Test loss" in out
    assert "Wall time, s" in out
    assert "Mean ± standard error over 2 seeds, 0 to 1." in out
    for cell in record_of(folder)["results"]:
        accuracy = cell["test_accuracy"]
        for epoch in (0, 1, 2):
            mean, error = accuracy["mean"][epoch], accuracy["standard_error"][epoch]
            assert f"{100 * mean:.2f} ± {100 * error:.2f}" in out
        if cell["arm"] != "none":
            last = accuracy["difference_from_none"][-1]
            mean, low, high = (100 * last[name] for name in ("mean", "low", "high"))
            assert f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]" in out


def test_without_a_terminal_progress_is_one_plain_line_per_finished_cell(run):
    _, _, err = run
    lines = err.splitlines()
    assert len(lines) == len(ARMS) * len(RATES)
    assert all("test accuracy" in line and "after 3 epochs" in line for line in lines)
    assert "\x1b" not in err


def test_a_folder_that_holds_a_run_is_refused_in_one_line_and_stays_as_it_is(run, capsys):
    folder, _, _ = run
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main([*TINY, "--output", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"gc-optax: --output must not hold a run, but {folder} has run.json: name another folder, "
        "or move that one away.\n"
    )
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.slow
def test_without_output_the_folder_is_made_under_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*TINY, "--arms", "gc", "--epochs", "1", "--seeds", "1"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("_digits-mlp-sgd")
    out = capsys.readouterr().out
    assert f"Run folder: runs/{folder.name}" in out
    # One seed has no error, one arm no difference, and one learning rate no plot against it.
    assert "One seed, 0: no error can be given." in out
    assert "minus none" not in out
    assert not (folder / "learning_rates.png").exists()
    assert record_of(folder)["results"][0]["test_accuracy"]["standard_error"] == [None]


def test_an_interrupted_run_keeps_what_is_finished_and_says_so(tmp_path, monkeypatch, capsys):
    run = training.Trainer.run

    def interrupted(self, arm, *rest):
        for number, result in enumerate(run(self, arm, *rest)):
            if (arm, number) == ("gc", 2):
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(training.Trainer, "run", interrupted)
    assert main([*TINY, "--output", str(tmp_path / "run")]) == 130
    out, err = capsys.readouterr()
    assert "interrupted: 5 of 9 epochs are kept" in err
    assert "not run" in out
    record = record_of(tmp_path / "run")
    assert record["complete"] is False
    cells = [(c["arm"], c["epochs"], c["finished"]) for c in record["results"]]
    assert cells == [("none", 3, True), ("gc", 2, False)]
    assert len(rows_of(tmp_path / "run")) == 2 * (3 + 2)
    names = ["curves.png", "metrics.csv", "run.json", "times.csv"]
    # On a slow machine there is a checkpoint, too.
    there = {path.name for path in (tmp_path / "run").iterdir()} - {"checkpoints"}
    assert sorted(there) == names


def test_a_run_interrupted_before_its_first_epoch_leaves_an_incomplete_record(
    tmp_path, monkeypatch, capsys
):
    def interrupted(self, arm, seeds):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Trainer, "compile", interrupted)
    assert main([*TINY, "--output", str(tmp_path / "run")]) == 130
    assert "interrupted: 0 of 9 epochs are kept" in capsys.readouterr().err
    record = record_of(tmp_path / "run")
    assert record["complete"] is False
    assert record["results"] == []


def test_a_diverged_run_is_counted_in_the_table_and_the_record(tmp_path, capsys):
    command = [*TINY, "--arms", "none", "gc", "--learning-rate", "0.05", "1e12"]
    assert main([*command, "--output", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out.count("2 of 2") == 4  # two arms, in two tables
    assert "2 seeds diverged" in err
    assert "counts as wrong" in out
    cells = record_of(tmp_path)["results"]
    assert [cell["diverged_seeds"] for cell in cells] == [0, 0, 2, 2]
    assert cells[2]["test_loss"]["mean"][-1] is None
    assert cells[2]["test_accuracy"]["mean"][-1] == 0
    assert math.isnan(float(rows_of(tmp_path)[-1]["test_loss"]))


BAD_OPTIONS = {
    "--seeds 0": "gc-optax: --seeds must be a whole number of at least 1, got 0.",
    "--seeds two": "gc-optax compare: argument --seeds: must be a whole number, got 'two'; see "
    "gc-optax compare --help",
    "--seeds 1.5": "gc-optax compare: argument --seeds: must be a whole number, got '1.5'; see "
    "gc-optax compare --help",
    "--seed -1": "gc-optax: --seed must be at least 0, and the last seed at most 2147483647, got "
    "-1 as the first of 8.",
    "--epochs 0": "gc-optax: --epochs must be a whole number of at least 1, got 0.",
    "--batch-size -5": "gc-optax: --batch-size must be a whole number of at least 1, got -5.",
    "--batch-size 1001": "gc-optax: --batch-size must be at most 1000, the number of training "
    "examples of digits, got 1001.",
    "--learning-rate 0.1 fast": "gc-optax compare: argument --learning-rate: must be a number, got "
    "'fast'; see gc-optax compare --help",
    "--learning-rate 0": "gc-optax: --learning-rate must be a positive number that float32 can "
    "hold, got 0.0.",
    "--learning-rate 0.1 0.10": "gc-optax: --learning-rate has 0.1 more than once.",
    "--learning-rate": "gc-optax compare: argument --learning-rate: expected at least one "
    "argument; see gc-optax compare --help",
    "--weight-decay -1": "gc-optax: --weight-decay must be a finite number of at least 0, got "
    "-1.0.",
    "--momentum 1": "gc-optax: --momentum must be at least 0 and less than 1, got 1.0.",
    "--optimizer adam --momentum 0.5": "gc-optax: --momentum belongs to the optimizer sgd; adam "
    "does not have it.",
    "--arms none none": "gc-optax: --arms has none more than once.",
    "--arms best": "gc-optax: --arms must be one of none, gc, traced, gcc, optax, muon-traced; "
    "got best.",
    "--dataset mnist": "gc-optax: --dataset must be one of digits, fashion_mnist, cifar10, "
    "cifar100, shakespeare; got mnist.",
    "--model resnet": f"gc-optax: --model must be one of {', '.join(MODELS)}; got resnet.",
    "--model gpt": "gc-optax: --model must be one of mlp, cnn, resnet8, resnet20, resnet18, "
    "resnet101, resnext29, vgg11, densenet121, vit for digits, which is images; got gpt.",
    "--dataset shakespeare --model cnn": "gc-optax: --model must be one of gpt for shakespeare, "
    "which is text; got cnn.",
    "--dataset shakespeare --augmentation crop-flip": "gc-optax: --augmentation is for images, and "
    "shakespeare is text; got crop-flip.",
    "--protocol paper": f"gc-optax: --protocol must be one of {', '.join(PROTOCOLS)}; got paper.",
    "--schedule linear": "gc-optax: --schedule must be one of constant, step, one-cycle; got "
    "linear.",
    "--schedule step": "gc-optax: --decay-epochs must be given with the schedule step.",
    "--decay-epochs 2": "gc-optax: --decay-epochs belongs to the schedule step; constant does not "
    "have it.",
    "--dtype float16": "gc-optax: --dtype must be one of float32, bfloat16; got float16.",
    "--train-examples 2000": "gc-optax: --train-examples 2000 is more than the 1000 training "
    "images of digits.",
    "--train-examples 0": "gc-optax: --train-examples must be a whole number of at least 1, got 0.",
    "--validation-examples 0": "gc-optax: --validation-examples must be a whole number of at least "
    "1, got 0.",
    "--validation-examples 1000": "gc-optax: --validation-examples 1000 leaves nothing to train on "
    "of the 1000 training images of digits.",
    "--validation-examples 950": "gc-optax: --batch-size must be at most 50, the number of "
    "training examples of digits, got 64.",
    "--seeds-at-once 0": "gc-optax: --seeds-at-once must be a whole number of at least 1, got 0.",
    "--devices 9": "gc-optax: --devices must be at most 8, the number of local devices, got 9.",
    "--devices 3": "gc-optax: --devices must divide --batch-size 64, got 3.",
    "--checkpoint-every -1": "gc-optax: --checkpoint-every must be a whole number of epochs, or 0 "
    "for never, got -1.",
    "--optimizer lion": "gc-optax: --optimizer must be one of sgd, adam, adamw, muon; got lion.",
    "--placement loss": "gc-optax: --placement must be one of gradient, update; got loss.",
    "--speed 3": "gc-optax compare: unrecognized arguments: --speed 3; see gc-optax compare --help",
    "--output": "gc-optax compare: argument --output: expected one argument; see "
    "gc-optax compare --help",
}


@pytest.mark.parametrize("options", BAD_OPTIONS)
def test_a_bad_option_gives_one_line_and_exit_code_2(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *options.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == BAD_OPTIONS[options] + "\n"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_command_gives_one_line_and_exit_code_2(capsys):
    assert main(["compar"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "invalid choice: 'compar'" in err


def test_help_names_every_option_and_its_default(capsys):
    assert main(["compare", "--help"]) == 0
    out = capsys.readouterr().out
    for setting in vars(Config()):
        assert f"--{setting.replace('_', '-')} " in out
    assert "(default: 8)" in out
    unbroken = "".join(out.split())  # a line may end at the hyphen of a name
    assert all(name in unbroken for name in PROTOCOLS)
    for option in ("--data-dir", "--resume", "--output"):
        assert f"{option} " in out
    assert "(default: none gc optax)" in " ".join(out.split())


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "compare" in out
    assert "inspect" in out


def test_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "gc-optax 0.2.0\n"


def test_inspect_shows_the_axes_of_a_network(capsys):
    assert main(["inspect"]) == 0
    default = capsys.readouterr().out
    assert main(["inspect", "cnn"]) == 0
    assert capsys.readouterr().out == default
    assert "conv2/kernel  (3, 3, 16, 32)  0, 1, 2     144  " in default
    assert "13,584 of 13,754 parameters (98.8%), in 4 of 10 leaves, are centralized." in default


@pytest.mark.usefixtures("default_promotion")
@pytest.mark.parametrize("model", MODELS)
def test_inspect_shows_every_kernel_centralized_over_its_fan_in_and_nothing_else(model, capsys):
    assert main(["inspect", model]) == 0
    out = capsys.readouterr().out
    rows = {}
    for line in out.split("\n\n")[0].splitlines()[2:-2]:
        path, *cells = re.split(r"\s{2,}", line)
        rows[path] = (cells[0], cells[1])
    assert len(rows) > 3
    for path, (shape, axes) in rows.items():
        sizes = re.findall(r"\d+", shape)
        if not path.endswith("kernel"):
            expected = "-"
        elif model == "gpt" and path.startswith("blocks/"):  # stacked by layer
            inputs = range(1, 3) if "attention/out" in path else range(1, 2)
            expected = ", ".join(map(str, inputs))
        elif "attention" in path:
            expected = "0, 1" if "attention/out" in path else "0"
        else:
            expected = ", ".join(map(str, range(len(sizes) - 1)))
        assert axes == expected, path
    assert "Axes by trace; by name they are the same." in out


def test_inspect_lists_the_leaves_that_names_have_otherwise():
    params = {"layer": jnp.ones((2, 3)), "kernels": jnp.ones((2, 3, 1, 4))}
    traced = {"layer": FanIn((0,)), "kernels": FanIn((1,), "dense")}
    named = {"layer": FanIn((0,)), "kernels": FanIn((0, 1, 2), "a guess: conv")}
    assert _differences(params, traced, named) == (
        "Axes by trace; by name they differ here:\n"
        "  kernels: traced (1,), by name (0, 1, 2) (a guess: conv)"
    )
    same = {**named, "kernels": FanIn((1, 2), "dense")}
    assert _differences(params, traced, same) == "Axes by trace; by name they are the same."


def test_inspect_names_the_networks_it_knows(capsys):
    assert main(["inspect", "resnet"]) == 2
    message = f"gc-optax: MODEL must be one of {', '.join(MODELS)}; got resnet.\n"
    assert capsys.readouterr().err == message


def test_a_missing_package_gives_one_line_that_says_what_to_install(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sklearn" else find(name)
    )
    assert main(["compare"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "gc-optax: sklearn not found: the command needs an extra, "
        'pip install "gc-optax[experiments]"\n'
    )


def test_importing_the_library_imports_neither_the_experiments_nor_their_packages():
    code = (
        "import sys, gc_optax; print([name for name in ('flax', 'matplotlib', 'rich', 'sklearn', "
        "'gc_optax.experiments', 'gc_optax.models') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends a signal as a terminal does")
def test_control_c_ends_the_command_and_keeps_the_finished_epochs(tmp_path):
    run, epochs, interrupted = tmp_path / "run", 20, 5
    # Where the tests run in the background, signals of the keyboard are ignored, and a child would
    # inherit that.
    code = f"""
import os, signal, sys
from gc_optax.experiments import main
from gc_optax.experiments.execution.trainer import Trainer

def run(self, arm, *arguments, whole=Trainer.run):
    for epoch, result in enumerate(whole(self, arm, *arguments), start=1):
        if (arm, epoch) == ("gc", {interrupted}):
            os.kill(os.getpid(), signal.SIGINT)
        yield result

signal.signal(signal.SIGINT, signal.default_int_handler)
Trainer.run = run
sys.exit(main(sys.argv[1:]))
"""
    options = f"compare --model mlp --arms none gc --seeds 2 --epochs {epochs} --output".split()
    done = subprocess.run(
        [sys.executable, "-c", code, *options, str(run)], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 130, done.stderr
    assert "epochs are kept" in done.stderr
    assert "Traceback" not in done.stderr
    assert f"Run folder: {run}" in done.stdout
    assert record_of(run)["complete"] is False
    assert len(rows_of(run)) == 2 * (epochs + interrupted - 1)


@pytest.mark.slow
@pytest.mark.usefixtures("default_promotion")
@pytest.mark.parametrize(
    "options",
    ["--model cnn", "--optimizer adam --placement update", "--optimizer adamw", "--arms gc gcc"],
)
def test_every_option_trains(options, tmp_path, capsys):
    command = [*TINY, *options.split(), "--weight-decay", "0.001", "--output", str(tmp_path)]
    assert main(command) == 0
    capsys.readouterr()
    record = record_of(tmp_path)
    assert record["complete"] is True
    assert all(cell["diverged_seeds"] == 0 for cell in record["results"])


@pytest.mark.slow
@pytest.mark.usefixtures("default_promotion")  # for Optax's own Adam
def test_muon_is_compared_on_its_own_matrices_and_on_traced_ones(tmp_path):
    run = tmp_path / "run"
    options = "compare --model cnn --optimizer muon --arms none muon-traced --seeds 1 --epochs 1"
    done = main([*options.split(), "--checkpoint-every", "1", "--output", str(run)])
    assert done == 0
    rows = rows_of(run)
    assert [row["arm"] for row in rows] == ["none", "muon-traced"]
    assert rows[0]["train_loss"] != rows[1]["train_loss"]
    chains = record_of(run)["chains"]
    assert "muon_dimension_numbers(fan_in)" in chains["muon-traced"]
    assert "muon_dimension_numbers" not in chains["none"]
