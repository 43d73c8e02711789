"""The notebooks open in Colab, run from top to bottom, and print what is committed with them.

`python -m tests.test_notebooks [NAME...]` runs them and keeps the new outputs.
"""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator

import jax
import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DATA = pathlib.Path(os.environ.get("GC_OPTAX_DATA_DIR") or ROOT / "no data")

DATA_URI = r"data:image/png;base64,([\w+/=]+)"

# The first cell that runs, in each of them.
INSTALL = '''\
# Installs gc_optax where it is missing. A JAX that is new enough is kept as it is.
import glob
import importlib.metadata
import importlib.util
import os
import shutil

from packaging.version import Version


def jax_versions():
    """Of JAX and what it runs on, as installed."""
    parts = ("jax", "jaxlib", "libtpu")
    return {d.name: d.version for d in importlib.metadata.distributions() if d.name in parts}


if importlib.util.find_spec("gc_optax") is None:
    before = jax_versions()
    tpu = "TPU_ACCELERATOR_TYPE" in os.environ or glob.glob("/dev/accel*")
    device = "[tpu]" if tpu else "[cuda12]" if shutil.which("nvidia-smi") else ""
    is_new = Version(before.get("jax", "0")) >= Version("0.8.1")
    jax_here = f"jax=={before['jax']}" if is_new else f"jax{device}>=0.8.1"
    gc_optax = "gc-optax[experiments] @ git+REPOSITORY"
    %pip install --quiet "{jax_here}" "{gc_optax}"
    if before and jax_versions() != before:
        raise RuntimeError("JAX was replaced: restart the session, and then run all cells.")'''


pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_opens_in_colab(path):
    cell = read(path).cells[0]
    address = repository().replace("https://github.com/", "github/")
    badge = (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"(https://colab.research.google.com/{address}/blob/main/notebooks/{path.name})"
    )
    assert cell.cell_type == "markdown"
    assert cell.source.startswith("# ")
    assert badge in cell.source


def test_installs_itself_where_it_must(path):
    assert code_cells(read(path))[0].source == INSTALL.replace("REPOSITORY", repository())


def test_has_a_cell_of_parameters(path):
    assert "parameters" in code_cells(read(path))[1].metadata.get("tags", [])


def test_was_run_from_top_to_bottom_without_a_warning(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)
    complains(cells)


def test_is_small_enough_to_look_at(path):
    assert path.stat().st_size < 1_500_000


def test_opens_with_a_figure_that_it_draws_and_ends_with_what_to_try(path):
    notebook = read(path)
    (drawn,) = [figure for cell in tagged(notebook, "opening") for figure in figures(cell)]
    assert re.findall(DATA_URI, notebook.cells[0].source) == [drawn]
    assert "## What to try next" in notebook.cells[-1].source


@pytest.mark.slow
def test_prints_what_is_committed_in_a_fresh_runtime(path, colab, five_classes, tmp_path):
    committed = read(path)
    data = DATA / "cifar100" if DATA.exists() else five_classes
    ran = run(read(path), tmp_path, data, colab)
    install, *others = code_cells(ran)
    assert not [output for output in install.outputs if output.output_type == "error"]
    complains(others)
    for number, (then, now) in enumerate(
        zip(code_cells(committed)[1:], others, strict=True), start=2
    ):
        assert shown(now) == shown(then), f"cell {number}"
    colab.has_the_jax_it_had()


@pytest.fixture(scope="module")
def five_classes(tmp_path_factory) -> pathlib.Path:
    """A folder of 64 training and 64 test images of noise, in the first five classes."""
    import pyarrow.parquet as pq

    from tests.experiments.test_data import pixels_of, table

    folder = tmp_path_factory.mktemp("cifar100")
    for seed, split in enumerate(("train", "test")):
        labels = [number % 5 for number in range(64)]
        pq.write_table(table(pixels_of(64, seed=seed), labels), folder / f"{split}.parquet")
    return folder


