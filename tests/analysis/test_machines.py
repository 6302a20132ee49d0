from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from etp.analysis.comparison import comparisons
from etp.analysis.machines import (
    BETWEEN,
    Run,
    beside_words,
    differences,
    matching,
    runs,
    side_by_side,
    unpaired,
)
from etp.results.rows import Row
from tests.make import MIMO, row, run_of


def two_runs(offset: float, seed: int, products: int = 1) -> tuple[list[Row], list[Row]]:
    """The same products in two runs, of which the second is slower as a whole."""
    seconds = {f"p{n}": 1e-3 * (n + 1) for n in range(products)}
    first = run_of(seconds, group="g", seed=2 * seed)
    slower = {name: value * exp(offset) for name, value in seconds.items()}
    return first, run_of(slower, group="h", seed=2 * seed + 1)


@pytest.mark.parametrize("offset", [0.0, 0.03, -0.03, 0.08])
def test_equal_products_of_two_runs_are_not_called_faster_or_slower(offset):
    words = [line.word for seed in range(100) for line in side_by_side(*two_runs(offset, seed))]
    assert words.count("not decided") >= 98
    assert "same" not in words


def test_a_large_difference_between_runs_is_told_with_its_doubt():
    (line,) = side_by_side(*two_runs(log(2), 0))
    assert (line.word, line.paired) == ("slower", False)
    assert line.low < 0.5 < line.high
    assert line.high / line.low > exp(2 * BETWEEN)


def test_intervals_of_many_products_hold_together():
    (pair,) = side_by_side(*two_runs(0.0, 3))
    many = side_by_side(*two_runs(0.0, 3, products=10))
    assert many[0].high / many[0].low > pair.high / pair.low


def test_rows_timed_in_turns_know_more_than_two_runs_do():
    rows = run_of({"x": 1e-3, "y": 1.05e-3}, noise=0.001)
    (line,) = side_by_side([rows[0]], [rows[1].with_(product="x")])
    assert (line.word, line.paired) == ("slower", True)
    (other,) = side_by_side([rows[0]], [rows[1].with_(product="x", group="other")])
    assert (other.word, other.paired) == ("not decided", False)


def test_without_spread_nothing_is_decided():
    center, low, high = unpaired({"median_s": 1.0}, {"median_s": 9.0})
    assert (low, high) == (float("-inf"), float("inf"))
    assert center == pytest.approx(log(9))


@pytest.mark.parametrize("change", [{"weights": "shared"}, {"dtype": "float64"}, {"batch": 7}])
def test_other_work_is_not_compared(change):
    a, b = row(), row(problem=MIMO.at(**change))
    assert side_by_side([a], [b]) == []
    assert len(side_by_side([a], [row(problem=MIMO.at(threads=3, seed=5))])) == 1


def test_the_memory_that_a_kernel_keeps_is_no_difference():
    a = {"memory_bytes": 24_000_000_000, "cpu": "x"}
    assert differences(a, a | {"memory_bytes": 24_000_012_288}) == []
    assert differences(a, a | {"memory_bytes": 48_000_000_000})[0][0] == "memory_bytes"


def test_the_words_of_two_runs_agree_with_their_ratio():
    (line,) = side_by_side(*two_runs(log(2), 0))
    assert line.ratio < 1
    assert beside_words(line) == "2.0× slower"
    assert beside_words(line._replace(ratio=1.5, word="faster")) == "1.5× faster"
    assert beside_words(line._replace(word="not decided")) == "not decided"


def test_matmul_precision_is_part_of_the_work():
    there = MIMO.at(device="cuda:0")
    assert side_by_side([row(problem=there)], [row(problem=there.at(matmul="tf32"))]) == []


def test_cancelled_rows_of_a_second_run_hide_nothing():
    rows = run_of({"a": 1e-3, "b": 2e-3}, twin="a")
    late = [row(name, result=None, status="cancelled", reason="stopped") for name in "ab"]
    (comparison,) = comparisons([*rows, *late])
    assert [entry.product for entry in comparison.timed] == ["a", "b"]
    assert comparison.judgement.verdicts
    (other,) = comparisons([*rows, row("b", result=None, status="failed", reason="lost")])
    assert [entry.product for entry in other.timed] == ["a"]


def test_runs_are_grouped_named_and_described():
    stored, (loose,) = [row("a", job="j1"), row("b", job="j1")], [row("c")]
    second, first = runs([*stored, loose], {"j1": "Compare"})
    assert (first.title, first.stored, second.stored) == ("Compare", True, False)
    assert first.counts() == {"ok": 2}
    assert first.machine == "a processor, 2 threads"
    assert first.problem == "MIMO, lmax 2, batch 1000"
    assert Run("x", "x").environment == {}


def test_what_differs_between_machines_is_listed_once():
    a = {"cpu": "x", "flags": {"tf32": True}, "date": "1", "imported": "a.jsonl"}
    b = {"cpu": "y", "flags": {"tf32": False}, "date": "2", "torch": "2.13"}
    assert differences(a, b) == [
        ("cpu", "x", "y"), ("torch", "?", "2.13"), ("flags.tf32", "True", "False"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "there"), [("MIMO sparse", True), ("lmax 2", True), ("so2", False)]
)
def test_a_filter_asks_for_every_word(text, there):
    assert matching(row("cg-sparse"), text) is there


def test_a_simulated_offset_is_what_it_says():
    a, b = two_runs(0.03, 0)
    ratio = np.median(b[0].measured["blocks_s"]) / np.median(a[0].measured["blocks_s"])
    assert ratio == pytest.approx(exp(0.03), rel=0.05)
