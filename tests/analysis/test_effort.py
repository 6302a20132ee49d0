"""Estimates of what cases take, held to the bundled results: their times and their time stamps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime
from math import exp, log
from typing import Any

import numpy as np
import pytest

from etp.analysis import effort
from etp.analysis.effort import Efforts, fitted
from etp.problem import Problem
from etp.results.reference import layer_rows, reference_rows
from etp.results.rows import Row
from tests.make import row

MIMO = Problem.of_setting("MIMO", 3)


def test_a_time_that_was_not_fitted_is_told_within_a_small_factor():
    off = [
        log(fitted([other for other in rows if other is not pair]).at(pair[0]))
        - log(pair[1].measured["median_s"])
        for rows in effort._reference().values()
        for pair in rows
    ]
    assert len(off) > 300
    assert exp(np.sqrt(np.mean(np.square(off)))) < 2.2
    assert max(np.abs(off)) < log(12)


def measured_cases() -> Iterator[tuple[dict[str, Any], float]]:
    """Cases of the bundled results as they were asked, and what they took by their time stamps."""
    for rows in (reference_rows(), layer_rows()):
        before: float | None = None
        for _, members in itertools.groupby(rows, key=lambda row: sorted(row.problem.items())):
            group = list(members)
            begun, before = before, stamp(group[-1])
            timed = [r for r in group if effort._is_time(r)]
            if begun is None or not timed or before - begun > 200:  # compilers, a pause
                continue
            case = {
                "problem": group[0].problem, "products": [r.product for r in timed],
                "reference": timed[0].measured["reference"],
                "rounds": timed[0].measured["rounds"], "budget_s": 1e4,
            }  # fmt: skip
            yield case, before - begun


def stamp(row: Row) -> float:
    return datetime.fromisoformat(row.created).timestamp()


def test_whole_cases_take_what_is_told_within_a_factor_of_two_and_a_half():
    efforts = Efforts()
    ratios = np.array([efforts.case(case).seconds / took for case, took in measured_cases()])
    assert len(ratios) > 30
    assert ratios.min() > 0.4
    assert ratios.max() < 2.5
    assert 0.75 < np.median(ratios) < 1.33


def test_a_case_of_the_size_of_a_model_is_not_told_as_seconds():
    products = ["e3nn", "cg-dense", "cg-sparse", "complete", "gaunt-grid", "gaunt-fourier-direct"]
    wide = Problem.of_irreps(
        "128x0e+128x1o+128x2e+128x3o", "128x0e+128x1o+128x2e+128x3o", direction="backward"
    )
    case = {"products": products, "rounds": 30, "budget_s": 2.5}
    small = Efforts().case(case | {"problem": MIMO.as_dict()})
    large = Efforts().case(case | {"problem": wide.as_dict()})
    assert small.rounds > large.rounds
    assert large.seconds > 10 * small.seconds
    assert large.seconds > large.rounds * large.round_s


@pytest.mark.parametrize("kind", ["pair", "edge", "convolution"])
@pytest.mark.parametrize("product", ["e3nn", "cg-sparse", "so2", "my-own", "matrix+compile"])
def test_more_work_never_takes_less(kind, product):
    small = Problem.of_irreps("0e+1o+2e", "0e+1o+2e", kind=kind)
    efforts = Efforts()
    larger = [small.at(batch=100_000), small.at(channels=64), small.at(direction="double-backward")]
    assert all(efforts.call_s(p, product) > efforts.call_s(small, product) for p in larger)


def test_what_was_timed_here_corrects_the_estimate_where_it_is_alike():
    usual = Efforts().call_s(MIMO, "cg-sparse")
    here = [row("cg-sparse", result={"median_s": 10 * usual, "role": "product"}, problem=MIMO)]
    corrected = Efforts(here)
    assert 5 * usual < corrected.call_s(MIMO, "cg-sparse") <= 10 * usual
    near = corrected.call_s(MIMO, "matrix") / Efforts().call_s(MIMO, "matrix")
    far_problem = MIMO.at(batch=MIMO.batch * 10_000, direction="backward")
    far = corrected.call_s(far_problem, "cg-sparse") / Efforts().call_s(far_problem, "cg-sparse")
    assert 1 < far < near < 10


def test_the_twin_is_a_block_of_every_round():
    efforts = Efforts()
    alone = efforts.round_s(MIMO, ["cg-sparse"], "cg-sparse")
    both = efforts.round_s(MIMO, ["cg-sparse", "e3nn"], "cg-sparse")
    assert both - alone == pytest.approx(efforts.round_s(MIMO, [], "e3nn"))
    assert alone == pytest.approx(2 * efforts.round_s(MIMO, [], "cg-sparse"))


def test_checks_alone_have_no_rounds():
    case = {"problem": MIMO.as_dict(), "products": ["cg-sparse"]}
    checked = Efforts().case(case | {"timed": False, "questions": ["equivariance"]})
    assert checked.rounds == 0
    assert 0 < checked.seconds < Efforts().case(case).seconds
