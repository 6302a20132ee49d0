"""Powers against dense tensors of coupled wigner_3j, rotations, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pytest
import torch
from e3nn import o3
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import etp
from etp import powers, products
from etp.maths import so3
from etp.powers.clebsch_gordan import Basis, ClebschGordan
from tests.make import represent

SYSTEMS = [
    ("3x0e+3x1o", "3x0e+3x1o", 3),
    ("2x1o+2x0e+2x2e", "2x1o+2x0e", 3),
    ("1o+1e", "0o+0e+1e", 3),
    ("2x0e+2x1o", "2x2e", 4),
]
BASES: tuple[Basis, ...] = get_args(Basis)


def dense(irs: Sequence[o3.Irrep], order: int) -> list[tuple[o3.Irrep, Tensor]]:
    """Every way to couple ``order`` factors from the left, in the order of e3nn's sums."""
    dim = sum(ir.dim for ir in irs)
    eye = torch.eye(dim, dtype=torch.float64)
    parts, start = [], 0
    for ir in irs:
        parts.append((ir, slice(start, start + ir.dim)))
        start += ir.dim
    made = [(ir, eye[at]) for ir, at in parts]
    for _ in range(order - 1):
        made = sorted(made, key=lambda item: item[0])
        longer = []
        for left, tensor in made:
            for ir, at in parts:
                for out in left * ir:
                    w = o3.wigner_3j(out.l, left.l, ir.l, dtype=torch.float64) * out.dim**0.5
                    longer.append((out, torch.einsum("kij,i...,jn->k...n", w, tensor, eye[at])))
        made = longer
    return sorted(made, key=lambda item: item[0])


def contracted(table: Tensor, x: Tensor) -> Tensor:
    """(2l + 1, dim, ..., dim) with x (rows, dim) on every axis but the first."""
    z = table.expand(len(x), *table.shape)
    while z.ndim > 2:
        z = torch.einsum("r...i,ri->r...", z, x)
    return z


def expected(power: powers.Power, a: Tensor, weights: Tensor) -> Tensor:
    """What the sums over dense tensors give, weights (N, weight_numel), layout mul_ir."""
    c = power.channels
    parts = (a[:, at].unflatten(1, (c, -1)) for at in power.irreps_in.slices())
    rows = torch.cat(list(parts), dim=2).flatten(0, 1)
    w = weights.unflatten(1, (-1, c)).transpose(1, 2).flatten(0, 1)
    tables = {nu: dense(power.irs_in, nu) for nu in range(1, power.order + 1)}
    out, at = [], 0
    for ir in power.irs_out:
        total = torch.zeros(len(rows), ir.dim, dtype=a.dtype)
        for own in tables.values():
            for table in (t for label, t in own if label == ir):
                total += w[:, at : at + 1] * contracted(table, rows)
                at += 1
        out.append(total.reshape(len(a), c * ir.dim))
    assert at == w.shape[1]
    return torch.cat(out, dim=1)


def draw(power: powers.Power, nodes: int, rows: int | None = None) -> tuple[Tensor, Tensor]:
    a = torch.randn(nodes, power.irreps_in.dim, dtype=torch.float64)
    shape = (power.weight_numel,) if rows is None else (rows, power.weight_numel)
    return a, torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize(("irreps", "out", "order"), SYSTEMS)
def test_clebsch_gordan_is_the_sum_of_all_couplings(irreps, out, order):
    torch.manual_seed(0)
    power = powers.get("cg")(irreps, order=order, irreps_out=out)
    a, w = draw(power, 4, 4)
    z = expected(power, a, w)
    torch.testing.assert_close(power(a, w), z, atol=1e-12 * float(z.abs().max()), rtol=1e-12)


