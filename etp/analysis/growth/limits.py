"""What limits a product: its place under the measured roofs of the device, and what else is known.

Operations and bytes are counted (the least that any implementation of it moves), not read from
counters, and for the forward call only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from etp.analysis.comparison import Comparison, ProductEntry
from etp.measure.flags import launch_bound
from etp.results.rows import Row

Word = Literal[
    "launch", "page faults", "cache", "count in doubt", "bytes", "arithmetic", "neither roof"
]  # fmt: skip
LIMIT_WORDS: dict[Word, str] = {
    "launch": "a call takes less than 20 µs or three empty calls, or handing over the work takes "
    "most of the time",
    "page faults": "new memory of the size that the call allocates would take at least half of "
    "the time to touch for the first time, at the rate measured here, and is too large for the "
    "allocator to keep",
    "cache": "it moves bytes faster than a copy of main memory does: its data stay in the cache",
    "count in doubt": "more counted operations in a second than the fastest matrix product did: "
    "some of them are not done, or the roof was measured while the device was slower",
    "bytes": "at least half of the copy roof",
    "arithmetic": "at least half of the matrix-product roof",
    "neither roof": "less than half of its roof: overhead, or more traffic than the least possible",
}
"""Each limit, and how it is told from the numbers; the first that holds is taken."""

NEAR = 0.5
"""Share of a roof from which on the roof is called the limit."""
KEPT_BYTES = 32 << 20
"""The C library gives blocks above this back at once (its largest mmap threshold), so that every
call meets new pages."""


@dataclass(frozen=True)
class Limit:
    """A product under the roofs.

    Attributes:
        intensity: Counted operations per least byte.
        flops_per_s: Counted operations per second.
        roof: The roof above it.
        share: Of that roof.
        word: What limits it; see :data:`LIMIT_WORDS`.
    """

    product: str
    intensity: float
    flops_per_s: float
    roof: Literal["bytes", "arithmetic"]
    share: float
    word: Word


def roofs_of(rows: Sequence[Row], comparison: Comparison) -> dict[str, float] | None:
    """Roofs measured on the device and with the threads of a comparison; None without any.

    Args:
        rows: Of one job or file; the last measurement counts.
        comparison: Names device and number type.

    Returns:
        ``copy_bytes_per_s``, ``matmul_flops_per_s`` and, where measured, ``fresh_bytes_per_s``.
    """
    wanted = _place(comparison.environment())
    for row in reversed(rows):
        if row.measure != "roofline" or row.status != "ok":
            continue
        result, dtype = row.measured, comparison.problem.dtype
        if _place(row.environment) == wanted and dtype in result["matmul_flops_per_s"]:
            roofs = {
                "copy_bytes_per_s": float(result["copy_bytes_per_s"]),
                "matmul_flops_per_s": float(result["matmul_flops_per_s"][dtype]),
            }
            if result.get("fresh_bytes_per_s"):
                roofs["fresh_bytes_per_s"] = float(result["fresh_bytes_per_s"])
            return roofs
    return None


def _place(environment: Mapping[str, object]) -> tuple[object, ...]:
    return tuple(environment.get(key) for key in ("device_name", "device", "threads"))


def limits(comparison: Comparison, roofs: Mapping[str, float]) -> list[Limit]:
    """Every timed product whose operations were counted, nearest to its roof first.

    Only forward calls have counted operations; of other directions nothing is said.
    """
    if comparison.problem.direction != "forward":
        return []
    # What does nothing, or moves nothing, has no roof.
    counted = [
        entry
        for entry in comparison.timed
        if min(entry.result("cost").get(key, 0) for key in ("flops", "bytes")) >= 1
    ]
    placed = [_limit(comparison, entry, roofs) for entry in counted]
    return sorted(placed, key=lambda limit: -limit.share)


def _limit(comparison: Comparison, entry: ProductEntry, roofs: Mapping[str, float]) -> Limit:
    cost, seconds = entry.result("cost"), entry.typical_s
    intensity = cost["flops"] / cost["bytes"]
    rate = cost["flops"] / seconds
    copy, peak = roofs["copy_bytes_per_s"] * intensity, roofs["matmul_flops_per_s"]
    roof: Literal["bytes", "arithmetic"] = "bytes" if copy < peak else "arithmetic"
    share = rate / min(copy, peak)
    word: Word = roof if share >= NEAR else "neither roof"
    if share > 1:
        word = "cache" if roof == "bytes" else "count in doubt"
    if _faults(entry, seconds, roofs.get("fresh_bytes_per_s")):
        word = "page faults"
    if _launches(comparison, entry, seconds):
        word = "launch"
    return Limit(entry.product, intensity, rate, roof, share, word)


def _faults(entry: ProductEntry, seconds: float, fresh: float | None) -> bool:
    size = entry.result("memory").get("peak_bytes") or 0
    return fresh is not None and size > KEPT_BYTES and size / fresh >= NEAR * seconds


def _launches(comparison: Comparison, entry: ProductEntry, seconds: float) -> bool:
    worn = entry.runtime is not None and "launch-bound" in entry.runtime["badges"]
    empty = entry.result("runtime").get("empty_s")
    return worn or (comparison.problem.device == "cpu" and launch_bound(seconds, empty) is not None)
