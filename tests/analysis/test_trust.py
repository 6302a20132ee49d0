"""What a verdict rests on, and the front of the products that are shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etp.analysis.comparison import Judgement, comparisons
from etp.analysis.trust import trust
from etp.results.reference import reference_rows
from tests.make import run_of

JUDGED = [each for each in comparisons(reference_rows(), "e3nn") if each.judgement.rounds]
MIMO = next(each for each in JUDGED if (each.problem.setting, each.problem.lmax) == ("MIMO", 4))


def with_(comparison, rows=None, **judged):
    made = replace(comparison, runs=comparison.runs if rows is None else rows)
    made.__dict__["judgement"] = replace(comparison.judgement, **judged)
    return made


def fact(comparison, word):
    return next(fact for fact in trust(comparison) if word in fact.text)


def test_rounds_twin_and_load_are_those_of_the_rows():
    assert fact(MIMO, "round").text == f"{MIMO.judgement.rounds} rounds"
    loads = [row.measured[when]["load"] for row in MIMO.runs
             for when in ("state_before", "state_after")]  # fmt: skip
    assert fact(MIMO, "load").text == f"load {max(loads):.1f} on 2 cores"


@pytest.mark.parametrize(
    ("floor", "text", "doubtful"),
    [((0.98, 1.01), "twin within 2.0 %", False), ((0.9, 1.4), "twin within 40 %", True)],
)
def test_a_loud_twin_is_doubtful(floor, text, doubtful):
    twin = fact(with_(MIMO, floor=floor), "twin")
    assert (twin.text, twin.doubtful) == (text, doubtful)


def test_a_load_above_the_cores_is_doubtful():
    def busy(row, load):
        state = {**row.measured["state_after"], "load": load}
        return row.with_(result={**row.measured, "state_after": state})

    assert not fact(with_(MIMO, [busy(MIMO.runs[0], 1.9)]), "load").doubtful
    assert fact(with_(MIMO, [busy(MIMO.runs[0], 2.1)]), "load").doubtful


def test_without_rounds_there_is_nothing_to_trust():
    bare = with_(MIMO)
    bare.__dict__["judgement"] = Judgement()
    assert trust(bare) == []


def test_the_front_is_one_of_the_products_shown():
    shown = MIMO.of(["cg-sparse", "gaunt-grid", "matrix"])
    fronts = shown.judgement.fronts
    assert set(fronts) == {"cg-sparse", "gaunt-grid", "matrix", "e3nn"}
    # cg-sparse is beaten by cg-summed, which is not shown; e3nn by cg-sparse, which is.
    assert MIMO.judgement.fronts["cg-sparse"] == "dominated"
    assert fronts["cg-sparse"] == "front"
    assert fronts["e3nn"] == "dominated"
    for name, place in fronts.items():
        beaten = [
            other for (a, b), v in shown.judgement.pairs.items() for other, word in
            ((a, {"faster": "slower", "slower": "faster"}.get(v.word)), (b, v.word))
            if name in (a, b) and other != name and word == "faster"
            and rank(shown, other) >= rank(shown, name)
        ]  # fmt: skip
        assert (place == "dominated") == bool(beaten), (name, beaten)


def rank(comparison, name):
    return comparison.entry(name).result("expressivity")["rank"]


def test_a_twin_of_too_few_rounds_is_not_said_to_be_none():
    (few,) = comparisons(run_of({"e3nn": 1e-3, "cg-dense": 2e-3}, twin="e3nn", rounds=1))
    assert fact(few, "noise").doubtful
    assert not any(f.text == "no twin" for f in trust(few))
    (alone,) = comparisons(run_of({"e3nn": 1e-3, "cg-dense": 2e-3}, twin=None))
    assert fact(alone, "no twin").doubtful
