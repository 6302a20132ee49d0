"""Trainings side by side: what each product learned, at what time a step, and a sentence on it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import pandas as pd

from etp.analysis.findings import Finding
from etp.analysis.text import list_text, power_text
from etp.experiments.pieces import NAMES
from etp.results.rows import Row

PIECES = len(NAMES)
ALIKE = 1e-10
"""Relative: answers to a piece and its mirror image closer than this differ by rounding."""


def trained(rows: Sequence[Row], layers: int, weights: str) -> list[Row]:
    """Trainings of one number of layers and kind of weights; of any where there are none such.

    Args:
        rows: Of any measures.
        layers: Layers of the network.
        weights: Kind of weights.
    """
    done = [row for row in rows if row.measure == "tetris" and row.status == "ok"]
    alike = [
        row
        for row in done
        if row.measured["layers"] == layers and row.problem["weights"] == weights
    ]
    if alike or not done:
        return alike
    first = done[0]
    return trained(done, first.measured["layers"], first.problem["weights"])


def refused(rows: Sequence[Row]) -> dict[str, str]:
    """Products that were not trained, with the reason."""
    return {
        row.product: str(row.reason)
        for row in rows
        if row.measure == "tetris" and row.status in ("invalid", "failed")
    }


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """A line for each product over its seeds.

    Columns ``product``, ``right`` (median of the pieces named rightly, of 8), ``low``, ``high``,
    ``step_s``, ``gamma``, ``mirror_gap``, ``pseudoscalar``, ``start_pseudoscalar``,
    ``equivariance``, ``seeds``.
    """
    lines = []
    for product in dict.fromkeys(row.product for row in rows):
        own = [row.measured for row in rows if row.product == product]
        right = [PIECES * result["accuracy"] for result in own]
        line = {
            key: median(result[key] for result in own)
            for key in ("step_s", "mirror_gap", "pseudoscalar", "start_pseudoscalar")
        }
        lines.append(
            {
                "product": product,
                "right": median(right),
                "low": min(right),
                "high": max(right),
                "gamma": own[0].get("gamma", 0),
                "equivariance": max(result["equivariance"] for result in own),
                "seeds": len(own),
            }
            | line
        )
    return pd.DataFrame(lines)


def confusion(rows: Sequence[Row], product: str) -> pd.DataFrame:
    """Share of answers: columns ``piece``, ``called``, ``share``, over all seeds of a product."""
    tables = [row.measured["confusion"] for row in rows if row.product == product]
    counts = [
        [sum(cells) for cells in zip(*lines, strict=True)] for lines in zip(*tables, strict=True)
    ]
    return pd.DataFrame(
        [
            {"piece": piece, "called": called, "share": count / sum(line)}
            for piece, line in zip(NAMES, counts, strict=True)
            for called, count in zip(NAMES, line, strict=True)
        ]
    )


def learning_finding(table: pd.DataFrame, layers: int) -> Finding:
    """Which products tell the mirror images apart, and which never can."""
    if table.empty:
        return Finding("Nothing was trained yet.", "Choose products and run them here.", "")
    blind = table[table["mirror_gap"] < ALIKE]
    seeing = table[table["mirror_gap"] >= ALIKE]
    full = list(seeing[seeing["right"] > PIECES - 0.5]["product"])
    deep = f"{layers} layer{'s' if layers > 1 else ''}"
    if blind.empty:
        heading = f"With {deep}, every product shown tells a piece from its mirror image."
    elif seeing.empty:
        heading = f"With {deep}, no product shown tells a piece from its mirror image."
    else:
        heading = (
            f"With {deep}, {list_text(full or list(seeing['product']))} "
            f"{'tells' if len(full or seeing) == 1 else 'tell'} mirror images apart; "
            f"{list_text(list(blind['product']))} cannot."
        )
    parts = []
    if not blind.empty:
        gap = power_text(max(blind["mirror_gap"].max(), 1e-16), 1)
        parts.append(
            f"Without an odd path both screws get the same answer, to {gap}: at most 7 of 8 "
            "pieces, whatever the width."
            if layers >= 3
            else f"Both screws get the same answer, to {gap}: an invariant that knows left from "
            "right needs four points, and so three layers."
        )
    if not seeing.empty:
        parts.append("One path with l1 + l2 + l3 odd is enough.")
    seeds = int(table["seeds"].min())
    doubt = f"{seeds} seed{'s' if seeds > 1 else ''} each, short trainings"
    return Finding(heading, " ".join(parts), doubt)
