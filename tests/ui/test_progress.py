"""The grid of a run, and what is said of runs that measured nothing."""

from __future__ import annotations

from typing import Any

import pytest

from etp.analysis.comparison import comparisons
from etp.analysis.findings import finding
from etp.problem import Problem
from etp.results.store import Job, Store, default_path
from etp.text import time_text
from etp.ui import progress
from etp.ui.compare import BEYOND_REACH
from tests.make import MIMO, row, run_of
from tests.ui.opening import open_page, text_of

pytestmark = [
    pytest.mark.usefixtures("fresh_server"),
    pytest.mark.filterwarnings("ignore"),
]

PROBLEMS = [Problem.of_setting("MIMO", lmax) for lmax in (1, 2, 3)]


def job_of(*cases: dict[str, Any], ended: tuple[int, ...] = (), **changes: Any) -> Job:
    values = {
        "id": "j", "title": "t", "owner": "", "cases": list(cases), "state": "running",
        "reason": None, "ended": ended, "now": None, "stop": False, "estimate_s": None,
        "created": 0.0, "started": 1.0, "finished": None, "beat": 1.0, "published": None,
    }  # fmt: skip
    return Job(**(values | changes))


def case(problem: Problem, *products: str, **rest: Any) -> dict[str, Any]:
    return {"problem": problem.as_dict(), "products": list(products), **rest}


def cells(job: Job, rows=(), running: int = -1, live=("", "")):
    """State and text of each cell, by product and column."""
    table = progress.grid(job, rows, running, live)
    assert len(table) == len(table[["product", "column"]].drop_duplicates())
    return {(c.product, c.column): (c.state, c.text) for c in table.itertuples()}


def test_a_column_for_each_lmax_and_the_time_is_the_product_s_not_its_twin_s():
    job = job_of(*(case(p, "cg-sparse", "matrix") for p in PROBLEMS), ended=(0,))
    rows = run_of({"cg-sparse": 1e-3, "matrix": 2e-3}, twin="cg-sparse", problem=PROBLEMS[0])
    rows[-1].measured["median_s"] = 7.0
    told = cells(job, rows, 1, ("matrix", "checking"))
    assert {column for _, column in told} == {"lmax 1", "lmax 2", "lmax 3"}
    assert told["cg-sparse", "lmax 1"][0] == "done"
    assert told["cg-sparse", "lmax 1"][1] == time_text(rows[0].typical_s)
    assert told["matrix", "lmax 2"] == ("running", "checking")
    assert told["cg-sparse", "lmax 2"][0] == told["matrix", "lmax 3"][0] == "queued"


def test_all_of_a_case_is_alive_while_its_rounds_go_on():
    job = job_of(case(MIMO, "cg-sparse", "matrix"))
    failed = row("matrix", result=None, status="failed", reason="no", badges=("failed",))
    told = cells(job, [failed], 0, ("", "timing"))
    assert told == {
        ("cg-sparse", "lmax 2"): ("running", "timing"),
        ("matrix", "lmax 2"): ("invalid", "failed"),
    }


def test_more_rounds_of_a_case_are_a_column_of_their_own():
    job = job_of(case(MIMO, "cg-sparse"), case(MIMO, "cg-sparse", look=1), ended=(0,))
    told = cells(job, run_of({"cg-sparse": 1e-3}), 1, ("", "timing"))
    assert [column for _, column in told] == ["lmax 2", "lmax 2, more rounds"]
    assert [state for state, _ in told.values()] == ["done", "running"]


@pytest.mark.parametrize(
    ("noise", "state", "offered", "said"),
    [(0.05, "done", True, False), (0.05, "running", False, False), (1.0, "done", False, True)],
)
def test_more_rounds_are_offered_once_a_run_has_ended_and_where_they_can_settle_something(
    noise, state, offered, said
):
    # Rows are kept by run: each has a name of its own.
    store, job = Store(default_path()), f"near-{noise}-{state}"
    near = {"cg-sparse": 1e-3, "matrix": 1.005e-3}
    rows = run_of(near, twin="cg-sparse", noise=noise, group=job)
    store.add_rows([timed.with_(job=job) for timed in rows])
    store.add_job(job, "Compare", [case(MIMO, *near)])
    store.update_job(job, state=state, ended=[0], started=1.0)
    page = open_page("compare", job=job)
    assert any(button.label.startswith("Measure more") for button in page.button) is offered
    assert (BEYOND_REACH in text_of(page)) is said


