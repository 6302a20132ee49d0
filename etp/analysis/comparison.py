"""Rows put side by side: what each product does, how long it takes, and what may be said about it.

Words are computed here, when rows are read: only products that passed every check, timed in the
same rounds, enter a ranking, a verdict or a front.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import exp, isfinite
from typing import Any

import numpy as np

from etp.analysis.operation import Operation, same_operation
from etp.measure.clock import block_s
from etp.measure.flags import Flag, ratio_moved, run_flags
from etp.measure.state import state_flags
from etp.measure.verdict import Board, Floor, Verdict, front
from etp.problem import Problem
from etp.results.rows import Row

USUAL_BASELINE = "e3nn"
"""What people have: comparisons are told against it where nothing else is chosen."""


@dataclass
class ProductEntry:
    """All that is known of one product on one problem: the last row of each measure.

    Attributes:
        looks: Runtimes of the same rounds, first to last.
    """

    product: str
    rows: dict[str, Row] = field(default_factory=dict)
    looks: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Take in a row; rounds that were added to earlier ones count together with them."""
        known = self.rows.get(row.measure)
        # What was cancelled says nothing about what was measured before.
        if row.status == "cancelled" and known is not None:
            return
        self.rows[row.measure] = row
        if row.measure == "runtime":
            more = known is not None and row.group is not None and known.group == row.group
            self.looks = [*self.looks, row] if more else [row]

    @property
    def blocks_s(self) -> list[float]:
        """Block values of all its rounds: what verdicts, tables and charts rest on alike.

        Empty for what something else measured.
        """
        return [block for row in self.looks for block in row.measured.get("blocks_s", ())]

    @property
    def typical_s(self) -> float:
        """Time of a call: the median of its block values; without them, the median of all calls."""
        return float(np.median(self.blocks_s or [self.result("runtime")["median_s"]]))

    @property
    def quartiles_s(self) -> tuple[float | None, float | None]:
        """Quartiles of what :attr:`typical_s` is the median of; None where they are not known."""
        blocks, result = self.blocks_s, self.result("runtime")
        if not blocks:
            return result.get("q25_s"), result.get("q75_s")
        return float(np.quantile(blocks, 0.25)), float(np.quantile(blocks, 0.75))

    def result(self, measure: str) -> dict[str, Any]:
        """Result of a measure, empty where it was not measured or is not valid."""
        row = self.rows.get(measure)
        return row.measured if row is not None else {}

    @property
    def runtime(self) -> Row | None:
        """Row of the runtime."""
        return self.rows.get("runtime")

    @property
    def row(self) -> Row:
        """Row of the runtime; where none was asked for, of the first measure that was."""
        return self.runtime or next(iter(self.rows.values()))

    @property
    def valid(self) -> bool:
        """Whether it was timed: it passed every check and was not stopped before a round."""
        return self.runtime is not None and self.runtime["status"] == "ok"

    @property
    def title(self) -> str:
        """Name for people, the product's own where it was measured."""
        return str(self.result("interactions").get("title", self.product))

    @property
    def operation(self) -> Operation | None:
        """What it computes, None where its interactions were not measured."""
        reached = self.result("interactions")
        if "coefficients" not in reached:
            return None
        return Operation.of_result(reached)


@dataclass(frozen=True)
class Judgement:
    """What the rounds of a comparison say.

    Attributes:
        verdicts: For each product its verdict against the baseline; without the baseline.
        pairs: Verdicts of all pairs, each once: what the second product is against the first.
        fronts: Place of each product against time and expressivity.
        floor: Interval of the twin's ratio, None without a twin.
        rounds: Rounds behind the verdicts.
        looks: Looks so far; the next one has this number.
        round_s: What one more round costs.
        flags: What was odd about the run.
        moved: Products whose ratio was another one in the second half of the run.
    """

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    pairs: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    fronts: dict[str, str | None] = field(default_factory=dict)
    floor: tuple[float, float] | None = None
    rounds: int = 0
    looks: int = 0
    round_s: float = 0.0
    flags: tuple[Flag, ...] = ()
    moved: dict[str, Flag] = field(default_factory=dict)

    @property
    def needed(self) -> int | None:
        """Rounds in total that would settle what is open; None where nothing can be settled."""
        wanted = [v.needed for v in self.verdicts.values() if v.needed is not None]
        return max(wanted) if wanted else None


