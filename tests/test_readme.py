"""README and CONTRIBUTING: short, and what they show is what there is."""

import pytest

from tests.modules import diagram
from tests.readme import MEASURED, PARTS, README

pytestmark = pytest.mark.usefixtures("default_promotion")


@pytest.mark.parametrize("make", PARTS, ids=lambda make: make.__name__)
def test_it_has_the_tables_and_numbers_of_today(make):
    assert f"\n{make()}\n" in README.read_text(encoding="utf-8")


def test_it_is_read_in_a_few_minutes():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120
    assert len(MEASURED) == 6


def test_its_first_screen_says_what_it_is_and_how_to_install_it_and_why_not_optax():
    first = "\n".join(README.read_text(encoding="utf-8").splitlines()[:25])
    assert "gc_optax.centralize(), optax.adam" in first
    assert 'pip install "gc-optax @ git+https://github.com/gc-optax/gc_optax"' in first
    assert "Why not `optax.centralize()`?" in first


def test_contributing_shows_how_the_modules_depend_on_each_other():
    assert diagram() in (README.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
