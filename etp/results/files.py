"""Files of results, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from etp.results.rows import Row, jsonl


def check_folder(path: Path) -> None:
    """Refuse a new file that lies in no folder.

    Raises:
        ValueError: If its folder is not there.
    """
    if not path.parent.is_dir():
        raise ValueError(f"out must lie in a folder that is there, {path.parent} is none")


def write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON Lines through a temporary file, so that no half-written file is left.

    What is no regular file, such as a pipe or ``/dev/null``, is written to as it is.

    Raises:
        ValueError: If the path is a folder, or lies in none.
    """
    if path.is_dir():
        raise ValueError(f"out must be a file, {path} is a folder")
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as file:
            file.write(jsonl(rows))
        return
    check_folder(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(jsonl(rows))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
