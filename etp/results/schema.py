"""The form of what is stored and exchanged: every measure's result, every manifest, every text.

Checked once, where a row enters (see :meth:`etp.results.rows.Row.read`); what is inside is taken
as it is. A table says what a key of a result must hold, so that a page never meets a text where a
number belongs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

MAX_TEXT = 20_000
MAX_DEPTH = 12
MAX_NUMBER = 1e100
"""Products and ratios of a few such numbers are numbers still."""
SHORTEST_S, LONGEST_S = 1e-12, 1e9
"""No call takes less or more: what is outside was not read in seconds."""
MAX_NAME = 80
N_PIECES = 8
"""Of the task of telling Tetris pieces apart."""


class RowError(ValueError):
    """A row that cannot be stored: names the field, the value and the rule."""

    def __init__(self, field: str, value: object, rule: str) -> None:
        self.field = field
        super().__init__(f"{field} must {rule}, got {_short(value)}")


class ValueRule(NamedTuple):
    """What a value must be.

    Attributes:
        says: The rule in words, after "must".
        holds: Whether a value keeps it.
        needed: Whether the key must be there.
        null: Whether ``null`` may stand for "not known".
    """

    says: str
    holds: Callable[[Any], bool]
    needed: bool = False
    null: bool = False


def is_number(value: object) -> bool:
    """Whether a value is a finite number that a float can hold."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -MAX_NUMBER < value < MAX_NUMBER
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _mapping_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


def _positive(value: object) -> bool:
    return is_number(value) and value > 0  # type: ignore[operator]


def _is_time(value: object) -> bool:
    return is_number(value) and SHORTEST_S <= value <= LONGEST_S  # type: ignore[operator]


def _is_state(value: object) -> bool:
    """Whether a value is what :class:`etp.measure.state.State` says of a moment."""
    if not isinstance(value, dict) or not {"clock_mhz", "temperature_c", "slowed_by"} <= {*value}:
        return False
    clock, load, slowed = value["clock_mhz"], value.get("load"), value["slowed_by"]
    return (
        (clock is None or _positive(clock))
        and (value["temperature_c"] is None or is_number(value["temperature_c"]))
        and (load is None or (is_number(load) and load >= 0))
        and isinstance(slowed, list)
        and all(isinstance(word, str) for word in slowed)
    )


def _answers(value: object) -> bool:
    return _list_of(is_number)(value) and len(value) == N_PIECES  # type: ignore[arg-type]


