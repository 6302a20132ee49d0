"""Steps that write rows to a file: each done once, each failure a row, as many as there is time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from etp.problem import Problem
from etp.results.rows import Row
from etp.run.case.questions import make_row

DONE, LEFT, AGAIN = 0, 3, 4
"""Exit states of a part: all done; no time left; the driver of the card is broken for this process,
a new one can go on."""
BROKEN = ("CUDA error", "HIP error", "device-side assert", "misaligned address")
"""What a process whose card no longer answers says, to everything that is asked of it."""


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        name: What it is called in the list of what was done.
        problem: What its row of failure is about.
        product: Likewise.
        measure: Likewise.
        rows: Does it.
    """

    name: str
    problem: Problem
    product: str
    measure: str
    rows: Callable[[], Iterable[Row]]


class File:
    """Rows as they come, and beside them the names of the steps that were done.

    Args:
        path: JSON Lines that ``etp import`` reads.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._list = path, path.with_name(f"{path.name}.done")
        self._done = set(self._list.read_text().splitlines()) if self._list.exists() else set()

    def has(self, step: Step) -> bool:
        """Whether a step was done, now or earlier."""
        return step.name in self._done

    def keep(self, step: Step, rows: Iterable[Row]) -> None:
        """Write the rows of a step, then that it was done."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{row.to_json()}\n" for row in rows)
        with self._list.open("a", encoding="utf-8") as file:
            file.write(f"{step.name}\n")
        self._done.add(step.name)


def failure(step: Step, reason: str) -> Row:
    """Row that says why a step gave none."""
    return make_row(step.problem, step.product, step.measure, None, status="failed", reason=reason)


def carry_out(
    steps: Iterable[Step],
    file: File,
    budget_s: float,
    tell: Callable[[str], object] = print,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Do the steps that were not done yet, as long as there is time.

    Args:
        steps: In their order.
        file: Where rows go.
        budget_s: No step is begun after that many seconds.
        tell: Called with a line about each step.
        clock: Seconds.

    Returns:
        ``DONE``, ``LEFT`` or ``AGAIN``.
    """
    end = clock() + budget_s
    for step in steps:
        if file.has(step):
            continue
        if clock() >= end:
            tell(f"no time left for {step.name} and what follows: the same command goes on")
            return LEFT
        begun = clock()
        rows, reason = _tried(step)
        file.keep(step, rows)
        wrong = [row.reason for row in rows if row.status in ("failed", "invalid")]
        tell(f"{clock() - begun:6.1f} s  {step.name}" + "".join(f"\n          {w}" for w in wrong))
        if reason is not None and any(sign in reason for sign in BROKEN):
            return AGAIN
    return DONE


def _tried(step: Step) -> tuple[list[Row], str | None]:
    """Rows of a step, with one more that says why it ended early; and that reason."""
    rows: list[Row] = []
    try:
        for row in step.rows():
            rows.append(row)
    except Exception as error:  # Whatever a product, a peer or a driver raises.
        text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        return [*rows, failure(step, text)], text
    return rows, next((row.reason for row in rows if row.status == "failed"), None)


def once_under(tool: Sequence[str], device: str, product: str) -> subprocess.CompletedProcess[str]:
    """Call a product once in a process that a checker or a profiler looks at.

    Args:
        tool: Its command and options.
        device: Where.
        product: Name of the product.
    """
    call = ["-m", "benchmarks.gpu", "--device", device, "--once", product]
    return subprocess.run(
        [*tool, sys.executable, *call], capture_output=True, text=True, timeout=120
    )
