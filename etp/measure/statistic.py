"""Robust signed statistic of paired differences, and the intervals that follow from it.

If two products are equally fast, a fresh random order in every round makes the sign of each paired
difference a fair coin, whatever the machine does over time. The statistic only uses that.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

KAPPA = 0.5
"""Differences beyond this share of the median distance count by their sign alone."""

_SMALLEST_SCALE = 1e-9
_BISECTIONS = 45


def z_value(error: float) -> float:
    """Distance from zero that a standard normal number exceeds with probability ``error``."""
    return NormalDist().inv_cdf(1 - error / 2)


def statistic(differences: ArrayLike, center: ArrayLike) -> NDArray[np.float64]:
    """How far ``differences`` lie above ``center``, in units of a standard normal number.

    With ``e = d - c`` and ``s`` half the median of ``|e|``, it is ``sum y / sqrt(sum y^2)`` for
    ``y = clip(e / s, -1, 1)``. It falls as ``center`` grows.

    Args:
        differences: ``(..., n)`` paired log differences, one per round.
        center: ``(...)`` the differences to compare with.

    Returns:
        ``(...)`` values between ``-sqrt(n)`` and ``sqrt(n)``.
    """
    e = np.asarray(differences, dtype=float) - np.asarray(center, dtype=float)[..., None]
    scale = np.maximum(KAPPA * np.median(np.abs(e), axis=-1), _SMALLEST_SCALE)
    y = np.clip(e / scale[..., None], -1, 1)
    z: NDArray[np.float64] = y.sum(-1) / np.sqrt(np.maximum((y * y).sum(-1), 1.0))
    return z


def solve(differences: ArrayLike, z: ArrayLike) -> NDArray[np.float64]:
    """Largest center at which the statistic still reaches ``z``, by bisection.

    Args:
        differences: ``(..., n)`` paired log differences.
        z: ``(...)`` values of the statistic, inside ``(-sqrt(n), sqrt(n))``.

    Returns:
        ``(...)`` centers; the estimate at ``z = 0``, ends of an interval at ``+z`` and ``-z``.
    """
    d, z = np.asarray(differences, dtype=float), np.asarray(z, dtype=float)
    shape = np.broadcast_shapes(d.shape[:-1], z.shape)
    reach = np.ptp(d, axis=-1) + 1e-6
    low = np.broadcast_to(d.min(-1) - 3 * reach, shape)
    high = np.broadcast_to(d.max(-1) + 3 * reach, shape)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        reached = statistic(d, middle) >= z
        low, high = np.where(reached, middle, low), np.where(reached, high, middle)
    centers: NDArray[np.float64] = (low + high) / 2
    return centers


def estimate(differences: ArrayLike) -> NDArray[np.float64]:
    """The center that the differences balance around, ``(..., n) -> (...)``."""
    return solve(differences, 0.0)


def interval(
    differences: ArrayLike, error: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centers that the differences do not contradict at a two-sided ``error``.

    Args:
        differences: ``(..., n)`` paired log differences.
        error: ``(...)`` probabilities of missing the truth.

    Returns:
        Low and high ends ``(...)``; infinite where ``n`` rounds are too few for that error.
    """
    d = np.asarray(differences, dtype=float)
    z = np.vectorize(z_value, otypes=[float])(np.asarray(error, dtype=float))
    z = np.broadcast_to(z, d.shape[:-1])
    enough = z < np.sqrt(d.shape[-1])
    low, high = solve(d, np.stack([z, -z]))
    return np.where(enough, low, -np.inf), np.where(enough, high, np.inf)
