"""Rows: what is stored and exchanged, one JSON object per case and measure.

A row is append-only and says what was measured (product, problem), what came out (status, reason,
badges, result) and on what (environment). Anything missing is ``null`` or absent, never -1 or NaN.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from etp.problem import Problem

SCHEMA = 1
STATUSES = ("ok", "invalid", "failed", "cancelled")

Row = dict[str, Any]

RESULT_KEYS: dict[str, tuple[str, ...]] = {
    "runtime": ("median_s",),
    "equivariance": ("max", "median", "per_degree", "gate"),
    "agreement": ("max", "median", "per_degree"),
    "expressivity": ("closed_form", "rank", "paths", "allowed"),
    "interactions": ("paths", "triples", "count", "allowed"),
    "memory": ("peak_bytes", "table_bytes"),
    "cost": ("macs", "bytes", "flops"),
    "grid": ("rows", "columns", "max", "gate", "exact"),
    "sphere": ("axis", "angles", "first", "multiplied_last", "multiplied_first"),
    "roofline": ("copy_bytes_per_s", "matmul_flops_per_s"),
}
"""Measures and the results each must hold; more may be there."""

SAMPLE_KEYS = ("samples_s", "block_calls", "order", "start_s")
"""Long lists of a runtime, kept apart so that listing rows stays light."""

_TEXT = ("id", "created", "product", "measure", "status")
_OPTIONAL_TEXT = ("job", "group", "reason")


class RowError(ValueError):
    """A row that cannot be stored: names the field, the value and the rule."""

    def __init__(self, field: str, value: object, rule: str) -> None:
        self.field = field
        super().__init__(f"{field} must {rule}, got {_short(value)}")


def check_row(row: Mapping[str, Any]) -> None:
    """Check the form of one row.

    Raises:
        RowError: Naming the first field that is wrong.
    """
    if row.get("schema") != SCHEMA:
        raise RowError("schema", row.get("schema"), f"be {SCHEMA}")
    for field in _TEXT:
        if not isinstance(row.get(field), str) or not row[field]:
            raise RowError(field, row.get(field), "be a text")
    for field in _OPTIONAL_TEXT:
        if not isinstance(row.get(field), str | None):
            raise RowError(field, row[field], "be a text or null")
    if row["status"] not in STATUSES:
        raise RowError("status", row["status"], f"be one of {', '.join(STATUSES)}")
    if row["measure"] not in RESULT_KEYS:
        raise RowError("measure", row["measure"], f"be one of {', '.join(RESULT_KEYS)}")
    if not isinstance(row.get("badges"), list):
        raise RowError("badges", row.get("badges"), "be a list of texts")
    for field in ("problem", "environment"):
        if not isinstance(row.get(field), dict):
            raise RowError(field, row.get(field), "be an object")
    _check_result(row)
    _check_finite(row)


def _check_result(row: Mapping[str, Any]) -> None:
    result = row.get("result")
    if row["status"] != "ok":
        if result is not None:
            raise RowError("result", result, f"be null where the status is {row['status']}")
        if not row.get("reason"):
            raise RowError("reason", row.get("reason"), f"say why the status is {row['status']}")
        return
    if not isinstance(result, dict):
        raise RowError("result", result, "be an object where the status is ok")
    for key in RESULT_KEYS[row["measure"]]:
        if key not in result:
            raise RowError(f"result.{key}", None, f"be given for {row['measure']}")
    if row["measure"] == "runtime" and not _positive(result["median_s"]):
        raise RowError("result.median_s", result["median_s"], "be a positive number of seconds")
    try:
        Problem.from_dict(row["problem"])
    except (ValueError, TypeError) as error:
        raise RowError("problem", row["problem"], f"be a valid problem ({error})") from error


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _check_finite(row: Mapping[str, Any]) -> None:
    try:
        json.dumps(row, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise RowError("result", row.get("result"), f"be plain finite values ({error})") from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
