"""What users install: archives, the core alone, the lowest supported versions, the import."""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TESTS = ROOT / "tests"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

CORE_TESTS = (
    "test_authors",
    "test_centralize_leaves",
    "test_chains",
    "test_determinism",
    "test_errors",
    "test_fuzz",
    "test_memory",
    "test_names_shapes",
    "test_operator",
    "test_selection",
    "test_shard_map",
    "test_sharding",
    "test_trace_property",
    "test_trace_registry",
    "test_trace_rules",
    "test_trace_spellings",
)
"""What an installation without Flax and the others must pass."""

OF_THE_COMPILER = {"test_memory"}
"""Those of them that measure what XLA makes of the program, which is a promise for new versions."""

THEIR_IMPORTS = {"chex", "gc_optax", "hypothesis", "jax", "numpy", "optax", "pytest", "tests"}
"""What these may import besides the standard library."""

IMPORT = 0.2
"""How much longer than `import optax` `import gc_optax` may take, as a part of that."""


def imports(file: pathlib.Path) -> set[str]:
    """The modules that a test imports, and those that the test modules among them import."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    for name in sorted(found):
        other = TESTS.parent / pathlib.Path(*name.split(".")).with_suffix(".py")
        if name.startswith("tests.") and other.is_file():
            found |= imports(other)
    return found


@pytest.mark.parametrize("name", CORE_TESTS)
def test_a_test_of_the_core_imports_no_other_framework(name):
    found = imports(TESTS / f"{name}.py")
    assert {name.partition(".")[0] for name in found} <= THEIR_IMPORTS | sys.stdlib_module_names
    assert not [name for name in found if name.startswith(("gc_optax.experi", "gc_optax.models"))]


def lowest(requirement: str) -> str:
    """The requirement at its lower bound: `jax==0.10` for `jax>=0.10`."""
    match = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement)
    assert match, f"{requirement} has no lower bound, or more than one."
    return f"{match[1]}=={match[2]}"


def test_every_dependency_of_the_core_has_a_lower_bound():
    names = {lowest(requirement).partition("==")[0] for requirement in PROJECT["dependencies"]}
    assert names == {"jax", "optax"}


def test_the_workflow_covers_every_supported_python():
    workflow = (ROOT / ".github/workflows/test.yml").read_text()
    supported = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    versions = ", ".join(f'"{version}"' for version in supported)
    assert f"python: [{versions}]\n" in workflow


def test_the_workflows_run_the_steps_of_ci_and_no_others():
    steps = set(re.findall(r"^(\w+)\(\) \{$", (ROOT / ".ci/step").read_text(), re.MULTILINE))
    workflows = "".join(file.read_text() for file in (ROOT / ".github/workflows").glob("*.yml"))
    calls = " ".join(re.findall(r"\.ci/step (.+)", workflows))
    in_workflows = set(re.findall(r"\w+", calls)) - {"matrix", "python", "3", "12"}
    assert in_workflows == steps - {"install"}
    in_run = re.findall(r'^ *steps "\S+" (.+)$', (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert set(" ".join(in_run).split()) == steps - {"install", "docs"}  # a slow test builds them


def run(*command: str | pathlib.Path, cwd: pathlib.Path, **environment: str) -> str:
    # Nothing of the checkout, or of the environment that runs this test, may be found.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=inherited | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def build(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """The sdist of the checkout, and the wheel that is built from the sdist."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def source_files(folder: str) -> set[str]:
    return {
        str(file.relative_to(ROOT))
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


@pytest.mark.slow
def test_the_archives_hold_what_they_should(tmp_path):
    sdist, wheel = build(tmp_path)
    stem = f"gc_optax-{PROJECT['version']}"
    assert (sdist.name, wheel.name) == (f"{stem}.tar.gz", f"{stem}-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
        metadata = archive.read(f"{stem}.dist-info/METADATA").decode()
    assert {name for name in in_wheel if ".dist-info/" not in name} == source_files("gc_optax")
    assert "gc_optax/py.typed" in in_wheel
    assert f"{stem}.dist-info/licenses/LICENSE" in in_wheel
    assert "License-Expression: Apache-2.0" in metadata
    for requirement in PROJECT["dependencies"]:
        assert f"Requires-Dist: {requirement}\n" in metadata
    with tarfile.open(sdist) as archive:
        in_sdist = {name.removeprefix(f"{stem}/") for name in archive.getnames()}
    assert in_sdist >= source_files("gc_optax") | source_files("tests") | {
        # Which tests read.
        ".ci/run",
        ".ci/step",
        ".github/workflows/test.yml",
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "pyproject.toml",
    }


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("versions", ["lowest", "newest"])
def test_the_wheel_passes_the_core_tests_outside_the_checkout_without_extras(versions, tmp_path):
    _, wheel = build(tmp_path)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pins = map(lowest, PROJECT["dependencies"]) if versions == "lowest" else ()
    packages = [wheel, *pins, "chex", "hypothesis", "pytest"]
    run(python, "-m", "pip", "install", "--quiet", *packages, cwd=tmp_path)
    folder = tmp_path / "elsewhere"
    shutil.copytree(
        TESTS, folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "experiments")
    )
    shutil.copy(ROOT / "pyproject.toml", folder)
    where = run(python, "-c", "import gc_optax; print(gc_optax.__file__)", cwd=folder)
    assert pathlib.Path(where.strip()).is_relative_to(tmp_path / "venv")
    output = run(
        python,
        *["-m", "pytest", "-q", "-o", "addopts=", "-m", "not slow", "-p", "no:cacheprovider"],
        *(
            f"tests/{name}.py"
            for name in CORE_TESTS
            if versions == "newest" or name not in OF_THE_COMPILER
        ),
        cwd=folder,
    )
    assert re.search(r"^\d{2,} passed", output.splitlines()[-1]), output
    listed = run(python, "-m", "pip", "list", "--format=freeze", cwd=folder)
    installed = {line.partition("==")[0].lower() for line in listed.splitlines()}
    assert not installed & {"flax", "dm-haiku", "equinox", "matplotlib"}


def import_time(module: str, cache: pathlib.Path) -> float:
    """Processor time, which other work on the machine changes less than time on the clock."""
    command = [sys.executable, "-W", "error", "-c", f"import {module}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPYCACHEPREFIX": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = os.times()
    subprocess.run(command, check=True, env=environment)
    after = os.times()
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system


def extra_import_time(rounds: int, cache: pathlib.Path) -> float:
    """The shortest import of each, since whatever else happens only adds to it."""
    import_time("gc_optax", cache)  # compiles to bytecode, as an installation does
    times = {"optax": [], "gc_optax": []}
    for _ in range(rounds):
        for module, of_module in times.items():
            of_module.append(import_time(module, cache))
    return min(times["gc_optax"]) / min(times["optax"]) - 1


@pytest.mark.slow
def test_the_import_warns_of_nothing_and_takes_little_more_than_that_of_optax(tmp_path):
    assert extra_import_time(rounds=9, cache=tmp_path) < IMPORT