@pytest.mark.parametrize(
    ("lmax", "out", "weights", "independent"),
    [(1, "0e+1o", 16, 9), (2, "0e", 15, 9), (2, "0e+1o", 41, 17), (2, "0e+1o+2e", 69, 27),
     (3, "0e", 28, 13), (3, "0e+1o", 86, 29), (3, "0e+1o+2e", 159, 49),
     (3, "0e+1o+2e+3o", 231, 68)],
)  # fmt: skip
def test_weights_of_a_channel(lmax, out, weights, independent):
    irreps = "+".join(f"{l}{'eo'[l % 2]}" for l in range(lmax + 1))
    counts = [
        ClebschGordan(irreps, order=3, irreps_out=out, basis=basis).weights_per_channel
        for basis in BASES
    ]
    assert counts == [weights, independent]


@pytest.mark.parametrize(("irreps", "out", "order"), SYSTEMS)
def test_independent_couplings_span_all_paths(irreps, out, order):
    """The rank over random inputs, of all paths and of those kept, is the number kept."""
    torch.manual_seed(0)
    of = {basis: ClebschGordan(irreps, order=order, irreps_out=out, basis=basis) for basis in BASES}
    few = of["independent"]
    a = torch.randn(300, few.irreps_in.dim, dtype=torch.float64)
    for ir, at in zip(few.irs_out, few.irreps_out.slices(), strict=True):
        columns = {}
        for basis, power in of.items():
            numbers = [n for b in power.blocks if b.ir == ir
                       for n in range(b.start, b.start + b.size)]  # fmt: skip
            eye = torch.eye(power.weights_per_channel, dtype=torch.float64)[numbers]
            rows = eye.repeat_interleave(power.channels, dim=1)
            columns[basis] = torch.stack([power(a, row)[:, at].flatten() for row in rows], dim=1)
        own = torch.linalg.matrix_rank(columns["independent"])
        both = torch.linalg.matrix_rank(torch.cat(list(columns.values()), dim=1))
        assert own == both == columns["independent"].shape[1]


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize("name", powers.own())
def test_rotations_and_inversion(name, layout):
    torch.manual_seed(0)
    power = powers.get(name)(
        "2x0e+2x1o+2x2e+2x1e", order=3, irreps_out="2x0e+2x1o+2x2e+2x1e", layout=layout
    )
    a, w = draw(power, 6)
    rotations = so3.random_rotations(4, torch.Generator().manual_seed(1))
    inverted = torch.tensor([False, True, False, True])
    degrees = so3.wigner_d(2, rotations)
    irreps = o3.Irreps([(1, ir) for mul, ir in power.irreps_in for _ in range(mul)])
    d = represent(irreps, degrees, inverted)
    if layout == "ir_mul":
        order = torch.cat([torch.arange(at.start, at.stop).reshape(2, -1).T.flatten()
                           for at in power.irreps_in.slices()])  # fmt: skip
        d = d[:, order][:, :, order]
    z = power(a, w)
    assert (z.abs().amax(0) > 1e-3).all()
    for g in d:
        torch.testing.assert_close(power(a @ g.T, w), z @ g.T, atol=1e-11, rtol=1e-11)


