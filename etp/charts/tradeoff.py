"""The hero chart: what a millisecond buys, time against expressivity."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import altair as alt
import pandas as pd

from etp.charts import base, labels, theme
from etp.charts.theme import Mode
from etp.text import count_text, list_text, time_text

HEIGHT = 372
_LEFT, _USED = 66, 0.84


def tradeoff(
    df: pd.DataFrame,
    mode: Mode,
    baseline: str,
    selected: str | None = None,
    width: int = 700,
) -> alt.LayerChart:
    """Time per call against gamma, both log, with the Pareto front as a step line.

    Filled points do the same operation as ``baseline``, hollow ones another; rules are quartiles.
    The front runs through the points that no median dominates; bold labels with times mark the
    products whose place on it is certain. The selection parameter "pick" is on ``product``.

    Args:
        df: Columns ``product``, ``title``, ``gamma``, ``median_s``, ``q25_s``, ``q75_s``,
            ``same_operation`` (bool), ``front`` ("front", "possible" or "dominated"); optional
            ``valid`` (rows that are not are left out), ``paths`` and ``words`` (for the tooltip).
        mode: "light" or "dark".
        baseline: The product that the others are compared against.
        selected: A product to keep bright while the others fade.
        width: Expected width in pixels, for the labels; below 500 they carry no times.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.checked(
        df,
        *("product", "title", "gamma", "median_s", "q25_s", "q75_s", "same_operation", "front"),
    )
    # A rank of zero is a product that gives nothing: it has no place on a log axis.
    df = base.faded(base.checked(df[df["gamma"] > 0], "product"), selected)
    t = theme.tokens(mode)
    xs = base.log_domain(df["gamma"], 0.16, 0.24)
    ys = base.log_domain([*df["median_s"], *df["q25_s"], *df["q75_s"]], 0.14, 0.1)
    front = _front(df)
    df = _labelled(df, front, xs, ys, width)
    df["time"] = [
        f"{time_text(m)} [{time_text(a)} – {time_text(b)}]"
        for m, a, b in zip(df["median_s"], df["q25_s"], df["q75_s"], strict=True)
    ]
    gloss = " (independent maps)" if width >= 500 else ""
    x = alt.X(
        "gamma:Q",
        title=f"expressivity γ{gloss} → more",
        scale=base.log_scale(xs),
        axis=alt.Axis(values=base.log_ticks(xs), grid=True, format="~r"),
    )
    y = base.time_axis(ys, "time per call (↓ faster)")
    pick = base.pick_parameter()
    hue, outline = base.colour(df["product"], mode), base.shape(df["product"])
    seen = base.opacity(pick)

    def marks(rows: pd.DataFrame) -> alt.Chart:
        return alt.Chart(rows).encode(
            x=x, y=base.with_field(y, "median_s"), color=hue, opacity=seen
        )

    tooltip = [
        alt.Tooltip("title:N", title="product"),
        alt.Tooltip("time:N", title="median [quartiles]"),
        alt.Tooltip("gamma:Q", title="γ"),
        *(alt.Tooltip(f"{c}:N") for c in ("paths", "words") if c in df.columns),
    ]
    same = df["same_operation"].astype(bool)
    layers: list[Any] = []
    if len(front) > 1:
        line = alt.Chart(front).mark_line(
            interpolate="step-before", color=t.faint, strokeWidth=1.5, opacity=0.9
        )
        layers.append(line.encode(x=x, y=base.with_field(y, "median_s")))
    rules = alt.Chart(df).mark_rule(strokeWidth=2)
    layers.append(
        rules.encode(
            x=x, y=base.with_field(y, "q25_s"), y2=alt.Y2("q75_s:Q"), color=hue, opacity=seen
        )
    )
    if same.any():
        solid = marks(df[same]).mark_point(filled=True, size=120)
        layers.append(solid.encode(shape=outline))
    if not same.all():
        hollow = marks(df[~same]).mark_point(filled=False, fill=t.page, size=102, strokeWidth=2)
        layers.append(hollow.encode(shape=outline))
    for align in ("left", "center", "right"):
        for bold in (False, True):
            some = df[(df["align"] == align) & (df["bold"] == bold)]
            if some.empty:
                continue
            text = marks(some).encode(text=alt.Text("label:N"))
            offset = {"dx": {"expr": "datum.dx"}, "dy": {"expr": "datum.dy"}}
            style: dict[str, Any] = {
                "align": align,
                "baseline": "middle",
                "fontSize": 12.5,
                "fontWeight": 600 if bold else 400,
                **offset,
            }
            halo = text.encode(color=alt.ColorValue(t.page))
            layers.append(halo.mark_text(**style, stroke=t.page, strokeWidth=5))
            layers.append(text.mark_text(**style))
    corner = alt.Chart(pd.DataFrame({"text": ["better ↘"]}))
    corner = corner.mark_text(
        align="right", baseline="bottom", dx=-8, dy=-6, color=t.mute, fontSize=11.5
    )
    layers.append(
        corner.encode(
            x=base.at_pixel("X", "width"), y=base.at_pixel("Y", "height"), text=alt.Text("text:N")
        )
    )
    # The click target is wider than the mark, lies on top, and alone carries the parameter.
    target = alt.Chart(df, name="points").mark_point(
        filled=True, fill="transparent", stroke=None, size=700
    )
    target = target.encode(x=x, y=base.with_field(y, "median_s"), tooltip=tooltip)
    layers.append(target.add_params(pick))
    return base.finished(layers, mode, _finding(df, front, baseline), HEIGHT)


