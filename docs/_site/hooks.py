"""What MkDocs does beside its plugins: pages from outside docs/, links out of it, and MathML.

`mkdocs.yml` lists this file under `hooks`; MkDocs calls the functions `on_...` by their names.
"""

import base64
import html
import pathlib
import posixpath
import re
import sys
import xml.etree.ElementTree as ET

import nbconvert
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import tables  # noqa: E402

DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"

# On GitHub the notebooks show it; here, no page loads anything from elsewhere.
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"

# Text that a cell prints gets a class of its own, and fences that it does not contain.
NOTEBOOK = """\
{%- extends 'markdown/index.md.j2' -%}
{% macro text(content) %}
~~~~~~~~~~~~ { .text .output }
{{ content | strip_ansi }}
~~~~~~~~~~~~
{% endmacro %}
{% block stream %}{{ text(output.text) }}{% endblock %}
{% block data_text scoped %}{{ text(output.data['text/plain']) }}{% endblock %}
{% block data_png %}
![Figure drawn by the code above]({{ output.metadata.filenames['image/png'] | path2url }})
{% endblock %}
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds to what lies in docs/ the notebooks, the report with its plots, and other pages."""
    for source, uri in _outside().items():
        if source.suffix != ".ipynb":
            files.append(File.generated(config, uri, abs_src_path=str(source)))
            continue
        text, figures = _notebook(source)
        files.append(File.generated(config, uri, content=text))
        for name, content in figures.items():
            figure = posixpath.join(posixpath.dirname(uri), name)
            files.append(File.generated(config, figure, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Puts sections of the report where a page asks for them, and mends links between files."""
    del files
    uri = page.file.src_uri
    sources = {uri: source for source, uri in _outside().items()}
    markdown = _relinked(markdown, sources.get(uri, DOCS / uri), uri, config)
    markdown = re.sub(r"^<!-- table: (.+) -->$", lambda m: table(m[1]), markdown, flags=re.M)
    if uri == "results/report.md":  # the sections of a run are the same in each: not for a list
        markdown = re.sub(r"^### ", "#### ", markdown, flags=re.M)
    # As sessions, whose prompts and printed lines are told from code.
    markdown = re.sub(r"^```python\n(?=>>> )", "```pycon\n", markdown, flags=re.M)
    return re.sub(
        r"^<!-- report\.md: (.+) -->$",
        lambda match: _relinked(_section(match[1]), RESULTS / "report.md", uri, config),
        markdown,
        flags=re.M,
    )


def table(call: str) -> str:
    """A table of committed numbers: a function of benchmarks/tables.py, and its arguments."""
    name, *arguments = call.split()
    return getattr(tables, name)(*arguments)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns LaTeX, which arithmatex has marked, into MathML, so that no script has to.

    Plots become links to themselves, and long names may break where a person would break them.
    """
    del config, files
    html = re.sub(
        r'(?P<link><a\b[^>]*>\s*)?<img [^>]*src="(?P<plot>[^"]+\.png)"[^>]*>',
        lambda match: (
            match[0] if match["link"] else f'<a class="plot" href="{match["plot"]}">{match[0]}</a>'
        ),
        html,
    )
    html = re.sub(
        r'(?<=<span class="doc doc-object-name doc-function-name">)[\w.]+',
        lambda match: re.sub(r"[._]", r"\g<0><wbr>", match[0]),
        html,
    )
    # Python-Markdown keeps the backslash that a bar in a table needs; a line may break behind it.
    html = re.sub(r"<td.*?</td>", lambda match: match[0].replace(r"\|", "|<wbr>"), html, flags=re.S)

    def replaced(match: re.Match[str]) -> str:
        try:
            formula = mathml(match["tex"])
        except ValueError as error:
            raise PluginError(f"{page.file.src_uri}: {error}") from error
        # One that may be wider than a phone is set apart there, where it can scroll.
        kind = "math long" if formula.count("</m") > 30 else "math"
        return f'<{match["tag"]} class="{kind}">{formula}{match["after"]}</{match["tag"]}>'

    return re.sub(
        r'<(?P<tag>span|div) class="arithmatex">(?P<tex>.*?)</(?P=tag)>(?P<after>[.,;:)]*)',
        replaced,
        html,
        flags=re.S,
    )


def mathml(marked: str) -> str:
    r"""MathML of an HTML-escaped formula in `\(...\)` or `\[...\]`.

    Raises:
        ValueError: The formula has something that cannot be converted.
    """
    delimited = html.unescape(marked).strip()
    tex = delimited[2:-2].strip()
    display = "block" if delimited.startswith(r"\[") else "inline"
    # latex2mathml knows this environment under its older name only.
    known = re.sub(r"\\(begin|end)\{aligned\}", r"\\\1{split}", tex)
    try:
        result = convert(known, display=display)
        # What it does not know it hands through: a command as text, an alignment as a bare "&".
        unknown = [text for text in ET.fromstring(result).itertext() if "\\" in text]
    except Exception as error:  # it raises many kinds, also plain IndexError
        raise ValueError(f"the formula {tex!r} cannot be converted: {error!r}.") from error
    if unknown:
        raise ValueError(f"the formula {tex!r} cannot be converted: unknown {unknown[0]}.")
    # Browsers know bold letters as characters only, and set a slash apart as if it were a sum.
    result = re.sub(
        r' mathvariant="bold">(\w)<',
        lambda match: f' mathvariant="normal">{_bold(match[1])}<',
        result,
    )
    result = result.replace("<mo>&#x0002F;</mo>", '<mo lspace="0" rspace="0">/</mo>')
    return result.replace("<math ", f'<math alttext="{html.escape(tex)}" ', 1)


def _bold(character: str) -> str:
    """The mathematical bold character."""
    for first, last, bold in (("0", "9", 0x1D7CE), ("A", "Z", 0x1D400), ("a", "z", 0x1D41A)):
        if first <= character <= last:
            return chr(ord(character) - ord(first) + bold)
    return character


def _outside() -> dict[pathlib.Path, str]:
    """The files outside docs/ that are part of the site, and where in it they stand."""
    return {
        **{path: f"notebooks/{path.stem}.md" for path in ROOT.glob("notebooks/*.ipynb")},
        **{path: f"results/{path.name}" for path in RESULTS.glob("*.png")},
        RESULTS / "report.md": "results/report.md",
        ROOT / "CHANGELOG.md": "changelog.md",
        ROOT / "gc_optax" / "_tracing" / "README.md": "tracing.md",
    }


def _notebook(path: pathlib.Path) -> tuple[str, dict[str, bytes]]:
    """The notebook as Markdown, with the outputs that it was committed with, and its figures."""
    exporter = nbconvert.MarkdownExporter(raw_template=NOTEBOOK)
    text, resources = exporter.from_filename(
        str(path), resources={"unique_key": path.stem, "output_files_dir": path.stem}
    )
    opening = f"{path.stem}/opening.png"
    figures = resources["outputs"]

    def saved(match: re.Match[str]) -> str:
        figures[opening] = base64.b64decode(match[1])
        return opening

    text = re.sub(r"data:image/png;base64,([\w+/=]+)", saved, text)
    return text.replace(BADGE, "../_site/colab.svg"), figures


def _section(heading: str) -> str:
    """A section of the report, without its heading."""
    report = (RESULTS / "report.md").read_text()
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", report, flags=re.M | re.S)
    if found is None:
        raise PluginError(f"The report has no section {heading!r}.")
    return found[1]


def _relinked(markdown: str, source: pathlib.Path, uri: str, config: MkDocsConfig) -> str:
    """Links between files of the repository as links in the site, or else to the repository.

    So pages are written with links that also work where the repository is browsed.

    Args:
        markdown: The text.
        source: The file that it comes from, to which its links are relative.
        uri: The page in which it is shown.
        config: It has the address of the repository.
    """
    repository = config.extra["repository"]

    def replaced(match: re.Match[str]) -> str:
        # Colab knows no other files of the repository, so notebooks link to them by address.
        base, path = source.parent, match["path"]
        if path.startswith(f"{repository}/blob/main/"):
            base, path = ROOT, path.removeprefix(f"{repository}/blob/main/")
        target = (base / path).resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            # Code, or what MkDocs finds in the site by itself, or else complains of.
            return match[0]
        there = _outside().get(target)
        if target.is_relative_to(DOCS):
            there = target.relative_to(DOCS).as_posix()
        if there is None:
            kind = "tree" if target.is_dir() else "blob"
            address = f"{repository}/{kind}/main/{target.relative_to(ROOT)}"
        else:
            address = posixpath.relpath(there, posixpath.dirname(uri) or ".")
        return f"]({address}{match['anchor'] or ''}"

    return re.sub(r"\]\((?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=[)\s])", replaced, markdown)