@dataclass
class Comparison:
    """Products on one problem on one device.

    Attributes:
        baseline: The product that ratios and words refer to.
    """

    problem: Problem
    entries: list[ProductEntry]
    baseline: str
    runs: list[Row]

    @cached_property
    def judgement(self) -> Judgement:
        """Verdicts, computed when first asked for."""
        return _judge(self)

    @property
    def group(self) -> str | None:
        """Run of rounds that the baseline was timed in."""
        base = self.entry(self.baseline).runtime
        return base.group if base is not None and base.status == "ok" else None

    def entry(self, product: str) -> ProductEntry:
        """Entry of a product; ``KeyError`` if it is not there."""
        for entry in self.entries:
            if entry.product == product:
                return entry
        raise KeyError(product)

    @property
    def timed(self) -> list[ProductEntry]:
        """Entries that were timed."""
        return [entry for entry in self.entries if entry.valid]

    def same(self, product: str) -> bool:
        """Whether a product does the same operation as the baseline."""
        ours, theirs = self.entry(self.baseline).operation, self.entry(product).operation
        if product == self.baseline:
            return True
        return ours is not None and theirs is not None and same_operation(ours, theirs)

    def of(self, products: Collection[str]) -> Comparison:
        """The same rounds and verdicts, shown for some products beside the baseline.

        Itself where none of them was timed.
        """
        kept = [e for e in self.entries if e.product in products or e.product == self.baseline]
        if not any(e.valid and e.product != self.baseline for e in kept):
            return self
        names, judged = {e.product for e in kept}, self.judgement
        made = replace(self, entries=kept)
        # Verdicts stay those of all that was timed: another board would need other bounds.
        made.__dict__["judgement"] = replace(
            judged,
            verdicts={p: v for p, v in judged.verdicts.items() if p in names},
            pairs={pair: v for pair, v in judged.pairs.items() if names.issuperset(pair)},
            moved={p: flag for p, flag in judged.moved.items() if p in names},
            fronts=self._fronts(names),
        )
        return made

    def _fronts(self, shown: Collection[str]) -> dict[str, str | None]:
        """Places on the front of the products shown: one that is not shown beats nobody."""
        judged = self.judgement
        slots = list(judged.fronts)
        numbers = {name: slot for slot, name in enumerate(slots)}
        verdicts = [
            replace(verdict, a=numbers[a], b=numbers[b]) for (a, b), verdict in judged.pairs.items()
        ]
        values = [
            self.entry(name).result("expressivity").get("rank") if name in shown else None
            for name in slots
        ]
        places = zip(slots, front(verdicts, values), strict=True)
        return {name: place for name, place in places if name in shown}

    def environment(self) -> dict[str, Any]:
        """Manifest of the timed rows."""
        for entry in [*self.timed, *self.entries]:
            for row in entry.rows.values():
                return dict(row.environment)
        return {}


def comparisons(rows: Iterable[Row], baseline: str | None = None) -> list[Comparison]:
    """Group rows by problem, in the order they came, with verdicts against a baseline.

    Args:
        rows: Of one or several jobs; of a problem measured twice the last run counts.
        baseline: Product that words refer to; by default :data:`USUAL_BASELINE` where it was
            timed, else the reference of the run.

    Examples:
        >>> from etp.results.reference import reference_rows
        >>> comparison = comparisons(reference_rows())[0]
        >>> comparison.problem.setting, comparison.baseline in comparison.judgement.verdicts
        ('MIMO', False)
    """
    by_problem: dict[str, list[Row]] = {}
    for row in rows:
        if row.measure != "roofline":
            # A file may hold the fields of a problem in any order.
            problem = sorted(row.problem.items())
            key = json.dumps([problem, row.environment.get("device_name")])
            by_problem.setdefault(key, []).append(row)
    return [
        comparison for group in by_problem.values() if (comparison := _compared(group, baseline))
    ]


