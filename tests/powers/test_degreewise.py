"""Powers of signals against quadrature on a larger grid, of matrices against sums of products."""

from __future__ import annotations

from functools import reduce
from itertools import product
from math import ceil

import pytest
import torch
from e3nn import o3
from torch import Tensor

from etp import powers
from etp.kernels.on_cpu import build
from etp.maths import sphere
from etp.powers import _degreewise

GAUNT = [name for name in powers.names() if name.startswith("gaunt")]
SYSTEMS = [
    ("2x0e+2x1o+2x2e", "2x2e+2x0e+2x4e", 3),
    ("1o+2o+1e", "3o+0e+0o+1e+1o", 3),
    ("3x2e", "3x0e+3x2e+3x8e", 4),
    ("0e+1o", "1o", 1),
]


def value_parity(ir: o3.Irrep) -> int:
    return ir.p * (-1) ** ir.l


def harmonics(irs: tuple[o3.Irrep, ...], points: Tensor) -> Tensor:
    """Spherical harmonics of every component, (points, components)."""
    table = sphere.spherical_harmonics(max(ir.l for ir in irs), points)
    return torch.cat([table[..., ir.l**2 : (ir.l + 1) ** 2] for ir in irs], dim=-1)


def signals_raised(power: powers.Power, rows: Tensor, nu: int) -> Tensor:
    """Integrals of f^nu with every output harmonic, by a grid twice as fine as it must be."""
    top = power.order * max(ir.l for ir in power.irs_in) + max(ir.l for ir in power.irs_out)
    nodes = sphere.grid(top + 3, 2 * top + 5)
    points = sphere.grid_points(nodes).flatten(0, 1)
    area = nodes.weights.repeat_interleave(len(nodes.alpha))
    signs = torch.cat([torch.full((ir.dim,), value_parity(ir)) for ir in power.irs_in])
    out = harmonics(power.irs_out, points)
    own = torch.cat([torch.full((ir.dim,), value_parity(ir)) for ir in power.irs_out])
    # The part of f^nu that is even in the pseudoscalar field, and the odd one.
    both = [
        (rows * torch.where(signs < 0, turn, 1) @ harmonics(power.irs_in, points).T) ** nu
        for turn in (1, -1)
    ]
    even, odd = ((both[0] + s * both[1]) / 2 * area @ out for s in (1, -1))
    return torch.where(own > 0, even, odd)


def matrices_raised(power: powers.Power, rows: Tensor, nu: int) -> Tensor:
    """Sum over all choices of a parity for each of nu factors."""
    j = ceil(max(ir.l for ir in (*power.irs_in, *power.irs_out)) / 2)
    parts = {1: torch.zeros(len(rows), 2 * j + 1, 2 * j + 1, dtype=rows.dtype)}
    parts[-1] = parts[1].clone()
    start = 0
    for ir in power.irs_in:
        basis = o3.wigner_3j(j, j, ir.l, dtype=torch.float64)
        parts[ir.p] += torch.einsum("rk,ijk->rij", rows[:, start : start + ir.dim], basis)
        start += ir.dim
    z = []
    for ir in power.irs_out:
        total = torch.zeros(len(rows), ir.dim, dtype=rows.dtype)
        for choice in product((1, -1), repeat=nu):
            if torch.tensor(choice).prod() == ir.p:
                made = reduce(torch.matmul, [parts[p] for p in choice])
                basis = o3.wigner_3j(j, j, ir.l, dtype=torch.float64)
                total += torch.einsum("rij,ijk->rk", made, basis)
        z.append(total)
    return torch.cat(z, dim=1)


