"""Powers of other libraries: what they state, what they span, and what is timed of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from etp import measure, powers
from etp.analysis.operation import Operation, same_operation
from etp.measure.graph import OnNodes
from etp.measure.timed import as_timed
from etp.powers._library import LibraryPower
from etp.problem import Problem, Weights
from etp.results.rows import Row
from etp.run.case import Case, run
from etp.run.case.questions import interaction_result

NAMES = ("mace", "cuequivariance")
SYSTEMS = [
    ("3x0e+3x1o", "3x0e+3x1o", 3),
    ("2x0e+2x1o+2x2e", "2x1o", 2),
    ("2x1o", "2x2e", 3),
    ("2x1o+2x1e", "2x0e+2x0o", 2),
]


def power(name: str, irreps: str, out: str, order: int, **options: Any) -> Any:
    cls: Any = powers.get(name)
    if (reason := cls.unavailable()) is not None:
        pytest.skip(reason)
    return cls(irreps, order=order, irreps_out=out, **options)


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize(("irreps", "out", "order"), SYSTEMS)
@pytest.mark.parametrize("name", NAMES)
def test_a_library_computes_the_tables_that_it_states(name, irreps, out, order, layout):
    made = power(name, irreps, out, order, layout=layout)
    asked: list[tuple[int, Weights]] = [
        (1, "none"), (1, "shared"), (3, "shared"), (1, "per-sample"),
    ]  # fmt: skip
    for elements, weights in asked:
        found = measure.agreement(OnNodes(made, elements), weights=weights, batch=5)
        assert found.passed, (weights, found.max)
    assert measure.equivariance_error(OnNodes(made), elements=4, batch=4).passed


@pytest.mark.parametrize(("irreps", "out", "order"), SYSTEMS)
@pytest.mark.parametrize("name", NAMES)
def test_it_spans_what_the_exact_power_spans(name, irreps, out, order):
    tp = OnNodes(power(name, irreps, out, order))
    found = measure.expressivity(tp)
    assert found.paths == found.allowed == found.closed_form
    ours = OnNodes(power("cg", irreps, out, order))
    theirs, own = (Operation.of_result(interaction_result(t)) for t in (tp, ours))
    assert same_operation(theirs, own)


@pytest.mark.parametrize("name", NAMES)
def test_tables_that_are_not_computed_are_found(name):
    made = power(name, "2x0e+2x1o", "2x1o", 2)
    made._stated[0][1] = made._stated[0][1] * (1 + 1e-9)
    assert not measure.agreement(OnNodes(made), weights="shared").passed


@pytest.mark.parametrize("name", NAMES)
def test_all_components_of_a_channel_together_are_taken_too(name):
    made = power(name, "2x0e+2x1o", "2x0e+2x1o", 2)
    a, weights = torch.randn(5, 2, 4), torch.randn(made.weight_numel)
    flat = torch.cat([a[..., :1].flatten(1), a[..., 1:].flatten(1)], dim=1)
    torch.testing.assert_close(made(a, weights), made(flat, weights))


@pytest.mark.parametrize("name", NAMES)
def test_timed_is_the_own_call_with_weights_by_element(name):
    made = power(name, "2x0e+2x1o", "2x0e+2x1o", 2)
    tp = OnNodes(made, elements=3)
    x, y, weights = torch.randn(9, 8), torch.empty(9, 0), torch.randn(3, made.weight_numel)
    work = as_timed(tp)
    given = work.inputs(x, y, weights)
    assert work.own_layout
    assert sum(t.numel() for t in given) == x.numel() + weights.numel()
    torch.testing.assert_close(work.output(work.call(*given)), tp(x, y, weights))
    with pytest.raises(ValueError, match="for each element, not for each node"):
        as_timed(OnNodes(made)).inputs(x, y, torch.randn(9, made.weight_numel))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_checked_and_timed_beside_ours(name):
    power(name, "0e+1o", "0e", 2)
    problem = Problem.of_irreps(
        "2x0e+2x1o", None, "0e+1o", kind="power", elements=3, batch=20, direction="double-backward"
    )
    case = Case(problem, ("cg", name), rounds=1, budget_s=0.0)
    rows = [item for item in run(case.as_dict()) if isinstance(item, Row)]
    assert [row.reason for row in rows if row.status != "ok"] == []
    assert {row.product for row in rows if row.measure == "runtime"} == {"cg", name}


def test_what_is_not_installed_says_so_and_how_to_have_it():
    problem = Problem.of_irreps("0e+1o", None, kind="power", batch=4)
    absent = [name for name in NAMES if powers.get(name).unavailable() is not None]
    rows = run(Case(problem, ("cg", *absent), rounds=1, budget_s=0.0, memory=False).as_dict())
    reasons = {r.product: r for r in rows if isinstance(r, Row) and r.status != "ok"}
    assert set(reasons) == set(absent)
    assert all("pip install" in str(row.reason) for row in reasons.values())
    assert all(row.badges == ("unavailable",) for row in reasons.values())


def test_names_of_libraries_are_those_of_library_powers():
    found = [name for name in powers.names() if issubclass(powers.get(name), LibraryPower)]
    assert sorted(found) == sorted(NAMES)
