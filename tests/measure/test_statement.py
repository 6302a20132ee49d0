"""Verdicts in words, and what follows from them."""

from __future__ import annotations

from math import inf, log

import numpy as np
import pytest

from etp.measure.statement import (
    ALPHA,
    MARGIN,
    MIN_ROUNDS,
    Verdict,
    ask,
    error_of_look,
    fewest_rounds,
    front,
    words,
)
from etp.measure.verdict import Board


def test_all_looks_together_spend_the_error() -> None:
    assert sum(error_of_look(j) for j in range(100)) == pytest.approx(ALPHA)


def test_at_the_edge_of_same_no_number_of_rounds_is_promised() -> None:
    assert ask(30, Verdict(0, 1, MARGIN, MARGIN - 0.1, MARGIN + 0.1, "open"), 0) is None
    assert ask(30, Verdict(0, 1, 0.0, -0.0201, 0.0201, "open"), 0) == 38
    assert ask(30, Verdict(0, 1, 0.0, -inf, inf, "too few"), 0) == 60


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (
            Verdict(0, 1, log(0.8), log(0.78), log(0.82), "faster"),
            "B is faster than A: 20 % less time (18 % to 22 %)",
        ),
        (
            Verdict(0, 1, log(1.012), log(1.008), log(1.016), "slower"),
            "B is slower than A, by less than 2 %: 1.2 % more time (0.80 % to 1.6 %)",
        ),
        (Verdict(0, 1, log(3.1), log(2.9), log(3.3), "slower"), "3.1x (2.9x to 3.3x)"),
        (Verdict(0, 1, -log(150), -log(160), -log(140), "faster"), "150x (140x to 160x)"),
        (
            Verdict(0, 1, -log(39), -log(282), -log(1.8), "faster"),
            "B is faster than A: at least 1.8x (estimate 39x, up to 280x)",
        ),
        (
            Verdict(0, 1, log(1.1), log(1.02), log(1.19), "slower"),
            "B is slower than A: at least 2.0 % more time (estimate 10 %, up to 19 %)",
        ),
        (
            Verdict(0, 1, 0.001, log(0.995), log(1.007), "same"),
            "B and A are the same within 2 % (-0.5 % to +0.7 %)",
        ),
        (
            Verdict(0, 1, 0.01, -0.1, 0.1, "open", 30, 60),
            "not separable yet; about 30 more rounds, 15 s",
        ),
        (Verdict(0, 1, 0.02, -0.1, 0.1, "open", 30, None), "not separable at this noise"),
        (Verdict(0, 1, 0.0, 0.2, 0.1, "changed"), "the ratio changed during the run; no verdict"),
        (Verdict(0, 1, 0.0, 0.1, 0.2, "withheld"), "no verdict"),
        (Verdict(0, 1, 0.0, -inf, inf, "too few", 8, 12), "too few rounds; about 4 more rounds"),
    ],
)
def test_words_say_what_is_known(verdict: Verdict, sentence: str) -> None:
    said = words(verdict, "A", "B", seconds_per_round=0.5)
    assert sentence in said
    assert not any(claim in said for claim in ("equal", "identical", "no difference"))


def test_the_front_needs_certainty() -> None:
    def verdict(a: int, b: int, word: str) -> Verdict:
        return Verdict(a, b, 0.0, -1.0, 1.0, word)  # type: ignore[arg-type]

    known = [
        verdict(0, 1, "slower"),
        verdict(0, 2, "slower"),
        verdict(1, 2, "open"),
        verdict(0, 3, "faster"),
    ]
    assert front(known, [1.0, 1.0, 2.0, None]) == ["front", "dominated", "front", None]
    assert front(known[:2], [1.0, 1.0, 1.0, None]) == ["front", "dominated", "dominated", None]
    with pytest.raises(ValueError, match="one entry per slot"):
        front(known, [1.0])
    with pytest.raises(ValueError, match="numbers or None"):
        front(known, [1.0, float("nan"), 1.0, 1.0])


def test_equal_code_is_a_front_only_if_it_is_fastest_of_its_kind() -> None:
    verdicts = [Verdict(0, 1, 0.0, -0.01, 0.01, "same")]
    assert front(verdicts, [1.0, 1.0]) == ["possible", "possible"]
    assert front(verdicts, [1.0, 2.0]) == ["possible", "front"]


@pytest.mark.parametrize("products", [2, 4, 16])
def test_the_fewest_rounds_are_enough_to_tell_a_large_difference(products: int) -> None:
    rounds = fewest_rounds(products)
    rng = np.random.default_rng(products)
    speeds = np.arange(1, products + 1)
    times = speeds * np.exp(rng.normal(0, 0.01, (rounds, products)))
    words = {verdict.word for verdict in Board(products).look(times)}
    assert words == {"slower"}
    if rounds > MIN_ROUNDS:
        fewer = Board(products).look(times[:-1])
        assert {verdict.word for verdict in fewer} == {"too few"}
