"""What every reader needs: errors that say where, and rows made from foreign numbers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from etp.results.rows import SCHEMA, Row, RowError, check_row

_NAMESPACE = uuid.UUID("5d5c1f3e-6e0f-5d0a-9f0a-6d1b2f0c7a11")


class FormatError(ValueError):
    """A file that cannot be read: names the file, the place, the value and the mend."""

    def __init__(self, file: str, problem: str, place: str | None = None) -> None:
        self.file, self.place = file, place
        super().__init__(f"{file}{', ' + place if place else ''}: {problem}")


def foreign_row(
    file: str,
    place: str,
    product: str,
    problem: dict[str, Any],
    result: dict[str, Any] | None,
    environment: dict[str, Any],
    *,
    status: str = "ok",
    reason: str | None = None,
    badges: Sequence[str] = (),
) -> Row:
    """Row of a runtime measured by something else.

    The same number read twice has the same id, so that importing a file again adds nothing.

    Raises:
        FormatError: If what was read does not make a row.
    """
    content = json.dumps([product, problem, result, environment, place], sort_keys=True)
    row: Row = {
        "schema": SCHEMA,
        "id": uuid.uuid5(_NAMESPACE, content).hex,
        "job": None,
        "group": None,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "product": product,
        "measure": "runtime",
        "problem": problem,
        "status": status,
        "reason": reason,
        "badges": list(badges),
        "result": result,
        "environment": environment,
    }
    try:
        check_row(row)
    except RowError as error:
        raise FormatError(file, str(error), place) from error
    return row


def load_json(file: str, text: str) -> Any:
    """Parse JSON; a mistake becomes a :class:`FormatError` with its line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise FormatError(
            file, f"is not JSON: {error.msg}", f"line {error.lineno}, column {error.colno}"
        ) from error


def runtime_of_samples(seconds: Sequence[float]) -> dict[str, Any]:
    """Result of a runtime row from single calls in seconds."""
    ordered = sorted(seconds)

    def quantile(q: float) -> float:
        at = q * (len(ordered) - 1)
        low = int(at)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (at - low) * (ordered[high] - ordered[low])

    return {
        "median_s": quantile(0.5),
        "q25_s": quantile(0.25),
        "q75_s": quantile(0.75),
        "samples_s": list(seconds),
        "rounds": len(ordered),
        "role": "product",
    }
