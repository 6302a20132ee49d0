"""The documentation: examples are run, names of the API are documented, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import forked

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
RUN = [DOCS / "maths.md", *sorted((DOCS / "guides").glob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def test_the_examples_of_a_page_run_from_top_to_bottom():
    blocks = {str(page): PYTHON.findall(page.read_text()) for page in RUN}
    assert all(len(own) > 1 for own in blocks.values())
    programs = {page: "\n".join(own) for page, own in blocks.items()}
    done = forked.run(programs, ["etp.products"], cwd=ROOT,
                      env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"})  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"],
    ids=lambda page: page.name,
)
def test_links_to_files_lead_to_files(page):
    missing = [
        target
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists() and not _generated(page, target)
    ]
    assert missing == []


def _generated(page: Path, target: str) -> bool:
    """Pages of the site that lie elsewhere in the tree."""
    place = (page.parent / target).resolve().relative_to(ROOT)
    return place.parts[0] == "docs" and (ROOT / Path(*place.parts[1:])).exists()