@dataclasses.dataclass
class Runtime:
    """What a notebook runs in: its kernel, the environment of that, and its Python."""

    environment: dict[str, str]
    kernel: str = "python3"
    python: str = sys.executable

    def pip(self, *arguments: str) -> str:
        command = [self.python, "-m", "pip", "--disable-pip-version-check", *arguments]
        return subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def has_the_jax_it_had(self):
        assert f"jax=={jax.__version__}\n" in self.pip("freeze")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Iterator[Runtime]:
    """As Colab gives it: a Python with JAX and `google.colab`, and GitHub, which is this checkout.

    Colab has Python 3.12, NumPy, Matplotlib and much else. What is not here, the cell installs.
    """
    folder = tmp_path_factory.mktemp("colab")
    github = folder / "github"
    for name in ("gc_optax", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        github.mkdir(exist_ok=True)
        copy(ROOT / name, github / name)
    author = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.com")
    for arguments in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "copy")):
        subprocess.run(["git", *arguments], cwd=github, check=True)
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / "bin"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment = inherited | {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{github}.insteadOf",
        "GIT_CONFIG_VALUE_0": repository(),
        "PATH": f"{scripts}:{os.environ['PATH']}",
    }
    runtime = Runtime(environment, "colab", str(scripts / "python"))
    runtime.pip("install", "--quiet", f"jax=={jax.__version__}", "ipykernel", "packaging")
    command = [runtime.python, "-m", "ipykernel", "install", "--prefix", folder, "--name", "colab"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    (packages,) = (folder / "venv").glob("lib/*/site-packages")
    (packages / "google" / "colab").mkdir(parents=True)
    (packages / "google" / "colab" / "__init__.py").touch()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JUPYTER_PATH", str(folder / "share" / "jupyter"))
        yield runtime


@pytest.fixture
def colab(fresh) -> Runtime:
    """Without gc_optax, so that the install cell of each notebook has to get it."""
    fresh.pip("uninstall", "--quiet", "--yes", "gc-optax")
    return fresh


def read(path: pathlib.Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def repository() -> str:
    """The project's address."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["urls"]["Repository"]


def tagged(notebook: nbformat.NotebookNode, tag: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in code_cells(notebook) if tag in cell.metadata.get("tags", [])]


def figures(cell: nbformat.NotebookNode) -> list[str]:
    """The PNGs that it drew, in base 64."""
    drawn = [output.get("data", {}).get("image/png", "") for output in cell.outputs]
    return [figure.replace("\n", "") for figure in drawn if figure]


def run(
    notebook: nbformat.NotebookNode, folder: pathlib.Path, data: pathlib.Path, runtime: Runtime
) -> nbformat.NotebookNode:
    """Runs it in `folder` on the CPU; its images of CIFAR-100 are in `data`."""
    environment = {
        **runtime.environment,
        "JAX_PLATFORMS": "cpu",
        "GC_OPTAX_DATA_DIR": str(data),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name=runtime.kernel,
        record_timing=False,
        coalesce_streams=True,  # a slow machine sends them in pieces
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute(env=environment)


def complains(cells: list[nbformat.NotebookNode]):
    """Nothing may go to standard error, where warnings go, and no cell may fail."""
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error", output
            assert output.get("name") != "stderr", output


def shown(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell shows, less what may differ from machine to machine: numbers and widths."""
    found, printed = [], ""
    for output in cell.outputs:
        text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
        text = re.sub(r"[-+]?\d[\d,._]*(e[-+]?\d+)?|[-─━]+|\s+", " ", text)
        if output.output_type == "stream":
            printed += f" {text}"
            continue
        kinds = sorted(kind for kind in output.get("data", {}) if kind.startswith("image/"))
        found.append(f"{output.output_type} {' '.join(text.split())} {' '.join(kinds)}".strip())
    return [*found, " ".join(printed.split())]


if __name__ == "__main__":
    for path in NOTEBOOKS:
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            here = Runtime(dict(os.environ))
            notebook = run(read(path), path.parent, DATA / "cifar100", here)
            (cell,) = tagged(notebook, "opening")
            opening = notebook.cells[0]
            opening.source = re.sub(
                DATA_URI, f"data:image/png;base64,{figures(cell)[0]}", opening.source
            )
            for cell in notebook.cells:
                cell.metadata.pop("execution", None)
            notebook.metadata = {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"},
            }
            path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
            print(path.name)
