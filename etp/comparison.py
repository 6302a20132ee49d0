"""Rows put side by side: what each product does, how long it takes, and what may be said about it.

Words are computed here, when rows are read: only products that passed every check, timed in the
same rounds, enter a ranking, a verdict or a front.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np

from etp.measure.flags import Flag, run_flags
from etp.measure.verdict import Board, Verdict, front
from etp.operation import Operation, same_operation
from etp.problem import Problem
from etp.rows import Row

if TYPE_CHECKING:
    import pandas as pd

NOT_SAME = "not the same operation"


@dataclass
class Entry:
    """All that is known of one product on one problem: the last row of each measure."""

    product: str
    rows: dict[str, Row] = field(default_factory=dict)

    def result(self, measure: str) -> dict[str, Any]:
        """Result of a measure, empty where it was not measured or is not valid."""
        row = self.rows.get(measure)
        return (row["result"] or {}) if row is not None else {}

    @property
    def runtime(self) -> Row | None:
        """Row of the runtime."""
        return self.rows.get("runtime")

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
        found = self.result("interactions")
        if "coefficients" not in found:
            return None
        return Operation.of_result(found)


@dataclass
class Comparison:
    """Products on one problem on one device.

    Attributes:
        baseline: The product that ratios and words refer to.
        verdicts: For each product its verdict against the baseline; without the baseline.
        floor: Interval of the twin's ratio, None without a twin.
        rounds: Rounds behind the verdicts.
        round_s: What one more round costs.
        flags: What was odd about the run.
        group: Rows of one run of rounds.
    """

    problem: Problem
    entries: list[Entry]
    baseline: str
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    fronts: dict[str, str | None] = field(default_factory=dict)
    floor: tuple[float, float] | None = None
    rounds: int = 0
    looks: int = 0
    round_s: float = 0.0
    flags: tuple[Flag, ...] = ()
    group: str | None = None

    def entry(self, product: str) -> Entry:
        """Entry of a product; ``KeyError`` if it is not there."""
        for entry in self.entries:
            if entry.product == product:
                return entry
        raise KeyError(product)

    @property
    def timed(self) -> list[Entry]:
        """Entries that were timed."""
        return [entry for entry in self.entries if entry.valid]

    def same(self, product: str) -> bool:
        """Whether a product does the same operation as the baseline."""
        ours, theirs = self.entry(self.baseline).operation, self.entry(product).operation
        if product == self.baseline:
            return True
        return ours is not None and theirs is not None and same_operation(ours, theirs)

    @property
    def needed(self) -> int | None:
        """Rounds in total that would settle what is open; None where nothing can be settled."""
        wanted = [v.needed for v in self.verdicts.values() if v.needed is not None]
        return max(wanted) if wanted else None

    def environment(self) -> dict[str, Any]:
        """Manifest of the timed rows."""
        for entry in [*self.timed, *self.entries]:
            for row in entry.rows.values():
                return dict(row["environment"])
        return {}


def comparisons(rows: Iterable[Row], baseline: str | None = None) -> list[Comparison]:
    """Group rows by problem, in the order they came, with verdicts against a baseline.

    Args:
        rows: Of one or several jobs; of a problem measured twice the last run counts.
        baseline: Product that words refer to; by default the reference of the run.
    """
    by_problem: dict[str, list[Row]] = {}
    for row in rows:
        if row["measure"] != "roofline":
            key = json.dumps([row["problem"], row["environment"].get("device_name")])
            by_problem.setdefault(key, []).append(row)
    return [found for group in by_problem.values() if (found := _compared(group, baseline))]


def _compared(rows: Sequence[Row], baseline: str | None) -> Comparison | None:
    try:
        problem = Problem.from_dict(rows[0]["problem"])
    except ValueError:
        # An imported row of an empty problem: the results page lists it with its reason.
        return None
    entries: dict[str, Entry] = {}
    for row in rows:
        if _role(row) == "product":
            entry = entries.setdefault(row["product"], Entry(row["product"]))
            entry.rows[row["measure"]] = row
    timed = [entry for entry in entries.values() if entry.valid]
    reference = next((str(e.result("runtime").get("reference", "")) for e in timed), "")
    names = [entry.product for entry in timed] or list(entries)
    chosen = next((name for name in (baseline, reference) if name in names), names[0])
    comparison = Comparison(problem, list(entries.values()), chosen)
    _judge(comparison, rows)
    return comparison


def _judge(comparison: Comparison, rows: Sequence[Row]) -> None:
    """Verdicts, front and flags of the products timed in the same rounds as the baseline."""
    base = comparison.entry(comparison.baseline).runtime
    if base is None or base["status"] != "ok" or base.get("group") is None:
        return
    group = comparison.group = base["group"]
    members = [
        r for r in rows
        if r.get("group") == group and r["measure"] == "runtime" and r["status"] == "ok"
    ]  # fmt: skip
    looks = sorted({row["result"].get("look", 0) for row in members})
    names = [e.product for e in comparison.timed if _has_all(members, e.product, looks)]
    twin_of = next((r["product"] for r in members if _role(r) == "twin"), None)
    has_twin = twin_of in names
    columns = [(name, "product") for name in names] + ([(str(twin_of), "twin")] if has_twin else [])
    blocks = [_blocks(members, columns, look) for look in looks]
    if comparison.baseline not in names or not sum(len(b) for b in blocks):
        return
    at = names.index(comparison.baseline)
    twin = (names.index(str(twin_of)), len(names)) if has_twin else None
    board = Board(len(names), twin)
    for look in range(len(blocks)):
        times = np.concatenate(blocks[: look + 1])
        verdicts = board.look(times)
    comparison.rounds, comparison.looks = len(times), len(looks)
    comparison.round_s = float(times.sum(axis=1).mean()) * _BLOCK_CALLS
    comparison.flags = run_flags(times, board.floor)
    comparison.verdicts = {
        names[other]: _against(v, at) for v in verdicts
        if at in (v.a, v.b) and (other := v.b if v.a == at else v.a) != at
    }  # fmt: skip
    if board.floor is not None:
        comparison.floor = (exp(board.floor.low), exp(board.floor.high))
    gammas = [comparison.entry(name).result("expressivity").get("rank") for name in names]
    comparison.fronts = dict(zip(names, front(verdicts, gammas), strict=True))


_BLOCK_CALLS = 14
"""Calls in a block, roughly: what a round costs over the sum of its calls."""


def _has_all(members: Sequence[Row], product: str, looks: Sequence[int]) -> bool:
    found = {r["result"].get("look", 0) for r in members
             if r["product"] == product and _role(r) == "product"}  # fmt: skip
    return found == set(looks)


def _blocks(
    members: Sequence[Row], columns: Sequence[tuple[str, str]], look: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Block values of one look, ``(rounds, columns)``."""
    found = {(r["product"], _role(r)): r["result"]["blocks_s"] for r in members
             if r["result"].get("look", 0) == look}  # fmt: skip
    rounds = min(len(found[column]) for column in columns)
    return np.array([found[column][:rounds] for column in columns], dtype=float).T


