"""JSON Lines of this tool: one row in each line."""

from __future__ import annotations

import json
from pathlib import PurePath

from etp.results.formats.common import FormatError
from etp.results.rows import Row, RowError, check_row


def matches(name: str, text: str) -> bool:
    """Whether the file says so by its name, or its first line is a row."""
    if PurePath(name).suffix == ".jsonl":
        return True
    first = text.lstrip().partition("\n")[0]
    return first.startswith("{") and '"schema"' in first and '"measure"' in first


def read(name: str, text: str, context: str | None = None) -> list[Row]:
    """Rows of a file, in order."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise FormatError(
                name, f"is not JSON: {error.msg}. Is the file cut off?", place
            ) from error
        if not isinstance(row, dict):
            raise FormatError(name, f"must hold one object in each line, got {line[:60]!r}", place)
        try:
            check_row(row)
        except RowError as error:
            raise FormatError(name, str(error), place) from error
        rows.append(row)
    if not rows:
        raise FormatError(name, "holds no row")
    return rows
