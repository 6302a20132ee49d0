"""CSV files published with the paper (Xie et al., arXiv 2506.13523).

Columns ``lmax, irreps_type, tensor_product_type, batch, Time[, normalization]``, times in seconds.
They kept natural parities only, so SISO at odd lmax timed a product without any path: such rows are
read, and shown as invalid.
"""

from __future__ import annotations

import csv
import io
from pathlib import PurePath
from typing import Any, get_args

from etp.irreps import Setting
from etp.problem import Problem
from etp.results.formats.common import FormatError, foreign_row
from etp.results.rows import Row

COLUMNS = ("lmax", "irreps_type", "tensor_product_type", "batch", "Time")
PRODUCTS = {
    "CGTP-dense": "cg-dense",
    "CGTP-sparse": "cg-sparse",
    "GTP-grid": "gaunt-grid",
    "GTP-fourier": "gaunt-fourier-fft",
    "Matrix-TP": "matrix-block",
    "VGTP-grid": "vector-signal",
}


def matches(name: str, text: str) -> bool:
    """Whether this is a CSV file."""
    first = text.lstrip().partition("\n")[0]
    return PurePath(name).suffix == ".csv" or all(column in first for column in COLUMNS)


def read(name: str, text: str, context: str | None = None) -> list[Row]:
    """One runtime row for each line.

    Args:
        name: Name of the file.
        text: What it holds.
        context: What other files of the folder say of the device.
    """
    table = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    missing = [column for column in COLUMNS if column not in (table.fieldnames or [])]
    if missing:
        raise FormatError(
            name, f"has no column {missing[0]!r}; needed: {', '.join(COLUMNS)}", "line 1"
        )
    rows = [_row(name, f"line {table.line_num}", line) for line in table]
    if not rows:
        raise FormatError(name, "holds no measurement")
    return rows


def _row(name: str, place: str, line: dict[str, Any]) -> Row:
    lmax = int(_number(name, place, line, "lmax"))
    batch = int(_number(name, place, line, "batch"))
    seconds = _number(name, place, line, "Time")
    setting, kind = line["irreps_type"], line["tensor_product_type"]
    if setting not in get_args(Setting):
        raise FormatError(name, f"irreps_type must be SISO, SIMO or MIMO, got {setting!r}", place)
    if kind not in PRODUCTS:
        known = ", ".join(PRODUCTS)
        raise FormatError(name, f"tensor_product_type must be one of {known}, got {kind!r}", place)
    environment = {
        "source": "published with arXiv 2506.13523",
        "device": "cuda:0",
        "device_name": PurePath(name).stem,
        "implementation": kind,
        "normalization": line.get("normalization"),
    }
    empty = setting == "SISO" and lmax % 2 == 1
    # With natural parities only, an empty problem cannot be built: it is written out.
    problem = Problem.of_setting(
        setting, lmax, outputs="all" if empty else "natural", batch=batch, device="cuda:0"
    ).as_dict()
    if not empty:
        result = {"median_s": seconds, "role": "product"}
        return foreign_row(
            name, place, PRODUCTS[kind], problem, result, environment, badges=["no quartiles"]
        )
    problem |= {"outputs": "natural", "filter_out": f"{lmax}o"}
    sparse = kind.startswith("CGTP")
    return foreign_row(
        name, place, PRODUCTS[kind], problem, None, environment, status="invalid",
        badges=["empty output" if sparse else "identical zero"],
        reason=f"{lmax}o x {lmax}o -> {lmax}e only: odd times odd is even, so nothing of the "
        f"requested parity {lmax}o is left. {seconds:.3g} s timed "
        + ("a product without a path" if sparse else "an output that is always zero"),
    )  # fmt: skip


def _number(name: str, place: str, line: dict[str, Any], column: str) -> float:
    text = line.get(column)
    try:
        value = float(text or "")
    except ValueError as error:
        raise FormatError(name, f"{column} must be a number, got {text!r}", place) from error
    if not 0 <= value < float("inf") or (column != "lmax" and value == 0):
        raise FormatError(name, f"{column} must be positive and finite, got {text!r}", place)
    return value
