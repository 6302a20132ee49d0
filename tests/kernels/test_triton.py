"""GPU kernels on the CPU: in Triton's interpreter, and through its compiler without a GPU.

Triton decides at its import whether it interprets, so each way runs in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from etp.kernels.on_gpu.triton_source import triton_missing

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
pytestmark = pytest.mark.skipif(triton_missing() is not None, reason=str(triton_missing()))


def run(pattern: str, tmp_path: Path, *, interpret: bool) -> None:
    environment = os.environ | {
        "TRITON_INTERPRET": str(int(interpret)),
        "TRITON_CACHE_DIR": str(tmp_path),
    }
    files = [str(path) for path in sorted(HERE.glob(pattern))]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_kernels_are_right_in_the_interpreter(tmp_path):
    run("interpreted_*.py", tmp_path, interpret=True)


def test_kernels_compile_for_a_gpu_that_is_not_there(tmp_path):
    run("compiled_*.py", tmp_path, interpret=False)
