"""Compile the C and C++ of this folder at first use into one library, and keep it on disk.

:data:`PARTS` lists the objects of the library: another kernel is one more file and one more entry.
It is built by the C++ compiler found (``CXX``, g++, c++ or clang++) for this processor and this
PyTorch in a few seconds, and kept by :mod:`etp.kernels.on_cpu.cache` under the hash of all that it
depends on. What is there already is used without a compiler. Where there is neither,
:func:`missing` says so, and products use their plain form.

Source that is made for one product becomes a small library of its own by :func:`generated`.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from etp.kernels import compile_times as compiling
from etp.kernels.on_cpu import cache as on_disk
from etp.processor import lines as processor_lines

FOLDER = Path(__file__).parent
_TORCH = Path(torch.__file__).parent
_WHERE = (f"-I{FOLDER}", f"-I{_TORCH / 'include'}")
LINK = (f"-L{_TORCH / 'lib'}", "-ltorch_cpu")
_TIMEOUT_S = 240
_ALL = ("-fPIC", "-pthread")
C = (*_ALL, "-x", "c", "-std=gnu11", "-O3", "-march=native", "-fno-math-errno")
"""How kernels are compiled."""
CPP = (*_ALL, "-std=c++17", "-O2")
"""How operators are compiled, against PyTorch's stable interface."""


class Part(NamedTuple):
    """An object of a library: its source, beside this file, and how it is compiled."""

    source: str
    flags: tuple[str, ...]


PARTS = {
    "pool": Part("pool.c", C),
    "memory": Part("memory.c", C),
    "choice": Part("choice.c", C),
    "tile-float": Part("tile.c", (*C, "-DREAL=float", "-DSINGLE", "-DRUN=etp_tile_float")),
    "tile-double": Part("tile.c", (*C, "-DREAL=double", "-DRUN=etp_tile_double")),
    "edge-float": Part("edge.c", (*C, "-DREAL=float", "-DSINGLE", "-DNAME(x)=x##_float")),
    "edge-double": Part("edge.c", (*C, "-DREAL=double", "-DNAME(x)=x##_double")),
    "power-float": Part("power.c", (*C, "-DREAL=float", "-DSINGLE", "-DNAME(x)=x##_float")),
    "power-double": Part("power.c", (*C, "-DREAL=double", "-DNAME(x)=x##_double")),
    "steps-float": Part("power_steps.c", (*C, "-DREAL=float", "-DSINGLE", "-DNAME(x)=x##_float")),
    "steps-double": Part("power_steps.c", (*C, "-DREAL=double", "-DNAME(x)=x##_double")),
    "operator": Part("operator.cpp", CPP),
    "edge-operator": Part("edge_operator.cpp", CPP),
    "power-operator": Part("power_operator.cpp", CPP),
}
"""The library, object by object."""
_ONE_AT_A_TIME = threading.Lock()


def _unlock() -> None:
    """A child has none of the threads that might have been building when it was forked."""
    global _ONE_AT_A_TIME
    _ONE_AT_A_TIME = threading.Lock()


def _settle() -> None:
    """Wait for a thread that is in ``tempfile`` for the first time: for its folder, or for names.

    It holds a lock that a child would wait for in vain. A name makes both be there, which takes
    the locks out of use; no file is made of it.
    """
    with suppress(OSError):
        tempfile.mktemp()


os.register_at_fork(before=_settle, after_in_child=_unlock)


class Library(NamedTuple):
    """What was compiled, and its plain entries."""

    artifact: compiling.Artifact
    handle: ctypes.CDLL
    path: Path


class UnbuiltError(OSError):
    """A library is neither on disk nor can it be built; says why, and the mend."""


class SlowForm(RuntimeWarning):
    """Products compute in plain PyTorch, for want of their compiled kernels."""


@cache
def missing() -> str | None:
    """Why the compiled kernels cannot be used here, with the mend; None if they can."""
    try:
        library()
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None


def at_hand() -> bool:
    """Whether the compiled kernels can be used here; warns the first time that they cannot."""
    reason = missing()
    if reason is not None:
        _warn(reason)
    return reason is None


@cache
def _warn(reason: str) -> None:
    warnings.warn(f"products use their plain form, which is slow: {reason}", SlowForm, 2)


