"""Flags are raised by what they describe, and by nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from etp.measure import flags
from etp.measure.statement import Floor


def calm(rounds: int = 60, columns: int = 4, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.exp(0.01 * rng.standard_normal((rounds, columns))) * 1e-3


def names(times: NDArray[np.float64]) -> set[str]:
    return {flag.name for flag in flags.run_flags(times)}


def test_a_calm_run_raises_nothing() -> None:
    assert not any(names(calm(seed=seed)) for seed in range(50))
    assert not any(flags.ratio_moved(calm(seed=seed), (0, 1)) for seed in range(50))


def test_few_rounds_raise_nothing() -> None:
    times = calm(29) * np.linspace(1, 3, 29)[:, None]
    assert names(times) == set()
    assert flags.ratio_moved(times * [1, 1, 1, 2], (0, 3)) is None


def test_slowing_down_by_a_quarter_is_drift_and_throttling() -> None:
    times = calm() * np.linspace(1, 1.25, 60)[:, None]
    assert {"drift", "throttled"} <= names(times)
    found = flags.drift(times)
    assert found is not None
    assert "slower" in found.detail


def test_becoming_faster_is_drift_but_no_throttling() -> None:
    times = calm() * np.linspace(1.25, 1, 60)[:, None]
    assert flags.drift(times) is not None
    assert flags.throttled(times) is None


def test_two_clock_states_are_seen() -> None:
    slow = np.random.default_rng(0).random(60) < 0.3
    found = flags.two_speeds(calm() * np.where(slow, 1.2, 1.0)[:, None])
    assert found is not None
    assert f"{100 * slow.mean():.0f} % of the rounds" in found.detail


def test_a_constant_run_has_one_speed() -> None:
    assert names(np.full((40, 3), 1e-3)) == set()


def test_blocks_disturbed_at_random_are_a_busy_machine() -> None:
    hit = np.random.default_rng(0).random((60, 4)) < 0.3
    assert "busy machine" in names(calm() * np.where(hit, 1.4, 1.0))


def test_a_ratio_that_moves_at_half_time_warns_the_pair_alone() -> None:
    times = calm()
    times[30:, 2] *= 1.05
    found = flags.ratio_moved(times, (0, 2))
    assert found is not None
    assert "higher" in found.detail
    assert flags.ratio_moved(times, (0, 1)) is None


def test_the_floor_raises_unreliable() -> None:
    assert flags.unreliable(None) is None
    assert flags.unreliable(Floor(0.0, -0.01, 0.01, False)) is None
    found = flags.unreliable(Floor(0.03, 0.02, 0.04, True))
    assert found is not None
    assert found.name == "unreliable"
    assert found in flags.run_flags(calm(), Floor(0.03, 0.02, 0.04, True))


@pytest.mark.parametrize(
    ("found", "raised"),
    [
        (flags.launch_bound(10e-6), True),
        (flags.launch_bound(50e-6), False),
        (flags.launch_bound(50e-6, 20e-6), True),
        (flags.launch_bound(50e-6, 16e-6), False),
        (flags.enqueue_bound(0.9), True),
        (flags.enqueue_bound(0.5), False),
        (flags.coarse_clock(100e-6, 1e-6), True),
        (flags.coarse_clock(1e-3, 1e-6), False),
    ],
)
def test_calls_too_short_to_mean_much_are_seen(found: flags.Flag | None, raised: bool) -> None:
    assert (found is not None) == raised


def test_rank_correlation_counts_order_only() -> None:
    assert flags.rank_correlation([1, 2, 30, 400]) == pytest.approx(1)
    assert flags.rank_correlation([3, 2, 2, 1]) == pytest.approx(-0.9486833)
    assert flags.rank_correlation([2, 2, 2]) == 0