@settings(max_examples=25)
@given(data=st.data())
def test_random_irreps_elements_and_layouts(data):
    """The same numbers whichever way weights are given, and however features lie."""
    irs = st.sampled_from(["0e", "0o", "1o", "1e", "2e", "3o"])
    names = data.draw(st.lists(irs, min_size=1, max_size=4, unique=True))
    channels = data.draw(st.integers(1, 19))
    nodes = data.draw(st.integers(0, 13))
    order = data.draw(st.integers(1, 3))
    irreps = "+".join(f"{channels}x{name}" for name in names)
    torch.manual_seed(data.draw(st.integers(0, 99)))
    of = {
        layout: powers.get("cg")(irreps, order=order, irreps_out=irreps, layout=layout)
        for layout in ("mul_ir", "ir_mul")
    }
    power = of["mul_ir"]
    a, w = draw(power, nodes, 3)
    elements = torch.randint(0, 3, (nodes,))
    z = power(a, w, elements)
    assert z.shape == (nodes, power.irreps_out.dim)
    torch.testing.assert_close(z, power(a, w[elements]), atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(z, expected(power, a, w[elements]), atol=1e-11, rtol=1e-11)
    shared = power(a, w[1], None)
    torch.testing.assert_close(shared, power(a, w[1].expand(nodes, -1)), atol=1e-11, rtol=1e-11)
    turned = of["ir_mul"](_turned(a, power.irreps_in), w, elements.int())
    torch.testing.assert_close(turned, _turned(z, power.irreps_out), atol=1e-11, rtol=1e-11)


def _turned(x: Tensor, irreps: o3.Irreps) -> Tensor:
    """From mul_ir to ir_mul."""
    parts = [x[:, at].unflatten(1, (mul, ir.dim)).transpose(1, 2).flatten(1)
             for (mul, ir), at in zip(irreps, irreps.slices(), strict=True)]  # fmt: skip
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("single", [False, True])
def test_a_power_of_given_tables(single):
    """Dense tables, not symmetric, axes of length one left out, as other libraries keep them."""
    torch.manual_seed(0)
    irs = [o3.Irrep("0e"), o3.Irrep("1o")]
    dtype = torch.float32 if single else torch.float64
    tables = []
    for out in irs:
        own = []
        for nu in (1, 2, 3):
            stack = torch.stack([t for ir, t in dense(irs, nu) if ir == out], dim=-1)
            own.append((stack @ torch.randn(stack.shape[-1], 5, dtype=torch.float64)).to(dtype))
        tables.append([table.squeeze(0) for table in own] if out.l == 0 else own)
    power = powers.table_power("4x0e+4x1o", "4x0e+4x1o", tables)
    assert power.weights_per_channel == 30
    a, _ = draw(power, 7)
    parts = [torch.randn(7, 5, 4, dtype=torch.float64) for _ in power.blocks]
    rows = torch.cat([a[:, :4, None], a[:, 4:].reshape(7, 4, 3)], dim=2)
    z = []
    for number, (out, own) in enumerate(zip(irs, tables, strict=True)):
        total = torch.zeros(7, 4, out.dim, dtype=torch.float64)
        for nu, table in enumerate(own):
            full = table.double().reshape(out.dim, *[4] * (nu + 1), 5)
            letters = "ijk"[: nu + 1]
            total += torch.einsum(
                f"m{letters}p,npu,{','.join('nu' + i for i in letters)}->num",
                full, parts[3 * number + nu], *[rows] * (nu + 1),
            )  # fmt: skip
        z.append(total.flatten(1))
    gate = 1e-4 if single else 1e-12
    torch.testing.assert_close(
        power(a, power.pack_weights(parts)), torch.cat(z, dim=1), atol=10 * gate, rtol=gate
    )


def test_tables_that_do_not_fit_are_refused():
    good = [torch.ones(1, 1), torch.ones(1, 1, 2)]
    with pytest.raises(ValueError, match=r"that of 0e and degree 2 must have shape \(1, 1, 1\)"):
        powers.table_power("4x0e", "4x0e", [[good[0], torch.ones(1, 3, 2)]])
    with pytest.raises(ValueError, match="a list for each of 1 irreps"):
        powers.table_power("4x0e", "4x0e", [good, good])
    with pytest.raises(ValueError, match="at least one weight"):
        powers.table_power("4x0e", "4x0e", [[torch.ones(1, 1, 0)]])
    power = powers.table_power("4x0e", "4x0e", [good])
    with pytest.raises(ValueError, match="parts must end in the shapes"):
        power.pack_weights([torch.ones(1, 4), torch.ones(1, 4)])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"order": 0}, "order must be a whole number of at least 1, got 0"),
     ({"layout": "ir"}, "layout must be one of mul_ir, ir_mul, got 'ir'"),
     ({"irreps_in": "4x0e+2x1o"}, "irreps_in: must give every irrep the same multiplicity"),
     ({"irreps_in": "4x0e+4x0e"}, "irreps_in: must name each irrep once"),
     ({"irreps_out": "2x0e"}, "irreps_out: must have the 4 channels .* Did you mean 4x0e"),
     ({"irreps_out": "4x0e+4x1e"}, "irreps_out: 1e cannot be reached"),
     ({"irreps_out": "4x0q"}, 'irreps_out: position 1: "4x0q" is not an irrep'),
     ({"basis": "best"}, "basis must be one of paths, independent, got 'best'")],
)  # fmt: skip
def test_what_is_not_valid_is_named(change, message):
    options = {"irreps_in": "4x0e+4x1o", "order": 2, "irreps_out": "4x0e"} | change
    with pytest.raises(ValueError, match=message):
        powers.get("cg")(**options)


