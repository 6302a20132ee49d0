"""What a host allows: one file, ``etp.toml``, and environment variables over it.

``$ETP_CONFIG`` names the file, by default ``etp.toml`` in the working directory; each limit can be
set by a variable such as ``ETP_LIMITS_LMAX``. Without either nothing is limited.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from etp.problem import Problem

HOUR_S = 3600.0
TABLES = ("access", "limits")
"""What the file may hold."""


class TooLargeError(ValueError):
    """Something that cannot be run for its size: says so, and what fits.

    Args:
        message: What is too large, for what, and the mend.
        batch: A batch that fits, None where no other batch helps.
    """

    def __init__(self, message: str, batch: int | None = None) -> None:
        super().__init__(message)
        self.batch = batch


class LimitError(TooLargeError):
    """Something that this server does not allow: names the limit, the value and what fits."""


@dataclass(frozen=True)
class Limits:
    """The most that one visitor can ask for; None is no limit.

    Attributes:
        lmax: Largest degree of an input.
        batch: Samples.
        bytes: Bytes of a case's inputs and outputs, every path kept apart.
        cases: Cases of one job.
        case_seconds: A case that runs longer is stopped.
        job_seconds: A job that runs longer is stopped and keeps what it has.
        jobs_per_hour: Jobs of one visitor within an hour.
        rows: Rows that the store keeps; the oldest that nobody published go first.
        upload_bytes: Size of one uploaded file.
    """

    lmax: int | None = None
    batch: int | None = None
    bytes: int | None = None
    cases: int | None = None
    case_seconds: int | None = None
    job_seconds: int | None = None
    jobs_per_hour: int | None = None
    rows: int | None = None
    upload_bytes: int | None = None

    def check(self, cases: Sequence[Mapping[str, Any]]) -> None:
        """Refuse a job that is too large.

        Raises:
            LimitError: Naming the limit and what fits.
        """
        _at_most("cases", len(cases), self.cases, "run fewer sizes at once")
        for case in cases:
            problem = Problem.from_dict(case["problem"])
            _at_most("lmax", problem.lmax, self.lmax, "choose a smaller lmax")
            if self.batch is not None and problem.batch > self.batch:
                raise LimitError(
                    f"batch must be at most {self.batch} here, got {problem.batch}: choose a "
                    "smaller batch",
                    self.batch,
                )
            size = problem.size().bytes
            if self.bytes is not None and size > self.bytes:
                fits = max(1, problem.batch * self.bytes // size)
                raise LimitError(
                    f"bytes must be at most {self.bytes} here, got {size} at batch "
                    f"{problem.batch}: batch {fits} fits",
                    fits,
                )

    def check_upload(self, name: str, size: int) -> None:
        """Refuse a file that is too large.

        Raises:
            LimitError: Naming the file.
        """
        most = self.upload_bytes
        _at_most("upload_bytes", size, most, f"{name} is too large, import part of it")

    def check_rate(self, recent: int) -> None:
        """Refuse one job more than a visitor has in an hour.

        Raises:
            LimitError: If that many were asked for already.
        """
        if self.jobs_per_hour is not None and recent >= self.jobs_per_hour:
            raise LimitError(
                f"jobs_per_hour must be at most {self.jobs_per_hour} here, and {recent} were "
                "asked for in the last hour: wait, or ask the host of this server"
            )


def _at_most(name: str, value: int, limit: int | None, mend: str) -> None:
    if limit is not None and value > limit:
        raise LimitError(f"{name} must be at most {limit} here, got {value}: {mend}")


def limits(environment: Mapping[str, str] | None = None) -> Limits:
    """Limits of this server.

    Raises:
        ValueError: If the file or a variable holds something else; names both.
    """
    given = os.environ if environment is None else environment
    path, values = _path(given), table(given).get("limits", {})
    if not isinstance(values, dict):
        raise ValueError(f"{path}: limits must be a table, got {values!r}")
    known = {field.name for field in fields(Limits)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{path}: limits has no {unknown[0]!r}; known: {', '.join(sorted(known))}")
    checked = {name: _whole(f"{path}: limits.{name}", value) for name, value in values.items()}
    for name in known:
        variable = f"ETP_LIMITS_{name.upper()}"
        if variable in given:
            checked[name] = _whole(variable, given[variable])
    return Limits(**checked)


def _path(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("ETP_CONFIG") or "etp.toml")


def table(environment: Mapping[str, str]) -> dict[str, Any]:
    """Everything in the configuration file; empty where there is none.

    Raises:
        ValueError: If it is not TOML, holds another table, or is named and not there.
    """
    path = _path(environment)
    if not path.exists():
        # A server without the limits that it was given would be worse than none.
        if environment.get("ETP_CONFIG"):
            raise ValueError(f"ETP_CONFIG must name a file that is there, got {path}")
        return {}
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} must be a TOML file: {error}") from error
    if unknown := sorted({*read} - {*TABLES}):
        raise ValueError(f"{path} must hold only {' and '.join(TABLES)}, got {unknown[0]!r}")
    return read


def _whole(name: str, value: object) -> int:
    text = value if isinstance(value, str) else repr(value)
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text)):
        raise ValueError(f"{name} must be a whole number above 0, got {value!r}")
    return int(text)
