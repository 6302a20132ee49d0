"""Trainings side by side: what each product learned, at what time a step, and a sentence on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from statistics import median
from typing import Any

import pandas as pd

from etp.analysis.findings import Finding
from etp.analysis.step_time import against, share_text
from etp.experiments.pieces import NAMES
from etp.measure.flags import Flag
from etp.results.rows import Row
from etp.text import counted, list_text, power_text, time_text

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
        if row.measure in ("tetris", "potential") and row.status in ("invalid", "failed")
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
            {"piece": piece, "called": called, "share": count / (sum(line) or 1)}
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
    deep = counted(layers, "layer")
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
    doubt = f"{counted(seeds, 'seed')} each, short trainings"
    return Finding(heading, " ".join(parts), doubt)


def potentials(rows: Sequence[Row], power: str) -> list[Row]:
    """Trainings of a potential with one power; of any where there are none such."""
    done = [row for row in rows if row.measure == "potential" and row.status == "ok"]
    alike = [row for row in done if row.measured["power"] == power]
    return alike if alike or not done else potentials(done, done[0].measured["power"])


def curves(rows: Sequence[Row], against: str) -> pd.DataFrame:
    """Learning curves: a point for each product and check, over its seeds.

    Columns ``product``, ``x``, ``force`` (median validation error, meV/A), ``low``, ``high``.

    Args:
        rows: Trainings of one potential, of measure ``potential``.
        against: ``check_s`` or ``check_steps``.
    """
    lines = []
    for product in dict.fromkeys(row.product for row in rows):
        own = [row.measured for row in rows if row.product == product]
        checks = min(len(result["check_force_mev_per_a"]) for result in own)
        for n in range(checks):
            forces = [result["check_force_mev_per_a"][n] for result in own]
            lines.append(
                {
                    "product": product,
                    "x": median(result[against][n] for result in own),
                    "force": median(forces),
                    "low": min(forces),
                    "high": max(forces),
                }
            )
    return pd.DataFrame(lines)


def potential_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """A line for each product over its seeds, of a set's part that was never trained on.

    Columns ``product``; ``force`` with ``low`` and ``high``, ``hot`` (at the other temperature) and
    ``in_time`` with ``in_low`` and ``in_high`` in meV/A, ``energy`` in meV; ``step_s``,
    ``total_s``, ``gamma``, ``mean``, ``seeds``. ``in_time`` is the validation error when the
    fastest product had taken all its steps; infinite where half of the seeds had none by then.
    """
    lines = []
    trainings = [row for row in rows if row.measured.get("check_s")]
    by = {
        product: [row.measured for row in trainings if row.product == product]
        for product in dict.fromkeys(row.product for row in trainings)
    }
    shared = min((median(r["check_s"][-1] for r in own) for own in by.values()), default=0.0)
    for product, own in by.items():
        forces = [result["force_mev_per_a"]["test"] for result in own]
        reached = [_reached(result, shared) for result in own]
        hot = [_other(result["force_mev_per_a"]) for result in own]
        lines.append(
            {
                "product": product,
                "force": median(forces),
                "low": min(forces),
                "high": max(forces),
                "hot": median(value for value in hot if value is not None) if any(hot) else None,
                "energy": median(result["energy_mev"]["test"] for result in own),
                "in_time": median(reached),
                "in_low": min(reached),
                "in_high": max(reached),
                "step_s": median(result["step_s"] for result in own),
                "total_s": median(result["check_s"][-1] for result in own),
                "gamma": own[0].get("gamma", 0),
                "mean": own[0]["mean_force_mev_per_a"]["test"],
                "seeds": len(own),
            }
        )
    return pd.DataFrame(lines)


def _reached(result: Mapping[str, Any], seconds: float) -> float:
    """Error of the last check within a time; a little more is given to whom set it."""
    errors = [
        error
        for error, at in zip(result["check_force_mev_per_a"], result["check_s"], strict=True)
        if at <= 1.1 * seconds
    ]
    return errors[-1] if errors else inf


def _other(parts: Mapping[str, float]) -> float | None:
    """Of the first part that is neither for validation nor the test."""
    return next((parts[part] for part in parts if part not in ("valid", "test")), None)


def potential_finding(table: pd.DataFrame, flags: Sequence[Flag] = ()) -> Finding:
    """Who is nearest at equal steps, and who at equal time.

    Args:
        table: As :func:`potential_frame`.
        flags: What makes its times doubtful.
    """
    if table.empty:
        return Finding("Nothing was trained yet.", "Choose products and run them here.", "")
    near = _nearest(table, "force", "low", "high")
    heading = (
        f"At equal steps {_are(near, 'nearest')}: forces to {_span(near['force'])} meV/Å, where no "
        f"force at all errs by {near['mean'].iloc[0]:.0f}."
    )
    fast = table.sort_values("total_s").iloc[0]
    timed = _nearest(table, "in_time", "in_low", "in_high")
    meaning = (
        f"In {time_text(fast['total_s'], 2)}, what {fast['product']} takes for all its steps, "
        f"{_are(timed, 'nearest')}, at {_span(timed['in_time'])} meV/Å (validation)"
        f"{_undecided(near, timed)}. {_price(table, near)}"
    )
    seeds = int(table["seeds"].min())
    doubt = f"{counted(seeds, 'seed')} each, short trainings of one molecule"
    doubt += "".join(f"; times: {flag.name}" for flag in flags)
    return Finding(heading, meaning, doubt)


def _nearest(table: pd.DataFrame, error: str, low: str, high: str) -> pd.DataFrame:
    """Products whose seeds overlap those of the product with the smallest median error."""
    ranked = table.sort_values([error, "step_s"])
    return ranked[ranked[low] <= ranked[high].iloc[0]]


def _are(table: pd.DataFrame, what: str) -> str:
    names = list(table["product"])
    return f"{list_text(names)} {'is' if len(names) == 1 else 'are'} {what}"


def _span(errors: pd.Series) -> str:
    low, high = f"{errors.min():.0f}", f"{errors.max():.0f}"
    return low if low == high else f"{low} to {high}"


def _undecided(*groups: pd.DataFrame) -> str:
    """What to think of products that stand side by side."""
    many = any(len(group) > 1 for group in groups)
    return "; seeds of those named together overlap" if many else ""


def _price(table: pd.DataFrame, near: pd.DataFrame) -> str:
    """What products that err more gain in time, in exchange."""
    others = table[~table["product"].isin(near["product"])]
    if others.empty:
        return ""
    quick = others[others["step_s"] < near["step_s"].min()].sort_values("step_s")
    if quick.empty:
        less = others["gamma"].max() < near["gamma"].max()
        told = ": what they give up buys no time here" if less else ""
        return f"All others err more and take longer steps{told}."
    costs = [
        f"{name} ({time_text(step, 2)} a step, errs by {force:.0f})"
        for name, step, force in zip(quick["product"], quick["step_s"], quick["force"], strict=True)
    ]
    return f"Steps are shorter with {list_text(costs)}."


def step_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """A line for each power, as people read it."""
    return pd.DataFrame(
        [
            {
                "power": row.product,
                "a step": time_text(row.measured["median_s"]),
                f"of {row.measured['reference']}": against(row.measured),
                "in powers": share_text(row.measured),
                "twin": f"{row.measured['floor']:.3f}",
            }
            for row in rows
        ]
    )
