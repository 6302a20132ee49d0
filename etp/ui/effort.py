"""What a run takes, told before it begins: with what this server has measured so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etp.analysis.effort import Effort, Efforts
from etp.run.config import LimitError
from etp.ui import jobs
from etp.ui.kept import kept

LATEST = 300
"""Times of this server that estimates are corrected by."""


def of_cases(cases: Sequence[Mapping[str, Any]]) -> list[Effort]:
    """What each case takes, without kinds of cases that compare nothing."""
    compared = [case for case in cases if case.get("kind", "compare") == "compare"]
    known = {device: efforts(device) for device in {c["problem"]["device"] for c in compared}}
    return [_of_case(known[case["problem"]["device"]], case, None) for case in compared]


def of_case(case: Mapping[str, Any], round_s: float | None = None) -> Effort | None:
    """What a case takes; None for kinds of cases that compare nothing.

    Args:
        case: The case.
        round_s: Seconds of a round where earlier rounds of it say them.
    """
    if case.get("kind", "compare") != "compare":
        return None
    return _of_case(efforts(str(case["problem"]["device"])), case, round_s)


@kept(500)
def _of_case(estimates: Efforts, case: Mapping[str, Any], round_s: float | None) -> Effort:
    return estimates.case(case, round_s)


def efforts(device: str) -> Efforts:
    """Estimates for a device of this server."""
    return _efforts(device, jobs.runner().devices().get(device), jobs.store().revision())


@kept(10)
def _efforts(device: str, name: str | None, revision: int) -> Efforts:
    rows = jobs.store().latest("runtime", LATEST)
    return Efforts(
        row
        for row in rows
        if row.environment.get("device_name") == name and row.problem["device"] == device
    )


def check_time(cases: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a case that this server would stop before it has ended.

    Raises:
        LimitError: With the estimate, and a batch that fits.
    """
    most = jobs.runner().limits.case_seconds
    if most is None:
        return
    for case in cases:
        estimate = of_case(case)
        if estimate is None or estimate.seconds <= most:
            continue
        problem = case["problem"]
        batch = _batch_within(case, most)
        mend = "choose a smaller lmax or fewer products" if batch is None else f"batch {batch} fits"
        raise LimitError(
            f"case_seconds must be at most {most} here, and lmax {problem['lmax']} at batch "
            f"{problem['batch']} takes about {estimate.seconds:.0f} s: {mend}",
            batch,
        )


def _batch_within(case: Mapping[str, Any], most: float) -> int | None:
    """The largest of the batch's halves that takes no longer; None if none does."""
    batch = int(case["problem"]["batch"]) // 2
    while batch:
        tried = of_case({**case, "problem": case["problem"] | {"batch": batch}})
        if tried is not None and tried.seconds <= most:
            return batch
        batch //= 2
    return None


def available(products: Sequence[str]) -> tuple[str, ...]:
    """Those of some products that can run here; all while nobody knows yet."""
    missing = {
        entry.name for entry in jobs.catalog().entries(wait_s=0.05) if entry.unavailable is not None
    }
    return tuple(name for name in products if name not in missing) or tuple(products)
