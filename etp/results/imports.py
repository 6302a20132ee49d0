"""Rows from elsewhere made ours: ids given here, a run of their own, texts that cannot do harm.

A file says what it likes. It cannot join a run that was measured here, since its ids are made
anew from what it holds (the same file twice adds nothing); and its texts are shown on pages that
read Markdown and exported to tables that read formulas, so what either could read as more than
text is written another way.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from etp.results.rows import Row

_MACHINE = ("source", "device_name", "cpu", "device")
_NAMESPACE = uuid.UUID("7b0c7d53-64f5-5a55-9a6f-0a7d6f1a3c55")
_READ_AS_MORE = str.maketrans(
    {"[": "(", "]": ")", "<": "‹", ">": "›", "`": "'", "*": "∗", "$": "＄", "|": "¦", "\\": "∖",
     "~": "∼", "#": "♯", "\n": " ", "\r": " ", "\t": " "}
)  # fmt: skip
"""What Markdown reads as links, pictures, code, emphasis, formulas, tables or headings."""
_TURNS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What turns the direction of writing: a text would be read as another, and its neighbours too."""
_ADDRESS = re.compile(r"(?i)www(?=\.)|:(?=//)|@|(?<!\w):(?=\w)")
"""What becomes a link by itself, and Streamlit's ``:icon:``: a joiner of no width parts it."""
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""An underscore at the edge of a word; inside one, as in the name of a file, it is a letter."""
_NAME = re.compile(r"[^\w.+()/, -]")


@dataclass(frozen=True)
class Import:
    """Rows of one run in a file, as a run of their own.

    Attributes:
        job: Id of the run, the same whenever the same rows are read.
        title: What it is called: the file, and which of its runs.
    """

    job: str
    title: str
    rows: list[Row]


def adopted(rows: Sequence[Row], title: str) -> list[Import]:
    """Split rows of a file into its runs, each of one machine, and make each ours."""
    runs: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        # Rows of other programs belong to no run: those of one machine are told from others.
        key = (row.job,) if row.job is not None else (None, *map(row.environment.get, _MACHINE))
        runs.setdefault(key, []).append(row)
    name = harmless(title)
    titles = [name] if len(runs) == 1 else [f"{name}, run {n}" for n in range(1, len(runs) + 1)]
    return [_import(own, called) for own, called in zip(runs.values(), titles, strict=True)]


def _import(rows: Sequence[Row], title: str) -> Import:
    # Not the time of reading, which is the date of a row that its file gives none.
    content = [row.as_dict() | {"created": None} for row in rows]
    job = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    return Import(job, title, [_ours(row, job, n, title) for n, row in enumerate(rows)])


def _ours(row: Row, job: str, number: int, title: str) -> Row:
    def made(text: str) -> str:
        return uuid.uuid5(_NAMESPACE, f"{job} {text}").hex

    return row.with_(
        id=made(f"row {number}"),
        job=job,
        group=None if row.group is None else made(f"group {row.group}"),
        product=harmless_name(row.product),
        reason=None if row.reason is None else harmless(row.reason),
        badges=tuple(harmless(badge) for badge in row.badges),
        result=_without_harm(row.result),
        environment=_without_harm(row.environment) | {"imported": title},
    )


def harmless(text: str) -> str:
    """A text that neither Markdown nor a spreadsheet reads as anything but text."""
    # The name of a file may hold bytes that are no text.
    text = _TURNS.sub("", text.encode("utf-8", "replace").decode("utf-8"))
    text = _EMPHASIS.sub("‗", text.translate(_READ_AS_MORE))
    plain = _ADDRESS.sub(lambda match: f"{match[0]}\u2060", text).strip()
    return f"'{plain}" if plain[:1] in ("=", "+", "-", "@") else plain


def harmless_name(text: str) -> str:
    """A product's name without what pages, shells or spreadsheets read as more than a name."""
    plain = _NAME.sub("_", text)
    return plain if plain[:1].isalnum() else f"x{plain}"


def _without_harm(value: Any) -> Any:
    if isinstance(value, str):
        return harmless(value)
    if isinstance(value, list):
        return value if _numbers(value) else [_without_harm(inner) for inner in value]
    if isinstance(value, dict):
        return {_key(key): _without_harm(inner) for key, inner in value.items()}
    return value


def _key(name: str) -> str:
    # Names of keys are ours; a stranger's may be anything.
    return name if re.fullmatch(r"\w{1,80}", name) else harmless(name)


def _numbers(values: Iterable[object]) -> bool:
    return all(isinstance(value, int | float) for value in values)
