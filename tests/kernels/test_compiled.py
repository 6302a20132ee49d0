"""GPU kernels through Triton's compiler, without a GPU: see compiled_*.py."""

from __future__ import annotations

import pytest

from etp.kernels.on_gpu.triton_source import triton_missing
from tests.kernels import triton_process

pytestmark = pytest.mark.skipif(triton_missing() is not None, reason=str(triton_missing()))


def test_kernels_compile_for_a_gpu_that_is_not_there(tmp_path):
    triton_process.run("compiled_*.py", tmp_path, interpret=False)
