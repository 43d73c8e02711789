"""The tests of the core find bugs: each of a list of deliberate ones makes some of them fail."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import gc_optax
from tests.mutations import MUTATIONS

PACKAGE = pathlib.Path(gc_optax.__file__).parent
TESTS = pathlib.Path(__file__).parent

# Runs pytest on the arguments, only where the package comes from the current folder.
RUN = """
import pathlib, sys
try:
    import gc_optax
except Exception as error:
    sys.exit(f"The package cannot be imported: {error!r}")
if pathlib.Path(gc_optax.__file__).parents[1] != pathlib.Path.cwd():
    sys.exit(f"The package under test is not the copy: {gc_optax.__file__}")
import pytest
print("Tests begin.", flush=True)
sys.exit(pytest.main(sys.argv[1:]))
"""


def copied_to(folder: pathlib.Path) -> pathlib.Path:
    ignore = shutil.ignore_patterns("__pycache__", "experiments", "models")
    shutil.copytree(PACKAGE, folder / "gc_optax", ignore=ignore)
    shutil.copytree(TESTS, folder / "tests", ignore=ignore)
    shutil.copy(TESTS.parent / "pyproject.toml", folder)
    return folder / "gc_optax"


def run_tests(folder: pathlib.Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    options = ["-x", "-q", "-n", "0", "-m", "", "--tb=line", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", RUN, *options, *tests],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Tests begin." in result.stdout, result.stderr
    return result


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_list_of_mutations_is_up_to_date(name):
    mutation = MUTATIONS[name]
    source = (PACKAGE / mutation.file).read_text()
    assert source.count(mutation.old) == 1, (
        f"The list is out of date: in {mutation.file}, {mutation.old!r} does not stand once."
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_deliberate_bug_is_caught(name, tmp_path):
    mutation = MUTATIONS[name]
    file = copied_to(tmp_path) / mutation.file
    file.write_text(file.read_text().replace(mutation.old, mutation.new))
    result = run_tests(tmp_path, mutation.tests)
    # 1: tests ran and some failed. 2 to 5: interrupted, misused, or nothing was collected.
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout
    assert "1 failed" in result.stdout, result.stdout
    assert "error" not in result.stdout.splitlines()[-1], result.stdout


@pytest.mark.slow
def test_without_a_bug_the_same_tests_pass(tmp_path):
    copied_to(tmp_path)
    tests = dict.fromkeys(test for mutation in MUTATIONS.values() for test in mutation.tests)
    result = run_tests(tmp_path, tuple(tests))
    assert result.returncode == pytest.ExitCode.OK, result.stdout