@cache
def library() -> Library:
    """Build or load the library of :data:`PARTS`.

    Raises:
        UnbuiltError: If there is no compiler and no library on disk, or the compiler fails.
    """
    sources = sorted(path for path in FOLDER.iterdir() if path.suffix in (".c", ".cpp", ".h"))
    content = [path.read_bytes() for path in sources]
    made = _load("kernels", "C++", [*content, torch.__version__.encode()], PARTS, FOLDER, LINK)
    # Forms of loops that this processor was seen to prefer stand beside the library.
    made.handle.etp_choices(os.fsencode(made.path.with_suffix(".forms")))
    return made


def generated(source: str, name: str, flags: Sequence[str] = ()) -> Library:
    """Compile C that was made for one product into a small library of its own, or load it.

    It is kept on disk as the kernels are, and compiled with the same flags. Headers of this folder
    may be included, but functions of the other library are not linked: its ``etp_parallel`` is
    given the address of a generated function, or a generated function that of ``etp_parallel``.

    Args:
        source: The text of the file.
        name: Short, of letters, digits and hyphens: how the file on disk begins.
        flags: Further flags, such as ``-DREAL=float``.

    Returns:
        The library, whose functions are called through ``handle``, and the artifact to name to
        :func:`etp.kernels.compile_times.used`.

    Raises:
        UnbuiltError: If there is no compiler and no such library on disk, or the compiler fails.
    """
    parts = {name: Part(f"{name}.c", (*C, *flags))}
    content = [source.encode(), *(path.read_bytes() for path in sorted(FOLDER.glob("*.h")))]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{name}.c").write_bytes(content[0])
        return _load(name, f"C, {name}", content, parts, Path(folder), ())


def _load(
    name: str,
    title: str,
    content: Sequence[bytes],
    parts: Mapping[str, Part],
    folder: Path,
    link: tuple[str, ...],
) -> Library:
    start = time.perf_counter()
    recipe = repr((parts, os.environ.get("CXX"), processor())).encode()
    key = f"{name}-{hashlib.sha256(b'|'.join((*content, recipe))).hexdigest()[:24]}"
    with _ONE_AT_A_TIME:
        entry = on_disk.find(key) or _build(key, parts, folder, link)
        handle = ctypes.CDLL(str(entry.path))
    compiling.spent(time.perf_counter() - start)
    return Library(compiling.Artifact(title, entry.seconds), handle, entry.path)


def compiler() -> str | None:
    """The C++ compiler found."""
    names = (os.environ.get("CXX"), "g++", "c++", "clang++")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def _build(
    key: str, parts: Mapping[str, Part], folder: Path, link: tuple[str, ...]
) -> on_disk.StoredLibrary:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=on_disk.writable_folder(), prefix="building-") as scratch:
        made = Path(scratch) / "made.so"
        link_all(parts, folder, link, made)
        return on_disk.keep(key, made, time.perf_counter() - start)


def link_all(parts: Mapping[str, Part], folder: Path, link: Sequence[str], made: Path) -> None:
    """Compile every part and link them to the shared library ``made``, objects beside it."""
    command = compiler()
    if command is None:
        raise UnbuiltError("no C++ compiler was found: install g++ or clang++, or set CXX")
    objects = {name: str(made.parent / f"{name}.o") for name in parts}
    commands = [
        [command, *part.flags, *_WHERE, "-c", str(folder / part.source), "-o", objects[name]]
        for name, part in parts.items()
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = [error for error in pool.map(_failure, commands) if error]
    linking = [command, "-shared", "-pthread", *objects.values(), *link, "-o", str(made)]
    error = next(iter(errors), None) or _failure(linking)
    if error:
        raise UnbuiltError(f"the C++ compiler {command} could not build the kernel: {error}")


def _failure(command: Sequence[str]) -> str | None:
    """What a command said first of its error, if it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = done.stderr.strip()
    start = max(said.find("error"), 0)
    return said[start : start + 400] or f"exit status {done.returncode}"


@cache
def processor() -> str:
    """Machine and instruction sets, on which ``-march=native`` depends."""
    said = dict.fromkeys(processor_lines("flags", "Features", "model name"))
    if not said:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    return f"{platform.machine()} {' '.join(said)}"
