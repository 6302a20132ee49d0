from __future__ import annotations

from math import exp

import numpy as np
import pytest

from etp.analysis.comparison import comparisons
from etp.analysis.equivariance import equivariance_checks, equivariance_finding
from etp.analysis.findings import finding, missing_words, pair_sentence, pair_words
from etp.analysis.operation import Operation, same_operation
from etp.analysis.tables import frame, shown, timed_frame
from etp.measure.state import State
from etp.problem import Problem
from etp.text import at_least_text, floor_text
from tests.make import MIMO, expressivity, interactions, row, run_of

EVEN = {("0e", "0e", "0e"): 1.0, ("0e", "1o", "1o"): 2.0, ("1o", "1o", "0e"): -1.0}
ALL = EVEN | {("1o", "1o", "1e"): 0.5}


def compared(rows, **kwargs):
    (comparison,) = comparisons(rows, **kwargs)
    return comparison


def test_verdicts_come_from_rounds_and_name_the_faster_one():
    comparison = compared(run_of({"a": 2e-3, "b": 1e-3, "c": 2e-3}, twin="a"))
    assert comparison.baseline == "a"
    assert comparison.judgement.verdicts["b"].word == "faster"
    assert comparison.judgement.verdicts["c"].word in ("same", "open")
    assert pair_words(comparison, "b") == "2.0× faster"
    low, high = comparison.judgement.floor
    assert low < 1 < high


def test_another_baseline_turns_every_verdict_around():
    rows = run_of({"a": 2e-3, "b": 1e-3}, twin="a")
    assert compared(rows, baseline="b").judgement.verdicts["a"].word == "slower"
    ratio = frame(compared(rows, baseline="b")).set_index("product").loc["a", "ratio"]
    assert ratio == pytest.approx(0.5, rel=0.02)


def test_products_of_other_rounds_are_not_ranked_with_them():
    rows = run_of({"a": 2e-3, "b": 1e-3}) + run_of({"c": 1e-6}, group="h")
    comparison = compared(rows, baseline="a")
    assert set(comparison.judgement.verdicts) == {"b"}
    assert pair_words(comparison, "c") == "not in these rounds"


def test_an_invalid_row_is_listed_and_never_ranked():
    wrong = row("z", status="invalid", result=None, reason="wrong", badges=["wrong answer"])
    comparison = compared([*run_of({"a": 2e-3, "b": 1e-3}), wrong])
    lines = frame(comparison).set_index("product")
    assert not lines.loc["z", "valid"]
    assert lines.loc["z", "reason"] == "wrong"
    assert "z" not in comparison.judgement.verdicts
    assert "z" not in list(timed_frame([comparison])["product"])


def test_more_rounds_count_together_with_the_first():
    first = run_of({"a": 1.03e-3, "b": 1e-3}, noise=0.05)
    more = run_of({"a": 1.03e-3, "b": 1e-3}, noise=0.05, rounds=200, look=1, seed=5)
    assert compared(first).judgement.rounds == 30
    both = compared(first + more).judgement
    assert (both.rounds, both.looks) == (230, 2)
    assert both.verdicts["b"].high - both.verdicts["b"].low < 0.1


def test_table_and_verdict_rest_on_the_same_block_values():
    # A block of three disturbed calls among blocks of hundreds vanishes where calls are pooled.
    rows = run_of({"a": 1e-3, "b": 1e-3}, rounds=30)
    calm, disturbed = rows[0].measured, rows[1].measured
    disturbed["blocks_s"] = [t if n % 5 else 300 * t for n, t in enumerate(disturbed["blocks_s"])]
    disturbed["blocks_s"] = [200 * t for t in disturbed["blocks_s"][:18]] + disturbed["blocks_s"][
        18:
    ]
    disturbed |= {"median_s": calm["median_s"] / 2, "q25_s": 1e-5, "q75_s": 1.0}
    comparison = compared(rows)
    lines = frame(comparison)
    a, b = lines["median_s"].tolist()
    assert b == np.median(disturbed["blocks_s"])
    assert a / b < 0.01
    assert lines["ratio"].tolist()[1] == pytest.approx(a / b, rel=0.05)
    assert shown(lines, "a")["median"].tolist() == [
        pytest.approx(1e3 * np.median(r.measured["blocks_s"])) for r in rows
    ]


