"""Seconds left of a run: told from what its cases should take, corrected by how they go.

What is told never grows. Where the truth does, it is said that the run takes longer than told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

PRIOR = 0.25
"""Weight of the estimate against what was seen, as a part of the whole run."""
FULL = 0.99
"""A bar is full only when nothing is left."""
LATE = 1.5
"""Factor by which the truth may be above what was told before that is said."""


class Told(NamedTuple):
    """What is said of a run that goes on.

    Attributes:
        left_s: Seconds left; None where it takes longer than was told.
        share: Part that is done, below 1.
    """

    left_s: float | None
    share: float


class Countdown:
    """The seconds left of one run.

    Args:
        seconds: What each case should take.
        checks: Part of each case that goes before its rounds.
    """

    def __init__(self, seconds: Sequence[float], checks: Sequence[float]) -> None:
        self._seconds, self._checks = seconds, checks
        self._first: tuple[float, float] | None = None
        self._left: float | None = None
        self._share = 0.0

    def tell(self, ended: Collection[int], now: Mapping[str, Any] | None, gone_s: float) -> Told:
        """What to say now.

        Args:
            ended: Places of the cases that have ended.
            now: The last progress event, with the ``index`` of its case.
            gone_s: Seconds since the run began.
        """
        total = sum(self._seconds)
        done = sum(self._seconds[index] for index in ended) + self._inside(ended, now)
        if now is None:
            # Nothing has begun: workers start, or wait for what others left them.
            return Told(total - done, self._share)
        if self._first is None:
            # A run may have begun long before anybody looks, and go on after an earlier one.
            self._first = (done, gone_s)
        done_here, gone_here = done - self._first[0], gone_s - self._first[1]
        prior = PRIOR * (total - self._first[0])
        pace = (gone_here + prior) / (done_here + prior) if prior > 0 else 1.0
        left = max(pace * (total - done), 0.0)
        self._share = max(self._share, min(done / total if total else 0.0, FULL))
        late = self._left is not None and left > LATE * self._left + 2
        self._left = left if self._left is None else min(self._left, left)
        return Told(None if late else self._left, self._share)

    def _inside(self, ended: Collection[int], now: Mapping[str, Any] | None) -> float:
        """Seconds that the running case should have taken so far."""
        index = (now or {}).get("index")
        if now is None or index is None or index in ended or index >= len(self._seconds):
            return 0.0
        whole, checks = self._seconds[index], self._checks[index]
        if "round" in now:
            return whole * (checks + (1 - checks) * now["round"] / now["rounds"])
        if "step" in now:
            return whole * float(now["step"]) / float(now["steps"])
        place, count = now.get("place", (0, 1))
        return whole * checks * float(place) / float(count)
