"""The first cell of each notebook, with a `pip` that only notes what it is asked for."""

import importlib.metadata
import importlib.util
import shutil
import types

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from tests.test_notebooks import INSTALL

GC_OPTAX = "gc-optax[experiments] @ git+REPOSITORY"


@pytest.fixture
def run_cell(monkeypatch):
    """Runs it where `installed` are the versions at hand, which pip turns into `afterwards`."""

    def run(installed, afterwards=None, *, tpu=False, gpu=False, has_gc_optax=False):
        asked = []
        versions = dict(installed)

        def magic(name, line):
            asked.append(f"{name} {line.format(**namespace)}")
            versions.update(afterwards or {})

        def distributions():
            return [types.SimpleNamespace(name=n, version=v) for n, v in versions.items()]

        spec = object() if has_gc_optax else None
        shell = types.SimpleNamespace(run_line_magic=magic)
        namespace = {"get_ipython": lambda: shell}
        with monkeypatch.context() as patched:
            patched.setattr(importlib.util, "find_spec", lambda name: spec)
            patched.setattr(importlib.metadata, "distributions", distributions)
            patched.setattr(shutil, "which", lambda name: name if gpu else None)
            patched.setattr("glob.glob", lambda pattern: [])
            patched.delenv("TPU_ACCELERATOR_TYPE", raising=False)
            if tpu:
                patched.setenv("TPU_ACCELERATOR_TYPE", "v5e-1")
            exec(TransformerManager().transform_cell(INSTALL), namespace)
        return asked

    return run


@pytest.mark.parametrize("version", ["0.8.1", "0.9.0", "0.12.0.1", "1.0"])
@pytest.mark.parametrize("device", ["tpu", "gpu", "cpu"])
def test_a_new_jax_stays_and_no_extra_brings_another_libtpu(run_cell, version, device):
    asked = run_cell(
        {"jax": version, "libtpu": "0.0.1"}, **({} if device == "cpu" else {device: True})
    )
    assert asked == [f'pip install --quiet "jax=={version}" "{GC_OPTAX}"']


@pytest.mark.parametrize(("device", "extra"), [("tpu", "[tpu]"), ("gpu", "[cuda12]"), ("", "")])
def test_without_jax_the_one_for_the_device_comes(run_cell, device, extra):
    asked = run_cell({}, {"jax": "0.12.0"}, **({device: True} if device else {}))
    assert asked == [f'pip install --quiet "jax{extra}>=0.8.1" "{GC_OPTAX}"']


@pytest.mark.parametrize("part", ["jax", "jaxlib", "libtpu"])
def test_a_jax_that_is_replaced_stops_the_notebook_and_asks_for_a_restart(run_cell, part):
    at_hand = {"jax": "0.7.2", "jaxlib": "0.7.2", "libtpu": "0.0.20", "numpy": "2.0"}
    with pytest.raises(RuntimeError, match="restart the session"):
        run_cell(at_hand, {part: "0.12.0"}, tpu=True)


def test_other_packages_may_change(run_cell):
    assert run_cell({"jax": "0.9.0", "numpy": "2.0"}, {"numpy": "2.1", "flax": "0.12.6"})


def test_nothing_is_installed_where_gc_optax_is(run_cell):
    assert run_cell({"jax": "0.12.0"}, has_gc_optax=True) == []
