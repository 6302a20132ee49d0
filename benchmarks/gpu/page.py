"""The page that a file of rows becomes: what is wrong, the limits of the card, then the times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import quantiles

from benchmarks.gpu.steps import NO_TIME
from etp import presets
from etp.problem import ITEMSIZE, Problem
from etp.results.rows import Row
from etp.text import counted

TRAFFIC = {"forward": 1, "backward": 3, "double-backward": 6}
"""Least passes over inputs and outputs: derivatives read and write numbers of their sizes too."""


def page(rows: Sequence[Row]) -> str:
    """Markdown about all rows of a run, of which there is at least one."""
    left = [row for row in rows if (row.reason or "").startswith(NO_TIME)]
    done = [row for row in rows if row not in left]
    return (
        "\n".join([*_head(rows), *_left(left), *_wrong(done), *_tables(done), *_counters(done)])
        + "\n"
    )


def _head(rows: Sequence[Row]) -> Iterator[str]:
    about = rows[-1].environment
    card = about.get("device_name") or about.get("cpu") or "unknown device"
    # A rehearsal must not be taken for what a card does.
    rehearsed = all(Problem.from_dict(row.problem).device == "cpu" for row in rows)
    where = "Rehearsed on a processor, not on a GPU" if rehearsed else "On a GPU"
    yield f"# {where}: {card}"
    yield ""
    kept = ("torch", "triton", "cuda", "driver", "e3nn", "etp", "revision")
    said = [f"{name} {about[name]}" for name in kept if about.get(name)]
    yield f"{rows[0].created[:10]}; {', '.join(said)}; {len(rows)} rows."
    copy = _copy_rate(rows)
    if copy is not None:
        yield f"Copies {copy / 1e9:.0f} GB/s in this run."
    right = [row for row in rows if row.measure in ("agreement", "equivariance") and row.result]
    yield f"{len(right)} checks against the float64 oracle and under rotations passed."
    yield ""


def _copy_rate(rows: Sequence[Row]) -> float | None:
    """Bytes per second of a copy, the best of the run; None where nothing was copied."""
    roofs = [row for row in rows if row.measure == "roofline" and row.result]
    return max((float(row.measured["copy_bytes_per_s"]) for row in roofs), default=None)


def _left(rows: Sequence[Row]) -> Iterator[str]:
    for reason, count in Counter(row.reason for row in rows).items():
        yield f"Not done yet: {counted(count, 'step')}, {reason}."
        yield ""


def _wrong(rows: Sequence[Row]) -> Iterator[str]:
    bad = [row for row in rows if row.status != "ok"]
    if not bad:
        return
    yield "## What gave no result\n"
    yield "| product | measure | problem | status | reason |"
    yield "|---|---|---|---|---|"
    for row in bad:
        reason = (row.reason or "").replace("|", "/").replace("\n", " ")
        yield f"| {row.product} | {row.measure} | {_title(row)} | {row.status} | {reason} |"
    yield ""


def _tables(rows: Sequence[Row]) -> Iterator[str]:
    copy = _copy_rate(rows)
    timed = [row for row in rows if row.measure == "runtime" and row.result]
    for title in dict.fromkeys(_title(row) for row in timed):
        own = [row for row in timed if _title(row) == title and row.role in ("product", "power")]
        yield f"## {title}\n"
        yield "| product | ms | quartiles | to the first | of the copy |"
        yield "|---|---|---|---|---|"
        yield from _lines(own, copy)
        yield ""


def _lines(rows: Iterable[Row], copy: float | None) -> Iterator[str]:
    ordered = sorted(rows, key=lambda row: row.typical_s)
    first = ordered[0].typical_s
    for row in ordered:
        low, high = (1e3 * seconds for seconds in _quartiles(row))
        # What a power must move depends on its weights, which are not in the row.
        share = (
            ""
            if copy is None or row.role == "power"
            else f"{least_bytes(row) / copy / row.typical_s:.0%}"
        )
        yield (
            f"| {row.product} | {1e3 * row.typical_s:.3f} | {low:.3f} to {high:.3f} | "
            f"{row.typical_s / first:.2f} | {share} |"
        )


def _quartiles(row: Row) -> tuple[float, float]:
    """Of the same values that a row's time is the median of."""
    blocks = row.measured.get("blocks_s") or []
    if len(blocks) < 2:
        return float(row.measured["q25_s"]), float(row.measured["q75_s"])
    low, _, high = quantiles(blocks, n=4, method="inclusive")
    return low, high


def _counters(rows: Sequence[Row]) -> Iterator[str]:
    """What the card counted in one call beside what was counted from the form of each product."""
    seen = [row for row in rows if row.measure == "counters" and row.result]
    known = [row for row in rows if row.measure == "cost" and row.result]
    costs = {(row.product, _title(row)): row.measured for row in known}
    for title in dict.fromkeys(_title(row) for row in seen):
        yield f"## Counters of the card: {title}\n"
        yield "| product | MB moved | least MB | Mflop done | Mflop counted |"
        yield "|---|---|---|---|---|"
        for row in seen:
            if _title(row) == title:
                least = costs.get((row.product, title), {})
                values = [row.measured["bytes"], least.get("bytes"), row.measured["flops"],
                         least.get("flops")]  # fmt: skip
                cells = ("" if value is None else f"{value / 1e6:.3g}" for value in values)
                yield f"| {row.product} | {' | '.join(cells)} |"
        yield ""


def _title(row: Row) -> str:
    problem = Problem.from_dict(row.problem)
    if row.product.startswith("power "):
        return (
            f"Power of {problem.channels} channels of {problem.irreps1} to "
            f"{problem.filter_out or problem.irreps1}, {counted(problem.batch, 'node')}, "
            f"{problem.dtype}, {problem.direction}"
        )
    what = presets.named(problem) or (
        f"{problem.setting} lmax {problem.lmax}, {problem.channels} channels"
        if problem.setting else f"{problem.irreps1} by {problem.irreps2}"
    )  # fmt: skip
    return f"{what}, {problem.kind}, batch {problem.batch}, {problem.dtype}, {problem.direction}"


def least_bytes(row: Row) -> int:
    """Bytes that must cross the device's memory when every path is kept apart."""
    problem = Problem.from_dict(row.problem)
    weights = 0
    if problem.weights == "per-sample":
        copies = problem.copies()
        weights = problem.batch * sum(copies[ir] for ir, _, _ in problem.triples())
    passes = TRAFFIC[problem.direction]
    return passes * (problem.size().bytes + weights * ITEMSIZE[problem.dtype])
