"""Results in other people's files, read into rows.

One module for each format: ``matches(name, text)`` recognises it, ``read(name, text, context)``
yields rows, and errors for parts of a file that are none; it raises one where nothing of the file
can be read. A new format is one new module, listed in ``FORMATS``. Neither torch nor pandas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from etp.results.formats import jsonl, openequivariance, paper, pytest_benchmark
from etp.results.formats.common import FormatError
from etp.results.rows import Row

__all__ = [
    "FORMATS", "MAX_BYTES", "FormatError", "Reading", "gather", "gather_files", "read_files",
    "read_path",
]  # fmt: skip

FORMATS: tuple[ModuleType, ...] = (jsonl, paper, openequivariance, pytest_benchmark)
MAX_BYTES = 100 << 20
SUFFIXES = (".json", ".jsonl", ".csv")


@dataclass
class Reading:
    """What files held.

    Attributes:
        rows: What could be read.
        files: Names of the files that it is from.
        refused: What could not: each names the file, the place, the value and the mend.
    """

    rows: list[Row] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    refused: list[FormatError] = field(default_factory=list)

    def whole(self) -> list[Row]:
        """All rows, or the first error."""
        if self.refused:
            raise self.refused[0]
        return self.rows


def gather(path: str | Path) -> Reading:
    """Read what is good of one file, or of every result in a folder.

    Raises:
        FormatError: If nothing can be read at all.

    Examples:
        >>> gather("no_such_file.jsonl")
        Traceback (most recent call last):
        etp.results.formats.common.FormatError: no_such_file.jsonl: cannot be read: ...
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return gather_files({str(path): _body(path)})
        files = [file for suffix in SUFFIXES for file in sorted(path.glob(f"*{suffix}"))]
        bodies = {str(file): _body(file) for file in files if file.is_file()}
    except (OSError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        why = error.strerror if isinstance(error, OSError) else error
        raise FormatError(str(path), f"cannot be read: {why}") from error
    return gather_files(bodies, folder=path.name)


def gather_files(files: Mapping[str, bytes], folder: str | None = None) -> Reading:
    """Read what is good of files that belong together.

    Raises:
        FormatError: If nothing can be read at all.

    Examples:
        >>> from etp.results.reference import reference_rows
        >>> row = reference_rows()[0]
        >>> reading = gather_files({"one.jsonl": row.to_json().encode(), "two.csv": b"?"})
        >>> reading.rows == [row], len(reading.refused)
        (True, 1)
    """
    reading = Reading()
    texts: dict[str, str] = {}
    for name, data in files.items():
        try:
            texts[name] = _text(name, data)
        except FormatError as error:
            reading.refused.append(error)
    context = openequivariance.device_of(texts)
    for name, text in texts.items():
        before = len(reading.rows)
        try:
            for read in _reader(name, text).read(name, text, context):
                if isinstance(read, Row):
                    reading.rows.append(read)
                else:
                    reading.refused.append(read)
        except FormatError as error:
            reading.refused.append(error)
        if len(reading.rows) > before:
            reading.files.append(name)
    if not reading.rows:
        raise reading.refused[0] if reading.refused else FormatError(
            folder or "files", f"holds no result in a {', '.join(SUFFIXES)} file"
        )  # fmt: skip
    return reading


def read_path(path: str | Path) -> list[Row]:
    """Read one file, or every result in a folder; all of it is good or nothing is taken.

    Raises:
        FormatError: Naming the file, the place in it, the value and the mend.

    Examples:
        >>> read_path("no_such_file.jsonl")
        Traceback (most recent call last):
        etp.results.formats.common.FormatError: no_such_file.jsonl: cannot be read: ...
    """
    return gather(path).whole()


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
    return gather_files(files, folder).whole()


def _reader(name: str, text: str) -> ModuleType:
    form = next((form for form in FORMATS if form.matches(name, text)), None)
    if form is None:
        raise FormatError(
            name,
            "is of no known format. Known: JSON Lines of etp, the CSV published with the "
            "paper, pytest-benchmark JSON, OpenEquivariance results",
        )
    return form


def _body(path: Path) -> bytes:
    """What a file holds, up to what is refused: a file may have no end."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _text(name: str, data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise FormatError(name, f"has more than {MAX_BYTES >> 20} MiB: split it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            name, f"is not text in UTF-8 (byte {error.start}): save it as such"
        ) from error
