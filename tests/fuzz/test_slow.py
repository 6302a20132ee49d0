"""The judge of the long form: it finds what is slow, and takes a busy machine for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.fuzz.slow import TRIES, least_s

LIMIT_S = 1.0


class Clock:
    """Processor time that works add to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def takes(self, *seconds: float) -> Callable[[], None]:
        """A work that takes these times, one after another, the last for good."""
        left = list(seconds)

        def work() -> None:
            self.now_s += left.pop(0) if len(left) > 1 else left[0]

        return work


def test_what_is_always_slow_is_found():
    clock = Clock()
    assert least_s(clock.takes(1.1), LIMIT_S, clock) == pytest.approx(1.1)


@pytest.mark.parametrize("seconds", [(1.008, 0.01), (1.2, 1.1, 0.01)])
def test_what_was_slow_for_another_reason_is_not(seconds):
    clock = Clock()
    assert least_s(clock.takes(*seconds), LIMIT_S, clock) == pytest.approx(0.01)


def test_what_is_quick_is_done_once():
    clock, done = Clock(), []
    assert least_s(lambda: done.append(1), LIMIT_S, clock) == 0
    assert done == [1]


def test_what_is_slow_once_for_each_input_is_found():
    clock = Clock()
    slow = clock.takes(1.1)

    def table(lmax: int) -> int:
        slow()
        return lmax

    table.__module__ = "etp.tables"
    remembered = cache(table)
    assert least_s(lambda: remembered(3), LIMIT_S, clock) == pytest.approx(1.1)
    assert clock.now_s == pytest.approx(TRIES * 1.1)


def test_what_fails_is_told():
    with pytest.raises(ValueError, match="told"):
        least_s(lambda: int("told"), LIMIT_S, Clock())
