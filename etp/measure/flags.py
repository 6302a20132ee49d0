"""What was odd about a run: drift, throttling, two speeds, a busy machine, a moving ratio.

Flags explain the width of intervals. They never change a word of a verdict: the pairing of times
inside rounds absorbs what they describe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from etp.measure.statement import Floor, Pair

MIN_ROUNDS = 30
"""Rounds that a rule about the course of a run needs."""

_DRIFT, _THROTTLE, _RHO = log(1.05), log(1.10), 0.4
_SPLIT_EXPLAINS, _SPLIT_GAP, _SPLIT_SHARE = 0.80, log(1.04), 0.15
_BUSY_BLOCK, _BUSY_SHARE = 1.10, 0.20
_MOVED, _MOVED_ERRORS = log(1.02), 4.5
# 1.4826 (MAD to standard deviation) times 1.2533 (standard error of a median) for normal noise.
_MAD_TO_ERROR = 1.86
_SHORT_CALL_S, _EMPTY_CALLS, _ENQUEUE_SHARE = 20e-6, 3.0, 0.80
_CLOCK_STEPS = 200


@dataclass(frozen=True)
class Flag:
    """A badge of a run or of a pair: a short name, and a sentence with the numbers behind it."""

    name: str
    detail: str


def common_course(times: ArrayLike) -> NDArray[np.float64]:
    """How the machine went, seen by all slots alike.

    Args:
        times: ``(rounds, columns)`` block values in seconds.

    Returns:
        ``(rounds,)`` median over columns of log time minus that column's median.
    """
    logs = np.log(np.asarray(times, dtype=float))
    course: NDArray[np.float64] = np.median(logs - np.median(logs, axis=0), axis=1)
    return course


def run_flags(times: ArrayLike, floor: Floor | None = None) -> tuple[Flag, ...]:
    """All flags that the times of a run and its twin raise."""
    possible = (unreliable(floor), drift(times), throttled(times), two_speeds(times), busy(times))
    return tuple(flag for flag in possible if flag is not None)


def unreliable(floor: Floor | None) -> Flag | None:
    """Two instances of one product differ by more than 0.5 % for certain."""
    if floor is None or not floor.bad:
        return None
    return Flag(
        "unreliable",
        f"two instances of the same product differ by {100 * abs(np.expm1(floor.estimate)):.2g} %",
    )


def drift(times: ArrayLike) -> Flag | None:
    """The machine became slower or faster by more than 5 % from the first third to the last."""
    change = _trend(times)
    if change is None or abs(change) <= _DRIFT:
        return None
    return Flag("drift", f"all products became {_percent(change)} from the first third to the last")


def throttled(times: ArrayLike) -> Flag | None:
    """The machine became slower by more than 10 %, as a processor does that gets hot."""
    change = _trend(times)
    if change is None or change <= _THROTTLE:
        return None
    return Flag(
        "throttled", f"all products became {_percent(change)}, as on a processor that gets hot"
    )


def two_speeds(times: ArrayLike) -> Flag | None:
    """The rounds fall into two groups, as with two clock states."""
    course = np.sort(common_course(times))
    n = len(course)
    total = float(((course - course.mean()) ** 2).sum())
    if n < MIN_ROUNDS or total == 0:
        return None
    sizes = np.arange(1, n)
    sums = np.cumsum(course)[:-1]
    gaps = (course.sum() - sums) / (n - sizes) - sums / sizes
    explained = gaps**2 * sizes * (n - sizes) / n / total
    best = int(explained.argmax())
    smaller = min(sizes[best], n - sizes[best]) / n
    if explained[best] <= _SPLIT_EXPLAINS or gaps[best] <= _SPLIT_GAP or smaller < _SPLIT_SHARE:
        return None
    slow = 100 * (n - sizes[best]) / n
    return Flag("two speeds", f"{slow:.0f} % of the rounds were {_percent(gaps[best])}")


def busy(times: ArrayLike) -> Flag | None:
    """More than 20 % of the blocks took 10 % longer than their column's lower quartile."""
    blocks = np.asarray(times, dtype=float)
    if len(blocks) < MIN_ROUNDS:
        return None
    share = float((blocks > _BUSY_BLOCK * np.quantile(blocks, 0.25, axis=0)).mean())
    if share <= _BUSY_SHARE:
        return None
    return Flag("busy machine", f"{100 * share:.0f} % of the blocks were disturbed")


