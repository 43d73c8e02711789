"""README and docs: what they show is what the code does."""

import doctest
import json
import pathlib
import re
import shlex
import types

import jax
import optax
import pytest
from flax import nnx

import gc_optax
from gc_optax import (
    _centralize,
    _diagnostics,
    _diagnostics_curvature,
    _fan_in,
    _muon,
    _names,
    _selection,
    _summary,
    _trace,
)
from gc_optax.experiments import main
from gc_optax.experiments._arguments import parser
from gc_optax.experiments._config import Config
from gc_optax.experiments._protocols import PROTOCOLS, settings
from gc_optax.experiments._report_tables import headline_table
from gc_optax.experiments._runs import read_run
from gc_optax.models import MODELS
from tests.mutations import MUTATIONS
from tests.test_chains import CHAINS

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
LONG_PAGES = {"index.md", "recipes.md", "theory.md"}  # their examples compile whole networks
MODULES = [
    _centralize,
    _diagnostics,
    _diagnostics_curvature,
    _fan_in,
    _muon,
    _names,
    _selection,
    _summary,
    _trace,
]

pytestmark = pytest.mark.usefixtures("default_promotion")


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_examples_in_docstrings_run(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.name in LONG_PAGES else [])
        for page in PAGES
    ],
    ids=lambda page: page.name,
)
def test_examples_in_pages_run(page):
    # A code fence would be read as part of the expected output.
    text = re.sub(r"^```.*$", "", page.read_text(), flags=re.M)
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_of_a_page_is_an_example_that_runs(page):
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S):
        assert block.startswith(">>>"), block


