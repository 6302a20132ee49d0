"""Clock, temperature and throttling, from a driver made up for the test."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from etp.measure.card import device_state
from etp.measure.state import State, nvml_state, state_flags, state_text


def driver(reasons: int, clock: int = 1980, temperature: int = 54) -> SimpleNamespace:
    return SimpleNamespace(
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlClocksEventReasonSwPowerCap=4,
        nvmlClocksEventReasonSwThermalSlowdown=32,
        nvmlClocksEventReasonHwThermalSlowdown=64,
        nvmlDeviceGetCurrentClocksEventReasons=lambda handle: reasons,
        nvmlDeviceGetClockInfo=lambda handle, kind: clock,
        nvmlDeviceGetTemperature=lambda handle, kind: temperature,
    )


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (0, ()),
        (1, ()),  # idle is no slowdown
        (4, ("the power limit",)),
        (4 | 64, ("the power limit", "the temperature (hardware)")),
    ],
)
def test_a_card_says_what_holds_its_clock_down(reasons, words):
    found = nvml_state(driver(reasons), None, 0.5)
    assert found == State(1980.0, 54.0, words, 0.5)


def test_a_throttled_card_raises_a_flag_with_the_reason():
    before = nvml_state(driver(0), None, 0.1).as_dict()
    after = nvml_state(driver(32, clock=1200, temperature=88), None, 0.1).as_dict()
    names = {flag.name: flag.detail for flag in state_flags(before, after)}
    assert "the temperature" in names["throttled"]
    assert "1980 to 1200 MHz" in names["clock moved"]
    assert state_flags(before, before) == ()
    text = state_text(before, after)
    assert "1980 → 1200 MHz" in text
    assert "held down by the temperature" in text


def test_the_clock_of_a_processor_is_told_but_never_judged():
    slow, fast = State(clock_mhz=1000.0).as_dict(), State(clock_mhz=3000.0).as_dict()
    assert state_flags(slow, fast) == ()


@pytest.mark.parametrize(
    ("loads", "cores", "names"),
    [((0.3, 2.0), 2, []), ((0.3, 2.1), 2, ["loaded"]), ((9.0, 1.0), 4, ["loaded"]),
     ((9.0, 9.0), None, []), ((None, None), 2, [])],
)  # fmt: skip
def test_load_above_the_number_of_cores_is_flagged(loads, cores, names):
    before, after = (State(load=load).as_dict() for load in loads)
    found = state_flags(before, after, cores)
    assert [flag.name for flag in found] == names
    assert all(f"on {cores} cores" in flag.detail for flag in found)


def test_this_machine_has_a_state():
    found = device_state("cpu")
    assert found.temperature_c is None
    assert found.load is None or found.load >= 0
