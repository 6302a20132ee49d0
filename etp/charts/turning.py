"""Where the exact contraction of a power stops being the cheaper one, as lines against lmax."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from etp.charts import base, theme
from etp.charts.theme import Mode
from etp.text import count_text, list_text, ratio_text

HEIGHT = 250
_STYLES = {2: ("clebsch-gordan", "circle"), 3: ("gaunt", "square"), 4: ("matrix", "triangle-up")}


def turning(df: pd.DataFrame, mode: Mode) -> alt.LayerChart:
    """Multiply-adds of the Gaunt power over those of the exact one; above 1 freedom is free.

    Args:
        df: Columns ``order`` (2 to 4), ``lmax``, ``exact``, ``gaunt`` (multiply-adds).
        mode: "light" or "dark".

    Raises:
        ValueError: If a column is missing or no row is left.
    """
    df = base.checked(df, "order", "lmax", "exact", "gaunt")
    df["ratio"] = df["gaunt"] / df["exact"]
    df["name"] = [f"order {order}" for order in df["order"]]
    df["said"] = [
        f"exact {count_text(a)}, Gaunt {count_text(b)}"
        for a, b in zip(df["exact"], df["gaunt"], strict=True)
    ]
    t = theme.tokens(mode)
    orders = sorted(set(df["order"]))
    names = [f"order {order}" for order in orders]
    hues = [theme.FAMILIES[_STYLES[order][0]][mode] for order in orders]
    domain = base.log_domain([*df["ratio"], 1.0], 0.1, 0.1)
    lmaxes = sorted(set(df["lmax"]))
    x = alt.X("lmax:Q").title("lmax of the feature").axis(values=lmaxes, format="d", grid=False)
    x = x.scale(domain=[lmaxes[0] - 0.2, lmaxes[-1] + 0.9], nice=False, zero=False)
    y = alt.Y("ratio:Q").title("multiply-adds, Gaunt / exact").scale(base.log_scale(domain))
    y = y.axis(values=base.log_ticks(domain), labelExpr=base.RATIO_LABELS)
    hue = alt.Color("name:N").scale(domain=names, range=hues).legend(None)
    shapes = [_STYLES[order][1] for order in orders]
    even = pd.DataFrame({"ratio": [1.0], "text": ["above: the exact one needs fewer"]})
    note = alt.Chart(even).mark_text(align="right", baseline="bottom", dx=-4, dy=-4, fontSize=11.5,
                                     color=t.mute)  # fmt: skip
    chart = alt.Chart(df).encode(x=x, y=y, color=hue)
    ends = df.sort_values("lmax").groupby("order", as_index=False).tail(1)
    layers: list[Any] = [
        alt.Chart(even).mark_rule(color=t.faint, strokeDash=[4, 3]).encode(y=y),
        note.encode(x=base.at_pixel("X", "width"), y=y, text=alt.Text("text:N")),
        chart.mark_line(),
        chart.mark_point(filled=True, size=55).encode(
            shape=alt.Shape("name:N").scale(domain=names, range=shapes).legend(None),
            tooltip=["name:N", "lmax:Q", alt.Tooltip("said:N", title="multiply-adds")],
        ),
        alt.Chart(ends)
        .mark_text(align="left", dx=9, fontSize=12)
        .encode(x=x, y=y, color=hue, text=alt.Text("name:N")),
    ]
    said = [
        f"{ratio_text(r)} at order {o}, lmax {l}"
        for o, l, r in zip(ends["order"], ends["lmax"], ends["ratio"], strict=True)
    ]
    return base.finished(layers, mode, f"Gaunt over exact: {list_text(said)}.", HEIGHT)
