"""What is installed with the app: every pinned requirement has a licence that lets it be shared."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LINES = (ROOT / "requirements.txt").read_text().splitlines()
PINNED = [found.group() for line in LINES if (found := re.match(r"[A-Za-z][\w.-]*", line))]
ALLOWED = re.compile(
    r"MIT|BSD|Apache|PSF|Python Software Foundation|0BSD|ISC|Zlib|BSL-1\.0|CC0-1\.0|MPL-2\.0"
    r"|LLVM-exception"
)
REFUSED = re.compile(r"\b(A?GPL|LGPL|SSPL|BUSL|proprietary|non-?commercial)", re.IGNORECASE)


def licence(name: str) -> str:
    """What a package says of its licence: an expression, classifiers, or the first line."""
    about = metadata.metadata(name).json
    if (expression := about.get("license_expression")) is not None:
        return str(expression)
    said = [text for text in about.get("classifier", []) if text.startswith("License ::")]
    return "; ".join(said) or str(about.get("license", "")).partition("\n")[0]


@pytest.mark.parametrize("name", PINNED)
def test_a_pinned_requirement_may_be_shared(name):
    said = licence(name)
    for part in re.split(r" AND |; ", said):
        one_of = [choice for choice in re.split(r" OR ", part) if ALLOWED.search(choice)]
        assert one_of, f"{name}: {said!r}"
        assert any(not REFUSED.search(choice) for choice in one_of), f"{name}: {said!r}"


def test_what_must_not_be_is_seen():
    for said in ("GPL-3.0-only", "AGPL-3.0", "LGPL-2.1", "non-commercial"):
        assert REFUSED.search(said)
    assert not ALLOWED.search("GPL-3.0-only")


def test_known_vulnerabilities_are_looked_for_where_their_database_can_be_reached():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    words = "\n".join(str(step.get("run", "")) for step in jobs["audit"]["steps"])
    assert "pip-audit" in words
    assert "-r requirements.txt" in words
    assert "pip-audit: not run" in (ROOT / ".ci/run").read_text()
