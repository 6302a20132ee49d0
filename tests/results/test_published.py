"""Published figures: what they say, what is kept out, and that nothing ranks them."""

from __future__ import annotations

import math

import pytest

from etp.analysis.comparison import comparisons
from etp.problem import EmptyProblemError, Problem
from etp.results.published import key_of, published_of, published_rows
from etp.results.reference import reference_rows

ROWS = published_rows()


def seconds(device: str, setting: str, product: str, lmax: int) -> float:
    (row,) = (
        row
        for row in ROWS
        if row.environment["device_name"] == device
        and (row.problem["setting"], row.product, row.problem["lmax"]) == (setting, product, lmax)
    )
    return float(row.measured["median_s"])


def test_figures_are_those_of_the_files():
    assert seconds("NVIDIA RTX A5500", "MIMO", "cg-dense", 4) == pytest.approx(5.2848e-4)
    assert seconds("NVIDIA RTX A5500", "SIMO", "gaunt-fourier-direct", 10) == pytest.approx(
        0.036063008
    )
    assert seconds("NVIDIA A100", "MIMO", "cg-sparse", 8) == pytest.approx(0.50566560635)


def test_every_row_says_where_it_comes_from_and_has_an_id_of_its_own():
    assert all("2506.13523" in row.environment["source"] for row in ROWS)
    assert all(row.environment["implementation"] and row.environment["timed"] for row in ROWS)
    assert all("published" in row.badges for row in ROWS)
    assert len({row.id for row in ROWS}) == len(ROWS)


def test_what_asked_for_an_empty_output_is_invalid_and_nothing_else_of_a_sound_file():
    for row in ROWS:
        problem = row.problem
        try:
            Problem.of_setting(problem["setting"], problem["lmax"], outputs="natural")
            empty = False
        except EmptyProblemError:
            empty = True
        on_a5500 = row.environment["device_name"] == "NVIDIA RTX A5500"
        if empty or on_a5500:
            assert (row.status == "invalid") == empty, row.reason
        if row.status == "invalid":
            assert row.reason
            assert not row.measured


def test_times_that_do_not_grow_are_kept_out():
    left_out = [row for row in ROWS if "set-up timed" in row.badges]
    assert {row.product for row in left_out} == {"gaunt-grid", "gaunt-fourier-direct"}
    assert {key_of(row) for row in left_out} == {"published: NVIDIA A100"}


def test_published_rows_get_no_verdict_not_even_beside_rows_measured_here():
    compared = comparisons([*reference_rows(), *ROWS])
    published = [comparison for comparison in compared if comparison.problem.device == "cuda:0"]
    assert published
    for comparison in published:
        assert not comparison.judgement.verdicts
        assert {row.environment["source"] for row in comparison.runs} <= {
            ROWS[0].environment["source"]
        }
        assert all(math.isfinite(row.measured["median_s"]) for row in comparison.runs)


def test_a_published_run_is_found_by_its_name():
    assert {key_of(row) for row in published_of("published: NVIDIA A100")} == {
        "published: NVIDIA A100"
    }
    assert published_of("published: another") == []
