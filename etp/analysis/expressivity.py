"""Expressivity and interactability read from rows, as tables and in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pandas as pd

from etp.analysis.findings import Finding
from etp.problem import Problem
from etp.results.rows import Row
from etp.text import count_text, list_text

CROSS = ("1", "1", "1")


@dataclass
class Counts:
    """Counts of one setting (or of typed irreps).

    Attributes:
        ranks: Last expressivity row by product and lmax.
        reached: Last interactions row by product and lmax.
        refused: Rows of products that could not be built, by product.
    """

    ranks: dict[tuple[str, int], Row] = field(default_factory=dict)
    reached: dict[tuple[str, int], Row] = field(default_factory=dict)
    refused: dict[str, Row] = field(default_factory=dict)

    @property
    def products(self) -> list[str]:
        """Products that were counted, in the order of the rows."""
        return list(dict.fromkeys(product for product, _ in self.ranks))

    @property
    def degrees(self) -> list[int]:
        """Every lmax that was counted."""
        return sorted({lmax for _, lmax in self.ranks})

    def table(self) -> pd.DataFrame:
        """γ of each product at each lmax, and whether the closed form agrees."""
        lines = []
        for product in self.products:
            cells: dict[str, object] = {"product": product}
            verdicts = set()
            for lmax in self.degrees:
                row = self.ranks.get((product, lmax))
                if row is None:
                    cells[str(lmax)] = ""
                    continue
                result = row.measured
                verdicts.add(_agreement(result))
                closed = result["closed_form"]
                note = f" ({closed})" if closed not in (None, result["rank"]) else ""
                fixed = result.get("fixed_rank")
                without = "" if fixed in (None, result["rank"]) else f" / {count_text(fixed)}"
                cells[str(lmax)] = f"{count_text(result['rank'])}{without}{note}"
            order = ("differ", "agree", "rank only")
            cells["closed form"] = [next(word for word in order if word in verdicts)]
            lines.append(cells)
        return pd.DataFrame(lines)

    def bars(self, lmax: int) -> pd.DataFrame:
        """Columns ``product``, ``gamma``, ``paths``, ``total`` at one lmax."""
        lines = []
        for product in self.products:
            rank, reached = self.ranks.get((product, lmax)), self.reached.get((product, lmax))
            if rank is not None and reached is not None:
                lines.append(
                    {
                        "product": product,
                        "gamma": rank["result"]["rank"],
                        "paths": reached["result"]["count"],
                        "total": reached["result"]["allowed"],
                    }
                )
        return pd.DataFrame(lines)

    def labels(self, product: str, lmax: int) -> set[tuple[str, str, str]]:
        """Paths (by irreps) that a product was measured to reach."""
        row = self.reached.get((product, lmax))
        return set() if row is None else {(a, b, c) for a, b, c in row.measured["triples"]}

    def conditions(self) -> dict[str, str]:
        """Where each closed form holds, in the product's own words."""
        conditions = {}
        for (product, _), row in self.ranks.items():
            if row.measured.get("condition"):
                conditions[product] = str(row.measured["condition"])
        return conditions


def _agreement(result: dict[str, object]) -> str:
    if result["closed_form"] is None:
        return "rank only"
    return "agree" if result["closed_form"] == result["rank"] else "differ"


def counts(rows: Sequence[Row], setting: str | None) -> Counts:
    """Counts among rows that belong to a setting (None for typed irreps)."""
    of_setting = Counts()
    for row in rows:
        problem = row.problem
        if problem["setting"] != setting:
            continue
        key = (row.product, problem["lmax"])
        if row.status != "ok":
            if "wrong answer" not in row.badges:
                of_setting.refused[row.product] = row
        elif row.measure == "expressivity":
            of_setting.ranks[key] = row
        elif row.measure == "interactions":
            of_setting.reached[key] = row
    return of_setting


def map_frame(problem: Problem, reached: Collection[tuple[str, str, str]] | None) -> pd.DataFrame:
    """State of every triple of degrees: reached, missing (allowed by symmetry) or forbidden.

    Args:
        problem: Gives the degrees and the paths that the selection rules allow.
        reached: Paths of a product; None for the selection rules alone.
    """
    allowed = problem.triples()
    degrees = range(max(max(a.l, b.l) for a, b, _ in allowed) + 1)
    outputs = sorted({c.l for _, _, c in allowed})
    by_degree: dict[tuple[int, int, int], str] = {}
    for a, b, c in allowed:
        labels = (str(a), str(b), str(c))
        state = "reached" if reached is None or labels in reached else "missing"
        key = (a.l, b.l, c.l)
        # A degree counts as reached when either parity gets there.
        by_degree[key] = "reached" if by_degree.get(key) == "reached" else state
    return pd.DataFrame(
        [
            {"l1": l1, "l2": l2, "l3": l3, "state": by_degree.get((l1, l2, l3), "forbidden")}
            for l3 in outputs
            for l1 in degrees
            for l2 in degrees
        ]
    )


def compared_maps(
    problem: Problem,
    first: Collection[tuple[str, str, str]] | None,
    second: Collection[tuple[str, str, str]] | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two maps of :func:`map_frame`, each with a column ``differs``: the other has another state.

    Args:
        problem: Gives the degrees and the paths that the selection rules allow.
        first: Paths of a product; None for the selection rules alone.
        second: Paths of another one.
    """
    left, right = map_frame(problem, first), map_frame(problem, second)
    unlike = left["state"] != right["state"]
    return left.assign(differs=unlike), right.assign(differs=unlike)


def cross_product(counts: Counts) -> tuple[list[str], list[str]]:
    """Products that reach 1 x 1 -> 1 at any lmax counted, and those that do not."""
    have = {
        product
        for (product, _), row in counts.reached.items()
        if any(tuple(ir[:-1] for ir in triple) == CROSS for triple in row.measured["triples"])
    }
    return [p for p in counts.products if p in have], [p for p in counts.products if p not in have]


def counts_finding(counts: Counts, lmax: int, *, typed: bool) -> Finding:
    """Who reaches everything, and who pays with expressivity.

    Args:
        counts: What each product can do.
        lmax: Largest degree that is shown.
        typed: Whether irreps were typed, so that no setting names them.
    """
    bars = counts.bars(lmax)
    if bars.empty:
        return Finding("Nothing was counted yet.", "Run here to count the products chosen.", "")
    where = "On these irreps" if typed else f"At lmax {lmax}"
    total = int(bars["total"].max())
    full = bars[(bars["gamma"] == bars["paths"]) & (bars["paths"] == total)]
    rest = bars.drop(full.index)
    sentences = []
    if not full.empty:
        verb = "reaches" if len(full) == 1 else "reach"
        sentences.append(
            f"{list_text(list(full['product']))} {verb} all {count_text(total)} paths, each with a "
            "weight of its own."
        )
    if not rest.empty:
        least = rest.sort_values(["gamma", "paths"]).iloc[0]
        sentences.append(
            f"{least['product']} reaches {count_text(least['paths'])} with only γ = "
            f"{count_text(least['gamma'])}."
        )
    meaning = (
        "Reaching a path and controlling it are two things: a product that adds paths up reaches "
        "many with few free weights."
    )
    doubt = (
        "γ = number of independent bilinear maps, one channel; natural and pseudo outputs of a "
        "degree count apart."
    )
    return Finding(f"{where}, {' '.join(sentences)}", meaning, doubt)
