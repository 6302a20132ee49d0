"""Jobs as the store keeps them: what was asked, by whom, how far it is, and who runs it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etp.results.database import Database

_CHANGING = {"state", "reason", "ended", "now", "started", "finished", "beat", "published"}
LEASE_S = 10.0
"""A device whose holder has not said that it lives for this long is free."""


def alive(beat: float, seconds: float) -> bool:
    """Whether who said at ``beat`` that it lives did so within some seconds.

    Both are told by the machine's clock since its start, which all its processes share and nobody
    sets: when the time of day jumps, nothing is taken from those who live or kept by the dead. What
    was said later than now was said before the machine was started.
    """
    return 0 <= time.monotonic() - beat <= seconds


@dataclass(frozen=True)
class Job:
    """One request: its cases, how far it is, and why it ended.

    Attributes:
        owner: Who asked, "" where nobody was told.
        state: ``queued``, ``running``, ``done``, ``failed``, ``cancelled`` or ``interrupted``.
        ended: Places of the cases that have ended, measured or not.
        now: The last progress event, None before the first.
        stop: Whether it was cancelled, by whatever process.
        estimate_s: Seconds that it was expected to take, None where nobody said.
        created: Seconds since the epoch, as ``started`` and ``finished``.
        beat: When the process that runs it last said so, by the clock of :func:`alive`.
        published: When its owner put it into the gallery, None where it is not there.
    """

    id: str
    title: str
    owner: str
    cases: list[dict[str, Any]]
    state: str
    reason: str | None
    ended: tuple[int, ...]
    now: dict[str, Any] | None
    stop: bool
    estimate_s: float | None
    created: float
    started: float | None
    finished: float | None
    beat: float
    published: float | None

    @property
    def total(self) -> int:
        """Cases asked for."""
        return len(self.cases)

    @property
    def done(self) -> int:
        """Cases that have ended."""
        return len(self.ended)

    @property
    def left(self) -> list[int]:
        """Places of the cases that have not ended."""
        return [index for index in range(self.total) if index not in self.ended]

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("queued", "running")


class Jobs(Database):
    """The jobs of a store, and the leases of its devices."""

    def add_job(
        self,
        job_id: str,
        title: str,
        cases: Sequence[Mapping[str, Any]],
        *,
        owner: str = "",
        estimate_s: float | None = None,
    ) -> None:
        """Remember a new job, queued.

        Args:
            job_id: Its id.
            title: In a few words.
            cases: What to measure.
            owner: Who asks.
            estimate_s: Seconds that it is expected to take.
        """
        values = [job_id, title, owner, json.dumps(list(cases)), "queued", estimate_s]
        values += [time.time(), time.monotonic()]
        self.write(
            lambda db: db.execute(
                "INSERT INTO job (id, title, owner, cases, state, estimate_s, created, beat)"
                " VALUES (?,?,?,?,?,?,?,?)",
                values,
            )
        )

    def extend_job(self, job_id: str, cases: Sequence[Mapping[str, Any]]) -> None:
        """Queue more cases of a job that has ended; cases it did not reach are dropped."""

        def work(db: sqlite3.Connection) -> None:
            job = read_job(db.execute("SELECT * FROM job WHERE id = ?", [job_id]).fetchone())
            every = [job.cases[index] for index in sorted(job.ended)] + list(cases)
            self._requeue(db, job_id, every, range(job.done))

        self.write(work)

    def resume_job(self, job_id: str) -> None:
        """Queue the cases again that a job did not reach."""

        def work(db: sqlite3.Connection) -> None:
            job = read_job(db.execute("SELECT * FROM job WHERE id = ?", [job_id]).fetchone())
            self._requeue(db, job_id, job.cases, job.ended)

        self.write(work)

    def _requeue(
        self,
        db: sqlite3.Connection,
        job_id: str,
        cases: Sequence[Mapping[str, Any]],
        ended: Sequence[int],
    ) -> None:
        db.execute(
            "UPDATE job SET cases = ?, ended = ?, state = 'queued', reason = NULL, now = NULL,"
            " stop = 0, finished = NULL, beat = ? WHERE id = ?",
            [json.dumps(list(cases)), json.dumps(list(ended)), time.monotonic(), job_id],
        )

    def update_job(self, job_id: str, **changes: Any) -> None:
        """Change what is not part of the question: state, reason, ended, now, times, published."""
        if unknown := sorted(set(changes) - _CHANGING):
            raise ValueError(f"a job has no field {unknown[0]!r} that can change")
        for field in ("now", "ended"):
            if changes.get(field) is not None:
                changes[field] = json.dumps(changes[field])
        setting = ", ".join(f"{name} = :{name}" for name in changes)
        values = changes | {"id": job_id}
        self.write(lambda db: db.execute(f"UPDATE job SET {setting} WHERE id = :id", values))

    def end_case(self, job_id: str, index: int) -> None:
        """Note that a case has ended; several devices may do so at once."""

        def work(db: sqlite3.Connection) -> None:
            row = db.execute("SELECT ended FROM job WHERE id = ?", [job_id]).fetchone()
            if row is not None:
                ended = sorted({*json.loads(row["ended"]), index})
                db.execute("UPDATE job SET ended = ? WHERE id = ?", [json.dumps(ended), job_id])

        self.write(work)

    def stop_job(self, job_id: str) -> None:
        """Ask whoever runs a job to stop; one that waits is cancelled here."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("UPDATE job SET stop = 1 WHERE id = ?", [job_id])
            db.execute(
                "UPDATE job SET state = 'cancelled', finished = ?"
                " WHERE id = ? AND state = 'queued'",
                [time.time(), job_id],
            )

        self.write(work)

    def job(self, job_id: str) -> Job | None:
        """One job, None if there is none of that id."""
        row = self.read(
            lambda db: db.execute("SELECT * FROM job WHERE id = ?", [job_id]).fetchone()
        )
        return None if row is None else read_job(row)

    def jobs(self, *states: str) -> list[Job]:
        """Jobs in the order they were made, of some states or of all."""
        marks = ",".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        query = f"SELECT * FROM job {where} ORDER BY created, rowid"
        return [read_job(row) for row in self.read(lambda db: db.execute(query, states).fetchall())]

    def published(self) -> list[Job]:
        """Jobs in the gallery, the newest first."""
        query = "SELECT * FROM job WHERE published IS NOT NULL ORDER BY published DESC"
        return [read_job(row) for row in self.read(lambda db: db.execute(query).fetchall())]

    def jobs_since(self, owner: str, since: float) -> int:
        """How many jobs an owner has asked for since a time; none in a time still to come."""
        query = "SELECT count(*) FROM job WHERE owner = ? AND created BETWEEN ? AND ?"
        values = [owner, since, time.time()]
        (count,) = self.read(lambda db: db.execute(query, values).fetchone())
        return int(count)

    def lease(self, device: str, holder: str) -> bool:
        """Take a device, or keep it: one holder at a time, whatever processes share the store."""
        now = time.monotonic()

        def work(db: sqlite3.Connection) -> bool:
            held = db.execute("SELECT beat FROM lease WHERE device = ?", [device]).fetchone()
            if held is not None and not alive(held["beat"], LEASE_S):
                db.execute("DELETE FROM lease WHERE device = ?", [device])
            db.execute("INSERT OR IGNORE INTO lease VALUES (?, ?, ?)", [device, holder, now])
            kept = db.execute(
                "UPDATE lease SET beat = ? WHERE device = ? AND holder = ?", [now, device, holder]
            )
            return kept.rowcount == 1

        return self.write(work)

    def release(self, device: str, holder: str) -> None:
        """Give a device back."""
        self.write(
            lambda db: db.execute(
                "DELETE FROM lease WHERE device = ? AND holder = ?", [device, holder]
            )
        )


