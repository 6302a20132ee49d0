"""Devices that torch can measure on, found without importing torch in the asking process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from ctypes.util import find_library
from functools import cache
from pathlib import Path
from typing import Any

from etp import processor

_ASK_TORCH = """
import json, torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
found = [torch.cuda.get_device_properties(i) for i in range(count)]
print(json.dumps({f"cuda:{i}": [p.name, p.total_memory] for i, p in enumerate(found)}))
"""


LOST_CONTEXT = (
    "CUDA error", "HIP error", "Triton Error [CUDA]", "device-side assert", "misaligned address",
    "illegal memory access", "unspecified launch failure",
)  # fmt: skip
"""What a process whose GPU no longer answers it says, to everything that is asked of it."""


def lost_context(text: str) -> bool:
    """Whether an error's text says that only a new process can use its GPU again.

    Examples:
        >>> lost_context("CUDA error: an illegal memory access was encountered")
        True
        >>> lost_context("CUDA out of memory. Tried to allocate 2 GiB")
        False
    """
    return any(sign in text for sign in LOST_CONTEXT)


@cache
def devices() -> dict[str, str]:
    """Names of the devices by torch's own names, ``{"cpu": ..., "cuda:0": ...}``."""
    return {"cpu": processor.name()} | {device: name for device, (name, _) in _cuda().items()}


def label(device: str) -> str:
    """A device by its name, with a GPU's memory: ``NVIDIA H100, 80 GB``."""
    name = devices().get(device)
    if name is None:
        return "not on this machine"
    gpu = _cuda().get(device)
    return name if gpu is None else f"{name}, {gpu[1] / 1e9:.0f} GB"


def not_offered() -> dict[str, str]:
    """Devices of this machine that nothing is measured on, with the reason."""
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return {
            "mps": "Apple's GPU has no float64, in which every product is checked before it is "
            "timed: use the CPU"
        }
    return {}


def free_bytes(device: str) -> int | None:
    """Memory of a device that a case could take now; None where nobody says.

    Where this process does not use torch, all of a GPU's memory: asking for what is free takes
    some.
    """
    from etp.run.environment import available_bytes

    if device == "cpu":
        return available_bytes()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(unused)
    gpu = _cuda().get(device if ":" in device else f"{device}:0")
    return None if gpu is None else gpu[1]


def check_device(device: str) -> None:
    """Refuse a device that torch cannot use here. Imports torch for anything but a CPU.

    Raises:
        ValueError: Naming the devices that there are.
    """
    if device == "cpu":
        return
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind, _, place = device.partition(":")
    if (reason := not_offered().get(kind)) is not None:
        raise ValueError(f"device must be cpu here, got {device!r}: {reason}")
    number = int(place or 0)
    if number >= count:
        there = ", ".join(["cpu", *(f"cuda:{n}" for n in range(count))])
        raise ValueError(
            f"device must be one of {there} here, got {device!r}: torch {torch.__version__} sees "
            f"{count or 'no'} GPU{'' if count == 1 else 's'}"
        )


DRIVERS = tuple(
    map(Path, ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))
)
"""Where Linux shows the driver of a GPU: NVIDIA's, that of a Windows host, AMD's."""


def _has_gpu_driver() -> bool:
    """Cheap sign of a GPU: torch is asked only where there is one."""
    nvml = os.name == "nt" and find_library("nvml") is not None
    return nvml or any(path.exists() for path in DRIVERS)


@cache
def _cuda() -> dict[str, tuple[str, int]]:
    """Name and bytes of each GPU."""
    if not _has_gpu_driver():
        return {}
    # A process of its own: asking here would import torch and hold a CUDA context for ever.
    command = [sys.executable, "-c", _ASK_TORCH]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        gpus: dict[str, list[Any]] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {}
    return {device: (name, size) for device, (name, size) in gpus.items()}
