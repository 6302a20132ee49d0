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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etp.results.rows import SAMPLE_KEYS, Row, check_row

VERSION = 1
BUSY_S = 30.0

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


class StoreError(Exception):
    """The database file cannot be used: says which and what to do."""


@dataclass(frozen=True)
class Job:
    """One request: its cases, how far it is, and why it ended.

    Attributes:
        state: ``queued``, ``running``, ``done``, ``failed``, ``cancelled`` or ``interrupted``.
        done: Cases that have ended, measured or not.
        now: The last progress event, None before the first.
        created: Seconds since the epoch, as ``started``, ``finished`` and ``beat``.
        beat: When the process that runs it last said so.
    """

    id: str
    title: str
    cases: list[dict[str, Any]]
    state: str
    reason: str | None
    done: int
    now: dict[str, Any] | None
    created: float
    started: float | None
    finished: float | None
    beat: float

    @property
    def total(self) -> int:
        """Cases asked for."""
        return len(self.cases)

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("queued", "running")


def default_path() -> Path:
    """``$ETP_STORE``, or ``etp/etp.sqlite`` in the user's data directory."""
    if path := os.environ.get("ETP_STORE"):
        return Path(path)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "etp" / "etp.sqlite"


class Store:
    """The database of results and jobs at ``path``; made if it is not there.

    Raises:
        StoreError: If the file cannot be opened, is damaged, or is of a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except (OSError, sqlite3.DatabaseError) as error:
            raise StoreError(
                f"store {self.path} cannot be used: {error}. Move the file away, or name another "
                "with ETP_STORE"
            ) from error

    def _open(self) -> None:
        with self._connection() as db:
            db.execute("PRAGMA journal_mode = WAL")
        with self._writing() as db:
            (found,) = db.execute("PRAGMA user_version").fetchone()
            if found > VERSION:
                raise StoreError(
                    f"store {self.path} has version {found}, this etp reads up to {VERSION}: "
                    "use a newer etp, or name another file with ETP_STORE"
                )
            if found == 0:
                for statement in _SCHEMA.strip().split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {VERSION}")
            (verdict,) = db.execute("PRAGMA quick_check").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        # One connection for each operation: no state to share between threads or to leak.
        db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
        db.row_factory = sqlite3.Row
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA foreign_keys = ON")
            yield db
        finally:
            db.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is kept or nothing is."""
        with self._connection() as db:
            # Taking the write lock at once waits for others instead of failing half-way.
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    # Rows

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add rows that are not there yet, all or none; return how many were added.

        Raises:
            RowError: If a row is not well formed.
        """
        for row in rows:
            check_row(row)
        with self._writing() as db:
            return sum(_insert(db, row) for row in rows)

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
        with self._connection() as db:
            return [_row(found) for found in db.execute(query, given)]

    def samples(self, row_id: str) -> dict[str, list[float]] | None:
        """Sample lists of one runtime: ``samples_s``, ``block_calls``, ``order``, ``start_s``."""
        with self._connection() as db:
            found = db.execute("SELECT body FROM sample WHERE id = ?", [row_id]).fetchone()
        return None if found is None else json.loads(found["body"])

    def revision(self) -> int:
        """Grows with every row added: a key for caches."""
        with self._connection() as db:
            (latest,) = db.execute("SELECT coalesce(max(seq), 0) FROM row").fetchone()
        return int(latest)

    def export_jsonl(self, path: str | Path) -> int:
        """Write every row, samples included, as JSON Lines; return how many.

        The file appears complete or not at all.
        """
        rows = self.rows(samples=True)
        write_jsonl(Path(path), rows)
        return len(rows)

    # Jobs

    def add_job(self, job_id: str, title: str, cases: Sequence[Mapping[str, Any]]) -> None:
        """Remember a new job, queued."""
        now = time.time()
        with self._writing() as db:
            db.execute(
                "INSERT INTO job (id, title, cases, state, created, beat) VALUES (?,?,?,?,?,?)",
                [job_id, title, json.dumps(list(cases)), "queued", now, now],
            )

    def extend_job(self, job_id: str, cases: Sequence[Mapping[str, Any]]) -> None:
        """Queue more cases of a job that has ended; cases it did not reach are dropped."""
        with self._writing() as db:
            query = "SELECT cases, done FROM job WHERE id = ?"
            found = db.execute(query, [job_id]).fetchone()
            every = json.loads(found["cases"])[: found["done"]] + list(cases)
            now = time.time()
            db.execute(
                "UPDATE job SET cases = ?, state = 'queued', reason = NULL, now = NULL,"
                " finished = NULL, beat = ? WHERE id = ?",
                [json.dumps(every), now, job_id],
            )

    def update_job(self, job_id: str, **changes: Any) -> None:
        """Change the state, reason, done, now, started, finished or beat of a job."""
        known = {"state", "reason", "done", "now", "started", "finished", "beat"}
        if unknown := sorted(set(changes) - known):
            raise ValueError(f"a job has no field {unknown[0]!r} that can change")
        if isinstance(changes.get("now"), dict):
            changes["now"] = json.dumps(changes["now"])
        setting = ", ".join(f"{name} = :{name}" for name in changes)
        with self._writing() as db:
            db.execute(f"UPDATE job SET {setting} WHERE id = :id", changes | {"id": job_id})

    def job(self, job_id: str) -> Job | None:
        """One job, None if there is none of that id."""
        with self._connection() as db:
            found = db.execute("SELECT * FROM job WHERE id = ?", [job_id]).fetchone()
        return None if found is None else _job(found)

    def jobs(self, *states: str) -> list[Job]:
        """Jobs in the order they were made, of some states or of all."""
        marks = ",".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        with self._connection() as db:
            found = db.execute(f"SELECT * FROM job {where} ORDER BY created, rowid", states)
            return [_job(one) for one in found]


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
        db.execute("INSERT INTO sample VALUES (?, ?)", [row["id"], json.dumps(lists)])
    return added


def _row(found: sqlite3.Row) -> Row:
    row: Row = {"schema": 1, **{name: found[name] for name in _COLUMNS[:8]}}
    row["badges"] = json.loads(found["badges"])
    row["problem"] = json.loads(found["problem"])
    row["result"] = None if found["result"] is None else json.loads(found["result"])
    row["environment"] = json.loads(found["environment"])
    if found["sample"] is not None:
        row["result"] |= json.loads(found["sample"])
    return row


def _job(found: sqlite3.Row) -> Job:
    values = dict(found)
    values["cases"] = json.loads(values["cases"])
    values["now"] = None if values["now"] is None else json.loads(values["now"])
    return Job(**values)
