"""GPU times published with the paper (Xie et al., arXiv 2506.13523): figures of others, as data.

``data/published.csv`` holds figures from the paper's repository (atomicarchitects/PriceofFreedom,
commit a7dbecc, ``benchmarking/csv``), of the authors' own implementations in JAX: on an RTX A5500
the time of kernels under a profiler (``nsight_profiling_RTX.csv``, batch 10000; of what it lists
twice the first), on an A100 wall time (``walltime_gpu_A100.csv``, batch 1000). They are one number
for each case, without spread: they are shown, and never ranked against rows measured here.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from etp.problem import Problem
from etp.results.formats.common import foreign_row
from etp.results.formats.paper import PRODUCTS
from etp.results.rows import Row

PATH = Path(__file__).resolve().parent / "data" / "published.csv"
SOURCE = "published with arXiv 2506.13523"
BADGE = "published"
HOW = {
    "NVIDIA RTX A5500": "time of kernels under a profiler",
    "NVIDIA A100": "wall time",
}
_SET_UP_TIMED = (
    "its time hardly depends on lmax, or is hundreds of times that of the same product on the RTX "
    "A5500: more than the product was timed"
)


@cache
def published_rows() -> list[Row]:
    """Every published row; those that timed something else are invalid, with the reason.

    Examples:
        >>> sorted({row.environment["device_name"] for row in published_rows()})
        ['NVIDIA A100', 'NVIDIA RTX A5500']
    """
    with PATH.open(encoding="utf-8", newline="") as file:
        return [_row(number, line) for number, line in enumerate(csv.DictReader(file), 2)]


@cache
def published_of(key: str) -> list[Row]:
    """Rows of one device, by the name that :func:`key_of` gives it; none for another name."""
    return [row for row in published_rows() if key_of(row) == key]


@cache
def published_keys() -> list[str]:
    """Names of the published runs."""
    return list(dict.fromkeys(key_of(row) for row in published_rows()))


def key_of(row: Row) -> str:
    """Name of the published run that a row belongs to, as an address has it."""
    return f"{BADGE}: {row.environment['device_name']}"


def _row(number: int, line: dict[str, str]) -> Row:
    setting, kind, device = line["setting"], line["product"], line["device"]
    lmax, seconds = int(line["lmax"]), float(line["microseconds"]) * 1e-6
    empty = setting == "SISO" and lmax % 2 == 1
    problem = Problem.of_setting(
        setting,  # type: ignore[arg-type]
        lmax,
        # With natural parities alone an empty problem cannot be built: it is written out.
        outputs="all" if empty else "natural",
        batch=int(line["batch"]),
        device="cuda:0",
    ).as_dict()
    environment = {
        "source": SOURCE, "device": "cuda:0", "device_name": device, "implementation": kind,
        "timed": HOW[device], "published_s": seconds,
    }  # fmt: skip
    badges, reason = _doubt(lmax, kind, device, empty=empty)
    if empty:
        problem |= {"outputs": "natural", "filter_out": f"{lmax}o"}
    result = {"median_s": seconds, "role": "product"} if reason is None else None
    return foreign_row(
        PATH.name, f"line {number}", PRODUCTS[kind], problem, result, environment,
        status="ok" if reason is None else "invalid", reason=reason,
        badges=[BADGE, *badges, *(["no quartiles"] if reason is None else [])],
    )  # fmt: skip


def _doubt(lmax: int, kind: str, device: str, *, empty: bool) -> tuple[list[str], str | None]:
    """What a row is not, and why."""
    if empty:
        badge = "empty output" if kind.startswith("CGTP") else "identical zero"
        return [badge], (
            f"{lmax}o x {lmax}o -> {lmax}e only: odd times odd is even, so nothing of the "
            f"requested parity {lmax}o is left"
        )
    if device == "NVIDIA A100" and kind.startswith("GTP"):
        return ["set-up timed"], _SET_UP_TIMED
    return [], None