@pytest.mark.parametrize("page", ["README.md", "docs/chain.md"])
def test_pages_have_the_tested_table_of_chains(page):
    table = {}
    for line in (ROOT / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[1].startswith("`") and cells[0] in CHAINS:
            table[cells[0]] = (tuple(re.findall(r"`([^`]+)`", cells[1])), cells[2])
    assert table.keys() == CHAINS.keys()
    said = {"preserved": "yes", "decays": "no, it decays", "moves": "no"}
    for name, chain in CHAINS.items():
        assert table[name] == (chain.code, said[chain.mean]), name


def test_the_chains_that_replace_the_authors_classes_can_be_built():
    text = (ROOT / "docs" / "migrating.md").read_text()
    rows = re.findall(r"^\| `[^`]+` \| (`.+`) \|$", text, flags=re.M)
    rows = [row for row in rows if "sgd(" in row or "adam" in row]
    assert len(rows) == 7
    names = {**vars(optax), **vars(gc_optax), "lr": 0.1, "momentum": 0.9, "wd": 0.1}
    for row in rows:
        chain = optax.chain(*(eval(link, names) for link in re.findall(r"`([^`]+)`", row)))
        grads = params = {"kernel": jax.numpy.ones((3, 2))}
        if "lookahead" in row:
            params = optax.LookaheadParams.init_synced(params)
        chain.update(grads, chain.init(params), params)


def commands_of_pages():
    """The lines of all shell blocks, without comments; of what a cluster starts, our command."""
    for page in PAGES:
        for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(), flags=re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                for command in re.sub(r"(^| )#.*", "", line).split("&&"):
                    ours = re.search(r'gc-optax (compare|report|inspect)[^"]*', command)
                    if words := shlex.split(ours.group() if ours else command):
                        yield words


def test_shell_blocks_hold_commands_that_exist():
    commands = list(commands_of_pages())
    assert len(commands) > 10
    for name, *arguments in commands:
        if name == "gc-optax":
            options = parser().parse_args(arguments)
            assert getattr(options, "protocol", "fashion-quick") in PROTOCOLS
        elif name in ("python", "pip", "mkdocs", "pytest"):
            script = next((a for a in arguments if a.endswith(".py")), "pyproject.toml")
            assert (ROOT / script).exists(), script
        else:
            assert (ROOT / name).is_file(), name


@pytest.mark.slow
def test_what_pages_compare_is_compared(tmp_path, monkeypatch, tiny_cifar100, tiny_text):
    """All of it, shortened; the networks of the paper are trained in their own tests."""
    monkeypatch.setenv("GC_OPTAX_DATA_DIR", str(tiny_cifar100.parent))
    ran = 0
    for number, (name, *arguments) in enumerate(commands_of_pages()):
        if name != "gc-optax" or arguments[0] != "compare":
            continue
        if {"--resume", "--distributed", "--coordinator"} & set(arguments):  # need company
            continue
        dataset = next((d for d in ("fashion", "shakespeare") if d in " ".join(arguments)), None)
        if "paper-cifar100" in arguments or dataset == "fashion":
            arguments += ["--model", "mlp", "--dataset", "cifar100"]
        if "--data-dir" in arguments:
            place = arguments.index("--data-dir") + 1
            arguments[place] = str(tiny_text if dataset == "shakespeare" else tiny_cifar100)
        elif dataset == "shakespeare":
            arguments += ["--data-dir", str(tiny_text)]
        if "--dataset" not in arguments and not dataset:  # digits, more than there are elsewhere
            arguments += ["--train-examples", "8"]
        arguments += ["--batch-size", "4", "--epochs", "1", "--seeds", "1", "--devices", "1"]
        assert main([*arguments, "--output", str(tmp_path / str(number))]) == 0
        ran += 1
    assert ran >= 6


def test_docs_show_the_table_of_rules():
    assert rules_table() in (ROOT / "docs" / "axes.md").read_text()


@pytest.mark.slow
def test_docs_show_the_networks_and_protocols_that_there_are():
    text = (ROOT / "docs" / "experiments.md").read_text()
    assert models_table() in text
    assert protocols_table() in text


def test_docs_show_the_committed_speeds():
    assert speed_table() in (ROOT / "docs" / "experiments.md").read_text()


def test_docs_show_the_committed_overhead_and_precision():
    text = (ROOT / "docs" / "scale.md").read_text()
    for make in SCALE_TABLES:
        assert make() in text, make.__name__
    for file in ("overhead", "reductions", "precision"):
        versions = json.loads((RESULTS / f"{file}.json").read_text())["versions"]
        assert f"JAX {versions['jax']}" in text, file


def test_docs_say_how_far_float32_is_off():
    cases = json.loads((RESULTS / "precision.json").read_text())["cases"]
    worst = max((case for case in cases if case["dtype"] == "float32"), key=lambda c: c["error"])
    text = re.sub(r"\s+", " ", (ROOT / "docs" / "scale.md").read_text())
    assert f"up to {worst['error']:.1f} units" in text
    assert f"(at a fan-in of {worst['fan_in']:,})" in text


def test_docs_count_the_deliberate_bugs():
    assert f"{len(MUTATIONS)} deliberate bugs" in (ROOT / "docs" / "scale.md").read_text()


def test_readme_has_the_committed_results():
    assert results_table() in (ROOT / "README.md").read_text()


def test_what_readme_shows_is_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), (page.name, target)


def test_everything_public_is_documented():
    public = {
        name: thing
        for name, thing in vars(gc_optax).items()
        # Submodules become attributes once they are imported.
        if not name.startswith("_") and not isinstance(thing, types.ModuleType)
    }
    measures = {name: f for name, f in vars(gc_optax.diagnostics).items() if name[0] != "_"}
    assert measures.keys() == {
        "center_weights",
        "drift",
        "mean_component",
        "projection_matrix",
        "removed_fraction",
        "top_eigenvalue",
        "weight_means",
    }
    assert public.keys() == {
        "FanIn",
        "centralize",
        "convolutions_only",
        "exclude",
        "fan_in_by_name",
        "fan_in_by_trace",
        "muon_dimension_numbers",
        "summary",
    }
    for name, thing in [*public.items(), *measures.items()]:
        assert ">>>" in thing.__doc__, name


def rules_table() -> str:
    """The table of rules in Markdown; printed by `python -m tests.test_docs`."""
    lines = ["| leaf | module around it | rank | fan-in axes | reason |", "|---|---|---|---|---|"]
    for rule in _names.RULES:
        leaf, module = (
            f"`{cell}`".replace("|", "\\|") if cell != ".*" else "any"
            for cell in (rule.leaf, rule.module)
        )
        lines.append(f"| {leaf} | {module} | {rule.ranks} | {rule.axes} | {rule.reason} |")
    return "\n".join(lines) + "\n"


