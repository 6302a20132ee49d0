"""Edge products and convolutions of tables: the kernel against PyTorch's own sums, all orders."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from e3nn import o3
from torch import Tensor

from etp.kernels.edge import convolution, edge
from etp.kernels.edge_table import EdgePath, EdgeTable, Layout, _cut, restored
from etp.kernels.on_cpu import build
from etp.kernels.operators import serves

IRREPS = [
    ("3x0e+5x1o", "0e+1o+2e"),
    ("32x0e+32x1o+16x2e", "0e+1o+2e+3o"),
    ("17x1o+1x3e+48x0o", "1e+2e+4e"),
    ("16x3o+16x2e+2x4e+3x5o", "0e+4e"),
    ("89x0e+32x0o", "0e+1o+2e+3o"),  # spread from scalars
]
pytestmark = pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
needs_kernel = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))


def table(in1: str, in2: str, layout: Layout = "mul_ir", *, weighted=True, lmax=5):
    first, second = o3.Irreps(in1), o3.Irreps(in2)
    paths, z, w = [], 0, 0
    for (mul, ir1), at1 in zip(first, first.slices(), strict=True):
        for (_, ir2), at2 in zip(second, second.slices(), strict=True):
            for ir in ir1 * ir2:
                if ir.l > lmax:
                    continue
                c = o3.wigner_3j(ir1.l, ir2.l, ir.l, dtype=torch.float64)
                paths.append(EdgePath(at1.start, at2.start, z, w if weighted else -1, mul, c))
                z, w = z + mul * ir.dim, w + mul
    return EdgeTable(paths, (first.dim, second.dim, z), w if weighted else 0, layout)


def rel(a: Tensor, b: Tensor) -> float:
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))


def orders(ours: Any, plain: Any, tensors: Sequence[Tensor | None]) -> float:
    """Largest relative difference of values and derivatives up to the third order."""
    worst = 0.0
    a, b = ours(*tensors), plain(*tensors)
    ins = [t for t in tensors if t is not None]
    for _ in range(3):
        a, b = ((t,) if isinstance(t, Tensor) else t for t in (a, b))
        pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
        worst = max([worst, *(rel(x, y) for x, y in pairs)])
        along = [torch.randn_like(x).requires_grad_() for x, _ in pairs]
        a, b = (
            torch.autograd.grad(
                [pair[n] for pair in pairs], ins, along, create_graph=True, allow_unused=True
            )
            for n in range(2)
        )
        ins = [*ins, *along]
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return max([worst, *(rel(x, y) for x, y in pairs)])


def draw(made: EdgeTable, nodes: int, edges: int) -> list[Tensor]:
    """Features of nodes, of edges, and weights of each edge."""
    sizes = ((nodes, made.dims[0]), (edges, made.dims[1]), (edges, made.weight_numel))
    return [torch.randn(size, dtype=torch.float64) for size in sizes]


def weights_of(made: EdgeTable, kind: str, edges: int, dtype: torch.dtype) -> Tensor | None:
    if kind == "none":
        return None
    shape = (made.weight_numel,) if kind == "shared" else (edges, made.weight_numel)
    return torch.randn(shape, dtype=dtype, requires_grad=True)


@needs_kernel
@pytest.mark.parametrize("irreps", IRREPS)
@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize("weights", ["none", "shared", "per-edge"])
@pytest.mark.parametrize(("dtype", "gate"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_values_and_derivatives_are_those_of_the_plain_sums(irreps, layout, weights, dtype, gate):
    torch.manual_seed(0)
    made = table(irreps[0], irreps[1], layout)
    edges, senders, receivers = 40, torch.randint(0, 6, (40,)), torch.randint(0, 9, (40,))
    x, y = (
        torch.randn(n, d, dtype=dtype, requires_grad=True)
        for n, d in ((6, made.dims[0]), (edges, made.dims[1]))
    )
    w = weights_of(made, weights, edges, dtype)
    assert serves(x, y, w)

    def ours(x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        return convolution(made, x, y, w, senders, receivers, 9)

    def plain(x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        return made.plain_convolution(x, y, w, senders, receivers, 9)

    assert orders(ours, plain, [x, y, w]) < gate
    rows = torch.randn(edges, made.dims[0], dtype=dtype, requires_grad=True)
    assert orders(lambda *t: edge(made, *t), made.plain, [rows, y, w]) < gate


def test_the_plain_sums_are_those_of_the_coefficients():
    made = table("2x0e+3x1o", "0e+1o")
    x, y = (torch.randn(5, d, dtype=torch.float64) for d in made.dims[:2])
    w = torch.randn(5, made.weight_numel, dtype=torch.float64)
    first = o3.Irreps("2x0e+3x1o")
    expected, at = [], 0
    for (mul, ir1), part in zip(first, first.slices(), strict=True):
        for l2, part2 in ((0, slice(0, 1)), (1, slice(1, 4))):
            for l3 in range(abs(ir1.l - l2), ir1.l + l2 + 1):
                c = o3.wigner_3j(ir1.l, l2, l3, dtype=torch.float64)
                own = torch.einsum(
                    "eu,eui,ej,ijk->euk", w[:, at : at + mul],
                    x[:, part].reshape(5, mul, -1), y[:, part2], c,
                )  # fmt: skip
                expected.append(own.flatten(1))
                at += mul
    torch.testing.assert_close(made.plain(x, y, w), torch.cat(expected, 1), atol=1e-12, rtol=0)


@needs_kernel
def test_paths_share_blocks_leave_gaps_and_go_without_weights():
    c = torch.randn(3, 3, 3, dtype=torch.float64)
    paths = [EdgePath(2, 0, 4, 0, 4, c), EdgePath(2, 1, 4, -1, 4, c.flip(0)),
             EdgePath(0, 0, 1, 4, 2, torch.ones(1, 1, 1, dtype=torch.float64))]  # fmt: skip
    made = EdgeTable(paths, (20, 4, 18), 7)
    tensors = [torch.randn(9, d, dtype=torch.float64, requires_grad=True) for d in (20, 4, 7)]
    assert orders(lambda *t: edge(made, *t), made.plain, tensors) < 1e-12
    assert edge(made, *tensors)[:, [0, 3, 16, 17]].abs().max() == 0


@needs_kernel
@pytest.mark.parametrize("channels", [16, 5])
def test_paths_may_have_weights_in_common(channels):
    c = [o3.wigner_3j(1, 1, l, dtype=torch.float64) for l in range(3)]
    places = [(0, 0), (3, channels), (12, channels // 2)]  # of the last two some weights are one
    paths = [
        EdgePath(0, 0, channels * z, w, channels, own)
        for (z, w), own in zip(places, [c[1], c[2], c[1]], strict=True)
    ]
    made = EdgeTable(paths, (3 * channels, 3, 15 * channels), 2 * channels)
    assert not made.codable
    x, y, w = (t.requires_grad_() for t in draw(made, 30, 30))
    assert orders(lambda *t: edge(made, *t), made.plain, [x, y, w]) < 1e-12
    assert (
        orders(
            lambda *t: edge(made, *t), made.plain, [x, y, w[0].detach().clone().requires_grad_()]
        )
        < 1e-12
    )


@pytest.mark.parametrize("irreps", IRREPS)
def test_a_table_is_restored_from_its_program(irreps):
    made = table(*irreps, lmax=9)
    again = restored(made.get_buffer("program"), made.table("numbers", torch.float64))
    x, y, w = draw(made, 7, 7)
    assert rel(again.plain(x, y, w), made.plain(x, y, w)) < 1e-15
    assert len(again.places) == len(made.places)


def test_components_are_cut_into_runs_that_the_kernel_knows():
    for dim in range(1, 40):
        cut = _cut(dim)
        assert [n for run in cut for n in range(dim)[run]] == list(range(dim))
        assert {len(range(dim)[run]) for run in cut} <= {1, 3, 5, 7}
        assert len(cut) <= dim // 7 + 2


def test_blocks_that_overlap_are_refused():
    c = torch.ones(3, 1, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="input 1"):
        EdgeTable([EdgePath(0, 0, 0, -1, 2, c), EdgePath(3, 0, 6, -1, 2, c)], (9, 1, 12), 0)
    with pytest.raises(ValueError, match="at least one"):
        EdgeTable([], (1, 1, 1), 0)


@needs_kernel
def test_results_are_bitwise_the_same_for_all_threads_and_runs():
    made = table(*IRREPS[1])
    senders, receivers = torch.randint(0, 300, (6000,)), torch.randint(0, 300, (6000,))
    x, y = torch.randn(300, made.dims[0]), torch.randn(6000, made.dims[1])
    w = torch.randn(made.weight_numel)
    given = [t.requires_grad_() for t in (x, y, w)]
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5, 2):
            torch.set_num_threads(threads)
            z = convolution(made, x, y, w, senders, receivers, 300)
            results.append([z, *torch.autograd.grad(z.sum(), given)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


@needs_kernel
def test_the_order_of_edges_and_the_kind_of_index_do_not_matter():
    made = table(*IRREPS[0])
    senders, receivers = torch.randint(0, 8, (50,)), torch.randint(0, 8, (50,)).sort().values
    x, y, w = draw(made, 8, 50)
    z = convolution(made, x, y, w, senders, receivers, 8)
    p = torch.randperm(50)
    again = convolution(made, x, y[p], w[p], senders[p].int(), receivers[p].int(), 8)
    torch.testing.assert_close(z, again, atol=1e-12, rtol=0)


@needs_kernel
def test_no_edges_no_nodes_and_views():
    made = table(*IRREPS[0])
    x, y, w = (t[::2] for t in draw(made, 8, 12))
    index = torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(
        convolution(made, x, y, w, index, index, 4),
        made.plain_convolution(x, y, w, index, index, 4), atol=1e-12, rtol=0,
    )  # fmt: skip
    none = index[:0]
    assert convolution(made, x, y[:0], w[:0], none, none, 4).abs().max() == 0
    assert convolution(made, x[:0], y[:0], w[:0], none, none, 0).shape == (0, made.dims[2])
    with pytest.raises(RuntimeError, match="senders must be from 0 to 3, got 8"):
        convolution(made, x, y, w, index + 8, index, 4)


@needs_kernel
def test_half_precision_is_computed_in_float32():
    made = table(*IRREPS[0])
    x, y, w = (torch.randn(5, d).bfloat16() for d in (*made.dims[:2], made.weight_numel))
    z = edge(made, x, y, w)
    assert z.dtype == torch.bfloat16
    assert rel(z.float(), made.plain(x.float(), y.float(), w.float())) < 1e-2


def test_tables_survive_casts_copies_and_pickles():
    made = table(*IRREPS[0])
    x, y, w = (torch.randn(5, d, dtype=torch.float64) for d in (*made.dims[:2], made.weight_numel))
    z = edge(made, x, y, w)
    for other in (
        copy.deepcopy(made).to(torch.float32),
        copy.deepcopy(made).half(),
        pickle.loads(pickle.dumps(made)),
    ):
        assert torch.equal(edge(other, x, y, w), z)


@needs_kernel
def test_graphs_keep_the_operators_and_have_right_gradients():
    from torch.fx.experimental.proxy_tensor import make_fx

    made = table(*IRREPS[0])
    senders, receivers = torch.randint(0, 6, (20,)), torch.randint(0, 6, (20,))

    def forces(x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        z = convolution(made, x, y, w, senders, receivers, 6)
        (gy,) = torch.autograd.grad(z.square().sum(), y, create_graph=True)
        return torch.autograd.grad(gy.square().sum(), [x, w])

    graph = make_fx(forces)(*(t.requires_grad_() for t in draw(made, 6, 20)))
    names = {str(node.target) for node in graph.graph.nodes}
    assert {"etp.edge_backward.default", "etp.edge_backward_change.default"} <= names
    given = [t.requires_grad_() for t in draw(made, 6, 20)]
    for a, b in zip(graph(*given), forces(given[0], given[1], given[2]), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("each", [True, False], ids=["per edge", "shared"])
def test_derivatives_over_no_edges_are_zero_and_have_the_shapes_of_the_inputs(each):
    made = table(*IRREPS[0])
    own = (0, made.weight_numel) if each else (made.weight_numel,)
    x, y, w = ins = [torch.randn(*shape, dtype=torch.float64, requires_grad=True)
                     for shape in ((3, made.dims[0]), (0, made.dims[1]), own)]  # fmt: skip
    none = torch.zeros(0, dtype=torch.int64)
    z = convolution(made, x, y, w, none, none, 3)
    first = torch.autograd.grad(z.sum(), ins, create_graph=True)
    second = torch.autograd.grad(torch.cat([g.flatten() for g in first]).sum(), ins)
    for given, *grads in zip(ins, first, second, strict=True):
        assert all(grad.shape == given.shape and not grad.any() for grad in grads)
    (of_rows,) = torch.autograd.grad(edge(made, x[:0], y, w).sum(), w)
    assert of_rows.shape == own


@needs_kernel
@pytest.mark.slow
def test_compiled_and_exported_whole_with_any_number_of_edges():
    made = table(*IRREPS[0])

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = made

        def forward(self, x: Tensor, y: Tensor, w: Tensor, s: Tensor, r: Tensor) -> Tensor:
            return convolution(self.table, x, y, w, s, r, x.shape[0])

    def draw(edges: int) -> list[Tensor]:
        return [torch.randn(6, made.dims[0]), torch.randn(edges, made.dims[1]),
                torch.randn(edges, made.weight_numel), torch.randint(0, 6, (edges,)),
                torch.randint(0, 6, (edges,))]  # fmt: skip

    layer = Layer()
    count = torch.export.Dim("edges", min=2)
    moving = {name: {0: count} for name in "ywsr"}
    program = torch.export.export(layer, tuple(draw(20)), dynamic_shapes={"x": None, **moving})
    compiled = torch.compile(layer, fullgraph=True, dynamic=True)
    for edges in (20, 33):
        given = draw(edges)
        expected = layer(*given)
        torch.testing.assert_close(program.module()(*given), expected)
        torch.testing.assert_close(compiled(*given), expected)


def test_transforms_of_functions_take_the_plain_form():
    made = table(*IRREPS[0])
    x, y, w = (torch.randn(5, d, dtype=torch.float64) for d in (*made.dims[:2], made.weight_numel))
    t = torch.randn_like(x)
    change = torch.func.jvp(lambda x: edge(made, x, y, w), (x,), (t,))[1]
    torch.testing.assert_close(change, edge(made, t, y, w), atol=1e-12, rtol=0)
    rows = torch.vmap(lambda x, y, w: edge(made, x[None], y[None], w[None])[0])(x, y, w)
    torch.testing.assert_close(rows, edge(made, x, y, w), atol=1e-12, rtol=0)
