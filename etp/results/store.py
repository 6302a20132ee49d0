"""Results and jobs in one SQLite file.

Append-only and safe for several processes: write-ahead log, short immediate transactions, rows
inserted once by their id. Needs neither torch nor pandas.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etp.results import retention
from etp.results.database import StoreError as StoreError
from etp.results.files import write_jsonl
from etp.results.imports import Import
from etp.results.jobs import STEPS, Jobs, read_job
from etp.results.jobs import Job as Job
from etp.results.rows import SAMPLE_KEYS, Row, RowError

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
_REMOVAL = """
ALTER TABLE job ADD COLUMN removed REAL;
ALTER TABLE row ADD COLUMN checked INTEGER NOT NULL DEFAULT 0;
CREATE TABLE refused (id TEXT PRIMARY KEY, body TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE removal (seq INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, undone INTEGER)
"""
"""What version 3 adds: runs that can be taken away and brought back, rows set aside."""
_SHOWN = "(row.job IS NULL OR row.job NOT IN (SELECT id FROM job WHERE removed IS NOT NULL))"
_COLUMNS = (
    "id", "job", "group", "created", "product", "measure", "status", "reason",
    "badges", "problem", "result", "environment",
)  # fmt: skip

_SELECT = (
    f"""SELECT {", ".join(f'row."{name}"' for name in _COLUMNS[:-1])},"""
    " environment.body AS environment, sample.body AS sample FROM row"
    " JOIN environment ON environment.hash = row.environment"
)


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

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     len(Store(Path(folder) / "etp.sqlite").rows())
        0
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, (_SCHEMA, *STEPS, _REMOVAL))
        self.write(_check_old_rows)

    # Rows

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add rows that are not there yet, all or none; return how many were added.

        Raises:
            RowError: If a row is not well formed.
        """
        checked = [Row.read(row) for row in rows]
        return self.write(lambda db: sum(_insert(db, row) for row in checked))

    def add_imports(self, imports: Sequence[Import]) -> int:
        """Add runs read from files, all or none; return how many rows were added.

        A run that was taken away and is read again is brought back.
        """
        now = time.time()

        def work(db: sqlite3.Connection) -> int:
            for run in imports:
                db.execute(
                    "INSERT OR IGNORE INTO job (id, title, cases, state, created, started,"
                    " finished, beat) VALUES (?, ?, '[]', 'done', ?, ?, ?, ?)",
                    [run.job, run.title, now, now, now, now],
                )
                _mark(db, run.job, removed=None)
            return sum(_insert(db, row) for run in imports for row in run.rows)

        return self.write(work)

    def remove(self, job_id: str) -> int:
        """Take a run away from every page and export; return how many rows it has.

        Nothing is lost: :meth:`bring_back` undoes it.

        Raises:
            ValueError: If there is no such run, or it still runs.
        """
        job = self.job(job_id)
        if job is None:
            raise ValueError(f"run must be one that is stored, got {job_id[:40]!r}")
        if job.active:
            raise ValueError(f"run {job_id} must have ended, it is {job.state}: cancel it first")
        return self.write(lambda db: _mark(db, job_id, removed=time.time()))

    def bring_back(self, job_id: str) -> int:
        """Undo :meth:`remove`; return how many rows there are again.

        Raises:
            ValueError: If there is no such run.
        """
        if self.job(job_id) is None:
            raise ValueError(f"run must be one that was removed, got {job_id[:40]!r}")
        return self.write(lambda db: _mark(db, job_id, removed=None))

    def removed(self) -> list[Job]:
        """Runs that were taken away and can be brought back, the last one first."""
        query = "SELECT * FROM job WHERE removed IS NOT NULL ORDER BY removed DESC"
        return [read_job(row) for row in self.read(lambda db: db.execute(query).fetchall())]

    def counts(self) -> dict[str, int]:
        """How many rows each run has that was not taken away."""
        query = f"SELECT job, count(*) FROM row WHERE job IS NOT NULL AND {_SHOWN} GROUP BY job"
        return dict(self.read(lambda db: [tuple(row) for row in db.execute(query)]))

    def refused(self) -> dict[str, str]:
        """Rows of earlier versions that no page can show, by id, each with the reason."""
        query = "SELECT id, reason FROM refused ORDER BY rowid"
        return dict(self.read(lambda db: [tuple(row) for row in db.execute(query)]))

    def rows(
        self,
        *,
        job: str | None = None,
        measure: str | None = None,
        product: str | None = None,
        status: str | None = None,
        samples: bool = False,
    ) -> list[Row]:
        """Rows in the order they came, without the long sample lists unless asked for.

        Args:
            job: Of one run.
            measure: Of one measure.
            product: Of one product.
            status: Of one status.
            samples: Whether long sample lists come too.
        """
        wanted = {"job": job, "measure": measure, "product": product, "status": status}
        given = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join([*(f"row.{name} = :{name}" for name in given), _SHOWN])
        query = (
            f"{_SELECT} LEFT JOIN sample ON {'sample.id = row.id' if samples else '0'} "
            f"WHERE {where} ORDER BY row.seq"
        )
        return [
            _row(record) for record in self.read(lambda db: db.execute(query, given).fetchall())
        ]

    def latest(self, measure: str, most: int) -> list[Row]:
        """The last good rows of a measure, without long sample lists."""
        query = (
            f"{_SELECT} LEFT JOIN sample ON 0 WHERE row.measure = ? AND row.status = 'ok'"
            f" AND {_SHOWN} ORDER BY row.seq DESC LIMIT ?"
        )
        return [
            _row(r) for r in self.read(lambda db: db.execute(query, [measure, most]).fetchall())
        ]

    def samples(self, row_id: str) -> dict[str, list[float]] | None:
        """Sample lists of one runtime: ``samples_s``, ``block_calls``, ``order``, ``start_s``."""
        query = "SELECT body FROM sample WHERE id = ?"
        record = self.read(lambda db: db.execute(query, [row_id]).fetchone())
        return None if record is None else _unpacked(record["body"])

    def revision(self) -> int:
        """Grows with every row added and every run removed: a key for caches."""
        query = (
            "SELECT (SELECT coalesce(max(seq), 0) FROM row)"
            " + (SELECT coalesce(max(seq), 0) FROM removal)"
        )
        (latest,) = self.read(lambda db: db.execute(query).fetchone())
        return int(latest)

    def revision_of(self, job: str) -> tuple[int, int]:
        """Another one after every row added to a run, and after any run was removed."""
        query = (
            "SELECT (SELECT coalesce(max(seq), 0) FROM row WHERE job = ?),"
            " (SELECT coalesce(max(seq), 0) FROM removal)"
        )
        rows, removals = self.read(lambda db: db.execute(query, [job]).fetchone())
        return int(rows), int(removals)

    def prune(self, keep: int) -> int:
        """Remove the oldest runs that nobody published; return how many rows went.

        Args:
            keep: How many rows may stay.
        """
        return self.write(lambda db: retention.prune(db, keep))

    def export_jsonl(self, path: str | Path) -> int:
        """Write every row, samples included, as JSON Lines; return how many.

        The file appears complete or not at all.
        """
        rows = self.rows(samples=True)
        write_jsonl(Path(path), rows)
        return len(rows)


def _insert(db: sqlite3.Connection, row: Row) -> int:
    body = json.dumps(row.environment, sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()[:16]
    db.execute("INSERT OR IGNORE INTO environment VALUES (?, ?)", [digest, body])
    light = row.light()
    values = {
        **{name: row[name] for name in _COLUMNS[:8]},
        "badges": json.dumps(row.badges),
        "problem": json.dumps(row.problem),
        "result": None if light.result is None else json.dumps(light.result),
        "environment": digest,
        "checked": 1,
    }
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join(f":{name}" for name in values)
    added = db.execute(f"INSERT OR IGNORE INTO row ({names}) VALUES ({marks})", values).rowcount
    lists = {key: value for key, value in (row.result or {}).items() if key in SAMPLE_KEYS}
    if added and lists:
        db.execute("INSERT INTO sample VALUES (?, ?)", [row.id, _packed(lists)])
    return added


def _packed(lists: Mapping[str, Any]) -> bytes:
    """Sample lists in less than half of their text."""
    return zlib.compress(json.dumps(lists).encode())


def _unpacked(body: bytes | str) -> dict[str, Any]:
    """Sample lists as they were; older files hold them as text."""
    lists: dict[str, Any] = json.loads(body if isinstance(body, str) else zlib.decompress(body))
    return lists


def _row(record: sqlite3.Row) -> Row:
    return Row(**_values(record))


def _values(record: sqlite3.Row) -> dict[str, Any]:
    values: dict[str, Any] = {name: record[name] for name in _COLUMNS[:8]}
    for name in ("problem", "result", "environment"):
        values[name] = None if record[name] is None else json.loads(record[name])
    values["badges"] = tuple(json.loads(record["badges"]))
    if record["sample"] is not None:
        values["result"] |= _unpacked(record["sample"])
    return values


def _mark(db: sqlite3.Connection, job_id: str, removed: float | None) -> int:
    db.execute("UPDATE job SET removed = ? WHERE id = ?", [removed, job_id])
    db.execute("INSERT INTO removal (job, undone) VALUES (?, ?)", [job_id, removed is None])
    (count,) = db.execute("SELECT count(*) FROM row WHERE job = ?", [job_id]).fetchone()
    return int(count)


def _check_old_rows(db: sqlite3.Connection) -> None:
    """Rows of versions that checked less: what no page could show is set aside, and said."""
    unchecked = db.execute(
        _SELECT + " LEFT JOIN sample ON sample.id = row.id WHERE row.checked = 0"
    ).fetchall()
    for record in unchecked:
        values: dict[str, Any] = {"id": record["id"]}
        try:
            values = _values(record)
            row = Row.read({"schema": 1, **values})
        except (RowError, ValueError, TypeError) as error:
            db.execute(
                "INSERT OR REPLACE INTO refused VALUES (?, ?, ?)",
                [record["id"], json.dumps(values), str(error)],
            )
            db.execute("DELETE FROM sample WHERE id = ?", [record["id"]])
            db.execute("DELETE FROM row WHERE id = ?", [record["id"]])
            continue
        db.execute(
            "UPDATE row SET checked = 1, problem = ? WHERE id = ?",
            [json.dumps(row.problem), record["id"]],
        )