@pytest.mark.parametrize("name", powers.own())
def test_no_nodes_have_derivatives_of_every_order(name):
    power = powers.get(name)("2x0e+2x1o", order=3, irreps_out="2x0e+2x1o")
    for sets in ((), (0,), (3,)):
        elements = torch.zeros(0, dtype=torch.int64) if sets == (3,) else None
        a, w = ins = [torch.randn(*shape, dtype=torch.float64, requires_grad=True)
                      for shape in ((0, 8), (*sets, power.weight_numel))]  # fmt: skip
        first = torch.autograd.grad(power(a, w, elements).sum(), ins, create_graph=True)
        second = torch.autograd.grad(torch.cat([g.flatten() for g in first]).sum(), ins)
        for own, *grads in zip(ins, first, second, strict=True):
            assert all(grad.shape == own.shape and not grad.any() for grad in grads)


@pytest.mark.parametrize("name", powers.own())
@pytest.mark.parametrize("wrong", [2, -1])
def test_an_element_without_weights_is_named(name, wrong):
    power = powers.get(name)("4x0e+4x2e", order=2, irreps_out="4x0e")
    a, w = torch.ones(3, power.irreps_in.dim), torch.ones(2, power.weight_numel)
    with pytest.raises(ValueError, match=f"elements must be from 0 to 1, got {wrong}"):
        power(a, w, torch.tensor([0, wrong, 1]))


def test_inputs_that_do_not_fit_are_named():
    power = powers.get("cg")("4x0e", order=2, irreps_out="4x0e")
    a, w, e = torch.ones(3, 4), torch.ones(2, 8), torch.tensor([0, 1, 1])
    for inputs, message in (
        (
            (a[:, :3], w, e),
            r"a must have shape \(N, 4\) or \(N, 4, 1\) for irreps 4x0e, got",
        ),
        ((a, w[:, :7], e), r"weights must have shape \(Z, 8\) with elements, got \(2, 7\)"),
        ((a, w), r"weights must have shape \(8,\) or \(3, 8\) where no elements"),
        ((a, w.double(), e), "must have the same dtype"),
        ((a, w, e[:2]), r"elements must have shape \(3,\)"),
        ((a, w, e.float()), "elements must be an int64 or int32 tensor, got torch.float32"),
        ((a.long(), w, e), "a must be a floating point tensor, got torch.int64"),
    ):
        with pytest.raises(ValueError, match=message):
            power(*inputs)


def test_names():
    assert etp.powers.get("cg").name == "cg"
    with pytest.raises(ValueError, match="no power 'cgg'; did you mean 'cg'"):
        powers.get("cgg")


@pytest.mark.parametrize("name", ["gaunt-bracket", "vector-signal"])
def test_products_without_a_power_say_why(name):
    with pytest.raises(ValueError, match=f"no power '{name}': .* is zero.*known: cg"):
        powers.get(name)


def test_the_bracket_of_a_signal_with_itself_is_zero():
    bracket = products.get("gaunt-bracket")("0e+1o+2e", "0e+1o+2e")
    plain = products.get("gaunt-grid")("0e+1o+2e", "0e+1o+2e", filter_ir_out=bracket.irs_out)
    a = torch.randn(7, 9, dtype=torch.float64)
    z = dict(zip(bracket.irs_out, bracket(a, a).split([ir.dim for ir in bracket.irs_out], 1),
                 strict=True))  # fmt: skip
    wanted = plain(a, a).split([ir.dim for ir in plain.irs_out], 1)
    for ir, values in zip(plain.irs_out, wanted, strict=True):
        torch.testing.assert_close(z.pop(ir), values)
    assert z
    assert all(values.abs().max() < 1e-12 for values in z.values())
