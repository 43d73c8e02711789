"""The rooms of `gc_optax.experiments`: small, and imported in one direction only."""

import ast
from pathlib import Path

import pytest

import gc_optax.experiments

ROOT = Path(gc_optax.experiments.__file__).parent
# From the bottom up: each room imports from those before it.
ROOMS = [
    "errors",
    "data",
    "training",
    "settings",
    "runs",
    "execution",
    "presentation",
    "commands",
]
FILES = sorted(ROOT.rglob("*.py"))


def imported(file):
    """The rooms that a file imports from."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[:2] == ["gc_optax", "experiments"] and len(parts) > 2:
                yield parts[2]
            elif node.module == "gc_optax.experiments":
                yield from (name.name for name in node.names if name.name in ROOMS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_is_short_and_imports_from_rooms_below_its_own(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) < 250
    if file.parent == ROOT:
        return
    own = ROOMS.index(file.parent.name)
    assert all(ROOMS.index(room) <= own for room in imported(file))


@pytest.mark.parametrize("room", [ROOT, *(ROOT / room for room in ROOMS[1:])])
def test_a_room_has_at_most_nine_files(room):
    assert len(list(room.glob("*.py"))) <= 9