def ratio_moved(times: ArrayLike, pair: Pair) -> Flag | None:
    """The ratio of a pair was another one in the second half of the run: a warning to the pair."""
    logs = np.log(np.asarray(times, dtype=float))
    n = len(logs)
    if n < MIN_ROUNDS:
        return None
    d = logs[:, pair[1]] - logs[:, pair[0]]
    halves = (d[: n // 2], d[n // 2 :])
    change = float(np.median(halves[1]) - np.median(halves[0]))
    error = sqrt(sum(_error_of_median(half) ** 2 for half in halves))
    if abs(change) <= _MOVED or abs(change) <= _MOVED_ERRORS * error:
        return None
    return Flag(
        "ratio moved",
        f"the second half of the run saw a ratio {100 * abs(np.expm1(change)):.2g} % "
        f"{'higher' if change > 0 else 'lower'} than the first",
    )


def launch_bound(call_s: float, empty_s: float | None = None) -> Flag | None:
    """On a CPU: the making of a call is a good part of it.

    Args:
        call_s: Seconds of a call.
        empty_s: Of a call with the same interface that computes nothing, where it was measured.
    """
    if call_s < _SHORT_CALL_S:
        return Flag("launch-bound", f"a call takes {1e6 * call_s:.2g} us, less than 20 us")
    if empty_s is None or call_s >= _EMPTY_CALLS * empty_s:
        return None
    return Flag(
        "launch-bound", f"a call takes {call_s / empty_s:.2g} times as long as an empty one"
    )


def enqueue_bound(share: float) -> Flag | None:
    """On a GPU: the host needs at least 80 % of the time to hand over the work.

    Args:
        share: Time the host needs to enqueue the calls of a block over the time of the block.
    """
    if share < _ENQUEUE_SHARE:
        return None
    return Flag("launch-bound", f"handing over the work takes {100 * share:.0f} % of the time")


def coarse_clock(timed_s: float, step_s: float) -> Flag | None:
    """What is timed at once lasts less than 200 steps of the clock.

    Args:
        timed_s: Seconds of the shortest timed unit, a call or a group of calls.
        step_s: Smallest step of the clock.
    """
    if timed_s >= _CLOCK_STEPS * step_s:
        return None
    return Flag(
        "clock too coarse", f"what is timed lasts {timed_s / step_s:.0f} steps of the clock"
    )


def rank_correlation(x: Sequence[float] | NDArray[np.float64]) -> float:
    """Spearman's correlation of ``x`` with its position; 0 if ``x`` is constant."""
    values = np.asarray(x, dtype=float)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    # Equal values share the mean of the ranks they take up.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    if len(counts) < 2:
        return 0.0
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def _trend(times: ArrayLike) -> float | None:
    """Change of log time from the first third to the last, if it is a trend."""
    course = common_course(times)
    n = len(course)
    if n < MIN_ROUNDS:
        return None
    change = float(np.median(course[n - n // 3 :]) - np.median(course[: n // 3]))
    rho = rank_correlation(course)
    return change if abs(rho) > _RHO and rho * change > 0 else None


def _error_of_median(values: NDArray[np.float64]) -> float:
    spread = float(np.median(np.abs(values - np.median(values))))
    return _MAD_TO_ERROR * spread / sqrt(len(values))


def _percent(change: float) -> str:
    return f"{100 * abs(np.expm1(change)):.2g} % {'slower' if change > 0 else 'faster'}"
