"""The SQLite file under the store: one connection for each operation, and what mends itself.

Several processes may use the file: write-ahead log, short immediate transactions. A file that was
deleted under a running program is made anew, its folder too; a damaged one is set aside under a
name that is told.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from etp.results.files import check_folder

T = TypeVar("T")
BUSY_S = 30.0
_DAMAGED = ("malformed", "not a database", "disk image")
_MISSING = ("no such table", "no such column")
_MENDS = (
    ("full", "no space is left on its disk: free some, nothing measured is lost meanwhile"),
    ("readonly", "the file cannot be written: give this user the right to, or set ETP_STORE"),
    ("locked", f"another program has held it for {BUSY_S:.0f} s: end that program"),
    ("unable to open", "not a file in a folder open to this user: name another with ETP_STORE"),
    ("i/o", "its disk does not answer, or it is no regular file: check both, or set ETP_STORE"),
)
"""What SQLite says, and what to do."""


class StoreError(Exception):
    """The database file cannot be used: says which and what to do."""


class Database:
    """A SQLite file with tables of this package.

    Args:
        path: The file; made with its folders if it is not there.
        steps: SQL that brings a file from one version to the next, from version 0.

    Attributes:
        set_aside: Where a damaged file was put, None while there was none.

    Raises:
        StoreError: If the file cannot be opened, is damaged, or is of a newer version.
    """

    def __init__(self, path: str | Path, steps: tuple[str, ...]) -> None:
        self.path, self._steps = Path(path), steps
        self.set_aside: Path | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._prepare()
        except (OSError, sqlite3.DatabaseError) as error:
            raise self._error(error) from error

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do what only reads, and return what it returns.

        Raises:
            StoreError: If the file cannot be used; the message says the mend.
        """
        return self._mended(lambda: self._run(work, begin="BEGIN"))

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do everything in one transaction: all of it is kept or nothing is.

        Raises:
            StoreError: As :meth:`read`.
        """
        # Taking the write lock at once waits for others instead of failing half-way.
        return self._mended(lambda: self._run(work, begin="BEGIN IMMEDIATE"))

    def backup(self, out: Path) -> None:
        """Copy the database to a new file, whole, while others go on using it.

        Raises:
            ValueError: If the file is there already.
            StoreError: If either file cannot be used.
        """
        if out.exists():
            raise ValueError(f"out must be a new file, {out} is there already")
        check_folder(out)
        try:
            # Opened by us first, so that what is wrong with it is not said of the store.
            os.close(os.open(out, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            with self._connection() as db:
                db.execute("VACUUM INTO ?", [str(out)])
        except sqlite3.DatabaseError as error:
            out.unlink(missing_ok=True)
            raise self._error(error) from error

    def _run(self, work: Callable[[sqlite3.Connection], T], begin: str) -> T:
        with self._connection() as db:
            db.execute(begin)
            try:
                made = work(db)
            except BaseException:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
            return made

    def _mended(self, attempt: Callable[[], T]) -> T:
        try:
            return attempt()
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            text = str(error).lower()
            try:
                if any(word in text for word in _DAMAGED):
                    self._put_aside()
                elif "unable to open" in text and not self.path.parent.exists():
                    # Removed under the program, as the file may be.
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                elif not any(word in text for word in _MISSING):
                    raise self._error(error) from error
                self._prepare()
                return attempt()
            except (sqlite3.DatabaseError, OSError) as again:
                raise self._error(again) from again

    def _put_aside(self) -> None:
        """Move the damaged file and its log out of the way, once for all processes that see it."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        aside = self.path.with_name(f"{self.path.stem}.damaged-{stamp}{self.path.suffix}")
        for tail in ("-wal", "-shm"):
            with suppress(OSError):
                os.replace(f"{self.path}{tail}", f"{aside}{tail}")
        with suppress(FileNotFoundError):
            os.replace(self.path, aside)
            self.set_aside = aside

    def _prepare(self) -> None:
        with self._connection() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            try:
                self._bring_up(db)
                (verdict,) = db.execute("PRAGMA quick_check").fetchone()
                if verdict != "ok":
                    raise sqlite3.DatabaseError(verdict)
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def _bring_up(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > len(self._steps):
            raise StoreError(
                f"store {self.path} has version {version}, this etp reads up to "
                f"{len(self._steps)}: use a newer etp, or name another file with ETP_STORE"
            )
        for step in self._steps[version:]:
            for statement in step.strip().rstrip(";").split(";"):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(self._steps)}")

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

    def _error(self, error: Exception) -> StoreError:
        text = str(error).lower()
        mend = next(
            (mend for word, mend in _MENDS if word in text),
            "move the file away, or name another with ETP_STORE",
        )
        return StoreError(f"store {self.path} cannot be used ({error}): {mend}")
