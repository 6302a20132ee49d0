"""Results in other people's files, read into rows.

One module for each format: ``matches(name, text)`` recognises it, ``read(name, text, context)``
returns rows. A new format is one new module, listed in ``FORMATS``. Neither torch nor pandas.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from etp.results.formats import jsonl, openequivariance, paper, pytest_benchmark
from etp.results.formats.common import FormatError
from etp.results.rows import Row

__all__ = ["FORMATS", "MAX_BYTES", "FormatError", "read_files", "read_path"]

FORMATS = (jsonl, paper, openequivariance, pytest_benchmark)
MAX_BYTES = 100 << 20


def read_path(path: str | Path) -> list[Row]:
    """Read one file, or every result in a folder.

    Raises:
        FormatError: Naming the file, the place in it, the value and the mend.

    Examples:
        >>> read_path("no_such_file.jsonl")
        Traceback (most recent call last):
        etp.results.formats.common.FormatError: no_such_file.jsonl: cannot be read: ...
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return read_files({str(path): path.read_bytes()})
        files = [*sorted(path.glob("*.json")), *sorted(path.glob("*.jsonl"))]
        bodies = {str(file): file.read_bytes() for file in files if file.is_file()}
    except (OSError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        why = error.strerror if isinstance(error, OSError) else error
        raise FormatError(str(path), f"cannot be read: {why}") from error
    return read_files(bodies, folder=path.name)


def read_files(files: Mapping[str, bytes], folder: str | None = None) -> list[Row]:
    """Read files that belong together; all of them are good or none is taken.

    Raises:
        FormatError: Naming the file, the place in it, the value and the mend.

    Examples:
        >>> from etp.results.reference import reference_rows
        >>> row = reference_rows()[0]
        >>> read_files({"one.jsonl": row.to_json().encode()}) == [row]
        True
    """
    texts = {name: _text(name, data) for name, data in files.items()}
    if not texts:
        raise FormatError(folder or "files", "holds no .json or .jsonl file")
    context = openequivariance.device_of(texts)
    rows: list[Row] = []
    for name, text in texts.items():
        reader = next((form for form in FORMATS if form.matches(name, text)), None)
        if reader is None:
            raise FormatError(
                name,
                "is of no known format. Known: JSON Lines of etp, the CSV published with the "
                "paper, pytest-benchmark JSON, OpenEquivariance results",
            )
        rows += reader.read(name, text, context)
    return rows


def _text(name: str, data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise FormatError(name, f"has {len(data) >> 20} MiB; at most {MAX_BYTES >> 20} are read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(name, f"is not text in UTF-8 (byte {error.start})") from error
