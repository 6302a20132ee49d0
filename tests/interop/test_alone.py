"""Each part is imported by itself, whatever the release of e3nn and whoever comes first."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["etp.powers", "etp.measure.oracle", "etp.experiments.structures", "etp.interop"]
)
def test_a_part_is_imported_first(module):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import {module}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
