"""What a terminal shows while something is measured, and the table of what came out."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import exp
from typing import Any

from etp.analysis.comparison import Comparison, ProductEntry
from etp.analysis.findings import finding
from etp.analysis.trust import trust
from etp.text import count_text, power_text, ratio_text, time_text

QUIET_S = 5.0
"""Nothing is said about what takes less."""


def table(comparison: Comparison) -> Iterator[str]:
    """Lines of a comparison: every product, its speed relative to the baseline, what to say."""
    speed = f"× {comparison.baseline}"
    yield f"{'product':24s}{'median':>10s}{speed:>16s}{'γ':>8s}{'error':>10s}  notes"
    for entry in comparison.entries:
        yield _line(comparison, entry)
    said = finding(comparison)
    yield said.heading
    if said.meaning:
        yield said.meaning
    facts = trust(comparison)
    if facts:
        yield ", ".join(fact.text for fact in facts)
    # What is well is said in numbers alone; what makes the verdict doubtful with what to do.
    yield from (f"{fact.text}: {fact.meaning}" for fact in facts if fact.doubtful)


def _line(comparison: Comparison, entry: ProductEntry) -> str:
    row = entry.runtime
    if row is None or row.status != "ok":
        reason = "not timed" if row is None else f"{row.status}: {row.reason}"
        return f"{entry.product:24s}{'':44s}  {reason}"
    verdict = comparison.judgement.verdicts.get(entry.product)
    ratio = "" if verdict is None else ratio_text(exp(-verdict.estimate))
    rank = entry.result("expressivity").get("rank")
    error = entry.result("equivariance").get("max")
    return (
        f"{entry.product:24s}{time_text(entry.typical_s):>10s}"
        f"{'1' if entry.product == comparison.baseline else ratio:>16s}"
        f"{'' if rank is None else count_text(rank):>8s}"
        f"{'' if error is None else power_text(error, 1):>10s}  {', '.join(row.badges)}"
    ).rstrip()


class Progress:
    """What is being done now, on one line of standard error; silent where nobody watches."""

    def __init__(self, head: str) -> None:
        self.head = head
        self._shown = sys.stderr.isatty()

    def event(self, event: Mapping[str, Any]) -> None:
        """Show an event of a running case."""
        if not self._shown:
            return
        if "round" in event:
            self._write(f"{self.head}, round {event['round']} of {event['rounds']}")
        elif "step" in event:
            where = f"step {event['step']} of {event['steps']}, loss {event['loss']:.3g}"
            self._write(f"{self.head}, {event['product']}, {where}")
        else:
            self._write(f"{self.head}, {event.get('stage', '')} {event.get('product', '')}")

    def done(self) -> None:
        """Leave the line as it should stay."""
        if self._shown:
            self._write("")
        print(self.head, file=sys.stderr)

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text[:100]}")
        sys.stderr.flush()


@contextmanager
def watched(activity: str) -> Iterator[None]:
    """Say on standard error, now and then, that something still goes on and for how long."""
    over = threading.Event()
    begun = time.monotonic()

    def tell() -> None:
        while not over.wait(QUIET_S):
            print(f"etp: {activity}, {time.monotonic() - begun:.0f} s so far", file=sys.stderr)

    thread = threading.Thread(target=tell, name="etp-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