def _front(df: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that no other one beats in both, fastest first."""
    rows = df[df["front"] != "dominated"].sort_values(
        ["median_s", "gamma"], ascending=[True, False]
    )
    best = rows["gamma"].cummax().shift(fill_value=-1)
    return rows[rows["gamma"] > best]


def _labelled(
    df: pd.DataFrame, front: pd.DataFrame, xs: list[float], ys: list[float], width: int
) -> pd.DataFrame:
    """Add ``label``, ``bold``, ``align``, ``dx`` and ``dy``."""
    wide, high = width - _LEFT, HEIGHT * _USED
    times = width >= 500
    df["bold"] = df["front"] == "front"
    df["label"] = [
        f"{p} {time_text(m)}" if times and f != "dominated" else p
        for p, m, f in zip(df["product"], df["median_s"], df["front"], strict=True)
    ]

    def px(gamma: float) -> float:
        return wide * base.position(gamma, xs)

    def py(seconds: float) -> float:
        return high * (1 - base.position(seconds, ys))

    points = [(px(g), py(m)) for g, m in zip(df["gamma"], df["median_s"], strict=True)]
    corners = [(px(g), py(m)) for g, m in zip(front["gamma"], front["median_s"], strict=True)]
    steps: list[labels.Box] = [(wide - 66, high - 24, wide, high)]
    for (x0, y0), (x1, y1) in pairwise(corners):
        steps.append((x0 - 1, y1 - 1, x0 + 1, y0 + 1))
        steps.append((x0, y1 - 2, x1, y1 + 2))
    steps += [
        (px(g) - 2, py(b), px(g) + 2, py(a))
        for g, a, b in zip(df["gamma"], df["q25_s"], df["q75_s"], strict=True)
    ]
    widths = [
        labels.text_width(text, 12.5, bold=b)
        for text, b in zip(df["label"], df["bold"], strict=True)
    ]
    leading = [i for i, state in enumerate(df["front"]) if state != "dominated"]
    spots = labels.place(points, widths, (0, 0, wide, high), steps, first=leading)
    df["dx"], df["dy"] = [s.dx for s in spots], [s.dy for s in spots]
    df["align"] = [s.align for s in spots]
    return df


def _finding(df: pd.DataFrame, front: pd.DataFrame, baseline: str) -> str:
    parts = [
        f"{p} ({time_text(m)}, γ {count_text(g)})"
        for p, m, g in zip(front["product"], front["median_s"], front["gamma"], strict=True)
    ]
    others = df[df["same_operation"].astype(bool) & (df["product"] != baseline)]
    finding = f"On the front of time against expressivity: {list_text(parts, 6)}."
    if others.empty:
        return f"{finding} None of the others does the same operation as {baseline}."
    fastest = others.sort_values("median_s").iloc[0]
    return (
        f"{finding} Fastest with the same operation as {baseline}: "
        f"{fastest['product']}, {time_text(fastest['median_s'])}."
    )
