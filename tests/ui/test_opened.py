"""A stored run is opened with the question that it answered: nothing stands against it."""

from __future__ import annotations

from urllib.parse import parse_qsl
from uuid import uuid4

import pytest

from etp import presets
from etp.analysis.machines import Run, runs, usual_other
from etp.problem import Problem
from etp.results.reference import reference_rows
from etp.results.store import Store, default_path
from etp.ui import results
from etp.ui.opened import address
from tests.make import row, run_of
from tests.ui.opening import dimmed, open_page

pytestmark = [pytest.mark.usefixtures("fresh_server"), pytest.mark.filterwarnings("ignore")]
TIMES = {"e3nn": 1e-3, "cg-sparse": 1e-4}
SISO = Problem.of_setting("SISO", 3, batch=77, dtype="float64", direction="backward")
TYPED = Problem.of_irreps("4x0e+4x1o", "4x1o", "1e", batch=10, weights="shared")
SIMO = [row for row in reference_rows() if row.problem["setting"] == "SIMO"]


def swept():
    return [row for n in (10, 50) for row in run_of(TIMES, problem=SISO.at(batch=n), group=str(n))]


@pytest.mark.parametrize(
    ("title", "rows"),
    [
        ("Compare", run_of(TIMES, problem=SISO)),
        ("Compare", run_of(TIMES, problem=TYPED)),
        ("my.jsonl", run_of(TIMES, problem=TYPED)),
        ("Scaling", swept()),
        ("Layers", run_of(TIMES, problem=presets.layer("nequip-lips").problem(batch=50))),
        ("Layers", run_of(TIMES, problem=Problem.of_irreps("8x0e+2x1o", "1o", kind="edge",
                                                           batch=9, weights="shared"))),
        ("Expressivity", [row for row in SIMO if row.measure in ("expressivity", "interactions")]),
        ("my.jsonl", [row for row in SIMO if row.measure == "equivariance"]),
    ],
)  # fmt: skip
def test_a_stored_run_is_shown_as_the_answer_to_its_question(title, rows):
    store, job = Store(default_path()), uuid4().hex
    store.add_job(job, title, [])
    store.update_job(job, state="done", started=1.0, finished=2.0)
    store.add_rows([each.with_(job=job, id=uuid4().hex) for each in rows])
    page, _, query = address(title, job, rows).removeprefix("/").partition("?")
    shown = open_page(page or "compare", **dict(parse_qsl(query)))
    assert not shown.exception
    assert not [info.value for info in shown.info]
    assert not [warning.value for warning in shown.warning]
    assert not dimmed(shown)
    assert not [m.value for m in shown.markdown if "reference results" in m.value]


def test_what_is_compared_first_did_the_same_work():
    other = [row.with_(job="other") for row in run_of(TIMES, problem=TYPED)]
    alike = [row.with_(job="alike") for row in run_of(TIMES, problem=SISO)]
    last = [row.with_(job="last") for row in run_of(TIMES, problem=SISO)]
    listed = runs([*alike, *other, *last], {})
    assert usual_other(listed, listed[0]).key == "alike"
    nothing = Run("none", "none", [])
    assert usual_other([*listed, nothing], nothing).key == "alike"


def test_every_run_of_the_results_page_can_be_opened():
    store = Store(default_path())
    store.add_job("counted", "Expressivity", [])
    counts = [row for row in SIMO if row.measure == "expressivity"]
    store.add_rows([row.with_(job="counted", id=uuid4().hex) for row in counts])
    table = next(t.value for t in open_page("results").dataframe if "growth" in t.value)
    assert any(
        str(to).startswith("/expressivity?counts=counted&setting=SIMO") for to in table["open"]
    )


def test_what_is_not_possible_here_claims_nothing():
    refused = row("cp-16", result=None, status="invalid", badges=("does not apply",), reason="no")
    wrong = row("so2", result=None, status="invalid", badges=("wrong answer",), reason="differs")
    assert "claim" not in results.finding([Run("a", "a", [refused])]).heading
    said = results.finding([Run("a", "a", [refused, wrong])]).heading
    assert "1 row is not what it claims" in said
