"""Fitted exponents: of the time, and of the counted operations over the same sizes.

Method: least squares of the logarithm of the time (median of the block values, else the median of
the calls) against the logarithm of lmax + 1, of the batch or of the channels. The interval is
Student's for the slope of a straight line. It says how well one power describes these sizes; the
noise of a single time is usually much smaller than the bend of the line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import atan, cos, pi, sin, sqrt

import numpy as np

from etp.analysis.growth.lines import Line

MIN_FIT = 3
"""A slope through two points would fit anything."""
MIN_INTERVAL = 4
"""With three points one number is left to judge the fit by: no interval."""
LARGER_SHARE = 0.6
"""The larger sizes are fitted (at least :data:`MIN_INTERVAL`): small ones time the call itself."""
CONFIDENCE = 0.95
CLEAR = 0.25
"""An exponent known no better than by this much either way is not stated as a finding."""
MIN_BENT = 5
"""Sizes that a fit with a break needs: it has four numbers to find."""
BENT_ERROR = 0.1
"""A fit with a break is told if it meets every time to this, relative."""


@dataclass(frozen=True)
class Fit:
    """A power of the size.

    Attributes:
        exponent: Fitted.
        low: Low end of the 95 % interval of the exponent; None with few points.
        high: High end.
        sizes: Sizes behind it.
    """

    exponent: float
    low: float | None
    high: float | None
    sizes: tuple[int, ...]

    @property
    def clear(self) -> bool:
        """Whether one power describes the sizes: its interval is narrow, or there is none."""
        return self.low is None or self.high is None or self.high - self.low <= 2 * CLEAR


@dataclass(frozen=True)
class Bent:
    """One power of the size up to a break, another from there on.

    Attributes:
        below: Exponent up to the break.
        above: Exponent from there on.
        size: The break, one of the sizes.
        error: Largest distance of a log time from the fit.
    """

    below: float
    above: float
    size: int
    error: float


@dataclass(frozen=True)
class Growth:
    """How a product grows along a line.

    Attributes:
        time: Of its time; None with fewer than three sizes.
        count: Of its counted operations over the same sizes; None where they were not counted.
        bent: Of its time over all sizes, where no single power describes it and two do.
    """

    product: str
    time: Fit | None
    count: Fit | None
    bent: Bent | None = None


def fit(sizes: Sequence[int], values: Sequence[float], shift: int = 0) -> Fit:
    """Least squares of log ``values`` against log(``sizes`` + ``shift``).

    Args:
        sizes: At least three different ones.
        values: One for each size, positive and finite.
        shift: 1 for lmax: counts grow with lmax + 1.

    Raises:
        ValueError: If there are too few sizes, or a logarithm does not exist.
    """
    x, y = np.asarray(sizes, dtype=float) + shift, np.asarray(values, dtype=float)
    if len(x) != len(y) or len(set(sizes)) < MIN_FIT:
        raise ValueError(
            f"sizes must be at least {MIN_FIT} different ones with a value each, got "
            f"{len(set(sizes))} different ones and {len(y)} values"
        )
    for name, numbers in (("sizes", x), ("values", y)):
        if not (np.isfinite(numbers).all() and (numbers > 0).all()):
            raise ValueError(f"{name} must be positive and finite, got {list(map(float, numbers))}")
    x, y = np.log(x), np.log(y)
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    free = len(x) - 2
    if len(x) < MIN_INTERVAL:
        return Fit(slope, None, None, tuple(sizes))
    rest = y - y.mean() - slope * (x - x.mean())
    half = t_value(free) * sqrt(float((rest**2).sum()) / free / spread)
    return Fit(slope, slope - half, slope + half, tuple(sizes))


def bent_fit(sizes: Sequence[int], values: Sequence[float], shift: int = 0) -> Bent:
    """Least squares of log ``values`` by a line with one break, at the size that suits best.

    Args:
        sizes: At least :data:`MIN_BENT` different ones, in order.
        values: One for each size, positive and finite.
        shift: 1 for lmax: counts grow with lmax + 1.

    Raises:
        ValueError: If there are too few sizes.
    """
    if len(sizes) < MIN_BENT or len(sizes) != len(values):
        raise ValueError(f"sizes must be at least {MIN_BENT} with a value each, got {len(sizes)}")
    x, y = np.log(np.asarray(sizes, dtype=float) + shift), np.log(np.asarray(values, dtype=float))
    candidates = []
    for at in range(1, len(x) - 1):
        table = np.stack([np.ones_like(x), np.minimum(x - x[at], 0), np.maximum(x - x[at], 0)], 1)
        solved, *_ = np.linalg.lstsq(table, y, rcond=None)
        rest = y - table @ solved
        bent = Bent(float(solved[1]), float(solved[2]), sizes[at], float(np.abs(rest).max()))
        candidates.append((float((rest**2).sum()), bent))
    return min(candidates, key=lambda candidate: candidate[0])[1]


def t_value(free: int) -> float:
    """Distance within which Student's t lies with probability :data:`CONFIDENCE`.

    Args:
        free: Degrees of freedom, at least 1.

    Raises:
        ValueError: If ``free`` is below 1.
    """
    if free < 1:
        raise ValueError(f"free must be at least 1, got {free}")
    low, high = 0.0, 1.0
    while _within(high, free) < CONFIDENCE:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, free) < CONFIDENCE else (low, middle)
    return high


def _within(t: float, free: int) -> float:
    """Probability that Student's t lies within ``t`` (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = atan(t / sqrt(free))
    odd = free % 2
    term, total = (cos(angle), cos(angle)) if odd else (1.0, 1.0)
    for k in range(2 + odd, free - 1, 2):
        term *= cos(angle) ** 2 * (k - 1) / k
        total += term
    if not odd:
        return sin(angle) * total
    return 2 / pi * (angle + (sin(angle) * total if free > 1 else 0.0))


