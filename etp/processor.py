"""What the system says of its processor: the only reader of ``/proc/cpuinfo``."""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def lines(*names: str) -> list[str]:
    """Lines of some fields, such as ``"model name"``, of every core; none outside of Linux."""
    try:
        text = CPUINFO.read_text()
    except OSError:
        return []
    return [line for line in text.splitlines() if line.startswith(names)]


def value(line: str) -> str:
    """What stands behind the name of a field."""
    return line.partition(":")[2].strip()


def name() -> str:
    """Name of the processor, or of its architecture where the system does not say."""
    named = [value(line) for line in lines("model name")]
    return named[0] if named else platform.processor() or platform.machine()
