"""JSON Lines of this tool: one row in each line."""

from __future__ import annotations

from pathlib import PurePath

from etp.results.formats.common import FormatError, load_json
from etp.results.rows import Row, RowError


def matches(name: str, text: str) -> bool:
    """Whether the file says so by its name, or its first line is a row."""
    if PurePath(name).suffix == ".jsonl":
        return True
    first = text.lstrip().partition("\n")[0]
    return first.startswith("{") and '"schema"' in first and '"measure"' in first


def read(name: str, text: str, context: str | None = None) -> list[Row]:
    """Rows of a file, in order.

    Args:
        name: Name of the file.
        text: What it holds.
        context: What other files of the folder say of the device.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        values = load_json(name, line, place)
        if not isinstance(values, dict):
            raise FormatError(name, f"must hold one object in each line, got {line[:60]!r}", place)
        try:
            rows.append(Row.read(values))
        except RowError as error:
            raise FormatError(name, str(error), place) from error
    if not rows:
        raise FormatError(name, "holds no row")
    return rows
