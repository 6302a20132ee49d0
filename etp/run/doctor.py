"""Is this machine ready? What a product, the store and a server need, with the mend for each."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from etp.results.store import Store, StoreError, default_path

FREE_BYTES = 500_000_000
PORT = 8501
CLOCK_STEP_S = 1e-5
PACKAGES = ("torch", "e3nn", "numpy", "streamlit", "distributed")


class MachineCheck(NamedTuple):
    """One thing that was looked at.

    Attributes:
        what: Its name.
        good: Whether it is as it should be.
        state: What it is like.
        mend: What to do where it is not good.
    """

    what: str
    good: bool
    state: str
    mend: str = ""


def checks() -> Iterator[MachineCheck]:
    """Look at everything, one after the other."""
    yield _python()
    yield from map(_package, PACKAGES)
    yield _compiler()
    yield _devices()
    yield _store()
    yield _space()
    yield _clock()
    yield _port()
    yield _config()
    yield _access()
    if address := os.environ.get("ETP_SCHEDULER"):
        yield _scheduler(address)


def _python() -> MachineCheck:
    text = ".".join(map(str, sys.version_info[:3]))
    return MachineCheck("Python", sys.version_info >= (3, 11), text, "install Python 3.11 or newer")


def _package(name: str) -> MachineCheck:
    try:
        return MachineCheck(name, True, version(name))
    except PackageNotFoundError:
        extra = "" if name in ("torch", "e3nn", "numpy") else "[app]"
        return MachineCheck(name, False, "not installed", f'pip install "etp{extra}"')


def _compiler() -> MachineCheck:
    wanted = [os.environ.get("CXX", ""), "g++", "c++", "clang++"]
    path = next((compiler for name in wanted if name and (compiler := shutil.which(name))), None)
    mend = "install g++ or clang++, or set CXX: products run in their slow, plain form until then"
    if path is None:
        return MachineCheck("C++ compiler", False, "none", mend)
    failed = _trial(path)
    mend = f"mend or replace it, or set CXX to another: {mend.partition(': ')[2]}"
    return MachineCheck("C++ compiler", not failed, f"{path} {failed}".strip(), mend)


def _trial(compiler: str) -> str:
    """What is wrong with a compiler that does not compile three lines; "" if it does."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "trial.cpp"
        source.write_text("#include <vector>\nint f() { return std::vector<int>(1).size(); }\n")
        command = [compiler, "-shared", "-fPIC", str(source), "-o", str(Path(folder) / "trial.so")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"does not run: {error}"
    said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[0]
    return f"does not compile: {said}" if done.returncode else ""


def _devices() -> MachineCheck:
    from etp.run.devices import devices, label, not_offered

    try:
        names = devices()
    except (OSError, ValueError, RuntimeError) as error:
        return MachineCheck("devices", False, str(error), "see whether 'import torch' works")
    there = [f"{device} ({label(device)})" for device in names]
    there += [f"{device} (not offered: {why})" for device, why in not_offered().items()]
    return MachineCheck("devices", bool(names), ", ".join(there))


def _store() -> MachineCheck:
    path = default_path()
    try:
        store = Store(path)
        return MachineCheck("store", True, f"{path}, {store.revision()} rows so far")
    except StoreError as error:
        return MachineCheck("store", False, str(error), "move the file away, or set ETP_STORE")


def _space() -> MachineCheck:
    folder = next((p for p in default_path().parents if p.exists()), Path(tempfile.gettempdir()))
    free = shutil.disk_usage(folder).free
    state = f"{free / 1e9:.1f} GB free on the store's disk"
    return MachineCheck("disk", free > FREE_BYTES, state, "free some space, or 'etp prune'")


def _clock() -> MachineCheck:
    steps = []
    for _ in range(1000):
        start = time.perf_counter()
        while (end := time.perf_counter()) == start:
            pass
        steps.append(end - start)
    step = min(steps)
    state = f"steps of {step * 1e9:.0f} ns"
    return MachineCheck("clock", step < CLOCK_STEP_S, state, "short calls cannot be timed here")


def _port() -> MachineCheck:
    given = os.environ.get("PORT") or str(PORT)
    if not (given.isascii() and given.isdigit() and 0 < int(given[:9]) < 65536):
        return MachineCheck("port", False, f"PORT={given[:40]}", "set PORT to a number to 65535")
    port = int(given)
    with socket.socket() as tried:
        taken = tried.connect_ex(("127.0.0.1", port)) == 0
    return MachineCheck(
        f"port {port}", not taken, "in use" if taken else "free", "choose another: PORT=8502"
    )


def _config() -> MachineCheck:
    from etp.run.config import limits

    try:
        chosen = limits()
    except ValueError as error:
        return MachineCheck(
            "etp.toml", False, str(error), "see docs/hosting.md for what it may hold"
        )
    given = {name: value for name, value in vars(chosen).items() if value is not None}
    return MachineCheck("limits", True, ", ".join(f"{n} {v}" for n, v in given.items()) or "none")


def _access() -> MachineCheck:
    from etp.run.access import access

    try:
        mode = access().mode
    except ValueError as error:
        mend = "see docs/hosting.md for how people are let in"
        return MachineCheck("access", False, str(error), mend)
    return MachineCheck("access", True, mode or "open on this machine alone, others look")


def _scheduler(address: str) -> MachineCheck:
    from etp.run.cluster import check_address

    try:
        return MachineCheck("scheduler", True, check_address(address))
    except ValueError as error:
        mend = "set ETP_SCHEDULER to tls://HOST:8786, with certificates from 'etp certificates'"
        return MachineCheck("scheduler", False, str(error), mend)