@pytest.mark.parametrize(("irreps", "out", "order"), SYSTEMS)
@pytest.mark.parametrize("built", [True, False], ids=["kernel", "plain"])
@pytest.mark.parametrize("name", [*GAUNT, "matrix"])
def test_each_degree_is_the_power_scaled_irrep_by_irrep(
    name, built, irreps, out, order, monkeypatch
):
    if not built:
        monkeypatch.setattr(_degreewise, "serves", lambda *tensors, codable: False)
    torch.manual_seed(0)
    power = powers.get(name)(irreps, order=order, irreps_out=out)
    channels, nodes = power.channels, 5
    a = torch.randn(nodes, power.irreps_in.dim, dtype=torch.float64)
    w = torch.randn(3, power.weight_numel, dtype=torch.float64)
    elements = torch.randint(0, 3, (nodes,))
    parts = [a[:, at].unflatten(1, (channels, -1)) for at in power.irreps_in.slices()]
    rows = torch.cat(parts, dim=2).flatten(0, 1)
    raised = matrices_raised if name == "matrix" else signals_raised
    own = w[elements].unflatten(1, (-1, channels))
    total = {ir: torch.zeros(nodes, channels, ir.dim, dtype=a.dtype) for ir in power.irs_out}
    for nu in range(1, order + 1):
        z = raised(power, rows, nu).unflatten(0, (nodes, channels))
        for block in (b for b in power.blocks if b.degree == nu):
            at = sum(ir.dim for ir in power.irs_out[: power.irs_out.index(block.ir)])
            values = z[..., at : at + block.ir.dim]
            assert (values.abs().max() > 1e-10) == bool(block.size), block
            if block.size:
                total[block.ir] += own[:, block.start, :, None] * values
    expected = torch.cat([z.flatten(1) for z in total.values()], dim=1)
    torch.testing.assert_close(power(a, w, elements), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", [*GAUNT, "matrix"])
def test_derivatives_shared_weights_and_no_nodes(name):
    torch.manual_seed(0)
    power = powers.get(name)("2x0e+2x1o", order=3, irreps_out="2x1o+2x0e", layout="ir_mul")
    a = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    w = torch.randn(power.weight_numel, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(power, (a, w))
    assert torch.autograd.gradgradcheck(power, (a, w))
    torch.testing.assert_close(power(a, w), power(a, w.expand(3, -1)), atol=1e-13, rtol=1e-13)
    assert power(a[:0], w).shape == (0, 8)
    assert power(a.float(), w.float()).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "irreps", "out"),
    [("gaunt-grid", "0e+1o", "0e+1e"), ("gaunt-grid", "0e+1o", "0e+9o"),
     ("matrix", "0e+1o", "0e+1e")],
)  # fmt: skip
def test_what_no_power_reaches_is_refused(name, irreps, out):
    with pytest.raises(ValueError, match=r"irreps_out: (1e|9o) cannot be reached.*Did you mean 0e"):
        powers.get(name)(irreps, order=3, irreps_out=out)


def test_a_degree_beyond_the_tables_is_refused():
    with pytest.raises(ValueError, match="at 20 or below, got order 4 with lmax 7"):
        powers.get("gaunt-grid")("7o", order=4, irreps_out="0e")


def test_the_gaunt_power_is_one_choice_of_weights_of_all_couplings():
    """Every sum of couplings can be had by cg: so can this one."""
    torch.manual_seed(0)
    irreps, out = "0e+1o+2e", "0e+1o"
    gaunt = powers.get("gaunt-grid")(irreps, order=3, irreps_out=out)
    every = powers.get("cg")(irreps, order=3, irreps_out=out)
    a = torch.randn(200, 9, dtype=torch.float64)
    eye = torch.eye(every.weight_numel, dtype=torch.float64)
    columns = torch.stack([every(a, row).flatten() for row in eye], dim=1)
    z = gaunt(a, torch.randn(gaunt.weight_numel, dtype=torch.float64)).flatten()
    best = torch.linalg.lstsq(columns, z[:, None], driver="gelsd").solution
    torch.testing.assert_close((columns @ best)[:, 0], z, atol=1e-9, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))
@pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
@pytest.mark.parametrize("name", ["cg", "gaunt-grid", "gaunt-fourier-fft", "matrix"])
@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
def test_compiled_whole_with_gradients(name, layout):
    """By Inductor, at a size whose fused scatters wrote beside their memory; nothing ran before."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    power = powers.get(name)("16x0e+16x1o", order=3, irreps_out="16x1o+16x0e", layout=layout)
    a = torch.randn(20, 64, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, power.weight_numel, dtype=torch.float64, requires_grad=True)
    elements = torch.randint(4, (20,))
    compiled, z = (p(a, w, elements) for p in (torch.compile(power, fullgraph=True), power))
    along = torch.randn_like(z)
    torch.testing.assert_close(compiled, z, atol=1e-12, rtol=1e-12)
    for ours, wanted in zip(
        *(torch.autograd.grad(t, [a, w], along) for t in (compiled, z)), strict=True
    ):
        torch.testing.assert_close(ours, wanted, atol=1e-12, rtol=1e-12)
