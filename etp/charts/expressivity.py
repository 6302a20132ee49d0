"""Which degrees can interact, and how many independent maps a product has."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from etp.analysis.text import count_text, list_text
from etp.charts import base, theme
from etp.charts.theme import Mode

PANEL = 115
"""Least width of one panel in pixels; three fit beside each other on a phone."""

_AROUND = (17, 42)
"""What axis labels and title take of a panel's width and height."""


def interactability_panels(
    df: pd.DataFrame, mode: Mode, product: str
) -> list[tuple[str, alt.LayerChart]]:
    """Return one small map per output degree: rows l1, columns l2.

    Reached: a filled square in the colour of the family. Missing (allowed by symmetry, coefficient
    zero): a hollow diamond with a cross. Forbidden by the triangle rule: a dot.

    Args:
        df: Columns ``l1``, ``l2``, ``l3``, ``state`` ("reached", "missing" or "forbidden").
        mode: "light" or "dark".
        product: Sets the colour.

    Returns:
        Pairs of title ("l3 = 2") and chart, in the order of l3. The chart carries its title and
        has a fixed size in pixels: put the panels into a row that wraps.

    Raises:
        ValueError: If a column is missing or no row is left.
    """
    df = base.checked(df, "l1", "l2", "l3", "state")
    degrees = range(max(int(str(l)) for l in [*df["l1"], *df["l2"]]) + 1)
    cell = max((PANEL - _AROUND[0]) / len(degrees), 9.0)
    return [
        (f"l3 = {l3}", _panel(panel, mode, product, int(str(l3)), list(degrees), cell))
        for l3, panel in sorted(df.groupby("l3"), key=lambda item: int(str(item[0])))
    ]


def _panel(
    df: pd.DataFrame, mode: Mode, product: str, l3: Any, degrees: list[int], cell: float
) -> alt.LayerChart:
    t = theme.tokens(mode)
    df = df.assign(path=[f"({a}, {b}) → {l3}" for a, b in zip(df["l1"], df["l2"], strict=True)])
    axis: dict[str, Any] = {
        "labelAngle": 0,
        "ticks": False,
        "domain": False,
        "labelFontSize": 11,
        "grid": False,
        "values": degrees[:: 1 if cell >= 13 else 2],
    }
    x = alt.X("l2:O", title=None, scale=alt.Scale(domain=degrees)).axis(**axis, labelPadding=3)
    y = alt.Y("l1:O", title=None, scale=alt.Scale(domain=degrees)).axis(**axis, labelPadding=3)
    tooltip = [alt.Tooltip("path:N", title="(l1, l2) → l3"), alt.Tooltip("state:N")]
    side = 0.72 * cell

    def marks(state: str, **style: Any) -> Any:
        rows = alt.Chart(df[df["state"] == state]).mark_point(**style)
        return rows.encode(x=x, y=y, tooltip=tooltip)

    family = theme.style(product).colour(mode)
    diamond = {"stroke": t.warn, "strokeWidth": 1.5, "fill": t.page, "filled": False}
    layers: list[Any] = [
        marks("forbidden", shape="circle", filled=True, size=5, color=t.faint),
        marks("reached", shape="square", filled=True, size=side**2, color=family),
        marks("missing", shape="diamond", size=(0.85 * side) ** 2, **diamond),
        marks("missing", shape=theme.X, filled=True, size=max(0.09 * cell**2, 7), color=t.warn),
    ]
    counts = df["state"].value_counts()
    finding = ", ".join(
        f"{count_text(counts.get(state, 0))} {state}"
        for state in ("reached", "missing", "forbidden")
    )
    span = cell * len(degrees)
    chart = base.finished(
        layers,
        mode,
        f"{product}, output degree {l3}: {finding}.",
        round(span + _AROUND[1]),
        round(span + _AROUND[0]),
    )
    titled: alt.LayerChart = chart.properties(title=f"l3 = {l3}")
    return titled


def gamma_bars(df: pd.DataFrame, mode: Mode, selected: str | None = None) -> alt.LayerChart:
    """Gamma as a thin bar over the number of paths reached (grey), one product per row.

    Args:
        df: Columns ``product``, ``gamma``, ``paths`` (reached), ``total`` (allowed by symmetry);
            optional ``valid``.
        mode: "light" or "dark".
        selected: A product to keep bright while the others fade.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.faded(base.checked(df, "product", "gamma", "paths", "total"), selected)
    df = df.sort_values(["gamma", "paths"], ascending=False, kind="stable")
    t = theme.tokens(mode)
    total = int(df["total"].max())
    most = max(total, float(df["gamma"].max()))
    df["text"] = [f"γ {count_text(g)}" for g in df["gamma"]]
    df["reached"] = [
        f"{count_text(p)} of {count_text(n)}" for p, n in zip(df["paths"], df["total"], strict=True)
    ]
    scale = alt.Scale(domain=[0, most * 1.16], nice=False)
    x = alt.X("paths:Q").title(f"paths of {count_text(total)} (grey), and γ").scale(scale)
    x = x.axis(grid=True, tickCount=6, format="~s" if most >= 1e5 else "d")
    rows = list(df["product"])
    y = base.row_axis(rows, t)
    tooltip = [
        alt.Tooltip("product:N"),
        alt.Tooltip("gamma:Q", title="γ"),
        alt.Tooltip("reached:N", title="paths"),
    ]
    seen = base.opacity()
    grey = alt.Chart(df).mark_bar(color=t.band, height={"band": 0.72}, cornerRadiusEnd=3)
    thin = alt.Chart(df).mark_bar(height=5, cornerRadiusEnd=2)
    note = alt.Chart(df).mark_text(align="left", baseline="middle", dx=6, color=t.ink)
    gamma = base.with_field(x, "gamma")
    layers = [
        grey.encode(x=x, y=y, tooltip=tooltip, opacity=seen),
        thin.encode(x=gamma, y=y, color=base.colour(rows, mode), tooltip=tooltip, opacity=seen),
        note.encode(x=gamma, y=y, text="text:N", opacity=seen),
    ]
    parts = [f"{p} γ {count_text(g)}" for p, g in zip(df["product"], df["gamma"], strict=True)]
    finding = f"Independent bilinear maps, of {count_text(total)} paths: {list_text(parts, 20)}."
    return base.finished(layers, mode, finding, base.row_height(len(rows), 21, 48))
