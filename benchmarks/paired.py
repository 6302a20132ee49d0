"""A ratio of two times that were taken in the same rounds."""

from __future__ import annotations

import math
from typing import NamedTuple

from numpy.typing import ArrayLike

from etp.measure import statistic

ERROR = 0.05
"""Share of intervals that may miss the ratio."""


class Ratio(NamedTuple):
    """Center of the paired log differences as a ratio, and the ends of its interval."""

    center: float
    low: float
    high: float


def ratio(differences: ArrayLike) -> Ratio:
    """What log differences, one for each round, come to."""
    low, high = statistic.interval(differences, ERROR)
    return Ratio(*(math.exp(float(v)) for v in (statistic.estimate(differences), low, high)))
