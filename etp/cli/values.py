"""What options take besides the fields of problems: numbers, seconds and paths, each in bounds."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import isfinite
from pathlib import Path


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """What argparse calls for a whole number within bounds."""
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else None
        if number is None or number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"must be a whole number {bounds}, got {text[:40]!r}")
        return number

    return read


def seconds(text: str) -> float:
    """A finite time in seconds, not negative.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    return _number(text, "seconds, not negative", float("inf"))


def share(text: str) -> float:
    """A number from 0 to 1.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    return _number(text, "from 0 to 1", 1.0)


def _number(text: str, rule: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not (isfinite(number) and 0 <= number <= most):
        raise argparse.ArgumentTypeError(f"must be {rule}, got {text[:40]!r}")
    return number


def path(text: str) -> Path:
    """A path; none is not taken for the folder that one stands in.

    Raises:
        argparse.ArgumentTypeError: If the text is empty or no path.
    """
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"must be a path, got {text[:40]!r}")
    return Path(text)