def _compared(rows: Sequence[Row], baseline: str | None) -> Comparison | None:
    try:
        problem = Problem.from_dict(rows[0]["problem"])
    except ValueError:
        # An imported row of an empty problem: the results page lists it with its reason.
        return None
    entries: dict[str, ProductEntry] = {}
    for row in rows:
        if row.role == "product":
            entries.setdefault(row.product, ProductEntry(row.product)).add(row)
    timed = [entry for entry in entries.values() if entry.valid]
    reference = next((str(e.result("runtime").get("reference", "")) for e in timed), "")
    names = [entry.product for entry in timed] or list(entries)
    if not names:
        # Twins alone, as of a file that was cut: there is nothing that they are twins of.
        return None
    chosen = next(
        (name for name in (baseline, USUAL_BASELINE, reference) if name in names), names[0]
    )
    runs = [row for row in rows if row.measure == "runtime" and row.status == "ok"]
    return Comparison(problem, list(entries.values()), chosen, runs)


def _judge(comparison: Comparison) -> Judgement:
    """Verdicts, front and flags of the products timed in the same rounds as the baseline."""
    group = comparison.group
    if group is None:
        return Judgement()
    # A file may leave block values out: what has none was not timed in rounds.
    members = [r for r in comparison.runs if r.group == group and r.measured.get("blocks_s")]
    looks = sorted({row.measured.get("look", 0) for row in members})
    names = [e.product for e in comparison.timed if _has_all(members, e.product, looks)]
    if not looks or comparison.baseline not in names:
        return Judgement()
    twin_of = next((str(r.product) for r in members if r.role == "twin"), None)
    columns = [(name, "product") for name in names]
    twin = None
    if twin_of in names and _has_all(members, twin_of, looks, "twin"):
        twin = (names.index(twin_of), len(names))
        columns.append((twin_of, "twin"))
    blocks = [_blocks(members, columns, look) for look in looks]
    board = Board(len(names), twin)
    for look in range(len(blocks)):
        times = np.concatenate(blocks[: look + 1])
        verdicts = board.look(times)
    at = names.index(comparison.baseline)
    gammas = [comparison.entry(name).result("expressivity").get("rank") for name in names]
    return Judgement(
        verdicts={
            names[v.b if v.a == at else v.a]: _against(v, at) for v in verdicts if at in (v.a, v.b)
        },
        pairs={(names[v.a], names[v.b]): v for v in verdicts},
        fronts=dict(zip(names, front(verdicts, gammas), strict=True)),
        floor=_bounded(board.floor),
        rounds=len(times),
        looks=len(looks),
        round_s=sum(block_s(float(call_s)) for call_s in np.median(times, axis=0)),
        flags=run_flags(times, board.floor) + _state_flags(members),
        moved={
            name: flag
            for number, name in enumerate(names)
            if number != at and (flag := ratio_moved(times, (at, number))) is not None
        },
    )


def _state_flags(members: Sequence[Row]) -> tuple[Flag, ...]:
    """What the device said before and after the last look; older rows and imports say nothing."""
    states = [(r.measured.get("state_before"), r.measured.get("state_after")) for r in members]
    known = [(before, after) for before, after in states if before and after]
    cores = members[-1].environment.get("cores")
    return state_flags(*known[-1], cores if isinstance(cores, int) else None) if known else ()


def _bounded(floor: Floor | None) -> tuple[float, float] | None:
    """Interval of the twin's ratio; None while there are too few rounds for one."""
    if floor is None or not (isfinite(floor.low) and isfinite(floor.high)):
        return None
    return exp(floor.low), exp(floor.high)


def _has_all(
    members: Sequence[Row], product: str, looks: Sequence[int], role: str = "product"
) -> bool:
    own_looks = {r.measured.get("look", 0) for r in members
             if r.product == product and r.role == role}  # fmt: skip
    return own_looks == set(looks)


def _blocks(
    members: Sequence[Row], columns: Sequence[tuple[str, str]], look: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Block values of one look, ``(rounds, columns)``."""
    blocks = {(r.product, r.role): r.measured["blocks_s"] for r in members
             if r.measured.get("look", 0) == look}  # fmt: skip
    rounds = min(len(blocks[column]) for column in columns)
    return np.array([blocks[column][:rounds] for column in columns], dtype=float).T


def _against(verdict: Verdict, baseline: int) -> Verdict:
    """The same verdict with the baseline as its first product."""
    if verdict.a == baseline:
        return verdict
    turned = {"faster": "slower", "slower": "faster"}
    return Verdict(
        verdict.b, verdict.a, -verdict.estimate, -verdict.high, -verdict.low,
        turned.get(verdict.word, verdict.word), verdict.rounds, verdict.needed,  # type: ignore[arg-type]
    )  # fmt: skip
