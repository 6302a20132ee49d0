"""Verdicts come out right on times whose truth is known, and on recorded ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import exp, inf, log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from etp.measure import flags
from etp.measure.statement import ALPHA, Floor, error_of_look
from etp.measure.statistic import estimate, interval, solve, statistic, z_value
from etp.measure.verdict import GUARD, MARGIN, Board, Verdict, ask, front, words

Times = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int, list[float]], Times]
TRACES = Path(__file__).parents[1] / "data" / "traces.npz"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def typical(noise: np.random.Generator, rounds: int, ratios: list[float]) -> Times:
    """1 % noise, a state 1.5 times slower in a tenth of the blocks, spikes, one second a call."""
    size = (rounds, len(ratios))
    logs = np.log(ratios) + 0.01 * noise.standard_normal(size)
    logs += log(1.5) * (noise.random(size) < 0.1)
    logs += np.where(noise.random(size) < 0.05, noise.exponential(0.3, size), 0)
    return np.exp(logs)


def calm(noise: np.random.Generator, rounds: int, ratios: list[float]) -> Times:
    """1 % noise."""
    return np.exp(np.log(ratios) + 0.01 * noise.standard_normal((rounds, len(ratios))))


def drifting(noise: np.random.Generator, rounds: int, ratios: list[float], total: float) -> Times:
    """The machine slows down evenly; each round measures the columns in a random order."""
    places = noise.permuted(np.tile(np.arange(len(ratios)), (rounds, 1)), axis=1)
    when = (np.arange(rounds)[:, None] + places / len(ratios)) / rounds
    return calm(noise, rounds, ratios) * np.exp(log(total) * when)


def words_of(verdicts: list[Verdict]) -> list[str]:
    return [v.word for v in verdicts]


# --- the statistic


@given(st.lists(st.floats(-1, 1), min_size=12, max_size=40), st.floats(-1, 1), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_statistic_falls_and_mirrors(values: list[float], c: float, step: float) -> None:
    d = np.array(values)
    assert statistic(d, c + step) <= statistic(d, c) + 1e-9
    assert statistic(-d, -c) == pytest.approx(-statistic(d, c))


def test_the_estimate_balances_and_the_interval_ends_where_the_statistic_says() -> None:
    d = rng().standard_t(2, (5, 40))
    low, high = interval(d, 0.02)
    assert np.all((low < estimate(d)) & (estimate(d) < high))
    np.testing.assert_allclose(statistic(d, low), z_value(0.02), atol=1e-6)
    np.testing.assert_allclose(statistic(d, high), -z_value(0.02), atol=1e-6)
    np.testing.assert_allclose(solve(d[2], 0.0), estimate(d)[2])


def test_too_small_an_error_gives_no_interval() -> None:
    low, high = interval(np.linspace(-1, 1, 12), 1e-4)
    assert (float(low), float(high)) == (-inf, inf)


def test_one_wild_round_hardly_moves_the_interval() -> None:
    d = rng().normal(0.05, 0.01, 30)
    wild = np.append(d[:-1], 1e3)
    for end, moved in zip(interval(d, 0.02), interval(wild, 0.02), strict=True):
        assert moved == pytest.approx(end, abs=0.01)


def test_all_looks_together_spend_the_error() -> None:
    assert sum(error_of_look(j) for j in range(100)) == pytest.approx(ALPHA)


# --- boards


@pytest.mark.parametrize("noise", [calm, typical])
def test_a_difference_of_five_percent_is_called_within_thirty_rounds(noise: Noise) -> None:
    covered = 0
    for seed in range(40):
        (verdict,) = Board(2, twin=(0, 2)).look(noise(rng(seed), 30, [1.0, 1.05, 1.0]))
        assert verdict.word == "slower"
        covered += verdict.low < log(1.05) < verdict.high
    # Nominally 98.25 %.
    assert covered >= 36


def test_equal_products_are_rarely_called_different() -> None:
    boards, excluded, directions = 150, 0, 0
    for seed in range(boards):
        board, times = Board(4), typical(rng(seed), 120, [1.0] * 4)
        seen = [v for n in (15, 30, 60, 120) for v in board.look(times[:n])]
        excluded += any(v.low > 0 or v.high < 0 for v in seen)
        directions += any(v.word in ("faster", "slower") for v in seen)
    # The bound is 5 %; three standard errors of 150 boards are added to it.
    assert excluded <= boards * 0.05 + 3 * (boards * 0.05 * 0.95) ** 0.5
    assert directions <= 2


def test_equal_products_are_called_same_in_the_end() -> None:
    times = calm(rng(), 120, [1.0] * 4)
    board = Board(3, twin=(0, 3))
    assert words_of(board.look(times)) == ["same"] * 3
    assert not board.unreliable
    assert board.guard == GUARD


@pytest.mark.parametrize("total", [1.25, 0.6])
def test_drift_does_no_harm(total: float) -> None:
    for seed in range(10):
        times = drifting(rng(seed), 60, [1.0, 1.0, 1.05, 1.0], total)
        first, second, third = words_of(Board(3, twin=(0, 3)).look(times))
        assert first in ("same", "open")
        assert (second, third) == ("slower", "slower")
        assert flags.drift(times) is not None


def test_a_step_of_the_machine_does_no_harm() -> None:
    times = calm(rng(1), 60, [1.0, 1.0, 1.05])
    times[25:] *= 1.25
    assert words_of(Board(3).look(times))[1:] == ["slower", "slower"]


def test_a_ratio_that_changes_between_looks_is_withdrawn() -> None:
    noise = rng()
    times = np.concatenate([calm(noise, 30, [1.0, 1.3]), calm(noise, 270, [1.3, 1.0])])
    board = Board(2)
    assert words_of(board.look(times[:30])) == ["slower"]
    assert words_of(board.look(times)) == ["changed"]
    assert flags.ratio_moved(np.concatenate([times[:30], times[-30:]]), (0, 1)) is not None


def test_a_twin_far_off_withholds_every_word() -> None:
    times = calm(rng(), 60, [1.0, 1.3, 1.0, 1.05])
    board = Board(3, twin=(0, 3))
    assert words_of(board.look(times)) == ["withheld"] * 3
    assert board.unreliable


def test_a_twin_slightly_off_widens_the_guard() -> None:
    times = calm(rng(), 240, [1.0, 1.011, 1.5, 1.015])
    board = Board(3, twin=(0, 3))
    first, second, third = words_of(board.look(times))
    assert board.floor is not None
    assert board.unreliable
    assert board.guard == abs(board.floor.estimate) > GUARD
    assert first not in ("slower", "faster")
    assert (second, third) == ("slower", "slower")
    (alone, *_) = words_of(Board(3).look(times[:, :3]))
    assert alone == "slower"


def test_the_error_is_shared_by_the_pairs_without_direction() -> None:
    noise = rng(3)
    times = calm(noise, 60, [1.0, 1.0, 1.4])
    d = np.log(times)
    got = Board(3).look(times)
    assert words_of(got)[1:] == ["slower", "slower"]
    (low,), (high,) = interval((d[:, 1] - d[:, 0])[None], [error_of_look(0)])
    assert (got[0].low, got[0].high) == (low, high)
    alone = Board(3, pairs=[(0, 2)]).look(times)[0]
    assert alone.low > got[1].low


def test_intervals_only_shrink() -> None:
    board, times = Board(4), typical(rng(5), 240, [1.0, 1.01, 1.02, 1.1])
    before = board.look(times[:15])
    for n in (30, 60, 120, 240):
        after = board.look(times[:n])
        assert all(x.low <= y.low and y.high <= x.high for x, y in zip(before, after, strict=True))
        before = after


def test_exchanging_two_products_mirrors_the_verdict() -> None:
    times = typical(rng(), 40, [1.0, 1.1])
    (there,), (back,) = Board(2).look(times), Board(2, pairs=[(1, 0)]).look(times)
    assert (there.word, back.word) == ("slower", "faster")
    np.testing.assert_allclose(
        [there.estimate, there.low, there.high],
        [-back.estimate, -back.high, -back.low],
        atol=1e-9,
    )


def test_fewer_than_twelve_rounds_give_estimates_and_spend_nothing() -> None:
    times = calm(rng(), 30, [1.0, 1.5])
    board = Board(2)
    (verdict,) = board.look(times[:11])
    assert (verdict.word, verdict.low, verdict.high) == ("too few", -inf, inf)
    assert verdict.estimate == pytest.approx(log(1.5), abs=0.02)
    assert board.looks == 0
    assert board.ask(11) == {(0, 1): 12}
    assert board.look(times) == Board(2).look(times)


def test_a_board_goes_on_from_its_stored_state() -> None:
    times = typical(rng(), 60, [1.0, 1.01, 1.3, 1.0])
    through, stored = Board(3, twin=(0, 3)), Board(3, twin=(0, 3))
    for n in (8, 15, 30, 60):
        assert through.look(times[:n]) == stored.look(times[:n])
        stored = Board.from_state(json.loads(json.dumps(stored.state(), allow_nan=False)))
        assert stored.state() == through.state()
    assert through.unreliable == stored.unreliable


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.ones((20, 2)), "shape"),
        (np.ones(20), "shape"),
        (np.ones((0, 3)), "shape"),
        (np.zeros((20, 3)), "positive and finite"),
        (np.full((20, 3), np.nan), "positive and finite"),
        (np.ones((13, 3)), "all rounds so far"),
    ],
)
def test_times_that_cannot_be_looked_at_are_refused(times: Times, message: str) -> None:
    board = Board(2, twin=(0, 2))
    board.look(np.ones((14, 3)))
    with pytest.raises(ValueError, match=message):
        board.look(times)
    assert board.looks == 1


@pytest.mark.parametrize(
    ("slots", "twin", "pairs"),
    [
        (0, None, None),
        (3, (0, 4), None),
        (3, (3, 3), None),
        (3, None, [(0, 3)]),
        (3, None, [(1, 1)]),
        (3, None, [(0, 1), (1, 0)]),
    ],
)
def test_boards_that_do_not_fit_together_are_refused(
    slots: int, twin: tuple[int, int] | None, pairs: list[tuple[int, int]] | None
) -> None:
    with pytest.raises(ValueError, match="must"):
        Board(slots, twin, pairs)


def test_one_product_alone_has_no_verdicts() -> None:
    board = Board(1, twin=(0, 1))
    assert board.look(calm(rng(), 60, [1.0, 1.0])) == []
    assert board.floor is not None


# --- recorded times


def recorded(key: str) -> Times:
    with np.load(TRACES) as data:
        return np.asarray(data[f"{key}__blocks_us"], dtype=float) * 1e-6


@pytest.mark.parametrize("key", ["aa8_tp1_quiet", "aa8_mm256_quiet", "aa8_tp2_burst"])
def test_recorded_copies_of_one_call_are_not_called_different(key: str) -> None:
    times = recorded(key)
    wrong = []
    for start in range(0, len(times), 120):
        board = Board(8)
        for n in (15, 30, 60, 120):
            wrong += [
                v for v in board.look(times[start : start + n]) if v.word in ("faster", "slower")
            ]
    assert not wrong


def test_recorded_calls_of_different_length_are_told_apart() -> None:
    with np.load(TRACES) as data:
        names = [label.split("#")[0] for label in data["quiet_small__labels"]]
    times = recorded("quiet_small")
    verdicts = Board(times.shape[1]).look(times[:30])
    for v in verdicts:
        truth = np.median(times[:, v.b]) / np.median(times[:, v.a])
        if names[v.a] == names[v.b]:
            assert v.word in ("same", "open")
        elif abs(log(truth)) > log(1.1):
            assert v.word == ("slower" if truth > 1 else "faster")


# --- asking, words, front


def test_an_open_pair_asks_for_enough_rounds() -> None:
    settled = 0
    for seed in range(20):
        times = typical(rng(seed), 400, [1.0, 1.015])
        board = Board(2)
        (verdict,) = board.look(times[:15])
        if verdict.word == "open" and verdict.needed is not None:
            assert verdict.needed == board.ask(15)[0, 1]
            settled += board.look(times[: verdict.needed])[0].word != "open"
        else:
            settled += 1
    assert settled >= 14


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


def test_the_floor_is_the_interval_of_the_twin() -> None:
    times = calm(rng(), 40, [1.0, 1.2, 1.0])
    board = Board(2, twin=(0, 2))
    board.look(times)
    d = np.log(times)[:, 2] - np.log(times)[:, 0]
    low, high = interval(d, error_of_look(0))
    assert board.floor == Floor(float(estimate(d)), float(low), float(high), False)
    assert exp(board.floor.high) < 1.02
