"""GPU kernels on the CPU, in Triton's interpreter: see interpreted_*.py."""

from __future__ import annotations

import pytest

from etp.kernels.on_gpu.triton_source import triton_missing
from tests.kernels import triton_process

pytestmark = pytest.mark.skipif(triton_missing() is not None, reason=str(triton_missing()))


def test_kernels_are_right_in_the_interpreter(tmp_path):
    triton_process.run("interpreted_*.py", tmp_path, interpret=True)
