"""The diagram of the modules in CONTRIBUTING.md, from their imports.

python -m tests.modules
"""

import ast
import pathlib
from graphlib import TopologicalSorter

import gc_optax

PACKAGE = pathlib.Path(gc_optax.__file__).parent
ROOMS = {
    "what a FanIn is, and trees of them": ["_fan_in", "_trees", "_nnx", "_arguments"],
    "axes by name": ["_names", "_name_rules", "_layouts", "_surroundings"],
    "axes by trace": ["_tracing"],
    "a tree of axes over updates and shards": ["_matching", "_shards", "_guesses"],
    "the operator": ["_centralize", "_means"],
    "summary, exclude, Muon": ["_summary", "_selection", "_muon"],
    "diagnostics": ["diagnostics", "_diagnostics", "_diagnostics_curvature"],
    "models": ["models"],
    **{
        f"experiments/{room}": [f"experiments.{room}"]
        for room in (
            *("errors", "data", "training", "settings", "runs", "execution", "presentation"),
            "commands",
        )
    },
}
FACADES = {"", "experiments", "experiments.__main__"}  # they only hand on what others have


def imports() -> dict[str, set[str]]:
    """The modules that each module imports from, named within the package."""
    files = {
        ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        .removesuffix("__init__")
        .rstrip("."): file
        for file in PACKAGE.rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for name, file in files.items():
        found[name] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gc_optax"):
                base = (node.module or "").removeprefix("gc_optax").removeprefix(".")
                for alias in node.names:
                    inner = f"{base}.{alias.name}".removeprefix(".")
                    found[name].add(inner if inner in files else base)
    return found


def rooms() -> dict[str, set[str]]:
    """The rooms that each room imports from.

    Raises:
        ValueError: A module is in no room.
        graphlib.CycleError: Rooms import from each other.
    """

    def room(module: str) -> str:
        for name, parts in ROOMS.items():
            if any(module == part or module.startswith(f"{part}.") for part in parts):
                return name
        raise ValueError(f"{module} is in no room of tests/modules.py.")

    found: dict[str, set[str]] = {name: set() for name in ROOMS}
    for module, imported in imports().items():
        if module not in FACADES:
            found[room(module)] |= {room(other) for other in imported - FACADES} - {room(module)}
    TopologicalSorter(found).prepare()
    return found


def diagram() -> str:
    """The rooms as a Mermaid diagram, without the arrows that follow from others."""
    below = rooms()

    def reached(room: str) -> set[str]:
        return below[room].union(*(reached(other) for other in below[room]))

    numbers = {room: f"r{number}" for number, room in enumerate(ROOMS)}
    lines = ["```mermaid", "flowchart TD"]
    lines += [f'    {numbers[room]}["{room}"]' for room in ROOMS]
    for room, others in below.items():
        direct = others.difference(*(reached(other) for other in others))
        lines += [f"    {numbers[room]} --> {numbers[other]}" for other in ROOMS if other in direct]
    return "\n".join([*lines, "```"]) + "\n"


if __name__ == "__main__":
    print(diagram())