def test_checks_and_counts_fill_their_cells_too():
    plain = {"timed": False, "questions": ["equivariance"]}
    job = job_of(
        case(MIMO, "cg-sparse", **plain),
        case(MIMO.at(dtype="float64"), "cg-sparse", **plain),
        case(MIMO, "cg-sparse", kind="spheres"),
    )
    told = cells(job, [row("cg-sparse", "equivariance", {"max": 1e-7})])
    assert [column for _, column in told] == ["float32", "float64", "spheres"]
    assert told["cg-sparse", "float32"][0] == "done"
    assert told["cg-sparse", "spheres"][0] == "queued"


def ended(store: Store, rows=(), **changes) -> None:
    store.add_job("job1", "Compare", [case(MIMO, "cuequivariance", "cg-sparse")])
    store.update_job("job1", **({"state": "done", "ended": [0], "started": 1.0} | changes))
    store.add_rows(
        [r.with_(job="job1") if hasattr(r, "with_") else {**r, "job": "job1"} for r in rows]
    )


@pytest.mark.parametrize(
    ("rows", "changes", "heading", "reason"),
    [
        (
            [row("cuequivariance", result=None, status="invalid", badges=("unavailable",),
                 reason="cuequivariance is not available here: not installed")],
            {}, "This run measured nothing.", "not installed",
        ),
        (
            [row("cg-sparse", result=None, status="failed", badges=("failed",),
                 reason="RuntimeError: the device was lost")],
            {"state": "failed", "reason": "it broke"}, "This run measured nothing.",
            "the device was lost",
        ),
        (
            [], {"state": "cancelled", "ended": []},
            "This run was cancelled before anything was measured.", "",
        ),
    ],
)  # fmt: skip
def test_a_run_without_results_says_so_in_the_place_of_the_verdict(rows, changes, heading, reason):
    store = Store(default_path())
    ended(store, rows, **changes)
    page = open_page("compare", job="job1")
    headings = [m.value for m in page.markdown if m.value.startswith("### ")]
    assert headings[0] == f"### {heading}"
    assert reason in text_of(page)
    assert "not what was asked here, but reference results" in text_of(page)


def test_no_claim_is_made_over_a_product_that_failed():
    rows = run_of({"e3nn": 1e-3, "cg-dense": 4e-3}, twin="e3nn")
    (before,) = comparisons(rows)
    assert "nothing that does the same operation is faster" in finding(before).heading
    broken = row("cg-sparse", result=None, status="failed", badges=("failed",),
                 reason="RuntimeError: no memory")  # fmt: skip
    (comparison,) = comparisons([*rows, broken])
    said = finding(comparison)
    assert "nothing" not in said.heading
    assert "cg-sparse could not be timed" in said.heading
    assert "cg-sparse: RuntimeError: no memory." in said.meaning


def test_what_does_not_apply_to_the_irreps_is_no_failure():
    rows = run_of({"e3nn": 1e-3, "cg-dense": 4e-3}, twin="e3nn")
    other = row("so2", result=None, status="invalid", badges=("does not apply",), reason="no 1o")
    (comparison,) = comparisons([*rows, other])
    assert "so2" not in finding(comparison).heading


def test_more_rounds_take_as_long_as_the_button_said():
    store, case_of = Store(default_path()), {"problem": MIMO.as_dict(), "products": ["e3nn"]}
    rows = run_of({"e3nn": 0.5, "cg-dense": 0.5}, twin="e3nn", group="slow")
    store.add_rows([row.with_(job="job1") for row in rows])
    more = case_of | {"group": "slow", "look": 1, "rounds": 12, "budget_s": 1000.0}
    store.add_job("job1", "Compare", [case_of, more])
    round_s = progress._known_round_s("job1", more)
    assert round_s == comparisons(rows)[0].judgement.round_s
    assert progress._known_round_s("job1", case_of) is None
    told = progress._countdown("job1", 2, 0.0).tell([0], None, 0.0)
    assert told.left_s is not None
    assert told.left_s > 12 * round_s
