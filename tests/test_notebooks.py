"""The notebooks open in Colab, run from top to bottom, and print what is committed with them.

`python -m tests.test_notebooks [NAME...]` runs them and keeps the new outputs.
"""

import json
import os
import pathlib
import re
import sys
import tomllib

import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DATA = pathlib.Path(os.environ.get("GC_OPTAX_DATA_DIR") or ROOT / "no data")

# The first cell that runs, in each of them.
INSTALL = """\
# Installs gc_optax where it is not installed, with JAX for the TPU, GPU or CPU at hand.
import glob
import importlib.util
import os
import shutil

if importlib.util.find_spec("gc_optax") is None:
    tpu = "TPU_ACCELERATOR_TYPE" in os.environ or glob.glob("/dev/accel*")
    jax_for_device = "jax[tpu]" if tpu else "jax[cuda12]" if shutil.which("nvidia-smi") else "jax"
    gc_optax = "gc-optax[experiments] @ git+REPOSITORY"
    %pip install --quiet "{jax_for_device}" "{gc_optax}\""""


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
    complains(notebook)


def test_is_small_enough_to_look_at(path):
    assert path.stat().st_size < 1_500_000


@pytest.mark.slow
def test_prints_what_is_committed(path, tiny_cifar100, tmp_path):
    committed = read(path)
    ran = run(read(path), tmp_path, DATA / "cifar100" if DATA.exists() else tiny_cifar100)
    complains(ran)
    for number, (then, now) in enumerate(
        zip(code_cells(committed), code_cells(ran), strict=True), start=1
    ):
        assert shown(now) == shown(then), f"cell {number}"


def read(path: pathlib.Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def repository() -> str:
    """The project's address."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["urls"]["Repository"]


def run(notebook, folder: pathlib.Path, data: pathlib.Path) -> nbformat.NotebookNode:
    """Runs it in `folder` on the CPU; its images of CIFAR-100 are in `data`."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "GC_OPTAX_DATA_DIR": str(data),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # a slow machine sends them in pieces
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute(env=environment)


def complains(notebook: nbformat.NotebookNode):
    """Nothing may go to standard error, where warnings go, and no cell may fail."""
    for cell in code_cells(notebook):
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
            notebook = run(read(path), path.parent, DATA / "cifar100")
            for cell in notebook.cells:
                cell.metadata.pop("execution", None)
            notebook.metadata = {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"},
            }
            path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
            print(path.name)
