"""The README's own product, as a stranger would type it: one file, no other edit."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from etp.charts.theme import style

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "README.md").read_text().partition("## Adding a tensor product")[2]
EXAMPLE = re.search(r"```python\n(.*?)```", SECTION, re.DOTALL)
FILE = re.search(r"`(\w+\.py)`", SECTION)
TESTED = re.search(r"`pytest (tests/\S+) -k (\S+)`", SECTION)
COPIED = ("etp", "tests", "pyproject.toml", "app.py", "pages")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A checkout with the example in the file that the README names."""
    assert EXAMPLE is not None
    assert FILE is not None
    folder = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, folder / name)
    (folder / "etp" / "products" / FILE[1]).write_text(EXAMPLE[1])
    return folder


def ran(tree: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=tree, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(tree)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_listed_with_its_name_for_a_title(tree):
    listed = {entry["name"]: entry for entry in json.loads(ran(tree, "etp", "products", "--json"))}
    assert listed["by-path"]["title"] == "by-path"
    assert listed["by-path"]["unavailable"] is None
    assert style("by-path").colour("light")


def test_it_is_swept_beside_the_others_and_has_a_place_under_the_roof(tree):
    small = ["--setting", "MIMO", "--lmax", "1", "--batch", "8", "--rounds", "2", "--budget", "0"]
    out = ["--products", "by-path,cg-sparse", *small, "--out", "rows.jsonl"]
    assert "by-path" in ran(tree, "etp", "sweep", *out)
    rows = [json.loads(line) for line in (tree / "rows.jsonl").read_text().splitlines()]
    mine = {row["measure"]: row for row in rows if row["product"] == "by-path"}
    assert mine["runtime"]["status"] == "ok"
    assert mine["interactions"]["result"]["count"] == mine["interactions"]["result"]["allowed"]
    assert mine["cost"]["result"]["macs"] > 0


@pytest.mark.slow
def test_it_is_held_to_every_law_of_the_contract(tree):
    assert TESTED is not None
    wanted = f"{TESTED[2]} and not compiled"  # which takes longer than all others together
    report = ran(tree, "pytest", "-q", "-p", "no:cacheprovider", TESTED[1], "-k", wanted)
    passed = re.search(r"(\d+) passed", report)
    assert passed is not None
    assert int(passed[1]) > 80
