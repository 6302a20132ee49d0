"""Memory of large results: asked for in large pages, kept for further ones, accounted for."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

import etp
from etp import measure, products
from etp.kernels.edge import edge
from etp.kernels.edge_table import EdgePath, EdgeTable
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


@pytest.fixture
def tp():
    etp.release_memory()
    yield products.get("cg-sparse")("32x0e+32x1o", "0e+1o+2e")
    etp.release_memory()


def inputs(tp, edges: int) -> list[Tensor]:
    return [torch.randn(edges, irreps.dim) for irreps in (tp.irreps_in1, tp.irreps_in2)]


def test_memory_of_a_freed_result_becomes_that_of_the_next_one(tp):
    x, y = inputs(tp, 2000)
    with torch.no_grad():
        first = tp(x, y)
        place, expected = first.data_ptr(), first.clone()
        view = first[5:]
        del first
        assert tp(x, y).data_ptr() != place  # a view still holds it
        del view
        again = tp(x, y)
        assert torch.equal(again, expected)
        smaller = tp(x[:1900], y[:1900])
        assert smaller.data_ptr() != again.data_ptr()
        place = again.data_ptr()
        del again
        assert tp(x[:1900], y[:1900]).data_ptr() == place
        assert tp(x[:600], y[:600]).data_ptr() != place  # far too large for it


def test_kept_memory_goes_back_to_the_system_when_asked(tp):
    x, y = inputs(tp, 2000)
    with torch.no_grad():
        size = tp(x, y).nbytes
    assert size <= etp.release_memory() < size + 2**22
    assert etp.release_memory() == 0


def test_zeros_are_zeros_in_memory_that_was_written_before():
    etp.release_memory()
    c = torch.ones(1, 1, 1, dtype=torch.float64)
    size = 2**20
    whole = EdgeTable([EdgePath(0, 0, 0, -1, 1, c)], (1, 1, 1), 0)
    gap = EdgeTable([EdgePath(0, 0, 1, -1, 1, c)], (1, 1, 2), 0)
    x, y = torch.randn(size, 1), torch.randn(size, 1)
    place = edge(whole, x, y, None).data_ptr()
    z = edge(gap, x[: size // 2], y[: size // 2], None)
    assert z.data_ptr() == place
    assert not z[:, 0].any()
    assert torch.equal(z[:, 1:], x[: size // 2] * y[: size // 2])


def test_threads_never_share_a_block(tp):
    x, y = inputs(tp, 600)

    def run(scale: int) -> bool:
        expected = tp(x, y) * scale
        return all(torch.equal(tp(x * scale, y), expected) for _ in range(30))

    torch.manual_seed(0)
    with torch.inference_mode(), ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, [2**n for n in range(8)]))


def test_the_profiler_sees_what_is_kept(tp):
    for edges in (2000, 4000):
        size = 4 * edges * tp.irreps_out.dim
        assert size <= measure.peak_memory(tp, batch=edges).peak_bytes < size + 2**20


def test_results_are_tensors_like_others(tp):
    x, y = inputs(tp, 2000)
    z = tp(x, y)
    file = io.BytesIO()
    torch.save(z, file)
    file.seek(0)
    assert torch.equal(torch.load(file), z)
    shared = z.clone().share_memory_()
    assert torch.equal(shared, z.share_memory_())
    assert z.numpy().base is not None
    assert torch.equal(torch.utils.dlpack.from_dlpack(z), shared)


@pytest.mark.parametrize("gap", [0, 3])
def test_large_results_of_blocks_that_no_vector_begins_at(gap):
    """Weights of a block lie anywhere, and so may its output: streaming stores need more."""
    c = torch.ones(1, 1, 1, dtype=torch.float64)
    paths = [
        EdgePath(start, 0, start + gap, start, mul, c) for start, mul in ((0, 1), (1, 16), (17, 15))
    ]
    alone = [EdgePath(0, 0, gap, 0, 16, c)]
    for table in (
        EdgeTable(paths, (32, 1, 32 + 16 * (gap > 0)), 32),
        EdgeTable(alone, (16, 1, 16 + 16 * (gap > 0)), 16),
    ):
        size = 150_000
        x, y, w = (torch.randn(size, n) for n in (table.dims[0], 1, table.weight_numel))
        w.requires_grad_()
        z = edge(table, x, y, w)
        assert (z - table.plain(x, y, w)).abs().max() < 1e-5
        grad = torch.randn_like(z)
        (own,) = torch.autograd.grad(z, w, grad)
        (wanted,) = torch.autograd.grad(table.plain(x, y, w), w, grad)
        assert (own - wanted).abs().max() < 1e-5
