"""A run in progress, as a grid of products and cases."""

from __future__ import annotations

import altair as alt
import pandas as pd

from etp.charts import base, labels, theme
from etp.charts.theme import Mode
from etp.text import count_text

_OUTLINED = {"failed": "bad", "invalid": "bad", "cancelled": "faint", "queued": "grid"}


def progress_grid(df: pd.DataFrame, mode: Mode, width: int = 460) -> alt.LayerChart:
    """One cell per product and case: grey done, filled running, empty queued, outlined the rest.

    Args:
        df: Columns ``product``, ``column`` (such as "lmax 3"), ``state`` ("done", "running",
            "queued", "failed", "cancelled", "invalid"; any other is a warning, such as
            "throttled") and ``text`` (shown in the cell). Rows and columns in order of appearance.
        mode: "light" or "dark".
        width: Expected width in pixels; narrow cells carry smaller text and no tick mark.

    Raises:
        ValueError: If a column is missing or no row is left.
    """
    df = base.checked(df, "product", "column", "state", "text")
    t = theme.tokens(mode)
    rows, columns = list(dict.fromkeys(df["product"])), list(dict.fromkeys(df["column"]))
    room = (width - max(labels.text_width(p) for p in rows) - 14) / len(columns)
    narrow = room < 62
    df["shown"] = [
        _cell_text(state, str(text), narrow=narrow)
        for state, text in zip(df["state"], df["text"], strict=True)
    ]
    fills = {"done": t.band, "running": t.primary}
    df["fill"] = [fills.get(s, "transparent") for s in df["state"]]
    df["edge"] = [
        "transparent" if s in fills else getattr(t, _OUTLINED.get(s, "warn")) for s in df["state"]
    ]
    inks = {"done": t.ink, "running": t.on_primary, "queued": t.mute, "cancelled": t.mute}
    df["ink"] = [inks.get(s) or getattr(t, _OUTLINED.get(s, "warn")) for s in df["state"]]
    x = alt.X("column:N", sort=columns, title=None).scale(paddingInner=0.05, paddingOuter=0)
    x = x.axis(orient="top", labelAngle=0, domain=False, ticks=False, labelColor=t.mute)
    y = base.row_axis(rows, t).scale(paddingInner=0.12, paddingOuter=0)
    chart = alt.Chart(df).encode(
        x=x,
        y=y,
        tooltip=[
            alt.Tooltip("product:N"),
            alt.Tooltip("column:N"),
            alt.Tooltip("state:N"),
            alt.Tooltip("text:N"),
        ],
    )
    cells = chart.mark_rect(cornerRadius=4, strokeWidth=1.2).encode(
        fill=alt.Fill("fill:N").scale(None).legend(None),
        stroke=alt.Stroke("edge:N").scale(None).legend(None),
    )
    words = chart.mark_text(fontSize=10 if narrow else 11.5, baseline="middle").encode(
        text=alt.Text("shown:N"), color=alt.Color("ink:N").scale(None).legend(None)
    )
    counts = df["state"].value_counts()
    done = sum(n for s, n in counts.items() if s not in ("queued", "running"))
    finding = f"{count_text(done)} of {count_text(len(df))} cases are finished"
    for state in ("running", "failed", "invalid", "cancelled"):
        if state in counts:
            finding += f", {count_text(counts[state])} {state}"
    running = df[df["state"] == "running"]
    if len(running):
        finding += f"; now {running['product'].iloc[0]} at {running['column'].iloc[0]}"
    height = base.row_height(len(rows), 19, 30)
    return base.finished([cells, words], mode, f"{finding}.", height)


def _cell_text(state: str, text: str, *, narrow: bool) -> str:
    if state == "queued":
        return "·"
    if state == "done":
        return text if narrow and text else f"✓ {text}".rstrip()
    return text or state
