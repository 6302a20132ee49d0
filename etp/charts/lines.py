"""Lines against a size (lmax, batch, channels), each named at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd

from etp.charts import base, labels, theme
from etp.charts.theme import Mode
from etp.problem import Axis
from etp.text import bytes_text, count_text, list_text, time_text

HEIGHT = 270
TITLES: dict[str, str] = {
    "lmax": "lmax of each input",
    "batch": "batch size",
    "channels": "channels",
}
_USED = 0.80
_LEAST_GAP = 13.0
"""Pixels from one name at the ends of lines to the next."""


def runtime_lines(
    df: pd.DataFrame,
    mode: Mode,
    x: Axis = "lmax",
    highlight_x: float | None = None,
    selected: str | None = None,
) -> alt.LayerChart:
    """Time per call against a size: medians as lines, quartiles as rules, names at the ends.

    Args:
        df: Columns ``product``, ``x``, ``median_s``, ``q25_s``, ``q75_s`` and, optional,
            ``same_operation`` (points are hollow where it is false) and ``valid``.
        mode: "light" or "dark".
        x: What the column ``x`` holds; sets title and scale (log for batch and channels).
        highlight_x: The size shown by the charts beside this one, drawn as a grey stripe.
        selected: A product to keep bright while the others fade.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.checked(df, "product", "x", "median_s", "q25_s", "q75_s")
    return _lines(df, mode, x, highlight_x, selected, "time per call")


