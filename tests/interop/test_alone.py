"""Each part is imported by itself, whatever the release of e3nn and whoever comes first."""

from __future__ import annotations

import subprocess
import sys

ALONE = ("etp.powers", "etp.measure.oracle", "etp.experiments.structures", "etp.interop")
IMPORTED = """
import os
import sys
import traceback
from importlib import import_module

import torch

failed = []
for part in sys.argv[1:]:
    if (child := os.fork()) == 0:
        status = 1
        try:
            import_module(part)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        failed.append(part)
sys.exit(", ".join(failed) or 0)
"""


def test_a_part_is_imported_first():
    """In a child each of a process that has imported PyTorch, which takes most of the time."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORTED, *ALONE], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