def read_job(row: sqlite3.Row) -> Job:
    """A job from its row in the table."""
    values = dict(row)
    values["cases"] = json.loads(values["cases"])
    values["ended"] = tuple(json.loads(values["ended"]))
    values["now"] = None if values["now"] is None else json.loads(values["now"])
    values["stop"] = bool(values["stop"])
    for other in ("done", "removed"):
        values.pop(other, None)
    return Job(**values)


_OWNED = """
ALTER TABLE job ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN ended TEXT NOT NULL DEFAULT '[]';
ALTER TABLE job ADD COLUMN stop INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN estimate_s REAL;
UPDATE job SET ended = (
    SELECT json_group_array(value) FROM (
        WITH RECURSIVE n(value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM n WHERE value < 9999)
        SELECT value FROM n WHERE value < job.done
    )
) WHERE done > 0;
CREATE TABLE lease (device TEXT PRIMARY KEY, holder TEXT NOT NULL, beat REAL NOT NULL)
"""
"""Version 2: owners, cases in any order, cancel and leases of devices."""
_PUBLISHED = "ALTER TABLE job ADD COLUMN published REAL"
"""Version 3: when a run was put into the gallery."""
STEPS = (_OWNED, _PUBLISHED)
"""What each version after the first adds to the tables."""
