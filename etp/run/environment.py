"""What a number was measured on: the manifest kept with every row."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from etp import processor

PACKAGES = (
    "torch",
    "e3nn",
    "numpy",
    "etp",
    "triton",
    "numba",
    "cuequivariance",
    "openequivariance",
)


def environment(device: str = "cpu", threads: int | None = None) -> dict[str, Any]:
    """Describe the machine, the device, the versions and the flags in force now.

    Imports torch; call it where the measuring is done.
    """
    import torch

    manifest = dict(_machine())
    manifest["threads"] = threads or torch.get_num_threads()
    manifest["device"] = device
    manifest["device_name"] = manifest["cpu"]
    manifest["driver"] = manifest["cuda"] = None
    if device.startswith("cuda"):
        manifest["device_name"] = torch.cuda.get_device_name(device)
        manifest["cuda"] = torch.version.cuda
        manifest["driver"] = _driver(device)
    manifest["flags"] = {
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "flush_denormal": flushes_denormals(),
    }
    manifest["date"] = datetime.now(UTC).isoformat(timespec="seconds")
    return manifest


def flushes_denormals() -> bool:
    """Whether the processor takes the smallest numbers for 0 here; torch cannot be asked."""
    import torch

    return float(torch.full((1,), 1e-40) * 1.0) == 0.0


@cache
def _machine() -> dict[str, Any]:
    revision, dirty = _revision()
    return {
        "machine": platform.node() if os.environ.get("ETP_SHOW_HOST") else platform.machine(),
        "os": f"{platform.system()} {platform.release()}",
        "cpu": processor.name(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "python": platform.python_version(),
        **{package: release for package in PACKAGES if (release := _version(package)) is not None},
        "revision": revision,
        "dirty": dirty,
    }


def _version(package: str) -> str | None:
    if package == "etp":
        import etp

        return etp.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def available_bytes() -> int | None:
    """Memory that could be taken now without swapping, None where the system does not say."""
    try:
        said = Path("/proc/meminfo").read_text()
    except OSError:
        return _memory_bytes()
    line = re.search(r"^MemAvailable:\s*(\d+) kB$", said, re.MULTILINE)
    if line is None:
        return None
    free, allowed = int(line[1]) * 1024, _allowed_bytes(CGROUP)
    return free if allowed is None else min(free, allowed)


CGROUP = Path("/sys/fs/cgroup")


def _allowed_bytes(group: Path) -> int | None:
    """What a container may still take; None where it is not limited, or the system has another way.

    Pages of files that nobody uses would be given back.
    """
    try:
        most = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        lines = (group / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return None
    kept = dict(line.split() for line in lines)
    return max(0, most - used + int(kept.get("inactive_file", 0)))


def _revision() -> tuple[str | None, bool | None]:
    """Commit of a checkout and whether it has changes; None for an installed package."""
    here = Path(__file__).resolve().parent.parent.parent
    if not (here / ".git").exists():
        return None, None
    revision = _run(["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"])
    changes = _run(["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"])
    return revision or None, None if changes is None else bool(changes)


@cache
def _driver(device: str) -> str | None:
    from etp.measure.card import card

    queue = card(device)
    return None if queue is None else queue.driver()


def _run(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