def per_gamma_lines(
    df: pd.DataFrame,
    mode: Mode,
    x: Axis = "lmax",
    highlight_x: float | None = None,
    selected: str | None = None,
) -> alt.LayerChart:
    """Time per call and independent bilinear map, against a size.

    Args:
        df: As for :func:`runtime_lines`, and ``gamma``; rows with gamma 0 are left out.
        mode: "light" or "dark".
        x: What the column ``x`` holds.
        highlight_x: The size drawn as a grey stripe.
        selected: A product to keep bright while the others fade.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.checked(df, "product", "x", "median_s", "q25_s", "q75_s", "gamma")
    df = base.checked(df[df["gamma"] > 0], "product")
    for column in ("median_s", "q25_s", "q75_s"):
        df[column] = df[column] / df["gamma"]
    return _lines(df, mode, x, highlight_x, selected, "time per call and unit of γ")


def size_lines(
    df: pd.DataFrame,
    mode: Mode,
    title: str,
    x: Axis = "lmax",
    selected: str | None = None,
    *,
    in_bytes: bool = False,
) -> alt.LayerChart:
    """Seconds or bytes measured once for each size: points and lines without spread.

    Args:
        df: Columns ``product``, ``x``, ``value``; values that are missing or 0 are left out.
        mode: "light" or "dark".
        title: What the values are.
        x: What the column ``x`` holds.
        selected: A product to keep bright while the others fade.
        in_bytes: Whether values are bytes instead of seconds.

    Raises:
        ValueError: If a column is missing or no valid value is left.
    """
    df = base.checked(df, "product", "x", "value")
    df = base.checked(df[df["value"].fillna(0) > 0], "product")
    df["median_s"], df["q25_s"], df["q75_s"] = df["value"], None, None
    written, axis = (bytes_text, base.bytes_axis) if in_bytes else (time_text, base.time_axis)
    return _lines(df, mode, x, None, selected, title, written, axis)


def _lines(
    df: pd.DataFrame,
    mode: Mode,
    x: Axis,
    highlight_x: float | None,
    selected: str | None,
    title: str,
    written: Callable[[float], str] = time_text,
    y_axis: Callable[[list[float], str], alt.Y] = base.time_axis,
) -> alt.LayerChart:
    df = base.faded(df, selected)
    df["time"] = [
        written(m) if pd.isna(a) or pd.isna(b) else f"{written(m)} [{written(a)} – {written(b)}]"
        for m, a, b in zip(df["median_s"], df["q25_s"], df["q75_s"], strict=True)
    ]
    sizes = sorted(set(df["x"]))
    if x == "lmax":
        span = (sizes[-1] - sizes[0]) or 1
        scale = alt.Scale(domain=[sizes[0] - 0.04 * span, sizes[-1]], nice=False, zero=False)
    else:
        scale = base.log_scale([sizes[0] * 0.93, sizes[-1] if len(sizes) > 1 else sizes[0] * 1.07])
    axis = alt.Axis(values=sizes, format="d" if x == "lmax" else "~s", grid=False)
    x_axis = alt.X("x:Q", title=TITLES[x], scale=scale, axis=axis)
    finding = f"{title.capitalize()} at {x} {count_text(sizes[-1])}, largest first: "
    last = df[df["x"] == sizes[-1]].sort_values("median_s", ascending=False)
    finding += list_text(
        [f"{p} {written(m)}" for p, m in zip(last["product"], last["median_s"], strict=True)],
        20,
    )
    if len(sizes) == 1:
        return _dots(df, mode, title, f"{finding}.", y_axis)
    layers = lines(df, mode, x_axis, title, HEIGHT, str, y_axis)
    if highlight_x in sizes:
        stripe = alt.Chart(pd.DataFrame({"x": [highlight_x]}))
        stripe = stripe.mark_rule(strokeWidth=12, color=theme.tokens(mode).band)
        layers.insert(0, stripe.encode(x=x_axis))
    return base.finished(layers, mode, f"{finding}.", HEIGHT)


def _dots(
    df: pd.DataFrame,
    mode: Mode,
    title: str,
    finding: str,
    axis: Callable[[list[float], str], alt.Y],
) -> alt.LayerChart:
    """One size makes no line: a product per row, fastest first, with its quartiles."""
    df = df.sort_values("median_s")
    rows = list(df["product"])
    quartiles = df.dropna(subset=["q25_s", "q75_s"])
    values = [*df["median_s"], *quartiles["q25_s"], *quartiles["q75_s"]]
    along = axis(base.log_domain(values, 0.08, 0.08), title)
    x = alt.X("median_s:Q", title=title, axis=along["axis"], scale=along["scale"])
    y, hue, seen = base.row_axis(rows, theme.tokens(mode)), base.colour(rows, mode), base.opacity()
    layers: list[Any] = []
    if not quartiles.empty:
        rules = alt.Chart(quartiles).mark_rule(strokeWidth=2)
        low = base.with_field(x, "q25_s")
        layers.append(rules.encode(x=low, x2=alt.X2("q75_s:Q"), y=y, color=hue, opacity=seen))
    points = alt.Chart(df).mark_point(filled=True, size=70)
    tooltip = [alt.Tooltip("product:N"), alt.Tooltip("time:N", title=title)]
    layers.append(
        points.encode(x=x, y=y, color=hue, shape=base.shape(rows), opacity=seen, tooltip=tooltip)
    )
    return base.finished(layers, mode, finding, max(base.row_height(len(rows), 20, 60), 150))


def lines(
    df: pd.DataFrame,
    mode: Mode,
    x: alt.X,
    title: str,
    height: int,
    label: Callable[[str], str],
    y_axis: Callable[[list[float], str], alt.Y] = base.time_axis,
) -> list[Any]:
    """Return the layers of a line chart of times: quartile rules, lines, points, end labels.

    Args:
        df: Columns ``product``, ``x``, ``median_s``, ``q25_s``, ``q75_s``, ``time`` (for the
            tooltip), ``fade``; optional ``same_operation``. Missing quartiles draw no rule.
        mode: "light" or "dark".
        x: The axis that all layers share.
        title: Title of the time axis.
        height: Height of the whole chart in pixels.
        label: From a product to the text at the end of its line.
        y_axis: From the limits and the title to the axis; times by default.
    """
    t = theme.tokens(mode)
    domain = limits(df)
    y = y_axis(domain, title)
    hue, seen = base.colour(df["product"], mode), base.opacity()
    ends = end_labels(_named(df, height * _USED), domain, height * _USED)
    ends["text"] = [label(p) for p in ends["product"]]
    names_at_ends = alt.Chart(ends).encode(
        x=x, y=base.with_field(y, "label_y"), text=alt.Text("text:N"), color=hue, opacity=seen
    )
    style: dict[str, Any] = {"align": "left", "baseline": "middle", "dx": 11, "fontSize": 12}
    halo = names_at_ends.encode(color=alt.ColorValue(t.page))
    return [
        *marks(df, mode, x, y, title),
        halo.mark_text(**style, stroke=t.page, strokeWidth=4),
        names_at_ends.mark_text(**style),
    ]


def limits(df: pd.DataFrame, low: float = 0.04) -> list[float]:
    """Limits of the time axis that :func:`marks` need.

    Args:
        df: As for :func:`marks`.
        low: Share of the axis that is left free below.
    """
    quartiles = df.dropna(subset=["q25_s", "q75_s"])
    values = [*df["median_s"], *quartiles["q25_s"], *quartiles["q75_s"]]
    return base.log_domain(values, low, 0.06)


def marks(df: pd.DataFrame, mode: Mode, x: alt.X, y: alt.Y, title: str) -> list[Any]:
    """Return the layers of :func:`lines` without names: quartile rules, lines, points.

    Args:
        df: As for :func:`lines`.
        mode: "light" or "dark".
        x: The axis that all layers share.
        y: The time axis that all layers share, field to be set here.
        title: Of times, for the tooltip.
    """
    t = theme.tokens(mode)
    names = list(df["product"])
    hue, seen, stroke = base.colour(names, mode), base.opacity(), base.dash(names)
    outline = base.shape(names)
    tooltip = [
        alt.Tooltip("product:N"),
        alt.Tooltip("x:Q", title=str(x["title"])),
        alt.Tooltip("time:N", title=title),
    ]
    chart = alt.Chart(df).encode(x=x, y=base.with_field(y, "median_s"), color=hue, opacity=seen)
    layers: list[Any] = []
    quartiles = df.dropna(subset=["q25_s", "q75_s"])
    if not quartiles.empty:
        rules = alt.Chart(quartiles).mark_rule(strokeWidth=1.6)
        layers.append(
            rules.encode(
                x=x, y=base.with_field(y, "q25_s"), y2=alt.Y2("q75_s:Q"), color=hue, opacity=seen
            )
        )
    layers.append(chart.mark_line().encode(strokeDash=stroke))
    same = (
        df["same_operation"].astype(bool)
        if "same_operation" in df.columns
        else pd.Series(data=True, index=df.index)
    )
    for rows, hollow in ((df[same], False), (df[~same], True)):
        if rows.empty:
            continue
        points = alt.Chart(rows).encode(
            x=x,
            y=base.with_field(y, "median_s"),
            color=hue,
            opacity=seen,
            shape=outline,
            tooltip=tooltip,
        )
        if hollow:
            points = points.mark_point(filled=False, fill=t.page, size=32, strokeWidth=1.5)
        else:
            points = points.mark_point(filled=True, size=38)
        layers.append(points)
    return layers


def _named(df: pd.DataFrame, pixels: float) -> pd.DataFrame:
    """Rows of the lines that are named: colour and mark name those elsewhere if not all fit."""
    if df["product"].nunique() * _LEAST_GAP <= pixels:
        return df
    here = base.of_this_device(df)
    return df if here.empty else here


def end_labels(
    df: pd.DataFrame, domain: list[float], pixels: float, gap: float = _LEAST_GAP
) -> pd.DataFrame:
    """Return the last row of each product with ``label_y``: where its name goes.

    Names that end at the same size are pushed apart on the log axis.

    Args:
        df: Columns ``product``, ``x``, ``median_s``, ``fade``.
        domain: Limits of the time axis.
        pixels: Height of the plot.
        gap: Least distance of two names in pixels.
    """
    ends = df.sort_values("x").groupby("product", as_index=False).tail(1).copy()
    ends["label_y"] = ends["median_s"]
    for _, group in ends.groupby("x"):
        wanted = [base.position(m, domain) * pixels for m in group["median_s"]]
        moved = labels.spread(wanted, gap, gap / 2, pixels - gap / 2)
        ends.loc[group.index, "label_y"] = [base.at(p / pixels, domain) for p in moved]
    return ends
