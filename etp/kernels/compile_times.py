"""What a product has had compiled, and how long the compiler took.

Kernels say here what they use that a compiler made: a library of C, a Numba function, a Triton
kernel, a graph of ``torch.compile``. One such artifact often serves many products, or lies on disk
from an earlier run, so whether the compiler runs in a call depends on what ran before. Set-up time
and first call are therefore given without it, and the compile time of a product is what its
artifacts took when they were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple


class Artifact(NamedTuple):
    """Something a compiler made.

    Attributes:
        name: What it is, such as ``Numba, float32``.
        seconds: What making it took.
    """

    name: str
    seconds: float


@dataclass
class Record:
    """What was used, and compiled, while a recording was open.

    Attributes:
        artifacts: Everything in use, by name, whoever had it made.
        spent_s: Seconds that compilers ran during the recording.
    """

    artifacts: dict[str, float] = field(default_factory=dict)
    spent_s: float = 0.0

    @property
    def seconds(self) -> float:
        """What making all of it took."""
        return sum(self.artifacts.values())


OPEN: list[Record] = []
"""Recordings under way; kernels look whether there is one before they say what they use."""


@contextmanager
def recording() -> Iterator[Record]:
    """Note what is used and compiled inside."""
    record = Record()
    OPEN.append(record)
    try:
        yield record
    finally:
        OPEN.remove(record)


def used(artifact: Artifact) -> None:
    """Say that something compiled is in use."""
    for record in OPEN:
        record.artifacts[artifact.name] = artifact.seconds


def made(name: str, seconds: float) -> None:
    """Say that a compiler has just worked on an artifact, for the first time or once more."""
    spent(seconds)
    for record in OPEN:
        record.artifacts[name] = record.artifacts.get(name, 0.0) + seconds


def spent(seconds: float) -> None:
    """Say that what a compiler made was built or loaded just now."""
    for record in OPEN:
        record.spent_s += seconds
