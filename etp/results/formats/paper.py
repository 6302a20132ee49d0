"""CSV files published with the paper (Xie et al., arXiv 2506.13523).

Columns ``lmax, irreps_type, tensor_product_type, batch``, and at least one of ``Time`` or
``wall_time_cpu`` (seconds), ``all GFLOPs`` and ``GB`` (both in units of 2^30), ``flops``. Their
code is their own, in JAX; a product that is none of ours keeps its own name.

They kept natural parities only, so SISO at odd lmax timed a product without any path: such rows are
read, and shown as invalid.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, get_args

from etp.irreps import Setting
from etp.problem import Problem
from etp.results.formats.common import FormatError, foreign_row
from etp.results.rows import Row

COLUMNS = ("lmax", "irreps_type", "tensor_product_type", "batch")
TIMES = ("Time", "wall_time_cpu")
COUNTERS = {"flops": ("flops", 1), "all GFLOPs": ("flops", 1 << 30), "GB": ("bytes", 1 << 30)}
"""What each column counts, and in units of what."""
PRODUCTS = {
    "CGTP-dense": "cg-dense",
    "CGTP-sparse": "cg-sparse",
    "GTP-grid": "gaunt-grid",
    "GTP-fourier": "gaunt-fourier-direct",
    "Matrix-TP": "matrix-block",
    "VGTP-grid": "vector-signal",
}
DEVICES = {"a100": "NVIDIA A100", "rtx": "NVIDIA RTX A5500"}
"""Devices by what their files are called."""


def matches(name: str, text: str) -> bool:
    """Whether this is a CSV file."""
    first = text.lstrip().partition("\n")[0]
    return PurePath(name).suffix == ".csv" or all(column in first for column in COLUMNS)


def read(name: str, text: str, context: str | None = None) -> Iterator[Row | FormatError]:
    """Rows of each line: a runtime, counters, or both; what a line lacks is an error.

    Args:
        name: Name of the file.
        text: What it holds.
        context: What other files of the folder say of the device.
    """
    table = csv.DictReader(io.StringIO(text, newline=None), skipinitialspace=True)
    try:
        columns = table.fieldnames or []
        missing = [column for column in COLUMNS if column not in columns]
        measured = [*TIMES, *COUNTERS]
        if not missing and not set(measured) & set(columns):
            missing = [" or ".join(measured)]
        if missing:
            raise FormatError(
                name,
                f"has no column {missing[0]!r}; needed: {', '.join(COLUMNS)} and one of "
                f"{', '.join(measured)}",
                "line 1",
            )
        machine, empty = _machine(name, columns), True
        for line in table:
            empty = False
            try:
                yield from _rows(name, f"line {table.line_num}", line, machine)
            except FormatError as error:
                yield error
    except csv.Error as error:
        raise FormatError(name, f"is no CSV: {error}", f"line {table.line_num}") from error
    if empty:
        raise FormatError(name, "holds no measurement")


def _machine(name: str, columns: Any) -> dict[str, Any]:
    """What the file says of its device: by its columns, else by its name."""
    stem = PurePath(name).stem
    lowered = stem.lower()
    if "wall_time_cpu" in columns or "cpu" in lowered:
        return {"device": "cpu", "device_name": f"processor not stated ({stem})"}
    known = next((full for part, full in DEVICES.items() if part in lowered), stem)
    return {"device": "cuda:0", "device_name": known}


def _rows(name: str, place: str, line: dict[str, Any], machine: dict[str, Any]) -> Iterator[Row]:
    if None in line:
        raise FormatError(name, "has more cells than columns: is a decimal comma in it?", place)
    lmax, batch = (_whole(name, place, line, column) for column in ("lmax", "batch"))
    setting, kind = line["irreps_type"], line["tensor_product_type"]
    if setting not in get_args(Setting):
        raise FormatError(name, f"irreps_type must be SISO, SIMO or MIMO, got {setting!r}", place)
    if not kind:
        raise FormatError(name, f"tensor_product_type must be a name, got {kind!r}", place)
    environment = machine | {
        "source": "published with arXiv 2506.13523",
        "implementation": kind,
        "normalization": line.get("normalization"),
    }
    empty = setting == "SISO" and lmax % 2 == 1
    try:
        # With natural parities only, an empty problem cannot be built: it is written out.
        problem = Problem.of_setting(
            setting, lmax, outputs="all" if empty else "natural", batch=batch,
            device=machine["device"],
        ).as_dict()  # fmt: skip
    except ValueError as error:
        raise FormatError(name, str(error), place) from error
    if empty:
        problem |= {"outputs": "natural", "filter_out": f"{lmax}o"}
    for measure, result in _measured(name, place, line).items():
        badges: tuple[str, ...] = ("no quartiles",) if measure == "runtime" else ()
        reason = None
        if empty:
            badges, reason = _emptiness(lmax, kind, measure)
        yield foreign_row(
            name, f"{place} {measure}", PRODUCTS.get(kind, kind), problem,
            None if empty else result, environment, measure=measure,
            status="invalid" if empty else "ok", badges=badges, reason=reason,
        )  # fmt: skip


def _measured(name: str, place: str, line: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Results of a line by measure."""
    results: dict[str, dict[str, Any]] = {}
    for column in TIMES:
        if line.get(column):
            seconds = _number(name, place, line, column)
            results["runtime"] = {"median_s": seconds, "role": "product"}
    counted = {
        key: round(_number(name, place, line, column) * unit)
        for column, (key, unit) in COUNTERS.items()
        if line.get(column)
    }
    if counted:
        results["counters"] = counted
    if not results:
        raise FormatError(name, f"has no number in {', '.join([*TIMES, *COUNTERS])}", place)
    return results


def _emptiness(lmax: int, kind: str, measure: str) -> tuple[tuple[str, ...], str]:
    paths = kind.startswith("CGTP")
    what = "timed" if measure == "runtime" else "counted"
    return ("empty output" if paths else "identical zero",), (
        f"{lmax}o x {lmax}o -> {lmax}e only: odd times odd is even, so nothing of the requested "
        f"parity {lmax}o is left; what was {what} is "
        + ("a product without a path" if paths else "an output that is always zero")
    )


def _whole(name: str, place: str, line: dict[str, Any], column: str) -> int:
    value = _number(name, place, line, column)
    if value != int(value):
        text = line.get(column)
        raise FormatError(name, f"{column} must be a whole number, got {text!r}", place)
    return int(value)


def _number(name: str, place: str, line: dict[str, Any], column: str) -> float:
    text = line.get(column)
    short = repr(text)[:60]
    try:
        value = float(text or "")
    except ValueError as error:
        raise FormatError(name, f"{column} must be a number, got {short}", place) from error
    if not 0 <= value < 1e300 or (column != "lmax" and value == 0):
        raise FormatError(name, f"{column} must be positive and finite, got {short}", place)
    return value