def test_medians_are_those_of_all_rounds_that_the_verdict_saw():
    first = run_of({"a": 2e-3, "b": 1e-3})
    more = run_of({"a": 6e-3, "b": 3e-3}, rounds=60, look=1, seed=4)
    entry = compared(first + more).entry("b")
    assert len(entry.blocks_s) == 90
    assert entry.typical_s == pytest.approx(3e-3, rel=0.1)
    low, high = entry.quartiles_s
    assert low is not None
    assert high is not None
    assert low < entry.typical_s < high


def test_load_above_the_cores_is_said_beside_the_verdict():
    rows = run_of({"a": 2e-3, "b": 1e-3}, twin="a")
    state = State(load=7.5).as_dict()
    for timing in rows:
        timing.measured.update(state_before=state, state_after=state)
        timing.environment["cores"] = 2
    assert "7.5 processes wanted to run at once on 2 cores" in finding(compared(rows)).doubt


def test_a_wide_interval_leads_with_what_it_supports():
    noise = run_of({"a": 4e-2, "b": 1e-3}, noise=0.8, rounds=40, seed=2)
    comparison = compared(noise)
    verdict = comparison.judgement.verdicts["b"]
    assert verdict.word == "faster"
    near = exp(-verdict.high)
    assert near * 1.25 < exp(-verdict.estimate)
    assert pair_words(comparison, "b") == f"at least {at_least_text(near)} faster"
    assert f"at least {at_least_text(near)} faster" in finding(comparison).heading


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(1.8999, "1.89×"), (1.0649, "1.06×"), (1.0058, "1.005×"), (3.49, "3.4×"), (35.9, "35×"),
     (271.9, "271×"), (2.0, "2.0×")],
)  # fmt: skip
def test_what_is_claimed_at_least_is_rounded_down(ratio, text):
    assert at_least_text(ratio) == text


@pytest.mark.parametrize(
    ("floor", "text"),
    [
        ((0.99, 1.012), "±1.2 %"),
        ((0.9, 1.02), "±11 %"),
        ((0.25, 3.0), "4.0×"),
        ((1.0, 1.0), "±0 %"),
    ],
)
def test_one_floor_has_one_way_to_be_printed(floor, text):
    assert floor_text(floor) == text


def test_too_few_rounds_say_so():
    comparison = compared(run_of({"a": 2e-3, "b": 1e-3}, rounds=5, twin="a"))
    assert pair_words(comparison, "b") == "too few rounds"
    assert comparison.judgement.floor is None
    assert comparison.judgement.needed is not None


def test_the_front_holds_what_is_faster_than_everything_as_expressive():
    rows = run_of({"a": 4e-3, "b": 1e-3, "c": 2e-3})
    rows += [expressivity("a", 19), expressivity("b", 9), expressivity("c", 19)]
    assert compared(rows).judgement.fronts == {"a": "dominated", "b": "front", "c": "front"}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (
            Operation(True, "path", ALL),
            Operation(True, "path", {p: 3 * c for p, c in ALL.items()}),
            True,
        ),
        (Operation(True, "path", ALL), Operation(False, "degree", ALL), False),
        (Operation(False, "path", ALL), Operation(False, "degree", ALL), False),
        (Operation(True, "path", ALL), Operation(True, "path", EVEN), False),
        (
            Operation(False, "degree", ALL),
            Operation(False, "degree", {p: -2 * c for p, c in ALL.items()}),
            True,
        ),
    ],
)
def test_the_same_operation_has_the_same_outputs_and_paths(first, second, same):
    assert same_operation(first, second) is same
    assert same_operation(second, first) is same


def test_factors_by_degree_are_a_normalisation_and_anything_else_is_another_operation():
    full = {
        (f"{a}e", f"{b}e", f"{c}e"): 1.0 + 0.1 * a * b + 0.3 * c
        for a in range(3) for b in range(3) for c in range(abs(a - b), a + b + 1)
    }  # fmt: skip
    scaled = {
        (a, b, c): w * (1 + int(a[0])) * (-1) ** int(b[0]) / (2 + int(c[0]))
        for (a, b, c), w in full.items()
    }
    other = dict(full)
    other["1e", "1e", "1e"] *= 1.5
    flipped = dict(full)
    flipped["1e", "1e", "1e"] *= -1
    base = Operation(False, "degree", full)
    assert same_operation(base, Operation(False, "degree", scaled))
    assert not same_operation(base, Operation(False, "degree", other))
    assert not same_operation(base, Operation(False, "degree", flipped))


