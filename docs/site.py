"""Hooks of the documentation site: pages that lie elsewhere in the tree, and names in docstrings.

What a reader of the repository meets first (README, CONTRIBUTING, CHANGELOG, the benchmarks) is
part of the site as it lies, and so is every file that a page links to.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
ELSEWHERE = {
    "index.md": "README.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "benchmarks/README.md": "benchmarks/README.md",
    "benchmarks/peers.md": "benchmarks/peers.md",
    "assets/mark.svg": "etp/assets/mark.svg",
}
"""Places in the site of files that lie outside of ``docs``."""
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|math):<code>~?([^<]+)</code>")
FORMULA = re.compile(r"<p>\.\. math::\s*(.*?)</p>", re.DOTALL)


def on_config(config: Any) -> Any:
    """Pages that have no place in the navigation get one at its end."""
    listed = str(config.nav)
    pages = [str(path.relative_to(DOCS)) for path in sorted(DOCS.rglob("*.md"))]
    if more := [page for page in pages if f"'{page}'" not in listed]:
        config.nav.append({"More": more})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add what lies outside of ``docs``: the pages of :data:`ELSEWHERE`, and what pages link to."""
    sources = dict(ELSEWHERE)
    for page in [*DOCS.rglob("*.md"), *(ROOT / path for path in ELSEWHERE.values())]:
        if page.suffix == ".md":
            for target in LINK.findall(page.read_text()):
                path = (page.parent / target).resolve()
                if path.is_file() and not path.is_relative_to(DOCS):
                    place = str(path.relative_to(ROOT))
                    sources.setdefault(_in_site(place), place)
    for place, source in sources.items():
        if files.get_file_from_path(place) is None:
            content = (ROOT / source).read_bytes()
            files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links lead to where files lie in the site."""
    place = page.file.src_uri
    source = ROOT / ELSEWHERE[place] if place in ELSEWHERE else DOCS / place
    up = "../" * place.count("/")

    def moved(match: re.Match[str]) -> str:
        path = (source.parent / match[1]).resolve()
        if not path.is_file():
            return match[0]
        inside = path.is_relative_to(DOCS)
        where = str(path.relative_to(DOCS)) if inside else _in_site(str(path.relative_to(ROOT)))
        return f"]({up}{where}"

    return LINK.sub(moved, markdown)


def _in_site(source: str) -> str:
    """Place in the site of a file of the tree."""
    return next((place for place, path in ELSEWHERE.items() if path == source), source)


def on_page_content(html: str, **_: Any) -> str:
    """Roles of docstrings are names in code, formulas stand alone as they are written."""
    return FORMULA.sub(r"<pre>\1</pre>", ROLE.sub(r"<code>\1</code>", html))
