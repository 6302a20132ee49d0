"""Which degrees can interact, and how many independent maps a product has."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from etp.charts import base, theme
from etp.charts.theme import Mode
from etp.text import count_text, list_text

ACROSS = 3
"""Panels beside each other: what a phone has room for."""
PANEL = 108
"""Pixels from one panel to the next."""
WIDTH = ACROSS * PANEL
_ROW = 32
"""What the title and the degrees above a panel take of its height."""
_LEFT = 16


def interactability_map(df: pd.DataFrame, mode: Mode, product: str) -> alt.LayerChart:
    """One small map for each output degree: rows l1, columns l2.

    Reached: a filled square in the colour of the family. Missing (allowed by symmetry, coefficient
    zero): a hollow diamond with a cross. Forbidden by the triangle rule: a dot. What another
    product does otherwise has a frame.

    Args:
        df: Columns ``l1``, ``l2``, ``l3``, ``state`` ("reached", "missing" or "forbidden");
            optional ``differs`` (bool).
        mode: "light" or "dark".
        product: Sets the colour.

    Returns:
        A chart of :data:`WIDTH` pixels: put two of them into a row that wraps.

    Raises:
        ValueError: If a column is missing or no row is left.
    """
    df = base.checked(df, "l1", "l2", "l3", "state")
    t = theme.tokens(mode)
    degrees = range(max(*df["l1"], *df["l2"]) + 1)
    cell = (PANEL - _LEFT - 8) / len(degrees)
    high = _ROW + cell * len(degrees) + 8
    place = {l3: divmod(n, ACROSS) for n, l3 in enumerate(sorted(set(df["l3"])))}
    df["x"] = [
        place[l3][1] * PANEL + _LEFT + (l2 + 0.5) * cell
        for l2, l3 in zip(df["l2"], df["l3"], strict=True)
    ]
    df["y"] = [
        place[l3][0] * high + _ROW + (l1 + 0.5) * cell
        for l1, l3 in zip(df["l1"], df["l3"], strict=True)
    ]
    df["path"] = [f"({a}, {b}) → {c}" for a, b, c in zip(df["l1"], df["l2"], df["l3"], strict=True)]
    height = (max(row for row, _ in place.values()) + 1) * high
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, WIDTH], nice=False))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[height, 0], nice=False))
    tooltip = [alt.Tooltip("path:N", title="(l1, l2) → l3"), alt.Tooltip("state:N")]
    side = 0.72 * cell

    def marks(rows: pd.DataFrame, **style: Any) -> Any:
        return alt.Chart(rows).mark_point(**style).encode(x=x, y=y, tooltip=tooltip)

    def of(state: str) -> pd.DataFrame:
        return df[df["state"] == state]

    family = theme.style(product).colour(mode)
    diamond = {"stroke": t.warn, "strokeWidth": 1.5, "fill": t.page, "filled": False}
    layers: list[Any] = [
        marks(of("forbidden"), shape="circle", filled=True, size=5, color=t.faint),
        marks(of("reached"), shape="square", filled=True, size=side**2, color=family),
        marks(of("missing"), shape="diamond", size=(0.85 * side) ** 2, **diamond),
        marks(of("missing"), shape=theme.X, filled=True, size=max(0.09 * cell**2, 7), color=t.warn),
    ]
    layers = [layer for layer in layers if len(layer.data)]
    if "differs" in df.columns and df["differs"].any():
        frame: dict[str, Any] = {"filled": False, "stroke": t.ink, "strokeWidth": 1.4}
        different = df[df["differs"].astype(bool)]
        layers.append(marks(different, shape="square", size=(0.96 * cell) ** 2, **frame))
    written = _degrees(place, degrees, cell, high)
    text = alt.Chart(written).encode(x=x, y=y, text=alt.Text("text:N"))
    heads = alt.Chart(written[written["head"]]).encode(x=x, y=y, text=alt.Text("text:N"))
    layers = [
        text.transform_filter("!datum.head").mark_text(fontSize=10.5, color=t.mute),
        heads.mark_text(fontSize=12, fontWeight=600, color=t.ink, align="left"),
        *layers,
    ]
    counts = df["state"].value_counts()
    finding = ", ".join(
        f"{count_text(counts.get(state, 0))} {state}"
        for state in ("reached", "missing", "forbidden")
    )
    unlike = int(df["differs"].sum()) if "differs" in df.columns else 0
    framed = f" {count_text(unlike)} framed, where the other product differs." if unlike else ""
    around = 8  # the padding of the chart, twice
    return base.finished(
        layers, mode, f"{product}: {finding}.{framed}", round(height) + around, WIDTH + around
    )


def _degrees(
    place: dict[int, tuple[int, int]], degrees: range, cell: float, high: float
) -> pd.DataFrame:
    """Texts of every panel: which output degree it is of, and the degrees along its sides."""
    step = 1 if cell >= 12 else 2
    lines = []
    for l3, (row, column) in place.items():
        left, top = column * PANEL, row * high
        lines.append({"x": left + _LEFT, "y": top + 10, "text": f"l3 = {l3}", "head": True})
        for l in degrees[::step]:
            along = (l + 0.5) * cell
            lines += [
                {"x": left + _LEFT + along, "y": top + _ROW - 6, "text": str(l), "head": False},
                {"x": left + 8, "y": top + _ROW + along, "text": str(l), "head": False},
            ]
    return pd.DataFrame(lines)


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
        note.encode(x=gamma, y=y, text=alt.Text("text:N"), opacity=seen),
    ]
    parts = [f"{p} γ {count_text(g)}" for p, g in zip(df["product"], df["gamma"], strict=True)]
    finding = f"Independent bilinear maps, of {count_text(total)} paths: {list_text(parts, 20)}."
    return base.finished(layers, mode, finding, base.row_height(len(rows), 21, 48))
