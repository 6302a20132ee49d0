"""Hooks of the documentation site: pages that lie elsewhere in the tree, and names in docstrings.

What a reader of the repository meets first (README, CONTRIBUTING, CHANGELOG, the benchmarks) is
part of the site as it lies, with links that lead to the same places.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = {
    "index.md": "README.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "benchmarks/README.md": "benchmarks/README.md",
    "benchmarks/peers.md": "benchmarks/peers.md",
    "benchmarks/operating_characteristics.txt": "benchmarks/operating_characteristics.txt",
    "assets/mark.svg": "etp/assets/mark.svg",
}
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|math):<code>~?([^<]+)</code>")
FORMULA = re.compile(r"<p>\.\. math::\s*(.*?)</p>", re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside of ``docs``."""
    for place, source in ELSEWHERE.items():
        content = (ROOT / source).read_bytes()
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to where files lie in the site: what is in ``docs`` is at its top."""
    if page.file.src_uri.startswith("benchmarks/"):
        return markdown.replace("](../docs/", "](../")
    if page.file.src_uri in ELSEWHERE:
        return markdown.replace("](docs/", "](")
    return markdown.replace("](../benchmarks/", "](benchmarks/")


def on_page_content(html: str, **_: Any) -> str:
    """Roles of docstrings are names in code, formulas stand alone as they are written."""
    return FORMULA.sub(r"<pre>\1</pre>", ROLE.sub(r"<code>\1</code>", html))