def models_table() -> str:
    """The networks and their parameters for CIFAR-100, or 65 characters."""
    lines = ["| model | parameters | in |", "|---|---|---|"]
    for name, make in MODELS.items():
        shape, classes = ((64,), 65) if name == "gpt" else ((32, 32, 3), 100)
        network = nnx.eval_shape(lambda: make(shape, classes, rngs=nnx.Rngs(0)))  # noqa: B023
        params = jax.tree.leaves(nnx.as_pure(nnx.state(network, nnx.Param)))
        file = getattr(make, "func", make).__module__.rpartition(".")[2]
        count = sum(leaf.size for leaf in params)
        lines.append(f"| `{name}` | {count:,} | `{file}.py` |")
    return "\n".join(lines) + "\n"


def protocols_table() -> str:
    """What each protocol stands for."""
    lines = ["| protocol | network | optimizer | rate | batch | epochs | seeds |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name in PROTOCOLS:
        c = Config(**settings(name, {}))
        decay = f", weight decay {c.weight_decay:g}" if c.weight_decay else ""
        placed = ", GC on the update" if c.placement == "update" else ""
        rate = f"{c.learning_rates[0]:g}, {c.schedule}"
        rate += f" every {c.decay_epochs}" if c.decay_epochs else ""
        lines.append(
            f"| `{name}` | {c.model} | {c.optimizer}{decay}{placed} | {rate} | {c.batch_size} | "
            f"{c.epochs} | {c.seeds} |"
        )
    return "\n".join(lines) + "\n"


def speed_table() -> str:
    """The committed throughputs."""
    content = json.loads((RESULTS / "throughput.json").read_text())
    lines = ["| | images/s | over the Python loop | time over one seed |", "|---|---|---|---|"]
    for case, result in content["cases"].items():
        lines.append(f"| **{case}**, batches of {result['batch_size']} | | | |")
        for variant, values in result["variants"].items():
            lines.append(
                f"| {variant} | {values['images_per_second']:,.0f} | "
                f"{values['speed_over_python_loop']:.2f} | {values['time_over_one_seed']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def overhead_table() -> str:
    """What GC adds to the committed update steps."""
    content = json.loads((RESULTS / "overhead.json").read_text())
    lines = [
        "| | optimizer | alone, ms | with GC / alone | byte limit | `optax.centralize()` / alone |"
    ]
    lines.append("|---|---|---:|---:|---:|---:|")
    for row in content["updates"]:
        alone = 1e3 * row["seconds"]["alone"]["median"]
        lines.append(
            f"| {row['tree']} | {row['optimizer']} | {alone:.1f} | "
            f"{ratio(row['gc_over_alone'])} | {row['byte_limit']:.2f} | "
            f"{ratio(row['optax_over_alone'])} |"
        )
    return "\n".join(lines) + "\n"


def ratio(value: dict, digits: int = 2) -> str:
    """The median, and the quartiles in brackets."""
    middle, low, high = (f"{x:.{digits}f}" for x in (value["median"], *value["quartiles"]))
    return f"{middle} ({low}-{high})"


def steps_table() -> str:
    """What GC adds to the committed training steps."""
    content = json.loads((RESULTS / "overhead.json").read_text())
    lines = [
        "| | optimizer | batch | without GC, ms | with GC / without "
        "| its update: with GC / alone | byte limit | what GC adds to the update / step |"
    ]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for name, row in content["steps"].items():
        lines.append(
            f"| {name} | {row['optimizer']} | {row['batch']} | "
            f"{1e3 * row['seconds']['alone']['median']:.0f} | {ratio(row['gc_over_alone'], 3)} | "
            f"{ratio(row['update']['gc_over_alone'])} | {row['update']['byte_limit']:.2f} | "
            f"{row['share_of_step']:.2%} |"
        )
    return "\n".join(lines) + "\n"


def resources_table() -> str:
    """Compilation and temporary memory of the committed update steps, and the same in PyTorch."""
    content = json.loads((RESULTS / "overhead.json").read_text())
    lines = [
        "| | optimizer | compile alone, s | with GC, s | temporary memory alone, MiB "
        "| with GC, MiB | PyTorch: with GC / alone | fused: with GC / alone |"
    ]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for row in content["updates"]:
        compiling, memory = row["compile_seconds"], row["temporary_bytes"]
        lines.append(
            f"| {row['tree']} | {row['optimizer']} | {compiling['alone']['median']:.2f} | "
            f"{compiling['gc']['median']:.2f} | {memory['alone'] / 2**20:.2f} | "
            f"{memory['gc'] / 2**20:.2f} | {ratio(row['torch']['default']['gc_over_alone'])} | "
            f"{ratio(row['torch']['fused']['gc_over_alone'])} |"
        )
    return "\n".join(lines) + "\n"


def reductions_table() -> str:
    """How fast the committed formulations of the mean are."""
    content = json.loads((RESULTS / "reductions.json").read_text())
    names = list(content["shapes"][0]["over_mean"])
    lines = ["| kernel | mean, GiB/s | " + " | ".join(f"{name} / mean" for name in names) + " |"]
    lines.append("|---|---:|" + "---:|" * len(names))
    for row in content["shapes"]:
        speed = row["bytes"] / 2**30 / row["seconds"]["mean"]["median"]
        ratios = " | ".join(ratio(row["over_mean"][name]) for name in names)
        lines.append(f"| {' x '.join(map(str, row['shape']))} | {speed:.1f} | {ratios} |")
    return "\n".join(lines) + "\n"


def formulations_table() -> str:
    """The committed update steps, by formulation of the mean."""
    updates = json.loads((RESULTS / "reductions.json").read_text())["updates"]
    lines = ["| | " + " | ".join(updates) + " |", "|---|" + "---:|" * len(updates)]

    def line(name: str, *cells: str) -> None:
        lines.append(f"| {name} | {' | '.join(cells)} |")

    for name, key in (
        ("alone, GiB/s", "bytes_per_second_alone"),
        ("the added read, GiB/s", "bytes_per_second_of_the_added_read"),
    ):
        line(name, *(f"{row[key] / 2**30:.1f}" for row in updates.values()))
    for name in next(iter(updates.values()))["over_alone"]:
        line(f"{name} / alone", *(ratio(row["over_alone"][name]) for row in updates.values()))
    return "\n".join(lines) + "\n"


def precision_table() -> str:
    """The committed errors at the largest fan-in, the larger of those over the two axes."""
    content = json.loads((RESULTS / "precision.json").read_text())
    keys = (
        *("residual_mean", "error", "error_of_exact_rounded_once"),
        *("mean_error_one_by_one_in_float32", "mean_error_one_by_one_in_dtype"),
    )
    worst: dict = {}
    for case in content["cases"]:
        if case["fan_in"] == 10_000_000 and (case["offset"] != 100 or "e4m3" in case["dtype"]):
            row = worst.setdefault((case["dtype"], case["offset"]), [])
            # JSON has no infinity.
            row.append([float("inf") if case[key] is None else case[key] for key in keys])

    def cell(value: float) -> str:
        if value == float("inf"):
            return "not finite"
        return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"

    lines = [
        "| dtype | offset | residual mean | error | exact, rounded once "
        "| mean added one by one in float32 | in the dtype |"
    ]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for (dtype, offset), rows in worst.items():
        cells = " | ".join(cell(max(column)) for column in zip(*rows, strict=True))
        lines.append(f"| {dtype} | {offset:,g} | {cells} |")
    return "\n".join(lines) + "\n"


def results_table() -> str:
    """The committed runs, each at the learning rate at which no centralization does best."""
    return headline_table([read_run(path.parent) for path in sorted(RESULTS.glob("*/run.json"))])


SCALE_TABLES = (
    *(overhead_table, formulations_table, reductions_table),
    *(steps_table, resources_table, precision_table),
)


if __name__ == "__main__":
    for make in (
        *(rules_table, models_table, protocols_table, speed_table, results_table),
        *SCALE_TABLES,
    ):
        print(make())
