"""README and docs: what they show is what the code does."""

import doctest
import json
import pathlib
import re
import shlex
import types

import pytest

import gc_optax
from benchmarks import tables
from gc_optax.experiments import main
from gc_optax.experiments.commands.arguments import parser
from gc_optax.experiments.settings.presets import PROTOCOLS
from tests.docs_tables import (
    AUTHORS_TABLES,
    CHAIN_TABLES,
    models_table,
    protocols_table,
    rules_table,
)
from tests.mutations import MUTATIONS

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
LONG_PAGES = {"index.md", "theory.md"}  # their examples compile whole networks
pytestmark = pytest.mark.usefixtures("default_promotion")


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


@pytest.mark.parametrize("make", CHAIN_TABLES, ids=lambda make: make.__name__)
def test_docs_have_the_tested_tables_of_chains(make):
    assert make() in (ROOT / "docs" / "chain.md").read_text()


@pytest.mark.parametrize("make", AUTHORS_TABLES, ids=lambda make: make.__name__)
def test_docs_have_the_tested_chains_for_the_authors_classes(make):
    assert make() in (ROOT / "docs" / "migrating.md").read_text()


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
    assert ran >= 5


def test_docs_show_the_table_of_rules():
    assert rules_table() in (ROOT / "docs" / "rules.md").read_text()


@pytest.mark.slow
def test_docs_show_the_networks_and_protocols_that_there_are():
    text = (ROOT / "docs" / "experiments.md").read_text()
    assert models_table() in text
    assert protocols_table() in text


TABLES = [
    (page.name, call)
    for page in sorted((ROOT / "docs").glob("*.md"))
    for call in re.findall(r"^<!-- table: (.+) -->$", page.read_text(), flags=re.M)
]


@pytest.mark.parametrize(("page", "call"), TABLES)
def test_every_table_that_a_page_asks_for_is_there(page, call):
    del page
    name, *arguments = call.split()
    made = getattr(tables, name)(*arguments)
    if name not in ("measured", "reliability", "scheduled", "versions"):
        assert len(made.splitlines()) > 2
    assert "nan" not in made


def test_docs_say_how_far_float32_is_off():
    path = ROOT / "benchmarks" / "results" / "precision.json"
    cases = json.loads(path.read_text())["cases"]
    worst = max((case for case in cases if case["dtype"] == "float32"), key=lambda c: c["error"])
    text = re.sub(r"\s+", " ", (ROOT / "docs" / "benchmarks.md").read_text())
    assert f"up to {worst['error']:.1f} units" in text
    assert f"(at a fan-in of {worst['fan_in']:,})" in text


def test_docs_count_the_deliberate_bugs():
    assert f"{len(MUTATIONS)} deliberate bugs" in (ROOT / "docs" / "scale.md").read_text()


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
