"""What every reader needs: errors that say where, and rows made from foreign numbers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from etp.results.rows import Row, RowError
from etp.results.schema import is_number

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
    measure: str = "runtime",
    status: str = "ok",
    reason: str | None = None,
    badges: Sequence[str] = (),
) -> Row:
    """Row of a runtime measured by something else.

    The same number read twice has the same id, so that importing a file again adds nothing.

    Args:
        file: Name of the file.
        place: Place in it, for errors.
        product: Name of the product.
        problem: What was measured.
        result: What came out, or None.
        environment: What is known of the machine.
        measure: What was asked.
        status: ``ok``, or why there is no result.
        reason: In words, where the status is not ``ok``.
        badges: What to know before using it.

    Raises:
        FormatError: If what was read does not make a row.
    """
    content = json.dumps([product, problem, result, environment, place], sort_keys=True)
    row = Row.new(
        problem, product, measure, result, environment, status=status, reason=reason,
        badges=badges, id=uuid.uuid5(_NAMESPACE, content).hex,
    )  # fmt: skip
    try:
        return Row.read(row)
    except RowError as error:
        raise FormatError(file, str(error), place) from error


def load_json(file: str, text: str, place: str | None = None) -> Any:
    """Parse JSON; a mistake becomes a :class:`FormatError` with its place.

    Args:
        file: Name of the file.
        text: What is parsed.
        place: Place in the file, for errors.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = place or f"line {error.lineno}, column {error.colno}"
        raise FormatError(file, f"is not JSON: {error.msg}. Is it cut off?", where) from error
    except RecursionError as error:
        raise FormatError(file, "is nested too deep to be read", place) from error
    except ValueError as error:  # thousands of digits
        raise FormatError(file, "holds a number with too many digits", place) from error


def an_object(
    file: str, value: object, what: str, place: str | None = None, *, null: bool = False
) -> dict[str, Any]:
    """Return ``value``, or say that an object was expected.

    Args:
        file: Name of the file.
        value: What should be an object.
        what: What an error calls it.
        place: Place in the file, for errors.
        null: Whether null may stand for an empty one.
    """
    if value is None and null:
        return {}
    if not isinstance(value, dict):
        raise FormatError(file, f"{what} must be an object, got {str(value)[:40]!r}", place)
    return value


def positive_numbers(file: str, values: object, what: str, place: str) -> list[float]:
    """Return ``values``, or say that a list of positive numbers was expected.

    Args:
        file: Name of the file.
        values: What should be such a list.
        what: What an error calls it.
        place: Place in the file, for errors.
    """
    if isinstance(values, list) and values and all(is_number(v) and v > 0 for v in values):
        return values
    raise FormatError(
        file, f"{what} must be a list of positive numbers, got {str(values)[:40]!r}", place
    )


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
