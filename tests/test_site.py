"""The site: nothing is missing in it, it is built without a warning, and it loads nothing."""

import functools
import http.server
import inspect
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
import yaml

import gc_optax
from gc_optax.experiments.presentation.report_tables import headline_table
from gc_optax.experiments.runs.reader import read_run
from tests.test_docs import ROOT

NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
RESULTS = ROOT / "benchmarks" / "results"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BADGE = "../../_site/colab.svg"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PUBLIC = {
    f"{module.__name__}.{name}": thing
    for module in (gc_optax, gc_optax.diagnostics)
    for name, thing in vars(module).items()
    if not name.startswith("_") and not isinstance(thing, types.ModuleType)
}


def test_nav_lists_every_page():
    pages = [path.name for path in ROOT.glob("docs/*.md")]
    pages += [f"notebooks/{path.stem}.md" for path in NOTEBOOKS]
    pages += ["results/report.md", "changelog.md", "tracing.md"]  # which lie elsewhere, too
    assert sorted(listed(NAV)) == sorted(pages)


def test_api_page_has_every_public_name_once():
    text = (ROOT / "docs" / "api.md").read_text()
    assert sorted(re.findall(r"^::: (\S+)$", text, flags=re.M)) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_has_all_that_a_caller_needs(name):
    text = inspect.getdoc(PUBLIC[name]) or ""
    is_class = isinstance(PUBLIC[name], type)
    sections = ["Attributes" if is_class else "Args", "Examples", "Source"]
    sections += [] if is_class else ["Returns"]
    sections += [] if "raises no error" in text else ["Raises"]
    for section in sections:
        assert re.search(rf"^{section}:", text, flags=re.M), section


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> pathlib.Path:
    """The site, built as CI does, with no way to the network."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = "http://127.0.0.1:9"
    environment = {
        **os.environ,
        "http_proxy": nowhere,
        "https_proxy": nowhere,
        "NO_MKDOCS_2_WARNING": "1",  # what its theme says of the future of MkDocs
    }
    # Not with --quiet, which hides warnings from --strict, too.
    ran = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "WARNING" not in ran.stderr
    return folder


@pytest.mark.slow
def test_loads_nothing_from_elsewhere(site):
    for path, page in pages(site):
        for tag in page.find_all(True):
            loaded = [tag.get("src"), tag.get("data"), tag.get("srcset")]
            if tag.name == "link":
                loaded.append(tag.get("href"))
            for address in map(str, filter(None, loaded)):
                assert is_inside(site, path, address), (path, address)
            assert "url(" not in str(tag.get("style", "")), path
    for path in site.rglob("*.css"):
        for address in re.findall(r"url\(([^)]*)\)|@import ([^;]*)", path.read_text()):
            assert "//" not in re.sub(r"^data:.*", "", "".join(address).strip("\"'")), path


@pytest.fixture(scope="module")
def browser():
    """Chromium, the system's or Playwright's own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed.")
    with playwright.sync_playwright() as started:
        found = next(filter(None, map(shutil.which, CHROMIUM)), started.chromium.executable_path)
        if not pathlib.Path(found).exists():
            pytest.skip("There is no Chromium: install one, or run `playwright install chromium`.")
        # Chromium has no sandbox for root, as whom containers run.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        with started.chromium.launch(executable_path=found, args=arguments) as running:
            yield running


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    """The site, served on this machine."""
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_in_a_browser_no_page_asks_for_anything_from_elsewhere_or_scrolls_sideways(
    site, address, browser, width, scheme
):
    with browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    ) as context:
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        for path, _ in pages(site):
            uri = path.relative_to(site).as_posix().removesuffix("index.html")
            page.goto(address + uri, wait_until="networkidle")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (uri, wide)
            failing = [url for url in asked if not url.startswith((address, "data:"))]
            assert not failing, (uri, failing)
        assert len(asked) > 100


