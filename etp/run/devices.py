"""Devices that torch can measure on, found without importing torch in the asking process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from etp import processor

_ASK_TORCH = """
import json, torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(json.dumps({f"cuda:{i}": torch.cuda.get_device_name(i) for i in range(count)}))
"""


@cache
def devices() -> dict[str, str]:
    """Names of the devices by torch's own names, ``{"cpu": ..., "cuda:0": ...}``."""
    return {"cpu": processor.name()} | (_cuda() if _has_gpu_driver() else {})


def check_device(device: str) -> None:
    """Refuse a device that torch cannot use here. Imports torch for anything but a CPU.

    Raises:
        ValueError: Naming the devices that there are.
    """
    if device == "cpu":
        return
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    number = int(device.partition(":")[2] or 0)
    if number >= count:
        there = ", ".join(["cpu", *(f"cuda:{n}" for n in range(count))])
        raise ValueError(
            f"device must be one of {there} here, got {device!r}: torch {torch.__version__} sees "
            f"{count or 'no'} GPU{'' if count == 1 else 's'}"
        )


def _has_gpu_driver() -> bool:
    """Cheap sign of a GPU: torch is asked only where there is one."""
    drivers = (Path("/proc/driver/nvidia/version"), Path("/dev/kfd"))
    return shutil.which("nvidia-smi") is not None or any(path.exists() for path in drivers)


def _cuda() -> dict[str, str]:
    # A process of its own: asking here would import torch and hold a CUDA context for ever.
    command = [sys.executable, "-c", _ASK_TORCH]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {}
    return found
