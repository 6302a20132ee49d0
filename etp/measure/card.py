"""All that measuring asks of a card: waiting, events, graphs, its cache and its driver's word.

Everything goes through :func:`card`, so that a made-up card can stand in for one: see ``MAKERS``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, TypeVar

import torch

from etp import processor
from etp.measure.clock import Event
from etp.measure.state import State, nvml_state

T = TypeVar("T")


class Card(Protocol):
    """A device with a queue of its own."""

    def synchronise(self) -> None:
        """Wait until everything handed over is done."""

    def event(self) -> Event:
        """A moment in the queue."""

    def graph(self, run: Callable[[], object]) -> Callable[[], object]:
        """Record what a call hands over; the result does it again without the host's work."""

    def cache_bytes(self) -> int:
        """Size of the cache in front of its memory."""

    def state(self, load: float | None) -> State:
        """What its driver says now, beside the load of the machine."""

    def driver(self) -> str | None:
        """Version of its driver; None where nobody says."""


class Cuda:
    """A card that torch calls ``cuda``: CUDA, or ROCm, which has no NVML.

    Args:
        device: Which.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def synchronise(self) -> None:
        """Wait."""
        torch.cuda.synchronize(self._device)

    def event(self) -> Event:
        """A moment that is timed."""
        return torch.cuda.Event(enable_timing=True)

    def graph(self, run: Callable[[], object]) -> Callable[[], object]:
        """Warm up on a stream beside, as capturing asks for, then capture."""
        with torch.cuda.device(self._device):
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                run()
            torch.cuda.current_stream().wait_stream(beside)
            made = torch.cuda.CUDAGraph()
            with torch.cuda.graph(made):
                run()
        return made.replay

    def cache_bytes(self) -> int:
        """Its L2."""
        return int(torch.cuda.get_device_properties(self._device).L2_cache_size)

    def state(self, load: float | None) -> State:
        """By NVML; only the load where that is missing or does not answer."""

        def asked(nvml: Any) -> State:
            uuid = torch.cuda.get_device_properties(self._device).uuid
            return nvml_state(nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"), load)

        return _of_nvml(asked) or State(load=load)

    def driver(self) -> str | None:
        """By NVML."""
        return _of_nvml(lambda nvml: _text(nvml.nvmlSystemGetDriverVersion()))


def _of_nvml(ask: Callable[[Any], T]) -> T | None:
    """What NVML answers; None where it is not installed or does not answer."""
    if find_spec("pynvml") is None:
        return None
    nvml: Any = import_module("pynvml")
    try:
        nvml.nvmlInit()
        return ask(nvml)
    except nvml.NVMLError:
        # A card in a container or a virtual machine may not answer; no reason to fail.
        return None


def _text(answer: str | bytes) -> str:
    """Older versions answer in bytes."""
    return answer.decode() if isinstance(answer, bytes) else answer


MAKERS: dict[str, Callable[[torch.device], Card]] = {"cuda": Cuda}
"""What makes the card of a type of device; other types have no queue."""


def card(device: torch.device | str) -> Card | None:
    """The card that a device is; None where calls end when they return."""
    place = torch.device(device)
    make = MAKERS.get(place.type)
    return None if make is None else make(place)


def device_state(device: str) -> State:
    """State of ``device`` now; reading it takes well below a millisecond and no measured time."""
    load = None
    with suppress(OSError, AttributeError):
        load = os.getloadavg()[0]
    queue = card(device)
    return State(clock_mhz=_cpu_clock(), load=load) if queue is None else queue.state(load)


def _cpu_clock() -> float | None:
    clocks = [float(processor.value(line)) for line in processor.lines("cpu MHz")]
    return round(sum(clocks) / len(clocks), 1) if clocks else None
