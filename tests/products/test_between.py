"""Operations between Gaunt and Clebsch-Gordan, and one that only approximates."""

from __future__ import annotations

from math import pi, sqrt
from pathlib import Path

import pytest
import torch
from sympy import Integer
from sympy.physics.wigner import wigner_3j

from etp import measure, products
from etp.analysis.comparison import Comparison, comparisons
from etp.problem import Problem
from etp.products import low_rank
from etp.results.rows import Row
from etp.run.case import Case, run

NATURAL = {1: "0e+1o", 2: "0e+1o+2e", 3: "0e+1o+2e+3o"}


def mimo(name: str, lmax: int):
    return products.get(name)(NATURAL[lmax], NATURAL[lmax]).double()


def test_spin_paths_have_the_3j_symbol_of_their_spins():
    for a, b, c, coefficient in mimo("spin", 3).paths:
        size = sqrt((2 * a.l + 1) * (2 * b.l + 1) * (2 * c.l + 1) / (4 * pi))
        zero = size * abs(float(wigner_3j(*map(Integer, (a.l, b.l, c.l, 0, 0, 0)))))
        one = size * float(wigner_3j(*map(Integer, (a.l, b.l, c.l, 1, -1, 0)))) if a.l * b.l else 0
        assert abs(coefficient - zero) == pytest.approx(abs(one), abs=1e-12)
        assert coefficient > 1e-3


def test_more_rank_is_nearer_to_clebsch_gordan_and_reaches_more_maps():
    made = {
        rank: type(f"Rank{rank}", (low_rank.LowRank,), {"name": f"rank-{rank}", "rank": rank})(
            NATURAL[3], NATURAL[3]
        )
        for rank in (1, 2, 4)
    }
    off = {r: max(abs(path.coefficient - 1) for path in tp.paths) for r, tp in made.items()}
    gammas = {r: measure.expressivity(tp).rank for r, tp in made.items()}
    assert off[1] > 0.1 > off[2] > 0.01 > 1e-4 > off[4]
    bracket = measure.expressivity(mimo("gaunt-bracket", 3)).rank
    assert gammas[1] == bracket < gammas[2] < gammas[4] == len(made[4].paths)


def test_the_fixed_grid_is_that_of_the_paper_and_the_product_the_same():
    fixed, own = mimo("gaunt-grid-fixed", 3), mimo("gaunt-grid", 3)
    assert fixed.resolution == (100, 99)
    x1, x2 = torch.randn(2, 4, 16, dtype=torch.float64)
    torch.testing.assert_close(fixed(x1, x2), own(x1, x2), rtol=1e-11, atol=1e-11)
    assert fixed.macs() > 10 * own.macs()


def test_vector_harmonics_do_what_brackets_do():
    x1, x2 = torch.randn(2, 4, 16, dtype=torch.float64)
    vector, bracket = mimo("complete-vector", 3), mimo("complete", 3)
    torch.testing.assert_close(vector(x1, x2), bracket(x1, x2), rtol=1e-11, atol=1e-11)


def test_a_canonical_decomposition_is_exact_only_with_enough_terms():
    gate = 1e-2
    error = {name: measure.agreement(mimo(name, 2)).max for name in ("cp-16", "cp-64", "cp-full")}
    assert error["cp-16"] > error["cp-64"] > gate > 1e-12 > error["cp-full"]
    assert measure.equivariance_error(mimo("cp-16", 2), elements=4).max > gate
    assert measure.agreement(mimo("cp-16", 1)).max < 1e-12
    assert mimo("cp-16", 1).terms == 16


def timed(lmax: int) -> Comparison:
    return timed_on(Problem.of_setting("MIMO", lmax, batch=10, dtype="float64"))


def timed_on(problem: Problem) -> Comparison:
    plan = Case(problem, ("cg-summed", "cp-16"), rounds=2, budget_s=0.2, elements=2, memory=False)
    rows = [row for row in run(plan.as_dict()) if isinstance(row, Row)]
    return comparisons(rows)[0]


def test_an_approximation_is_timed_with_its_error_and_never_the_same_operation():
    found = timed(2)
    entry = found.entry("cp-16")
    assert entry.valid
    assert entry.runtime is not None
    assert "approximate" in entry.runtime.badges
    assert entry.result("agreement")["max"] > entry.result("agreement")["gate"]
    assert entry.result("equivariance")["max"] > entry.result("equivariance")["gate"]
    assert not found.same("cp-16")
    assert found.judgement.fronts.get("cp-16") is None


@pytest.mark.parametrize("kind", ["edge", "convolution"])
def test_edge_products_of_an_approximation_say_so_too(kind):
    problem = Problem.of_irreps("2x0e+2x1o+2x2e", "0e+1o+2e", kind=kind, batch=10, neighbours=2)
    entry = timed_on(problem).entry("cp-16")
    assert entry.valid
    assert entry.runtime is not None
    assert "approximate" in entry.runtime.badges


def test_where_it_is_exact_it_is_a_product_like_others():
    entry = timed(1).entry("cp-16")
    assert entry.valid
    assert entry.runtime is not None
    assert "approximate" not in entry.runtime.badges
    assert entry.result("interactions")["count"] == 6


def test_what_does_not_say_that_it_approximates_is_refused(monkeypatch):
    monkeypatch.setattr(products.get("cp-16"), "approximate", False)
    entry = timed(2).entry("cp-16")
    assert not entry.valid
    assert entry.runtime is not None
    assert entry.runtime.badges == ("wrong answer",)


def test_the_documentation_tells_how_near_a_rank_comes():
    """Farthest coefficient from 1, over even and odd paths of MIMO, as the table rounds it."""
    told = (Path(__file__).parents[2] / "docs" / "products.md").read_text(encoding="utf-8")
    for lmax in (3, 6):
        line = next(line for line in told.splitlines() if line.startswith(f"| {lmax} | "))
        tops = lmax, lmax, 2 * lmax
        for rank, said in zip((2, 4), line.split("|")[3:5], strict=True):
            worst = 0.0
            for how in ("value", "cross"):
                found = low_rank.factors(tops, how, rank)
                sides = [torch.tensor(side, dtype=torch.float64) for side in found]
                sizes = low_rank._sizes(tops, how)
                off = sizes * torch.einsum("ra,rb,rc->abc", *sides) - 1
                worst = max(worst, float(off[sizes != 0].abs().max()))
            digits = len(said.strip().removeprefix("0.").lstrip("0")) if "." in said else 1
            assert float(f"{worst:.{digits}g}") == pytest.approx(float(said))