@pytest.mark.slow
def test_shows_no_latex(site):
    formulas = 0
    for path, page in pages(site):
        formulas += len(page.find_all("math"))
        for code in page.find_all(["code", "pre", "script", "style"]):
            code.decompose()
        assert not re.search(r"\\[a-zA-Z()\[\]]|\$\$|\$\\", page.get_text()), path
        assert not page.select(".arithmatex"), path
    assert formulas > 0


@pytest.mark.slow
def test_refuses_latex_that_it_cannot_convert():
    hooks = load_hooks()
    assert hooks.mathml(r"\(P = I - e e^T\)").startswith("<math")
    for formula in (r"\(\unknown x\)", r"\(\left( x\)", r"\(x^{\)"):
        with pytest.raises(ValueError, match="cannot be converted"):
            hooks.mathml(formula)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_its_figures_and_its_badge(site, notebook):
    path = site / "notebooks" / notebook.stem / "index.html"
    page = parsed(path)
    images = [image["src"] for image in page.select(".md-content img")]
    figures = [
        output
        for cell in nbformat.read(notebook, as_version=4).cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert figures
    assert images.count(BADGE) == 1
    assert len(images) == len(figures) + 2  # the badge, and the figure that opens
    badge = page.select_one(f'img[src="{BADGE}"]')
    assert badge is not None
    assert badge["alt"] == "Open in Colab"
    assert badge.parent is not None
    assert str(badge.parent["href"]).startswith("https://colab.research.google.com/github/")


@pytest.mark.slow
def test_results_are_the_committed_ones(site):
    rows = [[cell.get_text() for cell in row.find_all("td")] for row in rows_of(site, "results")]
    runs = [read_run(path.parent) for path in sorted(RESULTS.glob("*/run.json"))]
    for line in headline_table(runs).splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("| ").replace("*", "").split("|")]
        expected = [cell.replace("`", "") for cell in cells]
        assert any([c for c in row if c] == [c for c in expected if c] for row in rows), line
    (plot,) = parsed(site / "results" / "index.html").select(".md-content img")
    committed = (RESULTS / "headline.png").read_bytes()
    assert (site / "results" / str(plot["src"])).read_bytes() == committed


@pytest.mark.slow
def test_api_page_explains_every_public_name(site):
    page = parsed(site / "api" / "index.html")
    for name in PUBLIC:
        assert page.find(id=name) is not None, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("term", "location"),
    [
        ("centralize", "api/#gc_optax.centralize"),
        ("MuonDimensionNumbers", "api/#gc_optax.muon_dimension_numbers"),
        ("embedding lookup", "rules/#what-tracing-reports"),
        ("Haiku", "#haiku"),
        ("shakespeare", "results/"),
        ("hyperplane", "theory/#constrained-descent"),
    ],
)
def test_search_finds(site, term, location):
    entries = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    found = {entry["location"] for entry in entries if term in f"{entry['title']} {entry['text']}"}
    assert any(place.startswith(location) for place in found), found


def listed(nav: Any) -> Iterator[str]:
    """The pages in MkDocs's nested `nav`."""
    for entry in nav:
        for below in entry.values():
            yield from [below] if isinstance(below, str) else listed(below)


def parsed(path: pathlib.Path):
    import bs4  # comes with the extra `docs`

    return bs4.BeautifulSoup(path.read_text(), "html.parser")


def pages(site: pathlib.Path):
    found = sorted(site.rglob("*.html"))
    assert len(found) > len(list(listed(NAV)))
    for path in found:
        yield path, parsed(path)


def rows_of(site: pathlib.Path, page: str):
    return parsed(site / page / "index.html").select(".md-content tbody tr")


def is_inside(site: pathlib.Path, page: pathlib.Path, address: str) -> bool:
    """Whether a page loads something that the site has."""
    address = address.partition("?")[0].partition("#")[0]
    if address.startswith("data:"):
        return True
    if page.name == "404.html":  # served at any depth, so it starts at the root
        page, address = site / "404.html", address.lstrip("/")
    return "//" not in address and (page.parent / address).resolve().exists()


def load_hooks():
    import importlib.util

    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "_site" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