def _triple(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3


POSITIVE = ValueRule("be a positive number", _positive)
TIME = ValueRule(f"be seconds, from {SHORTEST_S:g} to {LONGEST_S:g}", _is_time)
NOT_NEGATIVE = ValueRule("be a number, not negative", lambda v: is_number(v) and v >= 0)
NUMBER = ValueRule("be a number", is_number)
COUNT = ValueRule("be a whole number, not negative", _is_count)
TEXT = ValueRule("be a text", lambda v: isinstance(v, str))
FLAG = ValueRule("be true or false", lambda v: isinstance(v, bool))
TIMES = ValueRule(
    f"be a list of seconds, each from {SHORTEST_S:g} to {LONGEST_S:g}", _list_of(_is_time)
)
NUMBERS = ValueRule("be a list of numbers", _list_of(is_number))
COUNTS = ValueRule("be a list of whole numbers", _list_of(_is_count))
TEXTS = ValueRule("be a list of texts", _list_of(lambda v: isinstance(v, str)))
BY_NAME = ValueRule("be an object of numbers", _mapping_of(is_number))
BY_DEGREE = ValueRule(
    "be an object of numbers with degrees as names",
    lambda v: _mapping_of(is_number)(v) and all(k.isascii() and k.isdigit() for k in v),
)
STATE = ValueRule(
    "be null or a state with clock_mhz, temperature_c, slowed_by and load", _is_state, null=True
)
ROLE = ValueRule("be product, twin or power", lambda v: v in ("product", "twin", "power"))
TABLE = ValueRule("be a list of lists of numbers", _list_of(_list_of(is_number)))
CONFUSION = ValueRule(
    f"be a table of {N_PIECES} by {N_PIECES} numbers",
    lambda v: _list_of(_answers)(v) and len(v) == N_PIECES,
)
ANSWERS = ValueRule(f"be a list of {N_PIECES} numbers", lambda v: _answers(v))
BY_PART = ValueRule(
    "be an object of numbers with one called test",
    lambda v: _mapping_of(is_number)(v) and "test" in v,
)
DEGREES = ValueRule(
    "be a list of three degrees each", _list_of(lambda v: _triple(v) and all(map(_is_count, v)))
)
LABELS = ValueRule(
    "be a list of three irreps each",
    _list_of(lambda v: _triple(v) and all(isinstance(part, str) for part in v)),
)


def needed(rule: ValueRule) -> ValueRule:
    """The same rule for a key that must be there."""
    return rule._replace(needed=True)


def perhaps(rule: ValueRule) -> ValueRule:
    """The same rule for a value that may be unknown."""
    return rule._replace(null=True)


_ERRORS = {
    "max": needed(NOT_NEGATIVE),
    "median": needed(NOT_NEGATIVE),
    "per_degree": needed(BY_DEGREE),
    "gate": POSITIVE,
}
STATES = {"state_before": STATE, "state_after": STATE}
"""Of the device, around what was timed."""
RESULTS: dict[str, dict[str, ValueRule]] = {
    "runtime": {
        "median_s": needed(TIME),
        "q25_s": TIME,
        "q75_s": TIME,
        "samples_s": TIMES,
        "blocks_s": TIMES,
        "walls_s": TIMES,
        "block_calls": COUNTS,
        "order": COUNTS,
        "start_s": NUMBERS,
        "rounds": COUNT,
        "group": COUNT,
        "look": COUNT,
        "first_call_s": NUMBER,
        "setup_s": NUMBER,
        "compile_s": NOT_NEGATIVE,
        "compiled": BY_NAME,
        "clock_step_s": POSITIVE,
        "enqueue_share": perhaps(NUMBER),
        "empty_s": perhaps(NOT_NEGATIVE),
        **STATES,
        "cache": TEXT,
        "role": ROLE,
        "reference": TEXT,
        "own_layout": FLAG,
    },
    "equivariance": _ERRORS
    | {
        "gate": needed(POSITIVE),
        "dtype": TEXT,
        "per_element": NUMBERS,
        "inverted": ValueRule(
            "be a list of true and false", _list_of(lambda v: isinstance(v, bool))
        ),
    },
    "agreement": dict(_ERRORS),
    "expressivity": {
        "closed_form": perhaps(needed(COUNT)),
        "rank": needed(COUNT),
        "paths": needed(COUNT),
        "allowed": needed(COUNT),
        "fixed_rank": perhaps(COUNT),
        "condition": perhaps(TEXT),
    },
    "interactions": {
        "title": TEXT,
        "paths": needed(DEGREES),
        "triples": needed(LABELS),
        "coefficients": NUMBERS,
        "count": needed(COUNT),
        "allowed": needed(COUNT),
        "weights_per": TEXT,
        "weights": COUNT,
        "keeps_paths": FLAG,
        "outputs": COUNT,
        "group": TEXT,
    },
    "memory": {"peak_bytes": needed(COUNT), "table_bytes": needed(COUNT)},
    "cost": dict.fromkeys(("macs", "bytes", "flops"), needed(NOT_NEGATIVE)),
    "counters": dict.fromkeys(("flops", "bytes", "flops_per_s", "bytes_per_s"), NOT_NEGATIVE),
    "grid": {
        "rows": needed(COUNT),
        "columns": needed(COUNT),
        "smallest": COUNTS,
        "max": needed(NOT_NEGATIVE),
        "gate": needed(POSITIVE),
        "exact": needed(FLAG),
    },
    "sphere": {
        "axis": needed(NUMBERS),
        "angles": needed(NUMBERS),
        "first": needed(TABLE),
        "multiplied_last": needed(TABLE),
        "multiplied_first": needed(TABLE),
    },
    "tetris": {
        "accuracy": needed(NOT_NEGATIVE),
        "confusion": needed(CONFUSION),
        "pieces": needed(TEXTS),
        "losses": needed(NUMBERS),
        "right": COUNTS,
        "step_s": needed(TIME),
        "steps": needed(COUNT),
        "layers": needed(COUNT),
        "parameters": COUNT,
        "gamma": COUNT,
        "equivariance": needed(NOT_NEGATIVE),
        "mirror_gap": needed(NOT_NEGATIVE),
        "pseudoscalar": needed(NOT_NEGATIVE),
        "start_pseudoscalar": NOT_NEGATIVE,
        "seen": ANSWERS,
        "seen_mirrored": ANSWERS,
        **STATES,
    },
    "potential": {
        "energy_mev": needed(BY_PART),
        "force_mev_per_a": needed(BY_PART),
        "mean_energy_mev": needed(BY_PART),
        "mean_force_mev_per_a": needed(BY_PART),
        "losses": needed(NUMBERS),
        "step_s": needed(TIME),
        "check_steps": needed(COUNTS),
        "check_s": needed(NUMBERS),
        "check_force_mev_per_a": needed(NUMBERS),
        "check_energy_mev": NUMBERS,
        "steps": needed(COUNT),
        "stopped_early": FLAG,
        "layers": COUNT,
        "power": needed(TEXT),
        "order": COUNT,
        "gamma": COUNT,
        "parameters": COUNT,
        **STATES,
    },
    "step-time": {
        "power": needed(TEXT),
        "median_s": needed(TIME),
        "samples_s": TIMES,
        "share": needed(NOT_NEGATIVE),
        "share_low": perhaps(NUMBER),
        "share_high": perhaps(NUMBER),
        "reference": needed(TEXT),
        "ratio": needed(POSITIVE),
        "low": perhaps(POSITIVE),
        "high": perhaps(POSITIVE),
        "word": TEXT,
        "floor": POSITIVE,
        "rounds": needed(COUNT),
        **STATES,
    },
    "roofline": {
        "copy_bytes_per_s": needed(POSITIVE),
        "matmul_flops_per_s": needed(BY_NAME),
        "fresh_bytes_per_s": POSITIVE,
    },
}
"""Measures, and what the keys of their results must hold; keys not named may hold anything."""


ENVIRONMENT = {
    **dict.fromkeys(("device_name", "device", "cpu", "source", "date", "implementation"), TEXT),
    **dict.fromkeys(("cores", "threads", "memory_bytes"), COUNT),
    "dirty": FLAG,
}
"""Of a manifest, what pages reckon with or lead with; null where nobody knows."""


def checked_result(measure: str, result: object) -> dict[str, Any]:
    """The result of a measure, without keys that are not known.

    Raises:
        RowError: Naming the first key that is wrong.
    """
    if not isinstance(result, dict):
        raise RowError("result", result, "be an object where the status is ok")
    rules = RESULTS[measure]
    kept = dict(result)
    for key, rule in rules.items():
        value = result.get(key)
        if value is None:
            if rule.needed and not (rule.null and key in result):
                raise RowError(f"result.{key}", value, f"be given for {measure}")
            if not rule.null:
                # Null stands for missing: nobody has to ask twice.
                kept.pop(key, None)
        elif not rule.holds(value):
            raise RowError(f"result.{key}", value, rule.says)
    return kept


def check_environment(environment: object) -> None:
    """Raise :class:`RowError` for a manifest that no page could list."""
    if not isinstance(environment, dict):
        raise RowError("environment", environment, "be an object")
    flags = environment.get("flags", {})
    if not isinstance(flags, dict):
        raise RowError("environment.flags", flags, "be an object")
    for name, value in environment.items():
        if isinstance(value, dict) and name != "flags":
            raise RowError(f"environment.{name}", value, "be a text, a number or a list of them")
    for name, rule in ENVIRONMENT.items():
        value = environment.get(name)
        if not (value is None or rule.holds(value)):
            raise RowError(f"environment.{name}", value, f"{rule.says}, or null")


def check_plain(name: str, value: object, depth: int = 0) -> None:
    """Raise :class:`RowError` for what JSON, SQLite or a page could not hold.

    Args:
        name: Field that the value belongs to.
        value: Plain values, nested.
        depth: How deep it is nested already.
    """
    if depth > MAX_DEPTH:
        raise RowError(name, "...", f"be nested at most {MAX_DEPTH} deep")
    if isinstance(value, dict):
        for key, inner in value.items():
            check_text(name, key)
            check_plain(name, inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_plain(name, inner, depth + 1)
    elif isinstance(value, str):
        check_text(name, value)
    elif not (value is None or isinstance(value, bool) or is_number(value)):
        raise RowError(name, value, "hold plain finite values only")


def check_text(name: str, text: object) -> None:
    """Raise :class:`RowError` for a text that cannot be written or shown."""
    if not isinstance(text, str):
        raise RowError(name, text, "be a text")
    if len(text) > MAX_TEXT:
        raise RowError(name, text, f"have at most {MAX_TEXT} characters")
    if any(unicodedata.category(c) in ("Cs", "Cc") and c not in "\n\t\r" for c in text):
        raise RowError(name, ascii(text), "hold no control characters or lone surrogates")


def check_name(name: str, text: object) -> None:
    """Raise :class:`RowError` for what is no name of one line."""
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_NAME or "\n" in text:
        raise RowError(name, text, f"be a text of one line, 1 to {MAX_NAME} characters")


def check_time(name: str, text: object) -> None:
    """Raise :class:`RowError` for what is no date with time in ISO 8601."""
    try:
        datetime.fromisoformat(text)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise RowError(name, text, "be a time such as 2026-01-31T12:00:00+00:00") from error


def _short(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a number of hundreds of digits" if abs(value) > 10**300 else "a very large number"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