def test_the_finding_leads_with_the_same_operation_and_says_the_price_of_others():
    rows = run_of({"dense": 4e-3, "sparse": 2e-3, "gaunt": 1e-3}, twin="dense")
    rows += [
        interactions("dense", ALL, keeps_paths=True, allowed=4),
        interactions("sparse", ALL, keeps_paths=True, allowed=4),
        interactions("gaunt", EVEN, allowed=4),
    ]
    comparison = compared(rows)
    text = finding(comparison)
    assert "sparse does the same operation as dense 2.0× faster" in text.heading
    assert "gaunt is 4.0× faster, but reaches 3 of 4 paths" in text.heading
    assert "noise floor" in text.doubt
    assert "not the same operation: it reaches 3 paths, dense 4" in pair_sentence(
        comparison, "gaunt"
    )


def test_the_subject_of_the_meaning_is_the_product_that_the_heading_named():
    problem = Problem.of_irreps("1o", "1o")
    every = {("1o", "1o", f"{l}e"): 1.0 for l in range(3)}
    even = {path: 1.0 for path in every if path[2] != "1e"}
    rows = run_of({"dense": 4e-3, "summed": 1e-3, "gaunt": 2e-3}, twin="dense", problem=problem)
    rows += [
        interactions("dense", every, keeps_paths=True, allowed=3, problem=problem),
        interactions("summed", every, allowed=3, problem=problem),
        interactions("gaunt", even, allowed=3, problem=problem),
    ]
    for name, rank in (("dense", 4), ("summed", 3), ("gaunt", 2)):
        rows.append(expressivity(name, rank, problem))
    lead = finding(compared(rows))
    assert "summed is 4.0× faster" in lead.heading
    assert lead.meaning.startswith("Adding up paths leaves summed 3 independent")
    assert "gaunt" not in lead.meaning


def test_products_right_for_rotations_only_are_said_beside_all():
    rows = run_of({"a": 1e-3, "b": 1e-3}, twin="a")
    for name, inverted in (("a", [False, True]), ("b", [False, False])):
        result = {"max": 1e-7, "median": 1e-8, "per_degree": {}, "gate": 1e-5, "dtype": "float32",
                  "per_element": [1e-8, 1e-7], "inverted": inverted}  # fmt: skip
        rows.append(row(name, "equivariance", result))
    said = finding(compared(rows)).meaning
    assert said.startswith("All of them are equivariant, b under rotations only: the worst")
    heading = equivariance_finding(equivariance_checks(rows, "MIMO", 2)).heading
    assert heading.startswith("Both products are equivariant, b under rotations only, in every")


def test_what_is_missing_is_said_in_words_a_model_builder_uses():
    problem = Problem.of_irreps("1o", "1o")
    rows = run_of({"a": 2e-3, "g": 1e-3}, problem=problem)
    even = {("1o", "1o", "0e"): 1.0, ("1o", "1o", "2e"): 1.0}
    rows.append(interactions("g", even, allowed=3, problem=problem))
    words = missing_words(problem, compared(rows).entry("g"))
    assert words is not None
    assert "mirror images" in words


def test_an_imported_empty_problem_is_left_to_the_results_page():
    problem = MIMO.as_dict() | {"irreps1": "1o", "irreps2": "1o", "filter_out": "1o"}
    assert comparisons([row(problem=problem, status="invalid", result=None, reason="empty")]) == []


def test_short_calls_and_wide_quartiles_wear_badges():
    rows = run_of({"a": 5e-6, "b": 1e-3})
    rows[1]["result"]["q75_s"] = 2e-3
    badges = frame(compared(rows)).set_index("product")["badges"]
    assert badges["a"] == ["launch-bound"]
    assert badges["b"] == ["noisy"]


def test_a_product_that_is_hundreds_of_times_slower_has_a_ratio_that_is_not_zero():
    comparison = compared(run_of({"a": 1e-5, "b": 5e-3}), baseline="a")
    table = shown(frame(comparison), "a").set_index("product")
    assert table.loc["a", "ratio"] == "1.00×"
    assert float(str(table.loc["b", "ratio"]).removesuffix("×")) == pytest.approx(0.002, rel=0.05)


def test_some_products_are_shown_with_the_verdicts_of_all_that_was_timed():
    (comparison,) = comparisons(
        run_of({"cg-dense": 3e-3, "cg-sparse": 1e-3, "matrix": 2e-3}, twin="cg-dense")
    )
    some = comparison.of({"matrix"})
    assert [entry.product for entry in some.entries] == ["cg-dense", "matrix"]
    assert some.judgement.verdicts == {"matrix": comparison.judgement.verdicts["matrix"]}
    assert some.judgement.floor == comparison.judgement.floor
    assert set(comparison.judgement.verdicts) == {"cg-sparse", "matrix"}
    assert comparison.of({"nobody"}) is comparison
