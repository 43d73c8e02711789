"""README and docs: what they show is what the code does."""

import doctest
import json
import pathlib
import re
import types

import pytest

import gc_optax
from gc_optax import _centralize, _fan_in, _muon, _names, _selection, _summary, _trace
from tests.test_chains import CHAINS

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
MODULES = [
    _centralize,
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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


def test_readme_has_the_tested_table_of_chains():
    text = (ROOT / "README.md").read_text()
    table = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[1].startswith("`") and cells[0] in CHAINS:
            table[cells[0]] = (tuple(re.findall(r"`([^`]+)`", cells[1])), cells[2])
    assert table.keys() == CHAINS.keys()
    said = {"preserved": "yes", "decays": "no, it decays", "moves": "no"}
    for name, chain in CHAINS.items():
        assert table[name] == (chain.code, said[chain.mean]), name


def test_docs_show_the_table_of_rules():
    assert rules_table() in (ROOT / "docs" / "axes.md").read_text()


def test_readme_has_the_committed_results():
    assert results_table() in (ROOT / "README.md").read_text()


def test_everything_public_is_documented():
    public = {
        name: thing
        for name, thing in vars(gc_optax).items()
        # Submodules become attributes once they are imported.
        if not name.startswith("_") and not isinstance(thing, types.ModuleType)
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
    for name, thing in public.items():
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


def results_table() -> str:
    """The accuracies of the committed run over learning rates, in Markdown."""
    folder = ROOT / "benchmarks" / "results" / "digits-cnn-sgd-learning-rates"
    results = json.loads((folder / "run.json").read_text())["results"]
    rates = sorted({result["learning_rate"] for result in results})
    lines = [
        "| learning rate | none | GC | GC - none | `optax.centralize()` | its difference |",
        "|---|---|---|---|---|---|",
    ]
    for rate in rates:
        accuracy = {r["arm"]: r["test_accuracy"] for r in results if r["learning_rate"] == rate}
        cells = [f"{rate:g}"]
        for arm in ("none", "gc", "optax"):
            mean, error = (100 * accuracy[arm][key][-1] for key in ("mean", "standard_error"))
            cells.append(f"{mean:.1f} ± {error:.1f}")
            if arm != "none":
                paired = accuracy[arm]["difference_from_none"][-1]
                mean, low, high = (100 * paired[key] for key in ("mean", "low", "high"))
                cells.append(f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(rules_table())
