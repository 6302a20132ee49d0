"""Timed blocks in the order they ran: drift and throttling show as a slope or a step."""

from __future__ import annotations

import altair as alt
import pandas as pd

from etp.charts import base, labels
from etp.charts.theme import Mode
from etp.text import list_text, time_text

HEIGHT = 270


def samples_over_time(df: pd.DataFrame, mode: Mode, selected: str | None = None) -> alt.LayerChart:
    """Time per call against the moment it was measured; a line marks each product's median.

    Args:
        df: Columns ``product``, ``start_s`` (since the run began), ``time_s`` (per call).
        mode: "light" or "dark".
        selected: A product to keep bright while the others fade.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.faded(base.checked(df, "product", "start_s", "time_s"), selected)
    df["time"] = [time_text(v) for v in df["time_s"]]
    domain = base.log_domain(df["time_s"], 0.06, 0.06)
    begin, end = float(df["start_s"].min()), float(df["start_s"].max())
    scale = alt.Scale(domain=[begin, end if end > begin else begin + 1], nice=False, zero=False)
    x = alt.X("start_s:Q").title("time since the run began / s").scale(scale)
    x = x.axis(tickCount=6, grid=False)
    y = base.time_axis(domain, "time per call")
    names = list(df["product"])
    hue, seen = base.colour(names, mode), base.opacity()
    middle = df.groupby(["product", "fade"], as_index=False).agg(time_s=("time_s", "median"))
    middle["start_s"] = scale["domain"][1]
    pixels = HEIGHT * 0.8
    moved = labels.spread(
        [pixels * base.position(v, domain) for v in middle["time_s"]], 13, 7, pixels - 7
    )
    middle["label_y"] = [base.at(p / pixels, domain) for p in moved]
    points = alt.Chart(df).mark_point(filled=True, size=16)
    rule = alt.Chart(middle).mark_rule(strokeWidth=1, opacity=0.5)
    text = alt.Chart(middle).mark_text(align="left", baseline="middle", dx=9)
    layers = [
        rule.encode(y=base.with_field(y, "time_s"), color=hue),
        points.encode(
            x=x,
            y=base.with_field(y, "time_s"),
            color=hue,
            shape=base.shape(names),
            opacity=alt.OpacityValue(0.75) if selected is None else seen,
            tooltip=[
                alt.Tooltip("product:N"),
                alt.Tooltip("time:N"),
                alt.Tooltip("start_s:Q", format=".3~r"),
            ],
        ),
        text.encode(
            x=x,
            y=base.with_field(y, "label_y"),
            text=alt.Text("product:N"),
            color=hue,
            opacity=seen,
        ),
    ]
    spans = df.groupby("product")["time_s"].agg(lambda v: float(v.max() / v.min()))
    parts = [f"{p} {s:.1f}×" for p, s in spans.sort_values(ascending=False).items()]
    finding = f"Slowest over fastest block: {list_text(parts, 20)}."
    return base.finished(layers, mode, finding, HEIGHT)
