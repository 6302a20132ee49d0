"""Each product against what it must equal, and the tables of reach and expressivity."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from e3nn import o3

from etp import measure, products
from etp.analysis.comparison import comparisons
from etp.analysis.findings import pair_sentence
from etp.maths import so3, sphere
from etp.measure.drawing import random_inputs
from etp.problem import Problem
from etp.product import applicability
from etp.products.vector_signal import VectorSignal
from etp.results.rows import Row
from etp.run import case as sweep


def natural(lmax: int) -> str:
    return "+".join(f"{l}{'eo'[l % 2]}" for l in range(lmax + 1))


def mimo(name: str, lmax: int):
    return products.get(name)(natural(lmax), natural(lmax))


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("degrees", [(1, 1), (4, 4), (8, 8), (2, 5), (5, 2)], ids=str)
def test_complete_is_the_clebsch_gordan_product_output_for_output(degrees):
    inputs = [natural(l) for l in degrees]
    tp, dense = (products.get(name)(*inputs) for name in ("complete", "cg-dense"))
    assert tp.irreps_out == dense.irreps_out
    assert [path[:3] for path in tp.paths] == [path[:3] for path in dense.paths]
    x1, x2 = random_inputs(dense, 4, torch.Generator().manual_seed(0))
    z, wanted = tp(x1, x2), dense(x1, x2)
    for path, part in zip(tp.paths, tp.irreps_out.slices(), strict=False):
        assert relative(z[:, part], wanted[:, part]) < 1e-12, path


def test_complete_in_single_precision_loses_nothing():
    tp, dense = mimo("complete", 6), mimo("cg-dense", 6)
    x1, x2 = random_inputs(dense, 16, torch.Generator().manual_seed(0), torch.float32)
    assert relative(tp(x1, x2).double(), dense(x1.double(), x2.double())) < 2e-6


@pytest.mark.parametrize("inputs", [(4, 4), (3, 6), (5, 2)], ids=str)
def test_so2_is_the_clebsch_gordan_product_restricted_to_directions(inputs):
    irreps = [natural(l) for l in inputs]
    tp, dense = (products.get(name)(*irreps) for name in ("so2", "cg-dense"))
    generator = torch.Generator().manual_seed(0)
    x1, x2 = random_inputs(tp, 20, generator)
    weights = torch.randn(tp.weight_numel, dtype=torch.float64, generator=generator)
    kept = dense(x1, x2, weights)
    wanted = torch.zeros(20, tp.irreps_out.dim, dtype=torch.float64)
    places = dict(zip(tp.irs_out, tp.irreps_out.slices(), strict=True))
    start = 0
    for path in dense.paths:
        wanted[:, places[path.ir_out]] += kept[:, start : start + path.ir_out.dim]
        start += path.ir_out.dim
    assert relative(tp(x1, x2, weights), wanted) < 1e-12


def test_so2_carries_the_size_of_its_second_input():
    tp, summed = mimo("so2", 2), mimo("cg-summed", 2)
    x1, x2 = random_inputs(tp, 5, torch.Generator().manual_seed(0))
    assert relative(tp(x1, 2.5 * x2), summed(x1, 2.5 * x2)) < 1e-12
    assert not tp(x1, torch.zeros_like(x2)).any()


@pytest.mark.parametrize("name", ["so2", "so2-linear", "so2-linear-2"])
def test_an_edge_product_of_so2_is_each_channel_turned(name):
    """As a table of couplings with harmonics; one channel is turned along the direction instead."""
    cls: Any = products.get(name)
    irreps = "0e+1o+1e+2e+3o"
    whole, single = cls("2x0e+2x1o+2x1e+2x2e+2x3o", "0e+1o"), cls(irreps, "0e+1o")
    x1, x2 = random_inputs(whole, 5, torch.Generator().manual_seed(0))
    weights = torch.randn(whole.weight_numel, dtype=torch.float64)
    z = by_channel(whole(x1, 1.5 * x2, weights), whole.irreps_out)
    for u, row in enumerate(by_channel(x1, whole.irreps_in1).unbind(1)):
        own = weights.reshape(-1, 2)[:, u]
        assert relative(z[:, u], single(row, 1.5 * x2, own)) < 1e-12


def by_channel(x: torch.Tensor, irreps: o3.Irreps) -> torch.Tensor:
    """Features of equal multiplicities, (N, channels, components)."""
    parts = zip(irreps, irreps.slices(), strict=True)
    return torch.cat([x[:, part].reshape(len(x), mul, -1) for (mul, _), part in parts], dim=2)


@pytest.mark.parametrize(
    "direction",
    [(0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (1e-9, 1.0, 0.0), (0.3, 0.9, -0.2), (1.0, 0.0, 0.0)],
    ids=str,
)
@pytest.mark.parametrize("irreps", ["0e+1o+2e", "3x0e+2x1o+2x2e"], ids=["pair", "edge"])
def test_so2_has_the_derivatives_of_the_product_by_direction_also_at_the_poles(direction, irreps):
    tp, summed = (products.get(name)(irreps, "0e+1o+2e") for name in ("so2", "cg-summed"))
    x1, _ = random_inputs(tp, 1, torch.Generator().manual_seed(0))
    grads = []
    for product in (tp, summed):
        d = torch.tensor([direction], dtype=torch.float64, requires_grad=True)
        y = o3.spherical_harmonics([0, 1, 2], d, normalize=True, normalization="integral")
        grad_out = torch.linspace(-1, 1, product.irreps_out.dim, dtype=torch.float64)
        (first,) = torch.autograd.grad(product(x1, y)[0] @ grad_out, d, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), d)
        grads.append((first.detach(), second))
    for found, wanted in zip(*grads, strict=True):
        assert relative(found, wanted) < 1e-10


def directions(count: int) -> torch.Tensor:
    d = torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return d / d.norm(dim=1, keepdim=True)


def seen_along(x: torch.Tensor, irreps: o3.Irreps, d: torch.Tensor) -> torch.Tensor:
    """Features turned until their directions are the polar axis of e3nn."""
    alpha, beta = o3.xyz_to_angles(d)
    back = o3.angles_to_matrix(alpha, beta, torch.zeros_like(alpha)).mT
    degrees = so3.wigner_d(max(ir.l for _, ir in irreps), back)
    parts = [
        torch.einsum("nij,nj->ni", degrees[ir.l], x[:, part])
        for (_, ir), part in zip(irreps, irreps.slices(), strict=True)
    ]
    return torch.cat(parts, dim=1)


def linear(irreps: str, edges: str, **options: Any) -> Any:
    cls: Any = products.get("so2-linear")
    return cls(irreps, edges, **options)


@pytest.mark.parametrize("mmax", [None, 0, 1, 2])
def test_so2_linear_mixes_degrees_of_equal_order_and_drops_the_others(mmax):
    """In the frame of the direction, by e3nn: one number for each pair of degrees and order."""
    irreps, out = "0e+1o+2e+3o", o3.Irreps("0e+1o+2e")
    tp = linear(irreps, "0e+1o", filter_ir_out=str(out), mmax=mmax)
    x, d = torch.randn(6, 16, dtype=torch.float64), directions(6)
    y = o3.spherical_harmonics([0, 1], d, normalize=True, normalization="integral")
    weights = torch.randn(tp.weight_numel, dtype=torch.float64)
    seen, z = seen_along(x, tp.irreps_in1, d), seen_along(tp(x, y, weights), tp.irreps_out, d)
    wanted = torch.zeros_like(z)
    top = 2 if mmax is None else mmax
    orders = {(f.target[0].l, f.target[1].l, f.number): n
              for n, f in enumerate(tp.weighting.factors)}  # fmt: skip
    assert set(orders) == {(a, b, m) for a in range(4) for b in range(3)
                           for m in range(min(a, b, top) + 1)}  # fmt: skip
    for (a, b, m), number in orders.items():
        one = torch.zeros_like(weights)
        one[number] = 1.0
        response = seen_along(tp(x, y, one), tp.irreps_out, d)
        places = [b * b + b + s * m for s in (1, -1)]
        sources = [a * a + a + s * m for s in (1, -1)]
        size = float(response[0, places[0]] / seen[0, sources[0]])
        only = torch.zeros_like(response)
        only[:, places] = size * seen[:, sources]
        torch.testing.assert_close(response, only, rtol=1e-10, atol=1e-12)
        wanted[:, places] += weights[number] * size * seen[:, sources]
    torch.testing.assert_close(z, wanted, rtol=1e-10, atol=1e-12)


def test_so2_linear_with_weights_of_one_is_every_path_with_harmonics_of_every_degree():
    irreps, out = "0e+1o+2e", "0e+1o+2e+1e"
    tp = linear(irreps, "0e+1o", filter_ir_out=out)
    summed = products.get("cg-summed")(irreps, "0e+1o+2e+3o+4e", filter_ir_out=out)
    x, d = torch.randn(5, 9, dtype=torch.float64), directions(5)
    y = o3.spherical_harmonics([0, 1, 2, 3, 4], d, normalize=True, normalization="integral")
    assert relative(tp(x, y[:, :4]), summed(x, y)) < 1e-12
    assert {path[:3] for path in tp.paths} == {path[:3] for path in summed.paths}
    assert tp.weight_numel == summed.weight_numel


@pytest.mark.parametrize(("mmax", "gamma"), [(None, 86), (0, 28), (1, 61), (2, 79), (3, 86)])
def test_what_so2_linear_reaches_is_a_map_for_each_weight(mmax, gamma):
    """By hand: (min(l1, l3, mmax) + 1) of natural outputs, min(l1, l3, mmax) of pseudo ones."""
    tp = linear(natural(3), natural(3), mmax=mmax)
    found = measure.expressivity(tp)
    assert found.rank == found.closed_form == tp.weight_numel == gamma
    assert found.allowed == 86


def test_dropping_orders_of_so2_linear_costs_less():
    counts = [linear(natural(6), natural(6), mmax=m).macs() for m in (2, 4, 6)]
    assert counts == sorted(set(counts))
    usual = products.get("so2-linear-2")(natural(6), natural(6))
    assert usual.macs() == counts[0]
    with pytest.raises(ValueError, match="mmax must be at least 0, got -1"):
        linear("0e+1o", "0e+1o", mmax=-1)


def test_so2_says_why_it_does_not_apply():
    cls = products.get("so2")
    assert cls.applies(natural(2), natural(2)) is None
    assert "1o" in str(cls.applies(natural(2), "0e+2e"))
    assert "1e" in str(cls.applies(natural(2), "0e+1o+1e"))
    with pytest.raises(ValueError, match="does not apply to these irreps"):
        cls("0e+1o", "0e+1e")
    problem = Problem.of_setting("SISO", 2)
    assert applicability.reason(cls.rule, problem.irreps1, problem.irreps2) is not None
    assert products.get("cg-dense").applies("1e", "0o") is None


@pytest.mark.parametrize("name", ["gaunt-bracket", "vector-signal"])
@pytest.mark.parametrize("short", [(1, 0), (0, 1)], ids=["row", "column"])
def test_a_grid_one_line_short_is_wrong_by_percents(name, short, monkeypatch):
    exact = sphere.exact_resolution
    tp = mimo(name, 2)
    assert measure.agreement(tp).max < 1e-14
    rows, columns = short
    monkeypatch.setattr(
        sphere, "exact_resolution", lambda *ls: (exact(*ls)[0] - rows, exact(*ls)[1] - columns)
    )
    assert measure.agreement(mimo(name, 2)).max > 1e-3


@pytest.mark.parametrize("coupling", ["cross", "dot", "scalar-vector"])
@pytest.mark.parametrize(
    "irreps", [("0e+1o+2e", "0e+1o+2e"), ("0e+0o+1e+1o", "1o+2e+2o"), ("2e", "1o+3o")], ids=str
)
def test_every_coupling_of_vector_signals_computes_its_9j_coefficients(coupling, irreps):
    tp = VectorSignal(*irreps, coupling=coupling)
    assert measure.agreement(tp).max < 1e-12
    assert measure.agreement(tp, weights="per-sample").max < 1e-12
    assert measure.equivariance_error(tp, elements=4).max < 1e-12
    assert measure.interactions(tp) == {path[:3] for path in tp.paths}


@pytest.mark.parametrize(
    "name", ["complete", "gaunt-bracket", "gaunt-grid", "matrix", "vector-signal"]
)
def test_irreps_that_no_path_reads_leave_the_result_alone(name):
    tp = products.get(name)("0e+1o+4e", "0e+1o", filter_ir_out="0e")
    weights = measure.agreement(tp, weights="per-sample").max
    assert max(measure.agreement(tp).max, weights) < 1e-12


def test_vector_signals_refuse_an_unknown_coupling():
    with pytest.raises(ValueError, match="coupling must be one of cross"):
        VectorSignal("1o", "1o", coupling="triple")  # type: ignore[arg-type]


def test_no_path_of_a_vector_product_cancels_by_accident():
    tp = mimo("vector-signal", 1)
    for l1 in range(9):
        for l2 in range(9):
            a, b = o3.Irrep(l1, 1), o3.Irrep(l2, 1)
            lost = [c for c in a * b if tp.coefficient(a, b, c) == 0]
            assert lost == ([o3.Irrep("0e")] if l1 == l2 == 0 else [])


def test_vector_signals_reach_the_cross_product_with_its_label():
    tp = products.get("vector-signal")("1o", "1o", filter_ir_out="1e")
    x1, x2 = random_inputs(tp, 3, torch.Generator().manual_seed(0))
    wanted = tp.paths[0].coefficient * torch.linalg.cross(x1, x2) / 6**0.5
    assert relative(tp(x1, x2), wanted) < 1e-14


@pytest.mark.parametrize("lmax", [1, 2, 3, 4])
def test_the_table_of_interactions(lmax):
    """Paths in MIMO: all, even, odd ones; every product reaches what its selection rule says."""
    even = (lmax + 1) * (lmax + 2) * (2 * lmax + 3) // 6
    odd = lmax * (lmax + 1) * (2 * lmax + 1) // 6
    wanted = {
        "cg-dense": (even, odd), "complete": (even, odd), "cg-summed": (even, odd),
        "so2": (even, odd), "gaunt-bracket": (even, odd), "matrix": (even, odd),
        "gaunt-grid": (even, 0), "vector-signal": (even - 1, odd),
    }  # fmt: skip
    for name, counts in wanted.items():
        found = measure.interactions(mimo(name, lmax))
        odd_found = sum((a.l + b.l + c.l) % 2 for a, b, c in found)
        assert (len(found) - odd_found, odd_found) == counts, name


@pytest.mark.parametrize("lmax", [1, 2, 3, 4])
def test_the_table_of_expressivity(lmax):
    """Ranks with free weights and without them, and as published with SO(3) labels."""
    paths = (lmax + 1) * (2 * lmax * lmax + 4 * lmax + 3) // 3
    mixed = 8 * lmax - 2
    vector = min(paths - 1, 12 * lmax - 3)
    wanted = {
        # name: (rank, rank without weights, rank with SO(3) labels)
        "cg-sparse": (paths, paths, paths),
        "complete": (paths, paths, paths),
        "cg-summed": (paths, 6 * lmax, paths),
        "so2": (paths, 6 * lmax, paths),
        "gaunt-grid": (4 * lmax + 1, 4 * lmax + 1, 4 * lmax + 1),
        "matrix": (6 * lmax, 6 * lmax, 4 * lmax + 1),
        "gaunt-bracket": (mixed, 6 * lmax, mixed),
        "vector-signal": ((5, 18, 43, 62)[lmax - 1], (5, 12, 18, 24)[lmax - 1], vector),
    }
    for name, (rank, fixed, plain) in wanted.items():
        tp = mimo(name, lmax)
        found = measure.expressivity(tp)
        assert (found.rank, found.fixed_rank) == (rank, fixed), name
        assert found.closed_form in (rank, None), name
        assert (found.closed_form is None) == (name == "vector-signal")
        assert measure.expressivity(tp, group="SO(3)").rank == plain, name


@pytest.mark.parametrize(
    ("name", "setting", "ranks"),
    [
        ("complete", "SIMO", (3, 5, 7)), ("gaunt-grid", "SIMO", (2, 3, 4)),
        ("matrix", "SIMO", (3, 5, 7)), ("gaunt-bracket", "SIMO", (3, 5, 7)),
        ("complete", "SISO", (1, 1, 1)), ("matrix", "SISO", (1, 1, 1)),
        ("gaunt-bracket", "SISO", (1, 1, 1)),
    ],
)  # fmt: skip
def test_the_other_settings_of_the_table(name, setting, ranks):
    for lmax, rank in enumerate(ranks, 1):
        problem = Problem.of_setting(setting, lmax)
        tp = products.get(name)(problem.irreps1, problem.irreps2, filter_ir_out=problem.filter_out)
        assert measure.expressivity(tp).rank == rank


def test_more_channels_cannot_lower_the_rank_of_a_weighted_family():
    tp = mimo("gaunt-bracket", 2)
    one, two = (measure.expressivity(tp, channels=c) for c in (1, 2))
    assert one.rank == 14
    assert one.rank < two.rank <= two.paths


def test_weights_of_paths_and_of_degrees_are_named():
    summed, bracket = mimo("cg-summed", 1), mimo("gaunt-bracket", 1)
    assert [f.target for f in summed.weighting.factors] == list(summed.paths)
    sides = [(f.side, str(f.target), f.number) for f in bracket.weighting.factors]
    assert sides == [
        ("in1", "0e", 0), ("in1", "1o", 0), ("in1", "1o", 1),
        ("in2", "0e", 0), ("in2", "1o", 0), ("in2", "1o", 1),
        ("out", "0e", 0), ("out", "1o", 0), ("out", "1e", 1), ("out", "2e", 0),
    ]  # fmt: skip


def test_the_multiply_adds_are_those_that_were_counted_by_hand():
    """Sparse table of lmax 4 and its weighted form; the closed sum of the SO(2) couplings."""
    assert mimo("cg-sparse", 4).macs() == mimo("cg-summed", 4).macs() == 3741 + 25**2
    lmax = 4
    tp = mimo("so2", lmax)
    outputs = [ir.l for ir in tp.irs_out]
    pairs = {(p.ir_in1.l, p.ir_out.l, sum(ir.l for ir in p[:3]) % 2) for p in tp.paths}
    sums = sum(2 * min(l1, l3) + (1 - odd) for l1, l3, odd in pairs)
    turning = sum(2 * d * d + 4 * d for d in (2 * l + 1 for l in [*range(lmax + 1), *outputs]))
    assert tp.macs() == sums + turning + 8 * 2 * lmax + 25


def test_fields_on_the_grid_are_the_values_and_slopes_of_harmonics():
    """Gradient by finite differences of an independent evaluation."""
    from etp.products import _fields as fields

    nodes, lmax, h = sphere.grid(5, 7), 3, 1e-5
    beta, alpha = torch.meshgrid(nodes.beta, nodes.alpha, indexing="ij")

    def harmonics(b: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        n = torch.stack([b.sin() * a.sin(), b.cos(), b.sin() * a.cos()], dim=-1)
        return sphere.spherical_harmonics(lmax, n)

    slopes = (
        (harmonics(beta + h, alpha) - harmonics(beta - h, alpha)) / (2 * h),
        (harmonics(beta, alpha + h) - harmonics(beta, alpha - h)) / (2 * h * beta.sin())[..., None],
    )
    l, m = sphere.degrees_orders(lmax)
    for field, wanted in zip(fields.gradient(lmax, nodes), slopes, strict=True):
        found = torch.einsum("cb,ca->bac", field.table[l, m.abs()], field.waves[m + lmax])
        assert float((found - wanted).abs().max()) < 1e-8


def test_the_turning_matrices_of_so2_are_exact():
    d = so3.wigner_d(8, torch.tensor([[[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]], dtype=torch.float64))
    for matrix in d:
        third = torch.linalg.matrix_power(matrix[0], 3)
        assert float((third - torch.eye(len(third))).abs().max()) < 1e-13


@pytest.mark.parametrize("name", products.available())
@pytest.mark.parametrize(("setting", "weights"), [("MIMO", "per-sample"), ("SISO", "none")])
def test_the_memory_estimate_of_a_case_is_an_upper_one(name, setting, weights):
    problem = Problem.of_setting(setting, 4, batch=100, weights=weights, direction="backward")
    try:
        tp = sweep.build(problem, name)
        found = measure.peak_memory(tp, batch=100, weights=weights, direction="backward")
    except ValueError as error:
        pytest.skip(str(error))
    assert 0 < found.peak_bytes < sweep.needed_bytes(problem)


def test_a_comparison_is_checked_and_timed_with_its_weights():
    problem = Problem.of_setting("MIMO", 2, batch=8, dtype="float64", weights="per-sample")
    names = ("cg-summed", "gaunt-bracket")
    case = sweep.Case(problem, names, rounds=1, budget_s=0.0, memory=False)
    rows = [row for row in sweep.run(case.as_dict()) if isinstance(row, Row)]
    timed = [row for row in rows if row["measure"] == "runtime"]
    assert [row["status"] for row in timed] == ["ok"] * 3
    costs = {row["product"]: row["result"] for row in rows if row["measure"] == "cost"}
    reached = {row["product"]: row["result"] for row in rows if row["measure"] == "interactions"}
    for name in names:
        tp = sweep.build(problem, name)
        numbers = tp.irreps_in1.dim + tp.irreps_in2.dim + tp.irreps_out.dim + tp.weight_numel
        assert costs[name]["bytes"] == 8 * 8 * numbers
        assert reached[name]["weights_per"] == tp.weights_per
    (found,) = comparisons(rows)
    assert not found.same("gaunt-bracket")
    assert "a free weight for each path" not in pair_sentence(found, "gaunt-bracket")
    assert "no weights for paths" in pair_sentence(found, "gaunt-bracket")


def sizes(tp, weights):
    """Size of each path's outputs for inputs of unit variance."""
    strengths = torch.tensor([path.coefficient for path in tp.paths], dtype=torch.float64)
    for term in tp.weighting.terms:
        strengths[term.path] = term.coefficient * weights[list(term.factors)].prod()
    roots = torch.tensor([path.ir_out.dim for path in tp.paths], dtype=torch.float64).sqrt()
    return strengths.abs() / roots


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("matrix", 100, 10), ("gaunt-grid", 2.5, 1.5), ("cg-summed", 3, 1)],
)
def test_balanced_weights_bring_the_sizes_of_paths_together(name, before, after):
    tp = products.get(name)("0e+1o+2e+3o+4e", "0e+1o+2e+3o+4e")
    ones = torch.ones(len(tp.weighting.factors), dtype=torch.float64)
    plain, balanced = (sizes(tp, w) for w in (ones, tp.weighting.balanced()))
    assert plain.max() / plain.min() > before
    assert balanced.max() / balanced.min() < after * (1 + 1e-12)
    assert balanced.log().mean().abs() < 1e-12
    assert measure.agreement(tp, dtype=torch.float64, weights="balanced").max < 1e-12


def test_a_product_whose_paths_are_sums_refuses_balanced_weights():
    tp = products.get("vector-signal")("0e+1o", "0e+1o")
    with pytest.raises(ValueError, match="vector-signal has no balanced weights"):
        tp.weighting.balanced()
