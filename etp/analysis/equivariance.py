"""Equivariance checks read from rows: errors by group element, degree and grid size, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from etp.analysis.findings import Finding
from etp.results.rows import Row
from etp.text import list_text, power_text, ratio_text

BROKEN_BADGE = "broken on purpose"


@dataclass
class EquivarianceChecks:
    """Checks of one problem.

    Attributes:
        lmax: Of the problem.
        last: Last equivariance row of each product and dtype.
        grids: Rows of grid sizes.
        refused: Rows of products that could not be built.
    """

    lmax: int
    last: dict[tuple[str, str], Row] = field(default_factory=dict)
    grids: list[Row] = field(default_factory=list)
    refused: dict[str, Row] = field(default_factory=dict)

    def elements(self) -> pd.DataFrame:
        """One line for each group element: ``product``, ``dtype``, ``error``, ``inverted``."""
        return pd.DataFrame(
            [
                {
                    "product": product,
                    "dtype": dtype,
                    "error": error,
                    "inverted": inverted,
                    "broken": row.measured["max"] > row.measured["gate"],
                }
                for (product, dtype), row in self.last.items()
                for error, inverted in zip(
                    row.measured.get("per_element", []),
                    row.measured.get("inverted", []),
                    strict=True,
                )
            ]
        )

    def degrees(self, dtype: str) -> pd.DataFrame:
        """Worst error of each output degree: ``product``, ``degree``, ``error``."""
        return pd.DataFrame(
            [
                {"product": product, "degree": int(degree), "error": error}
                for (product, kind), row in self.last.items()
                if kind == dtype and not _on_purpose(row)
                for degree, error in row.measured["per_degree"].items()
                if error > 0
            ]
        )

    def gates(self) -> dict[str, float]:
        """Gate of each dtype."""
        return {dtype: row.measured["gate"] for (_, dtype), row in self.last.items()}

    def cliff(self, side: str) -> tuple[pd.DataFrame, float | None]:
        """Error against grid ``columns`` or ``rows``, the other at its smallest exact size."""
        other = "rows" if side == "columns" else "columns"
        lines = [
            {"size": r[side], "error": r["max"], "exact": r["max"] <= r["gate"]}
            for r in (row.measured for row in self.grids)
            if r[other] == r["smallest"][other == "columns"]
        ]
        if not lines:
            return pd.DataFrame(), None
        table = pd.DataFrame(lines).drop_duplicates("size")
        exact = table[table["exact"]]["size"]
        return table, float(exact.min()) if len(exact) else None


def equivariance_checks(rows: Sequence[Row], setting: str | None, lmax: int) -> EquivarianceChecks:
    """Checks among rows that belong to a setting (None for typed irreps) at one lmax.

    Args:
        rows: Of any measures and problems.
        setting: SISO, SIMO, MIMO, or None for typed irreps.
        lmax: Largest degree of the inputs.
    """
    of_setting = EquivarianceChecks(lmax)
    for row in rows:
        problem = row.problem
        if problem["setting"] != setting or (setting is not None and problem["lmax"] != lmax):
            continue
        if row.status != "ok":
            if row.measure == "runtime" and "wrong answer" not in row.badges:
                of_setting.refused[row.product] = row
        elif row.measure == "equivariance":
            of_setting.last[row.product, row.measured.get("dtype", problem["dtype"])] = row
        elif row.measure == "grid":
            of_setting.grids.append(row)
    return of_setting


def equivariance_finding(checks: EquivarianceChecks) -> Finding:
    """Are they equivariant? The worst case, and what a small grid does."""
    real = {key: row for key, row in checks.last.items() if not _on_purpose(row)}
    products = list(dict.fromkeys(product for product, _ in real))
    failed = [key for key, row in real.items() if row.measured["max"] > row.measured["gate"]]
    if not real:
        return Finding("Nothing was checked yet.", "Run here to check the products chosen.", "")
    if failed:
        words = list_text([f"{product} in {dtype}" for product, dtype in failed])
        heading = f"{words}: the equivariance error is above the gate."
    else:
        dtype = "float32" if any(d == "float32" for _, d in real) else next(iter(real))[1]
        worst = max(
            (key for key in real if key[1] == dtype), key=lambda key: real[key]["result"]["max"]
        )
        result = real[worst]["result"]
        count = "Both" if len(products) == 2 else f"All {len(products)}"
        lead = f"{count} products are" if len(products) > 1 else f"{products[0]} is"
        partial = _partial(real)
        but = f", {list_text(partial)} under rotations only," if partial else ""
        heading = (
            f"{lead} equivariant{but} in every dtype tested: the worst {dtype} error is "
            f"{power_text(result['max'])} ({worst[0]}), "
            f"{ratio_text(result['gate'] / result['max'])} below the gate."
        )
    return Finding(heading, _broken(checks), _inversion(real))


def _broken(checks: EquivarianceChecks) -> str:
    exact = [r["result"]["max"] for r in checks.grids if r["result"]["max"] <= r["result"]["gate"]]
    short = [row for row in checks.last.values() if _on_purpose(row)]
    if not short or not exact:
        return ""
    error = short[-1]["result"]["max"]
    return (
        f"A grid one column too small is wrong by {error:.0%} in any dtype, while the smallest "
        f"exact one reaches {power_text(max(exact))}: there is nothing between exact and wrong."
    )


def _partial(real: dict[tuple[str, str], Row]) -> list[str]:
    """Products that were held to rotations alone: under inversion they are wrong."""
    return sorted({p for (p, _), row in real.items() if not any(row.measured.get("inverted", [1]))})


def _inversion(real: dict[tuple[str, str], Row]) -> str:
    partial = _partial(real)
    text = "Every second group element includes inversion"
    if partial:
        return f"{text}, except for {list_text(partial)}: right for rotations only."
    return f"{text}: a product that is right for rotations only does not pass."


def _on_purpose(row: Row) -> bool:
    return BROKEN_BADGE in row.badges
