"""Run by test_interpreted.py: edge products and convolutions, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import etp
from etp import measure, products
from etp.kernels.edge import convolution, edge
from etp.kernels.edge_table import EdgePath, EdgeTable
from etp.kernels.on_gpu import edge_source, launches, triton_edge
from etp.kernels.on_gpu.triton_source import interpreted
from tests.kernels.test_edge import orders, table, weights_of

assert interpreted(), "this file is run by test_interpreted.py"
GATE = 1e-12


@pytest.fixture(autouse=True)
def runs(monkeypatch):
    """Kinds of kernels that ran: a test that met only the plain form would show nothing."""
    found: list[edge_source.Kind] = []
    run = triton_edge._run

    def noted(kind, *rest):
        found.append(kind)
        run(kind, *rest)

    monkeypatch.setattr(triton_edge, "_run", noted)
    yield found
    assert found


def graph(edges: int, nodes: int, rows: int) -> tuple[Tensor, Tensor]:
    """Unsorted edges; the last node of each side has none."""
    return torch.randint(0, nodes - 1, (edges,)), torch.randint(0, rows - 1, (edges,))


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize("weights", ["none", "shared", "per-edge"])
def test_values_and_derivatives_are_those_of_the_plain_sums(layout, weights, runs):
    torch.manual_seed(0)
    made = table("3x0e+35x1o", "0e+1o", layout, lmax=1)
    senders, receivers = graph(5, 4, 5)
    sizes = ((4, made.dims[0]), (5, made.dims[1]))
    x, y = (torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes)
    w = weights_of(made, weights, 5, torch.float64)
    for ours, plain, first in (
        (
            lambda x, y, w: convolution(made, x, y, w, senders, receivers, 5),
            lambda x, y, w: made.plain_convolution(x, y, w, senders, receivers, 5),
            x,
        ),
        (lambda *t: edge(made, *t), made.plain, x.detach()[senders].requires_grad_()),
    ):
        assert orders(ours, plain, [first, y, w]) < GATE
    assert {(kind.backward, kind.change, kind.convolves) for kind in runs} == {
        (a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)
    }


@pytest.mark.parametrize("held", [4, 1000], ids=["several kernels", "one kernel"])
def test_paths_of_several_kernels_share_blocks_and_leave_gaps(held, monkeypatch):
    monkeypatch.setattr(edge_source, "MAX_HELD", 2 * held)
    torch.manual_seed(1)
    c = torch.randn(3, 3, 3, dtype=torch.float64)
    paths = [EdgePath(2, 0, 4, 0, 4, c), EdgePath(2, 1, 4, -1, 4, c.flip(0)),
             EdgePath(0, 0, 1, 4, 2, torch.ones(1, 1, 1, dtype=torch.float64))]  # fmt: skip
    made = EdgeTable(paths, (20, 4, 18), 7)
    kind = edge_source.Kind(False, False, True, "edge")
    assert len(triton_edge.EdgeForm(made).kernels(kind, 32, held)) == (3 if held == 4 else 1)
    tensors = [torch.randn(3, d, dtype=torch.float64, requires_grad=True) for d in (20, 4, 7)]
    assert orders(lambda *t: edge(made, *t), made.plain, tensors) < GATE
    assert edge(made, *tensors)[:, [0, 3, 16, 17]].abs().max() == 0


@pytest.mark.parametrize("block", [32, 64])
def test_a_row_may_take_several_programs(block, monkeypatch):
    monkeypatch.setenv("ETP_LAUNCH_EDGE", str(block))
    torch.manual_seed(2)
    made = table("32x0e+70x1o", "0e+1o", lmax=1)
    assert triton_edge.EdgeForm(made).block(launches.shape("edge", "")) == block
    senders, receivers = graph(4, 3, 3)
    sizes = ((3, made.dims[0]), (4, made.dims[1]), (4, made.weight_numel))
    x, y, w = (torch.randn(n, d, dtype=torch.float64, requires_grad=True) for n, d in sizes)
    found = []
    for convolve in (convolution, EdgeTable.plain_convolution):
        z = convolve(made, x, y, w, senders, receivers, 3)
        found.append([z, *torch.autograd.grad(z.square().sum(), [x, y, w])])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=GATE, atol=GATE)


def test_a_product_agrees_with_the_oracle_and_its_convolution_with_its_sum():
    tp = products.get("cg-sparse")("3x0e+2x1o", "0e+1o", filter_ir_out="0e+1o+1e")
    assert measure.agreement(tp, dtype=torch.float64, batch=3).max < GATE
    torch.manual_seed(3)
    x, y = (torch.randn(4, n, dtype=torch.float64) for n in (tp.irreps_in1.dim, 4))
    senders, receivers = torch.tensor([0, 3, 1, 1]), torch.tensor([2, 0, 2, 2])
    w = torch.randn(4, tp.weight_numel, dtype=torch.float64)
    out = etp.Convolution(tp)(x, y, w, senders, receivers, 4)
    wanted = torch.zeros_like(out).index_add(0, receivers, tp(x[senders], y, w))
    torch.testing.assert_close(out, wanted, rtol=GATE, atol=GATE)
    assert out[1].abs().max() == out[3].abs().max() == 0


def test_no_edges_and_half_precision():
    made = table("3x0e+2x1o", "0e+1o", lmax=1)
    x, y, w = (torch.randn(3, d) for d in (*made.dims[:2], made.weight_numel))
    none = torch.zeros(0, dtype=torch.int64)
    assert convolution(made, x, y[:0], w[:0], none, none, 4).abs().max() == 0
    given = [t.requires_grad_() for t in (x[:0], y[:0], w[:0])]
    z = convolution(made, given[0], given[1], given[2], none, none, 0)
    assert [g.shape for g in torch.autograd.grad(z.sum(), given)] == [t.shape for t in given]
    half = edge(made, *(t.bfloat16() for t in (x, y, w)))
    assert half.dtype == torch.bfloat16
    rounded = [t.bfloat16().float() for t in (x, y, w)]
    torch.testing.assert_close(half.float(), made.plain(*rounded), rtol=1e-2, atol=1e-2)


def test_nodes_that_are_not_there_are_refused():
    made = table("2x1o", "0e", lmax=1)
    x, y, w = (torch.randn(2, d) for d in (*made.dims[:2], made.weight_numel))
    index = torch.tensor([0, 1])
    edge(made, x, y, w)
    with pytest.raises(RuntimeError, match="must be from 0 to 1"):
        convolution(made, x, y, w, index + 1, index, 2)
