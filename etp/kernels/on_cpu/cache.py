"""Built libraries on disk: found whole or not at all, whoever else reads and writes there.

They lie in the folder that ``ETP_CACHE`` names, else in ``etp`` below ``XDG_CACHE_HOME`` or
``~/.cache``. The name of a library ends in the hash of its content, so that one that was cut short
or overwritten is known before it is loaded; it is written under another name first. What making it
took stands beside it.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

_DIGITS = 16


class StoredLibrary(NamedTuple):
    """A library on disk.

    Attributes:
        path: Where it lies.
        seconds: What making it took; 0 where that is no longer known.
    """

    path: Path
    seconds: float


def folder() -> Path | None:
    """Where libraries are looked for; None where there is no home folder."""
    if own := os.environ.get("ETP_CACHE"):
        return Path(own)
    if root := os.environ.get("XDG_CACHE_HOME"):
        return Path(root) / "etp"
    try:
        return Path.home() / ".cache" / "etp"
    except RuntimeError:
        return None


def writable_folder() -> Path:
    """The same folder, or a private one of this process where nothing can be written to it."""
    wanted = folder()
    if wanted is not None:
        try:
            wanted.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=wanted) as trial:
                trial.write(b"0")
        except OSError:
            return _private_folder()
        return wanted
    return _private_folder()


@cache
def _private_folder() -> Path:
    made = tempfile.mkdtemp(prefix="etp-")
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(made, True) if os.getpid() == owner else None)
    return Path(made)


def find(key: str) -> StoredLibrary | None:
    """The newest whole library kept under a key; those that are damaged are passed over."""
    for path in _candidates(key):
        try:
            if _hash(path) == path.stem.rpartition("-")[2]:
                return StoredLibrary(path, _seconds(path))
        except OSError:
            continue
    return None


def keep(key: str, made: Path, seconds: float) -> StoredLibrary:
    """Move a new library into the cache, from a folder inside it; it is there at once whole."""
    path = made.parent.parent / f"{key}-{_hash(made)}.so"
    written = made.with_suffix(".seconds")
    written.write_text(repr(seconds))
    written.replace(path.with_suffix(".seconds"))
    made.replace(path)
    return StoredLibrary(path, seconds)


def _candidates(key: str) -> Iterator[Path]:
    place = folder()
    if place is None:
        return
    try:
        files = sorted(place.glob(f"{key}-*.so"), key=lambda p: p.stat().st_mtime, reverse=True)
    except OSError:
        return
    yield from files


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS]


def _seconds(path: Path) -> float:
    try:
        return float(path.with_suffix(".seconds").read_text())
    except (OSError, ValueError):
        return 0.0
