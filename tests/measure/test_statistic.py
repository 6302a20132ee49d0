"""The signed statistic, and the intervals that follow from it."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etp.measure.statistic import estimate, interval, solve, statistic, z_value


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


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
