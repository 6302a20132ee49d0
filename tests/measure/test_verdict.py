"""Verdicts come out right on times whose truth is known, and on recorded ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import exp, inf, log
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from etp.measure import flags
from etp.measure.statement import Floor, error_of_look
from etp.measure.statistic import estimate, interval
from etp.measure.verdict import GUARD, Board, Verdict

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


@pytest.mark.parametrize("noise", [calm, typical])
def test_a_difference_of_five_percent_is_called_within_thirty_rounds(noise: Noise) -> None:
    covered = called = 0
    for seed in range(40):
        (verdict,) = Board(2, twin=(0, 2)).look(noise(rng(seed), 30, [1.0, 1.05, 1.0]))
        called += verdict.word == "slower"
        assert verdict.word in ("slower", "open")
        covered += verdict.low < log(1.05) < verdict.high
    # The twin's interval is wide in one run of a hundred.
    assert called >= 38
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
    assert board.floor is not None
    assert board.guard == max(GUARD, -board.floor.low, board.floor.high) < log(1.02)


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
    assert board.guard == board.floor.high > board.floor.estimate > GUARD
    assert first not in ("slower", "faster")
    assert (second, third) == ("slower", "slower")
    (alone, *_) = words_of(Board(3).look(times[:, :3]))
    assert alone == "slower"


def test_nothing_is_claimed_within_the_interval_of_the_twin() -> None:
    # The interval of the pair leaves out 1 and lies within what one product shows against itself.
    noise = rng(11)
    times = np.exp(0.25 * noise.standard_normal((40, 3)) + np.log([1.0, 1.0, 1.0]))
    times[:, 1] = times[:, 0] * np.exp(0.05 + 0.02 * noise.standard_normal(40))
    board = Board(2, twin=(0, 2))
    (verdict,) = board.look(times)
    assert board.floor is not None
    assert GUARD < verdict.low < verdict.estimate < max(board.floor.high, -board.floor.low)
    assert verdict.word == "open"
    assert words_of(Board(2).look(times[:, :2])) == ["slower"]


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


# --- the noise floor, and asking for more


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


def test_the_floor_is_the_interval_of_the_twin() -> None:
    times = calm(rng(), 40, [1.0, 1.2, 1.0])
    board = Board(2, twin=(0, 2))
    board.look(times)
    d = np.log(times)[:, 2] - np.log(times)[:, 0]
    low, high = interval(d, error_of_look(0))
    assert board.floor == Floor(float(estimate(d)), float(low), float(high), False)
    assert exp(board.floor.high) < 1.02
