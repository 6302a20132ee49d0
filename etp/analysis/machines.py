"""Stored results as runs: what each was measured on, and two of them side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log, sqrt
from typing import Any, NamedTuple

import numpy as np

from etp.measure.statement import ALPHA, GUARD, MARGIN, MIN_ROUNDS
from etp.measure.statistic import estimate, interval, z_value
from etp.problem import Problem
from etp.results.rows import Row
from etp.text import speed_words

BETWEEN = log(1.1)
"""What the time of one product may differ by between two runs, of which neither run knows: another
clock, neighbours, memory laid out anew. Differences below are not decided without rounds in turns.
"""
SAME_MEMORY = 0.01
"""Relative: memories of two machines that differ by less are not told as a difference."""
NOT_DECIDED = (
    "not measured in interleaved rounds, so a difference below "
    f"{100 * (exp(BETWEEN) - 1):.0f} % between the runs is not decided"
)
SAME_MACHINE = (
    "machine", "os", "cpu", "cores", "memory_bytes", "threads", "device", "device_name", "driver",
    "cuda", "python", "torch", "e3nn", "numpy", "numba", "triton", "etp", "revision", "dirty",
    "implementation", "source",
)  # fmt: skip
"""Parts of a manifest that two machines are compared by."""


REFUSED = {"unavailable", "does not apply"}
"""Badges of products that were not run, and are not wrong."""


@dataclass
class Run:
    """Rows measured or imported together.

    Attributes:
        key: Job id, or a name made from the source for imported rows.
    """

    key: str
    title: str
    rows: list[Row] = field(default_factory=list)

    @property
    def stored(self) -> bool:
        """Whether it is a run of the store, with an address, and not rows that lie in a file."""
        return bool(self.rows) and self.rows[0].job is not None

    @property
    def timed(self) -> list[Row]:
        """Valid runtimes of products."""
        return [r for r in self.rows if r.measure == "runtime" and r.status == "ok"
                and r.role == "product"]  # fmt: skip

    @property
    def invalid(self) -> list[Row]:
        """Rows that are never ranked, each with its reason."""
        return [r for r in self.rows if r.status == "invalid"]

    @property
    def wrong(self) -> list[Row]:
        """Those of them that are not what they claim; what is not possible here claims nothing."""
        return [r for r in self.invalid if not REFUSED & set(r.badges)]

    @property
    def environment(self) -> dict[str, Any]:
        """Manifest of the first row that has one."""
        full = [row.environment for row in self.rows if len(row.environment) > 1]
        return dict(full[0]) if full else {}

    @property
    def machine(self) -> str:
        """Device and threads in words."""
        environment = self.environment
        name = str(
            environment.get("device_name")
            or environment.get("cpu")
            or environment.get("device", "")
        )
        threads = environment.get("threads")
        return name if threads is None else f"{name}, {threads} threads"

    @property
    def problem(self) -> str:
        """Settings, range of lmax and batches in words."""
        problems = [row.problem for row in self.rows]
        settings = sorted({p["setting"] or "typed irreps" for p in problems})
        degrees = sorted({p["lmax"] for p in problems})
        batches = sorted({p["batch"] for p in problems})
        lmax = f"{degrees[0]}" if len(degrees) == 1 else f"{degrees[0]} – {degrees[-1]}"
        batch = ", ".join(str(b) for b in batches[:3]) + (" …" if len(batches) > 3 else "")
        return f"{', '.join(settings)}, lmax {lmax}, batch {batch}"

    def counts(self) -> dict[str, int]:
        """Rows by status."""
        by_status: dict[str, int] = {}
        for row in self.rows:
            by_status[row.status] = by_status.get(row.status, 0) + 1
        return by_status


def runs(rows: Iterable[Row], titles: Mapping[str, str]) -> list[Run]:
    """Group rows by job, and rows without one by where they come from; newest first."""
    by_key: dict[str, Run] = {}
    for row in rows:
        key = row.job or _source(row)
        run = by_key.setdefault(key, Run(key, titles.get(key, key)))
        run.rows.append(row)
    return list(by_key.values())[::-1]


def _source(row: Row) -> str:
    environment = row.environment
    name = environment.get("source") or "imported"
    return f"{name}: {environment.get('device_name') or environment.get('cpu') or '?'}"


def matching(row: Row, text: str) -> bool:
    """Whether every word of a filter occurs in a row's product, problem or machine."""
    problem, environment = row.problem, row.environment
    parts = [
        row.product, row.measure, row.status, *row.badges, problem["setting"] or "",
        f"lmax {problem['lmax']}", f"batch {problem['batch']}", problem["dtype"],
        problem["device"], *(str(environment.get(key, "")) for key in SAME_MACHINE),
    ]  # fmt: skip
    hay = " ".join(str(part) for part in parts).lower()
    return all(word in hay for word in text.lower().split())


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Parts of two manifests that differ: name, value in A, value in B."""
    flat_a, flat_b = _flat(a), _flat(b)
    names = [n for n in (*SAME_MACHINE, *flat_a) if n in flat_a or n in flat_b]
    return [
        (name, str(flat_a.get(name, "?")), str(flat_b.get(name, "?")))
        for name in dict.fromkeys(names)
        if name not in ("date", "imported") and _differ(name, flat_a.get(name), flat_b.get(name))
    ]


def _differ(name: str, a: object, b: object) -> bool:
    """Whether two values are unlike; memory that firmware or a kernel keeps is no difference."""
    if name == "memory_bytes" and isinstance(a, int) and isinstance(b, int):
        return abs(a - b) > SAME_MEMORY * max(a, b)
    return a != b


def beside_words(line: Beside) -> str:
    """What B is against A, with the factor: ``1.3× slower``."""
    return speed_words(line.ratio) if line.word in ("faster", "slower") else line.word


def _flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    flags = {f"flags.{n}": v for n, v in environment.get("flags", {}).items()}
    return {n: v for n, v in environment.items() if n != "flags"} | flags


class Beside(NamedTuple):
    """The time of one product on one problem in two runs.

    Attributes:
        x: The problem's lmax.
        ratio: Time in A over time in B.
        low: Low end of its interval, 0 where nothing is known.
        high: High end.
        word: What B is against A.
        paired: Whether both were timed in the same interleaved rounds.
    """

    product: str
    x: int
    problem: str
    ratio: float
    low: float
    high: float
    word: str
    paired: bool


def side_by_side(a: Sequence[Row], b: Sequence[Row]) -> list[Beside]:
    """Runtimes of the same work in two runs.

    All intervals hold together at 95 %. Where the times do not come from the same rounds, an
    interval is that of two independent samples, wider by :data:`BETWEEN` on both sides: what the
    machine did between the runs is not in either of them.

    Args:
        a: Timed rows of the first run.
        b: Timed rows of the second.

    Examples:
        >>> from etp.results.reference import reference_rows
        >>> run = Run("r", "reference", reference_rows())
        >>> {line.word for line in side_by_side(run.timed, run.timed)}
        {'not decided'}
    """
    first = {_work(row): row for row in a}
    pairs = [(first[_work(row)], row) for row in b if _work(row) in first]
    return [_beside(other, row, ALPHA / len(pairs)) for other, row in pairs]


def usual_other(runs: Sequence[Run], run: Run) -> Run:
    """The run to compare another with where none was chosen: the newest that did the same work.

    Args:
        runs: Newest first; the last where none did.
        run: The other one.
    """
    done = {_work(row) for row in run.timed}
    others = [each for each in runs if each.key != run.key]
    return next((each for each in others if any(_work(r) in done for r in each.timed)), others[-1])


def _beside(other: Row, row: Row, error: float) -> Beside:
    paired = _in_turns(other, row)
    between = _paired if paired else unpaired
    center, low, high = between(other.measured, row.measured, error)
    return Beside(
        product=row.product,
        x=row.problem["lmax"],
        problem=_short(row.problem),
        ratio=exp(-center),
        low=exp(-high),
        high=exp(-low),
        word=_word(low, high) if paired else _unpaired_word(low, high),
        paired=paired,
    )


def _work(row: Row) -> tuple[Any, ...]:
    """What was multiplied and how, wherever it ran; rows of earlier versions have defaults."""
    return row.product, *Problem.from_dict(row.problem).work()


def name_of(problem: Mapping[str, Any]) -> str:
    """Setting and lmax in words."""
    return f"{problem['setting'] or 'typed irreps'}, lmax {problem['lmax']}"


def _short(problem: Mapping[str, Any]) -> str:
    name = problem["setting"] or f"{problem['irreps1']} x {problem['irreps2']}"
    return f"{name}, lmax {problem['lmax']}, batch {problem['batch']}, {problem['direction']}"


def unpaired(
    a: Mapping[str, Any], b: Mapping[str, Any], error: float = ALPHA
) -> tuple[float, float, float]:
    """Log ratio of times (b over a) and its interval from two runs at different times.

    Medians of block values, with standard errors from their median absolute deviations; without
    block values, quartile against quartile; without quartiles, no interval. Each end is moved out
    by :data:`BETWEEN`.

    Args:
        a: Result of the first run.
        b: Result of the second.
        error: Probability of missing the truth that is allowed inside the runs.
    """
    logs = [[log(t) for t in result.get("blocks_s", ())] for result in (a, b)]
    if min(len(values) for values in logs) >= MIN_ROUNDS:
        (center_a, error_a), (center_b, error_b) = (_median_error(values) for values in logs)
        center = center_b - center_a
        half = z_value(error) * sqrt(error_a**2 + error_b**2) + BETWEEN
        return center, center - half, center + half
    center = log(b["median_s"] / a["median_s"])
    quartiles = [result.get(key, 0) for result in (a, b) for key in ("q25_s", "q75_s")]
    if all(quartiles):
        low, high = log(quartiles[2] / quartiles[1]), log(quartiles[3] / quartiles[0])
        return center, low - BETWEEN, high + BETWEEN
    return center, float("-inf"), float("inf")


def _in_turns(a: Row, b: Row) -> bool:
    """Whether two rows were timed in the same interleaved rounds."""
    same = a.group is not None and a.group == b.group and a.id != b.id
    return same and len(a.measured.get("blocks_s", ())) == len(b.measured.get("blocks_s", ()))


def _paired(a: Mapping[str, Any], b: Mapping[str, Any], error: float) -> tuple[float, float, float]:
    """Log ratio of times (b over a) and its interval from differences inside rounds."""
    pairs = zip(a["blocks_s"], b["blocks_s"], strict=True)
    differences_ = np.array([log(second / first) for first, second in pairs])
    low, high = interval(differences_, error)
    return float(estimate(differences_)), float(low), float(high)


def _median_error(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    center = _median(ordered)
    spread = _median(sorted(abs(v - center) for v in ordered))
    # 1.4826 (deviation to sigma) times 1.2533 (standard error of a median) for normal noise.
    return center, 1.86 * spread / sqrt(len(ordered))


def _median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def _unpaired_word(low: float, high: float) -> str:
    """No word for a difference that two runs of one product can show; never "same"."""
    if low > 0:
        return "slower"
    return "faster" if high < 0 else "not decided"


def _word(low: float, high: float) -> str:
    if low > GUARD:
        return "slower"
    if high < -GUARD:
        return "faster"
    return "same" if low > -MARGIN and high < MARGIN else "not separable"
