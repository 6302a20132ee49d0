"""State of the device before and after a run: clock, temperature, what slows it, other load.

Nobody but an administrator can fix the clock of a card, so it is read and told instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from etp.measure.flags import Flag

CLOCK_MOVED = 0.02
SLOWED_BY = {
    "nvmlClocksEventReasonSwPowerCap": "the power limit",
    "nvmlClocksEventReasonSwThermalSlowdown": "the temperature",
    "nvmlClocksEventReasonHwThermalSlowdown": "the temperature (hardware)",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "the power supply",
    "nvmlClocksEventReasonHwSlowdown": "the hardware",
}
"""Names of NVML's reasons for a lower clock, and what they mean."""


@dataclass(frozen=True)
class State:
    """What the driver and the system say at one moment; None where they say nothing.

    Attributes:
        clock_mhz: Clock of the multiprocessors of a GPU, mean clock of the cores of a CPU.
        temperature_c: Temperature of a GPU.
        slowed_by: What holds a GPU's clock down, in words.
        load: Processes that wanted to run on this machine in the last minute, on average.
    """

    clock_mhz: float | None = None
    temperature_c: float | None = None
    slowed_by: tuple[str, ...] = ()
    load: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"slowed_by": list(self.slowed_by)}


def nvml_state(nvml: Any, handle: Any, load: float | None) -> State:
    """State of a card that NVML knows.

    Args:
        nvml: The module ``pynvml``.
        handle: The card.
        load: Load of the machine.
    """
    reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    held = [word for name, word in SLOWED_BY.items() if reasons & getattr(nvml, name, 0)]
    return State(
        float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
        float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        tuple(dict.fromkeys(held)),
        load,
    )


def load_flag(load: float, cores: int | None) -> Flag | None:
    """Whether more processes wanted to run than there are cores.

    Args:
        load: Processes that wanted to run, on average.
        cores: Of the machine, None where it is not known.
    """
    if not cores or round(load, 1) <= cores:
        return None
    noun = "core" if cores == 1 else "cores"
    return Flag("loaded", f"{load:.1f} processes wanted to run at once on {cores} {noun}")


def state_flags(
    before: Mapping[str, Any], after: Mapping[str, Any], cores: int | None = None
) -> tuple[Flag, ...]:
    """What the states before and after the rounds give away: load, and the clock of a GPU.

    The clock of a CPU moves with every pause, so only its rounds can tell (see ``flags.drift``).

    Args:
        before: State before the rounds.
        after: State after them.
        cores: Of the machine, None where it is not known.
    """
    flags = []
    loads = [state["load"] for state in (before, after) if state.get("load") is not None]
    if loads and (flag := load_flag(max(loads), cores)):
        flags.append(flag)
    slowed = list(dict.fromkeys([*before["slowed_by"], *after["slowed_by"]]))
    if slowed:
        flags.append(Flag("throttled", f"the driver says the clock is held down by {slowed[0]}"))
    clocks = before["clock_mhz"], after["clock_mhz"]
    # Only a GPU reports a temperature here.
    if before["temperature_c"] is not None and None not in clocks:
        change = clocks[1] / clocks[0] - 1
        if abs(change) > CLOCK_MOVED:
            flags.append(
                Flag("clock moved", f"the clock went from {clocks[0]:g} to {clocks[1]:g} MHz")
            )
    return tuple(flags)


def state_text(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Both states in one line."""
    parts = []
    written = {
        "clock_mhz": "{:.4g} → {:.4g} MHz",
        "temperature_c": "{:.3g} → {:.3g} °C",
        "load": "load {:.1f} → {:.1f}",
    }
    for key, words in written.items():
        if before.get(key) is not None and after.get(key) is not None:
            parts.append(words.format(before[key], after[key]))
    slowed = after.get("slowed_by") or []
    return ", ".join([*parts, *(f"held down by {word}" for word in slowed)])
