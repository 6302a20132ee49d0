"""Rows: what is stored and exchanged, one JSON object per case and measure.

A row is append-only and says what was measured (product, problem), what came out (status, reason,
badges, result) and on what (environment). Anything missing is ``null`` or absent, never -1 or NaN.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from statistics import median
from typing import Any

from etp.problem import EmptyProblemError, Problem
from etp.results.schema import RESULTS as RESULTS
from etp.results.schema import RowError as RowError
from etp.results.schema import (
    check_environment,
    check_name,
    check_plain,
    check_text,
    check_time,
    checked_result,
)
from etp.results.together import check_together

SCHEMA = 1
"""Version of the form of a row. Fields and options that came later have defaults, so that rows of
every earlier day are read as they are."""
STATUSES = ("ok", "invalid", "failed", "cancelled")

SAMPLE_KEYS = ("samples_s", "block_calls", "order", "start_s")
"""Long lists of a runtime, kept apart so that listing rows stays light."""


@dataclass(frozen=True, kw_only=True)
class Row(Mapping[str, Any]):
    """One measurement of one product on one problem, or why there is none.

    It is also a mapping with the same names, as it lies in a file.

    Attributes:
        id: Its own; the same row is stored once.
        created: When it was made, in ISO 8601.
        product: Name of the product.
        measure: What was asked, a key of :data:`etp.results.schema.RESULTS`.
        problem: Fields of a :class:`etp.problem.Problem`; of an empty one where nothing was
            measured.
        status: ``ok``, or why there is no result: ``invalid``, ``failed``, ``cancelled``.
        environment: What it was measured on.
        reason: In words, where the status is not ``ok``.
        badges: What to know before using it.
        result: What came out, None where the status is not ``ok``.
        job: Run that it belongs to, None for a row in a file.
        group: Interleaved rounds that it was timed in, None outside of such.
        schema: Version of the form.

    Examples:
        >>> from etp.problem import Problem
        >>> problem = Problem.of_setting("MIMO", 1).as_dict()
        >>> cost = {"macs": 1, "bytes": 4, "flops": 2}
        >>> row = Row.new(problem, "mine", "cost", cost, {"cpu": "x"})
        >>> Row.read(row.as_dict()) == row
        True
    """

    id: str
    created: str
    product: str
    measure: str
    problem: dict[str, Any]
    status: str = "ok"
    environment: dict[str, Any]
    reason: str | None = None
    badges: tuple[str, ...] = ()
    result: dict[str, Any] | None = None
    job: str | None = None
    group: str | None = None
    schema: int = SCHEMA

    def __getitem__(self, name: str) -> Any:
        if name not in _NAMES:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)

    @classmethod
    def new(
        cls,
        problem: Mapping[str, Any],
        product: str,
        measure: str,
        result: dict[str, Any] | None,
        environment: Mapping[str, Any],
        *,
        badges: Sequence[str] = (),
        **rest: Any,
    ) -> Row:
        """A row made now, with an id of its own; other fields as the class names them.

        Args:
            problem: Fields of a problem.
            product: Name of the product.
            measure: What was asked.
            result: What came out, or None.
            environment: What it was measured on.
            badges: What to know before using it.
            **rest: Other fields, as the class names them.
        """
        return cls(
            **{"id": uuid.uuid4().hex, "created": datetime.now(UTC).isoformat("T", "milliseconds")}
            | rest,
            product=product,
            measure=measure,
            problem=dict(problem),
            result=result,
            environment=dict(environment),
            badges=tuple(badges),
        )

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Row:
        """Check a row where it enters: from a file, a worker, a program of one's own.

        Raises:
            RowError: Naming the first field that is wrong, its value and the rule.
        """
        if values.get("schema") != SCHEMA or isinstance(values.get("schema"), bool):
            raise RowError("schema", values.get("schema"), f"be {SCHEMA}")
        for field in ("id", "product", "measure", "status"):
            check_name(field, values.get(field))
        for field in ("job", "group"):
            if values.get(field) is not None:
                check_name(field, values[field])
        check_time("created", values.get("created"))
        if values.get("reason") is not None:
            check_text("reason", values["reason"])
        if values["status"] not in STATUSES:
            raise RowError("status", values["status"], f"be one of {', '.join(STATUSES)}")
        if values["measure"] not in RESULTS:
            raise RowError("measure", values["measure"], f"be one of {', '.join(RESULTS)}")
        badges = values.get("badges")
        if not isinstance(badges, list | tuple) or not all(isinstance(b, str) for b in badges):
            raise RowError("badges", badges, "be a list of texts")
        check_environment(values.get("environment"))
        for field in _NAMES:
            check_plain(field, values.get(field))
        given = {name: values[name] for name in _NAMES if name in values}
        problem = _checked_problem(values.get("problem"), empty=values["status"] != "ok")
        made = {"badges": tuple(badges), "problem": problem, "result": _result(values)}
        return cls(**given | made)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as a line of a file holds them."""
        return {name: getattr(self, name) for name in _NAMES} | {"badges": list(self.badges)}

    def to_json(self) -> str:
        """One line of a file, without its end."""
        return json.dumps(self.as_dict(), allow_nan=False)

    def with_(self, **changes: Any) -> Row:
        """Copy with some fields changed."""
        return replace(self, **changes)

    def light(self) -> Row:
        """Copy without its sample lists; block values stay, verdicts need them."""
        if self.measure != "runtime" or self.result is None:
            return self
        kept = {key: value for key, value in self.result.items() if key not in SAMPLE_KEYS}
        return self.with_(result=kept)

    @property
    def measured(self) -> dict[str, Any]:
        """What came out; empty where nothing did."""
        return self.result or {}

    @property
    def typical_s(self) -> float:
        """Time of a call of a runtime: median of its block values, or of all calls without them."""
        return float(median(self.measured.get("blocks_s") or [self.measured["median_s"]]))

    @property
    def role(self) -> str:
        """``product``, or ``twin`` for the second instance that shows the noise floor."""
        return str(self.measured.get("role", "product"))