def fitted_sizes(sizes: Sequence[int]) -> list[int]:
    """The sizes that a slope is fitted on: the larger ones."""
    ordered = sorted(set(sizes))
    return ordered[-max(MIN_INTERVAL, round(LARGER_SHARE * len(ordered))) :]


def growths(line: Line) -> list[Growth]:
    """Growth of every product that was timed, slowest growth first, those without a fit last."""
    wanted = fitted_sizes(line.sizes)
    shift = 1 if line.axis == "lmax" else 0
    rates = []
    for product in line.products:
        every, times, counts = {}, {}, {}
        for comparison in line.comparisons:
            entry = next((e for e in comparison.timed if e.product == product), None)
            if entry is not None:
                every[line.size(comparison)] = entry.typical_s
            if entry is not None and line.size(comparison) in wanted:
                times[line.size(comparison)] = entry.typical_s
                counts[line.size(comparison)] = float(entry.result("cost").get("macs") or 0)
        counted = {size: count for size, count in counts.items() if count > 0}
        complete = counted if len(counted) == len(times) else {}
        time = _fit(times, shift)
        bent = None if time is None or time.clear else _bent(every, shift)
        rates.append(Growth(product, time, _fit(complete, shift), bent))
    return sorted(rates, key=lambda g: g.time.exponent if g.time else float("inf"))


def _bent(values: Mapping[int, float], shift: int) -> Bent | None:
    """The fit with a break, if it is one: close to every time, and with two different powers."""
    if len(values) < MIN_BENT:
        return None
    bent = bent_fit(list(values), list(values.values()), shift)
    told = bent.error <= BENT_ERROR and bent.above - bent.below > 2 * CLEAR
    return bent if told else None


def _fit(values: Mapping[int, float], shift: int) -> Fit | None:
    if len(values) < MIN_FIT:
        return None
    return fit(list(values), list(values.values()), shift)
