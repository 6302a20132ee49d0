"""Which runs a store lets go when it holds more rows than it may."""

from __future__ import annotations

import sqlite3

_RUNS = """
SELECT coalesce(row.job, row.id) AS run, row.job AS job, count(*) AS rows
FROM row LEFT JOIN job ON job.id = row.job
WHERE coalesce(job.published, 0) = 0 AND coalesce(job.state, '') NOT IN ('queued', 'running')
GROUP BY run ORDER BY job.removed IS NULL, max(row.seq)
"""
"""What may go, first to last: runs that were taken away, then the oldest."""


def prune(db: sqlite3.Connection, keep: int) -> int:
    """Remove whole runs until so many rows are left; return how many rows went.

    Published and active runs stay, and so does the newest: half a run would mislead.
    """
    (count,) = db.execute("SELECT count(*) FROM row").fetchone()
    gone = 0
    for run in db.execute(_RUNS).fetchall()[:-1] if count > keep else ():
        if count - gone <= keep:
            break
        where = "SELECT id FROM row WHERE " + ("id = ?" if run["job"] is None else "job = ?")
        db.execute(f"DELETE FROM sample WHERE id IN ({where})", [run["run"]])
        gone += db.execute(f"DELETE FROM row WHERE id IN ({where})", [run["run"]]).rowcount
        db.execute("DELETE FROM job WHERE id = ?", [run["run"]])
    if gone:
        # Pages that remember what was stored look again.
        db.execute("INSERT INTO removal (job, undone) VALUES ('', 0)")
    return gone