_NAMES = (
    "schema", "id", "job", "group", "created", "product", "measure", "problem", "status",
    "reason", "badges", "result", "environment",
)  # fmt: skip
"""Names of the fields in the order of a line."""
if set(_NAMES) != {each.name for each in fields(Row)}:
    raise TypeError("Row and the names of a line differ")


def jsonl(rows: Iterable[Row]) -> str:
    """Rows as the text of a file of JSON Lines."""
    return "".join(f"{row.to_json()}\n" for row in rows)


def check_row(row: Mapping[str, Any]) -> None:
    """Check the form of one row.

    Raises:
        RowError: Naming the first field that is wrong.
    """
    Row.read(row)


def _checked_problem(values: object, *, empty: bool) -> dict[str, Any]:
    """Fields of a problem, with the defaults of what the row does not say."""
    if not isinstance(values, Mapping):
        raise RowError("problem", values, "be an object")
    try:
        return Problem.from_dict(values).as_dict()
    except EmptyProblemError as error:
        if not empty:
            raise RowError("problem", values, f"be a valid problem ({error})") from error
        # Nothing was measured, since there is nothing: the row says why.
        return Problem.defaults() | dict(values)
    except (ValueError, TypeError) as error:
        raise RowError("problem", values, f"be a valid problem ({error})") from error


def _result(values: Mapping[str, Any]) -> dict[str, Any] | None:
    result = values.get("result")
    if values["status"] == "ok":
        checked = checked_result(values["measure"], result)
        check_together(values["measure"], checked)
        return checked
    if result is not None:
        raise RowError("result", result, f"be null where the status is {values['status']}")
    if not values.get("reason"):
        raise RowError("reason", values.get("reason"), f"say why the status is {values['status']}")
    return None
