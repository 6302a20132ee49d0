"""A user who owns nothing: no home, code that cannot be written, no compiler and no kernels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.dockerfile import SETPRIV

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root writes everywhere"
    ),
]


@pytest.fixture
def locked(tmp_path) -> Iterator[Path]:
    """The package alone, in a folder in which nothing can be written."""
    made = tmp_path / "locked"
    shutil.copytree(ROOT / "etp", made / "etp", ignore=shutil.ignore_patterns("__pycache__"))
    places = [made, *made.rglob("*")]
    for path in places:
        path.chmod(path.stat().st_mode & ~0o222)
    yield made
    for path in places:
        path.chmod(path.stat().st_mode | 0o200)


@pytest.mark.fault(
    done="a user without a home, code that cannot be written, no compiler",
    lost=0,
    doubled=0,
    says="products use their plain form, which is slow",
)
def test_a_user_without_a_home_measures_from_code_that_cannot_be_written(locked, tmp_path):
    drop = [SETPRIV, "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    words = ["measure", "runtime", "--product", "cg-sparse", "--setting", "MIMO", "--lmax", "1"]
    done = subprocess.run(
        [*drop, sys.executable, "-m", "etp", *words, "--json"],
        cwd=locked, capture_output=True, text=True, timeout=120,
        env={"HOME": str(locked / "home"), "PATH": str(scratch), "TMPDIR": str(scratch)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["median_s"] > 0
    assert "products use their plain form, which is slow" in done.stderr
    assert not list(locked.rglob("__pycache__"))
