"""What is told of a run that goes on, on runs whose course is known."""

from __future__ import annotations

import itertools

import pytest

from etp.analysis.countdown import FULL, Countdown, Told

CASES, CHECKS = [10.0, 20.0, 30.0], [0.5, 0.2, 0.1]


def course(pace: float, late: float = 0.0) -> list[tuple[float, Told]]:
    """A run that takes ``pace`` times as long as estimated, and ``late`` seconds more at the end.

    Returns:
        The seconds that are truly left, and what is told, each second.
    """
    countdown, total = Countdown(CASES, CHECKS), pace * sum(CASES) + late
    ends = [pace * sum(CASES[: n + 1]) for n in range(3)]
    left = []
    for second in range(int(total)):
        ended = [n for n, end in enumerate(ends) if end <= second and (n < 2 or not late)]
        index = min(len(ended), 2)
        begun = ends[index] - pace * CASES[index]
        share = min(max((second - begun) / (pace * CASES[index]), 0.0), 1.0)
        rounds = (share - CHECKS[index]) / (1 - CHECKS[index])
        now = {"index": index, "place": (share, CHECKS[index])}
        if rounds > 0:
            now = {"index": index, "round": 30 * rounds, "rounds": 30}
        left.append((total - second, countdown.tell(ended, now, second)))
    return left


@pytest.mark.parametrize(("pace", "late"), [(1, 0), (3, 0), (0.3, 0), (1, 40), (2, 30)])
def test_what_is_left_never_grows_and_the_bar_is_full_only_at_the_end(pace, late):
    told = [said for _, said in course(pace, late)]
    left = [said.left_s for said in told if said.left_s is not None]
    assert all(after <= before for before, after in itertools.pairwise(left))
    shares = [said.share for said in told]
    assert shares == sorted(shares)
    assert shares[-1] <= FULL < 1


def test_a_run_as_estimated_is_told_to_the_second():
    assert all(said.left_s == pytest.approx(left, abs=1e-6) for left, said in course(1))


@pytest.mark.parametrize("pace", [0.3, 2])
def test_another_pace_is_noticed(pace):
    told = course(pace)
    left, said = told[int(0.8 * len(told))]
    # A run that is slower holds what was told, or says that it takes longer.
    if pace < 1:
        assert said.left_s is not None
        assert left < said.left_s < 0.6 * left / pace
    else:
        assert said.left_s is None or said.left_s <= left


def test_a_run_that_stands_still_says_that_it_takes_longer():
    countdown = Countdown(CASES, CHECKS)
    now = {"index": 0, "place": (0, 4)}
    assert countdown.tell([], now, 0.0).left_s == pytest.approx(60)
    assert countdown.tell([], now, 200.0).left_s is None
    assert countdown.tell([0, 1, 2], now, 201.0).left_s == 0


def test_whoever_looks_late_and_at_more_rounds_of_an_ended_run_is_told_the_same_kind():
    countdown = Countdown([100.0, 10.0], [0.0, 0.0])
    # The first case ended in an earlier run; this one has just begun.
    assert countdown.tell([0], None, 40.0).left_s == pytest.approx(10)
    assert countdown.tell([0], {"index": 1}, 50.0).left_s == pytest.approx(10)
    assert countdown.tell([0], {"index": 1, "round": 5, "rounds": 10}, 55.0).left_s == (
        pytest.approx(5)
    )