def _role(row: Row) -> str:
    return str((row["result"] or {}).get("role", "product"))


def _against(verdict: Verdict, baseline: int) -> Verdict:
    """The same verdict with the baseline as its first product."""
    if verdict.a == baseline:
        return verdict
    turned = {"faster": "slower", "slower": "faster"}
    return Verdict(
        verdict.b, verdict.a, -verdict.estimate, -verdict.high, -verdict.low,
        turned.get(verdict.word, verdict.word), verdict.rounds, verdict.needed,  # type: ignore[arg-type]
    )  # fmt: skip


def frame(found: Comparison) -> pd.DataFrame:
    """One line for each product: everything that charts and tables show, missing as None."""
    import pandas as pd

    return pd.DataFrame([_line(found, entry) for entry in found.entries])


def _line(found: Comparison, entry: Entry) -> dict[str, Any]:
    runtime, drift = entry.result("runtime"), entry.result("equivariance")
    gamma, reached = entry.result("expressivity"), entry.result("interactions")
    cost, memory = entry.result("cost"), entry.result("memory")
    verdict, same = found.verdicts.get(entry.product), found.same(entry.product)
    row = entry.runtime or next(iter(entry.rows.values()))
    median, rank = runtime.get("median_s"), gamma.get("rank")
    return {
        "product": entry.product,
        "title": entry.title,
        "lmax": found.problem.lmax,
        "batch": found.problem.batch,
        "channels": found.problem.channels,
        "device": found.problem.device,
        "valid": entry.valid,
        "status": row["status"],
        "reason": row["reason"],
        "badges": row["badges"],
        "median_s": median,
        "q25_s": runtime.get("q25_s", median),
        "q75_s": runtime.get("q75_s", median),
        "ratio": exp(-verdict.estimate) if verdict else None,
        "low": exp(-verdict.high) if verdict else None,
        "high": exp(-verdict.low) if verdict else None,
        "word": verdict.word if verdict else None,
        "same_operation": same,
        "front": found.fronts.get(entry.product),
        "gamma": rank,
        "closed_form": gamma.get("closed_form"),
        "paths": reached.get("count"),
        "allowed": reached.get("allowed"),
        "outputs": reached.get("outputs"),
        "keeps_paths": reached.get("keeps_paths"),
        "weighted": reached.get("weighted"),
        "s_per_gamma": median / rank if median and rank else None,
        "error_max": drift.get("max"),
        "error_median": drift.get("median"),
        "error_min": min(drift["per_element"]) if drift.get("per_element") else None,
        "gate": drift.get("gate"),
        "first_call_s": runtime.get("first_call_s"),
        "setup_s": runtime.get("setup_s"),
        "peak_bytes": memory.get("peak_bytes"),
        "table_bytes": memory.get("table_bytes"),
        "macs": cost.get("macs"),
        "bytes": cost.get("bytes"),
        "flops": cost.get("flops"),
        "rounds": runtime.get("rounds"),
        "id": row["id"],
    }
