"""JSON Lines of this tool: one row in each line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from etp.results.formats.common import FormatError, load_json
from etp.results.rows import Row, RowError


def matches(name: str, text: str) -> bool:
    """Whether the file says so by its name, or its first line is a row."""
    if PurePath(name).suffix == ".jsonl":
        return True
    first = text.lstrip().partition("\n")[0]
    return first.startswith("{") and '"schema"' in first and '"measure"' in first


def read(name: str, text: str, context: str | None = None) -> Iterator[Row | FormatError]:
    """Rows of a file, in order, and errors for lines that are none.

    Args:
        name: Name of the file.
        text: What it holds.
        context: What other files of the folder say of the device.
    """
    empty = True
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        empty = False
        try:
            yield _row(name, line, f"line {number}")
        except FormatError as error:
            yield error
    if empty:
        raise FormatError(name, "holds no row")


def _row(name: str, line: str, place: str) -> Row:
    values = load_json(name, line, place)
    if not isinstance(values, dict):
        raise FormatError(name, f"must hold one object in each line, got {line[:60]!r}", place)
    try:
        return Row.read(values)
    except RowError as error:
        raise FormatError(name, str(error), place) from error
