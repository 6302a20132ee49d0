"""Steps that write rows to a file: each done once, each failure a row, as many as there is time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.gpu.plan import Turn
from etp.problem import Problem
from etp.results.rows import Row
from etp.run.case.questions import make_row
from etp.run.devices import lost_context

DONE, LEFT, AGAIN = 0, 3, 4
"""Exit states of a part: all done; no time left; the driver of the card is broken for this process,
a new one can go on."""
NO_TIME = "no time left"
LATELY = 5
"""Steps whose longest is what the next one is expected to take."""
MOST_TRIES = 6
"""Processes that a step may use up that goes on without what broke the one before."""
LEAST_S = 10.0
"""Shortest turn of a step that plans its own: with less, it is left to the next run."""


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        name: What it is called in the list of what was done.
        problem: What its row of failure is about.
        product: Likewise.
        measure: Likewise.
        rows: Does it; takes a :class:`Turn` if ``planned``.
        planned: Whether it makes do with the time that it is given.
    """

    name: str
    problem: Problem
    product: str
    measure: str
    rows: Callable[..., Iterable[Row]]
    planned: bool = False


class File:
    """Rows as they come, and beside them what was begun and done, and how long that took.

    Args:
        path: JSON Lines that ``etp import`` reads.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._list = path, path.with_name(f"{path.name}.done")
        self._done: set[str] = set()
        self._tries = Counter[str]()
        self._trying: dict[str, str] = {}
        self._lost: dict[str, Counter[str]] = {}
        for line in self._list.read_text().splitlines() if self._list.exists() else ():
            word, name = line.split(" ", 1)
            if word == "begun":
                self._tries[name] += 1
                self._count_lost(name)
            elif word == "trying":
                step, _, what = name.partition("\t")
                self._trying[step] = what
            else:
                self._done.add(name)

    def has(self, step: Step) -> bool:
        """Whether a step was done, now or earlier."""
        return step.name in self._done

    def tries(self, step: Step) -> int:
        """How often a step was begun."""
        return self._tries[step.name]

    def begin(self, step: Step) -> None:
        """Say that a step is under way: where its process dies, the next one knows in which."""
        self._count_lost(step.name)
        self._note("begun", step.name)
        self._tries[step.name] += 1

    def turn(self, step: Step, seconds: float, times: int) -> Turn:
        """The turn of a step that was begun.

        Args:
            step: Which.
            seconds: What it may take.
            times: How often a process must have ended in something for it to be left out.
        """
        lost = self._lost.get(step.name, Counter())
        return Turn(
            seconds, frozenset(what for what, count in lost.items() if count >= times),
            lambda what: self._note("trying", f"{step.name}\t{what}"),
        )  # fmt: skip

    def keep(self, step: Step, rows: Iterable[Row]) -> None:
        """Write the rows of a step, then that it was done."""
        self.add(rows)
        self._note("done", step.name)
        self._done.add(step.name)

    def add(self, rows: Iterable[Row]) -> None:
        """Write rows."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{row.to_json()}\n" for row in rows)

    def without(self, reason: str) -> None:
        """Take out rows that only said what is still to be done, and a line that was cut off."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and _reason(line) != reason]
        if len(kept) < len(lines):
            new = self.path.with_name(f"{self.path.name}.new")
            new.write_text("".join(kept), encoding="utf-8")
            new.replace(self.path)

    def _count_lost(self, name: str) -> None:
        """What was under way in a step that is begun again did not end."""
        if (tried := self._trying.pop(name, None)) is not None:
            self._lost.setdefault(name, Counter())[tried] += 1

    def _note(self, word: str, name: str) -> None:
        with self._list.open("a", encoding="utf-8") as file:
            file.write(f"{word} {name}\n")


def _reason(line: str) -> object:
    return json.loads(line)["reason"]


def failure(step: Step, reason: str, status: str = "failed") -> Row:
    """Row that says why a step gave none."""
    return make_row(step.problem, step.product, step.measure, None, status=status, reason=reason)


def no_time(part: str) -> str:
    """Reason of the rows of steps that are left to the next run."""
    return f"{NO_TIME}: run --part {part} again"


def carry_out(
    steps: Iterable[Step],
    file: File,
    budget_s: float,
    part: str,
    tell: Callable[[str], object] = print,
    clock: Callable[[], float] = time.monotonic,
    died: str | None = None,
) -> int:
    """Do the steps that were not done yet, as long as there is time.

    A step is begun if the longest of the last few would still end in time; one that plans its own
    has an equal share of what time is left. What is left has a row that says so, until the next run
    takes it up.

    Args:
        steps: In their order.
        file: Where rows go.
        budget_s: Seconds.
        part: What to run again.
        tell: Called with a line about each step.
        clock: Seconds.
        died: What became of a process that died in a step; None where it was only stopped: that
            step is tried once more.

    Returns:
        ``DONE``, ``LEFT`` or ``AGAIN``.
    """
    end, lately, left = clock() + budget_s, deque[float](maxlen=LATELY), list[Step]()
    # How much longer a step took than its turn, at the most.
    beyond = 0.0
    file.without(no_time(part))
    open_ = [step for step in steps if not file.has(step)]
    for number, step in enumerate(open_):
        if (lost := _lost(file, step, died)) is not None:
            tell(f"   lost  {step.name}: {lost}")
            file.keep(step, [failure(step, lost)])
            continue
        begun = clock()
        share = max(LEAST_S, (end - begun) / (len(open_) - number) - beyond)
        needed = LEAST_S + beyond if step.planned else max(lately, default=0.0)
        if left or end <= begun or begun + needed > end:
            left.append(step)
            continue
        file.begin(step)
        turn = file.turn(step, share, 1 if died is not None else 2)
        rows, reason = _tried(partial(step.rows, turn) if step.planned else step.rows, step)
        file.keep(step, rows)
        took = clock() - begun
        if step.planned:
            beyond = max(beyond, took - share)
        else:
            lately.append(took)
        wrong = [row.reason for row in rows if row.status in ("failed", "invalid")]
        tell(f"{took:6.1f} s  {step.name}" + "".join(f"\n          {w}" for w in wrong))
        if reason is not None and lost_context(reason):
            return AGAIN
    if not left:
        return DONE
    file.add(failure(step, no_time(part), "cancelled") for step in left)
    tell(f"{no_time(part)} ({len(left)} left, {left[0].name} first)")
    return LEFT


def _lost(file: File, step: Step, died: str | None) -> str | None:
    """Why a step that was begun and not done is not tried again.

    One that says what it tries goes on without that.
    """
    tries = file.tries(step)
    if step.planned:
        return died if tries > MOST_TRIES else None
    if tries and died is not None:
        return died
    return f"it did not end before its process was stopped, {tries} times" if tries > 1 else None


def _tried(ask: Callable[[], Iterable[Row]], step: Step) -> tuple[list[Row], str | None]:
    """Rows of a step, with one more that says why it ended early; and the reason of a failure."""
    rows: list[Row] = []
    try:
        for row in ask():
            rows.append(row)
    except Exception as error:  # Whatever a product, a peer or a driver raises.
        text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        return [*rows, failure(step, text)], text
    reasons = [str(row.reason) for row in rows if row.status == "failed"]
    return rows, "; ".join(reasons) or None


def once_under(
    tool: Sequence[str], device: str, product: str, problem: Problem | None = None
) -> subprocess.CompletedProcess[str]:
    """Call a product once in a process that a checker or a profiler looks at.

    Args:
        tool: Its command and options.
        device: Where.
        product: Name of the product.
        problem: What it is called on; a small one of each kind where None.
    """
    call = ["-m", "benchmarks.gpu", "--device", device, "--once", product]
    if problem is not None:
        call += ["--problem", json.dumps(problem.as_dict())]
    return subprocess.run(
        [*tool, sys.executable, *call], capture_output=True, text=True, timeout=120
    )
