"""`python -m benchmarks.zoo`: runs the models of what is installed, prints and writes the table."""

import argparse
import fnmatch
import gc
import importlib
import importlib.metadata
import json
import pkgutil
import platform
import subprocess
import sys
import time
import traceback
from pathlib import Path

import jax

import gc_optax
from benchmarks.zoo import models, tables
from benchmarks.zoo.verdicts import judged

OUTPUT = Path(__file__).parents[1] / "results" / "zoo.json"


def modules(only: list[str]) -> list[str]:
    """The modules of `benchmarks.zoo.models` whose names match."""
    names = [module.name for module in pkgutil.iter_modules(models.__path__)]
    return [n for n in names if not only or any(fnmatch.fnmatch(n, o) for o in only)]


def versions(packages: list[str]) -> dict[str, str]:
    """The versions of a module's packages, and of what all stand on."""
    return {name: importlib.metadata.version(name) for name in (*packages, "jax")}


def commit() -> str | None:
    """The commit of the library that is imported, where it is a checkout of git."""
    folder = Path(gc_optax.__file__).resolve().parent
    asked = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def run_module(name: str, pattern: str | None, verbose: bool) -> dict | str:
    """The rows of the models of a module, or why there are none."""
    try:
        module = importlib.import_module(f"benchmarks.zoo.models.{name}")
        content = {"versions": versions(module.PACKAGES), "python": platform.python_version()}
        content["commit"] = commit()
    except Exception as error:  # whatever a package raises that does not fit the others
        return f"{type(error).__name__}: {error}"[:300]
    content |= {"models": {}, "failed": {}}
    for entry in module.entries():
        if pattern and not fnmatch.fnmatch(entry.name, pattern):
            continue
        start = time.perf_counter()
        try:
            row = judged(entry.build())
        except Exception as error:  # one model that does not build is not the end
            content["failed"][entry.name] = f"{type(error).__name__}: {error}"[:300]
            print(f"  {entry.name}: FAILED {type(error).__name__}: {str(error)[:200]}")
            if verbose:
                traceback.print_exc()
            continue
        content["models"][entry.name] = row
        print(f"  {tables.line(entry.name, row)}  ({time.perf_counter() - start:.1f} s in all)")
        for finding in row["findings"]:
            print(f"      {tables.finding(finding)}")
        sys.stdout.flush()
    jax.clear_caches()
    gc.collect()
    return content


def written(path: Path) -> dict:
    """What earlier runs wrote."""
    content = json.loads(path.read_text()) if path.exists() else {}
    return {"packages": {}, "skipped": {}} | content


def main() -> None:
    """Runs what is installed; the rows of other packages stay as they were written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("modules", nargs="*", help="modules of benchmarks/zoo/models; default all")
    parser.add_argument("--entry", help="only the models whose name matches this pattern")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON is")
    parser.add_argument("--dry", action="store_true", help="write no JSON")
    parser.add_argument("--verbose", action="store_true", help="show the errors in full")
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    content = written(options.output)
    for name in modules(options.modules):
        print(name)
        wide = jax.config.jax_enable_x64
        result = run_module(name, options.entry, options.verbose)
        jax.config.update("jax_enable_x64", wide)  # a package may switch it on for its own
        if isinstance(result, str):
            print(f"  skipped: {result}")
            if name not in content["packages"]:
                content["skipped"][name] = result
            continue
        content = content if options.dry else written(options.output)  # another run may go on
        content["packages"][name] = result
        content["skipped"].pop(name, None)
        if not options.dry and not options.entry:
            options.output.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    print("\n" + tables.markdown(content))


if __name__ == "__main__":
    main()
