"""The applications page: a potential and step times, bundled, run, cancelled and gone on with."""

from __future__ import annotations

from math import inf

import pytest

from etp.analysis import learning
from etp.cli.main import main
from etp.experiments import structures
from etp.experiments.settings import PotentialSettings
from etp.results.reference import potential_rows
from etp.results.rows import Row
from etp.run import case as cases
from etp.ui import jobs
from etp.ui.applications import _words
from etp.ui.plans import POTENTIAL, STEP_TIME, TETRIS
from etp.ui.settings import Settings
from tests.ui.opening import charts_of, open_page, text_of

pytestmark = [
    pytest.mark.usefixtures("fresh_server"),
    pytest.mark.filterwarnings("ignore"),
]


def test_the_bundled_potential_is_shown_against_time_steps_and_expressivity():
    page = open_page("applications", study="potential")
    assert not page.exception
    assert charts_of(page) == 4
    text = text_of(page)
    assert "At equal steps e3nn, cg-sparse, so2 and cg-summed are nearest" in text
    assert "what they give up buys no time here" in text


def test_no_step_time_is_shown_before_one_was_measured():
    page = open_page("applications", unfolded=["reproduce"], study="step-time")
    assert not page.exception
    assert "python -m etp experiment step-time" in "\n".join(c.value for c in page.code)


def test_a_run_of_step_times_is_shown_from_the_store(monkeypatch):
    few = structures.bundled()[:20]
    monkeypatch.setattr(structures, "bundled", lambda: few)
    settings = PotentialSettings(channels=2, lmax=1, steps=2, batch=2, threads=1)
    case = settings.case(("gaunt-grid", "cg")) | {"kind": "step-time", "product": "cg-sparse"}
    store = jobs.store()
    store.add_job("steps", STEP_TIME.title, [case])
    store.add_rows([item.with_(job="steps") for item in cases.run(case) if isinstance(item, Row)])
    store.update_job("steps", state="done")
    page = open_page("applications", unfolded=["reproduce"], study="step-time", steps_run="steps")
    assert not page.exception
    assert "At 2 channels a training step is shortest with" in text_of(page)
    table, manifest = page.dataframe
    assert list(table.value["power"]) == ["gaunt-grid", "cg"]
    assert "torch" in manifest.value.to_string()


def test_a_cancelled_training_has_a_button_to_go_on():
    store = jobs.store()
    chosen = Settings(study="potential", products=("cg-sparse",), seeds=(0,), training_steps=6)
    store.add_job("half", POTENTIAL.title, POTENTIAL.cases(chosen))
    store.update_job("half", state="cancelled")
    page = open_page("applications", study="potential", potential="half")
    assert not page.exception
    assert [button.label for button in page.button if button.label == "Resume"] == ["Resume"]


def test_cases_of_trainings_keep_their_state_and_sweep_products_and_seeds():
    chosen = Settings(products=("cg-sparse", "matrix"), seeds=(3, 4))
    for plan in (TETRIS, POTENTIAL):
        made = plan.cases(chosen)
        assert [case["settings"]["seed"] for case in made] == [3, 4]
        assert all(case["keep"] and case["products"] == ["cg-sparse", "matrix"] for case in made)


@pytest.mark.parametrize("study", ["tetris", "potential", "step-time"])
def test_the_command_shown_trains_the_same(study, monkeypatch, tmp_path):
    chosen = Settings(study=study, products=("cg-sparse", "matrix"), seeds=(1,))
    asked: list[dict[str, object]] = []

    def note(case: dict[str, object]) -> list[Row]:
        asked.append(case)
        return []

    monkeypatch.setattr("etp.run.case.run", note)
    monkeypatch.chdir(tmp_path)
    main(_words(chosen).split()[3:])
    plan = {"tetris": TETRIS, "potential": POTENTIAL, "step-time": STEP_TIME}[study]
    for case in (*asked, *(wanted := plan.cases(chosen))):
        case.pop("keep", None)
    assert asked == [case | {"products": list(case["products"])} for case in wanted]


def test_equal_time_is_that_of_the_fastest_and_medians_are_over_seeds():
    def row(product: str, seed: int, seconds: float, force: float) -> Row:
        old = potential_rows()[0]
        result = dict(old.measured) | {
            "check_s": [seconds, 2 * seconds], "check_steps": [1, 2], "step_s": seconds,
            "check_force_mev_per_a": [2 * force, force],
            "force_mev_per_a": {"valid": force, "test": force, "600 K": 2 * force},
        }  # fmt: skip
        return Row.new({**old.problem, "seed": seed}, product, "potential", result, old.environment)

    rows = [row("fast", n, 1.0, 100.0 + n) for n in range(3)]
    rows += [row("slow", n, 2.0, 60.0 + n) for n in range(3)]
    table = learning.potential_frame(rows).set_index("product")
    fast = table.to_dict("index")["fast"]
    assert [fast[key] for key in ("force", "low", "high", "hot")] == [101, 100, 102, 202]
    assert table.loc["fast", "in_time"] == 101
    assert table.loc["slow", "in_time"] == 122, "half of its steps"
    said = learning.potential_finding(table.reset_index())
    assert "slow is nearest: forces to 61" in said.heading
    assert "fast is nearest, at 101" in said.meaning
    assert "overlap" not in said.meaning
    assert "Steps are shorter with fast (1.0 s a step, errs by 101)." in said.meaning
    late = [*rows, row("slow", 3, 9.0, 40.0)]
    table = learning.potential_frame(late).set_index("product")
    assert table.loc["slow", "in_high"] == inf, "one seed had no check by then"
    assert table.loc["slow", "in_time"] == 123
    even = [*rows, row("slow", 3, 2.0, 50.0)]
    table = learning.potential_frame(even).set_index("product")
    assert (
        "; seeds of those named together overlap"
        in learning.potential_finding(table.reset_index()).meaning
    )
    timed = learning.curves(rows, "check_s")
    assert timed[timed["product"] == "slow"]["x"].tolist() == [2.0, 4.0]
