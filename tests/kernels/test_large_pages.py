"""Large outputs of the compiled kernels are asked for in large pages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from etp import products
from etp.kernels.on_cpu import build

MAPS = Path("/proc/self/smaps")
pytestmark = [
    pytest.mark.skipif(build.missing() is not None, reason=str(build.missing())),
    pytest.mark.skipif(
        not Path("/sys/kernel/mm/transparent_hugepage").exists() or not MAPS.exists(),
        reason="this system has no large pages to ask for",
    ),
]


def asked_for(tensor: Tensor) -> bool:
    """Whether the middle of a tensor lies in memory for which large pages were asked."""
    middle = tensor.data_ptr() + tensor.nbytes // 2
    inside = False
    for line in MAPS.read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            start, end = (int(part, 16) for part in name.split("-"))
            inside = start <= middle < end
        elif inside and name == "VmFlags:":
            return "hg" in rest
    raise AssertionError("a tensor lies nowhere")


@pytest.mark.parametrize("irreps", ["0e+1o+2e", "16x0e+16x1o"])
def test_large_outputs_and_gradients_come_by_large_pages(irreps):
    tp = products.get("cg-sparse")(irreps, "0e+1o")
    size = 40 * 2**20 // (4 * tp.irreps_in1.dim)
    x = torch.randn(size, tp.irreps_in1.dim, requires_grad=True)
    y = torch.randn(size, tp.irreps_in2.dim)
    z = tp(x, y)
    (gradient,) = torch.autograd.grad(z.square().sum(), x)
    assert asked_for(z)
    assert asked_for(gradient)
    few = torch.arange(0, size, size // 7)
    with torch.no_grad():
        assert torch.equal(z[few], tp(x[few], y[few]))


def test_what_was_not_asked_for_is_told_apart():
    assert not asked_for(torch.zeros(10 * 2**20))
