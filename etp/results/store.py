"""Results and jobs in one SQLite file.

Append-only and safe for several processes: write-ahead log, short immediate transactions, rows
inserted once by their id. Needs neither torch nor pandas.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from etp.results.database import StoreError as StoreError
from etp.results.jobs import STEPS, Jobs
from etp.results.jobs import Job as Job
from etp.results.rows import SAMPLE_KEYS, Row, check_row

_SCHEMA = """
CREATE TABLE environment (hash TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE job (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, cases TEXT NOT NULL, state TEXT NOT NULL,
    reason TEXT, done INTEGER NOT NULL DEFAULT 0, now TEXT, created REAL NOT NULL,
    started REAL, finished REAL, beat REAL NOT NULL
);
CREATE TABLE row (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, job TEXT, "group" TEXT,
    created TEXT NOT NULL, product TEXT NOT NULL, measure TEXT NOT NULL, status TEXT NOT NULL,
    reason TEXT, badges TEXT NOT NULL, problem TEXT NOT NULL, result TEXT,
    environment TEXT NOT NULL REFERENCES environment(hash)
);
CREATE INDEX row_job ON row(job);
CREATE INDEX row_measure ON row(measure, product);
CREATE TABLE sample (id TEXT PRIMARY KEY REFERENCES row(id), body TEXT NOT NULL);
"""
_COLUMNS = (
    "id", "job", "group", "created", "product", "measure", "status", "reason",
    "badges", "problem", "result", "environment",
)  # fmt: skip


def default_path() -> Path:
    """``$ETP_STORE``, or ``etp/etp.sqlite`` in the user's data directory."""
    if path := os.environ.get("ETP_STORE"):
        return Path(path)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "etp" / "etp.sqlite"


class Store(Jobs):
    """The database of results and jobs at ``path``; made if it is not there.

    Raises:
        StoreError: If the file cannot be opened, is damaged, or is of a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, (_SCHEMA, *STEPS))

    # Rows

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add rows that are not there yet, all or none; return how many were added.

        Raises:
            RowError: If a row is not well formed.
        """
        for row in rows:
            check_row(row)
        return self.write(lambda db: sum(_insert(db, row) for row in rows))

    def rows(
        self,
        *,
        job: str | None = None,
        measure: str | None = None,
        product: str | None = None,
        status: str | None = None,
        samples: bool = False,
    ) -> list[Row]:
        """Rows in the order they came, without the long sample lists unless asked for."""
        wanted = {"job": job, "measure": measure, "product": product, "status": status}
        given = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join(f"row.{name} = :{name}" for name in given) or "1"
        columns = ", ".join(f'row."{name}"' for name in _COLUMNS[:-1])
        query = (
            f"SELECT {columns}, environment.body AS environment, sample.body AS sample FROM row "
            f"JOIN environment ON environment.hash = row.environment "
            f"LEFT JOIN sample ON {'sample.id = row.id' if samples else '0'} "
            f"WHERE {where} ORDER BY row.seq"
        )
        return [_row(found) for found in self.read(lambda db: db.execute(query, given).fetchall())]

    def samples(self, row_id: str) -> dict[str, list[float]] | None:
        """Sample lists of one runtime: ``samples_s``, ``block_calls``, ``order``, ``start_s``."""
        query = "SELECT body FROM sample WHERE id = ?"
        found = self.read(lambda db: db.execute(query, [row_id]).fetchone())
        return None if found is None else _unpacked(found["body"])

    def revision(self) -> int:
        """Grows with every row added: a key for caches."""
        query = "SELECT coalesce(max(seq), 0) FROM row"
        (latest,) = self.read(lambda db: db.execute(query).fetchone())
        return int(latest)

    def prune(self, keep: int) -> int:
        """Remove the oldest rows of runs that nobody published; return how many went.

        Args:
            keep: How many rows may stay.
        """

        def work(db: sqlite3.Connection) -> int:
            (count,) = db.execute("SELECT count(*) FROM row").fetchone()
            if count <= keep:
                return 0
            db.execute(
                "CREATE TEMP TABLE old AS SELECT row.id FROM row LEFT JOIN job ON job.id = row.job"
                " WHERE coalesce(job.published, 0) = 0"
                " AND coalesce(job.state, '') NOT IN ('queued', 'running')"
                " ORDER BY row.seq LIMIT ?",
                [count - keep],
            )
            db.execute("DELETE FROM sample WHERE id IN (SELECT id FROM old)")
            gone = db.execute("DELETE FROM row WHERE id IN (SELECT id FROM old)").rowcount
            db.execute("DROP TABLE old")
            return gone

        return self.write(work)

    def export_jsonl(self, path: str | Path) -> int:
        """Write every row, samples included, as JSON Lines; return how many.

        The file appears complete or not at all.
        """
        rows = self.rows(samples=True)
        write_jsonl(Path(path), rows)
        return len(rows)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON Lines through a temporary file, so that no half-written file is left."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _insert(db: sqlite3.Connection, row: Mapping[str, Any]) -> int:
    body = json.dumps(row["environment"], sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()[:16]
    db.execute("INSERT OR IGNORE INTO environment VALUES (?, ?)", [digest, body])
    result, lists = row["result"], {}
    if result is not None and row["measure"] == "runtime":
        lists = {key: result[key] for key in SAMPLE_KEYS if key in result}
        result = {key: value for key, value in result.items() if key not in lists}
    values = {
        **{name: row.get(name) for name in _COLUMNS[:8]},
        "badges": json.dumps(row["badges"]),
        "problem": json.dumps(row["problem"]),
        "result": None if result is None else json.dumps(result),
        "environment": digest,
    }
    names = ", ".join(f'"{name}"' for name in _COLUMNS)
    marks = ", ".join(f":{name}" for name in _COLUMNS)
    added = db.execute(f"INSERT OR IGNORE INTO row ({names}) VALUES ({marks})", values).rowcount
    if added and lists:
        db.execute("INSERT INTO sample VALUES (?, ?)", [row["id"], _packed(lists)])
    return added


def _packed(lists: Mapping[str, Any]) -> bytes:
    """Sample lists in less than half of their text."""
    return zlib.compress(json.dumps(lists).encode())


def _unpacked(body: bytes | str) -> dict[str, Any]:
    """Sample lists as they were; older files hold them as text."""
    lists: dict[str, Any] = json.loads(body if isinstance(body, str) else zlib.decompress(body))
    return lists


def _row(found: sqlite3.Row) -> Row:
    row: Row = {"schema": 1, **{name: found[name] for name in _COLUMNS[:8]}}
    row["badges"] = json.loads(found["badges"])
    row["problem"] = json.loads(found["problem"])
    row["result"] = None if found["result"] is None else json.loads(found["result"])
    row["environment"] = json.loads(found["environment"])
    if found["sample"] is not None:
        row["result"] |= _unpacked(found["sample"])
    return row
