"""Trainings as cases: side by side, cancelled, and gone on with as if they had not been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etp.experiments import structures
from etp.experiments.settings import Experiment, PotentialSettings, TetrisSettings
from etp.results.rows import Row
from etp.results.store import default_path
from etp.run import case as cases

PRODUCTS = ("cg-sparse", "gaunt-grid")
TETRIS = TetrisSettings(channels=2, layers=2, steps=12)
POTENTIAL = PotentialSettings(channels=2, steps=12, batch=2, check_every=4, threads=1)
KEPT = {"keep": True}


@pytest.fixture(autouse=True)
def _few_frames(monkeypatch):
    few = structures.bundled()[:20]
    monkeypatch.setattr(structures, "bundled", lambda: few)


def rows_of(case: dict[str, Any], cancelled: Callable[[], bool] = lambda: False) -> list[Row]:
    return [item for item in cases.run(case, cancelled) if isinstance(item, Row)]


def after(asked: int) -> Callable[[], bool]:
    """Cancelled from that question on."""
    left = iter(range(asked))
    return lambda: next(left, None) is None


def files() -> list[Path]:
    return [path for path in default_path().with_name("trainings").rglob("*") if path.is_file()]


@pytest.mark.parametrize("settings", [TETRIS, POTENTIAL], ids=lambda each: each.kind)
def test_a_cancelled_case_goes_on_with_the_same_losses(settings: Experiment):
    whole = rows_of(settings.case(PRODUCTS))
    case = settings.case(PRODUCTS) | KEPT
    stopped = rows_of(case, after(2 + 13))
    assert [row.status for row in stopped] == ["cancelled", "cancelled"]
    assert [row.reason for row in stopped] == [f"cancelled after {n} steps" for n in (9, 5)]
    assert len(files()) == 2
    again = rows_of(case)
    for first, other in zip(whole, again, strict=True):
        assert other.status == "ok"
        assert other.measured["losses"] == first.measured["losses"]
    assert files() == [], "nothing is kept of what has ended"


def test_what_was_kept_and_cannot_be_read_is_begun_anew():
    case = TETRIS.case(PRODUCTS[:1]) | KEPT
    rows_of(case, after(5))
    (path,) = files()
    path.write_bytes(b"half of it")
    (row,) = rows_of(case)
    assert (row.status, row.measured["steps"]) == ("ok", TETRIS.steps)


def test_without_a_word_nothing_is_kept():
    rows_of(TETRIS.case(PRODUCTS), after(5))
    assert not default_path().with_name("trainings").exists()


def test_products_take_turns_so_that_what_disturbs_one_disturbs_all(monkeypatch):
    monkeypatch.setattr("etp.run.case.training.PROGRESS_EVERY_S", -1.0)
    told = [
        item["product"]
        for item in cases.run(TETRIS.case(PRODUCTS))
        if not isinstance(item, Row) and "step" in item
    ]
    turns = [p for n, p in enumerate(told) if n == 0 or told[n - 1] != p]
    assert turns == list(PRODUCTS) * 3
