"""How sure is that: speed relative to a baseline with intervals, and two machines compared."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from etp.charts import base, labels, theme
from etp.charts.theme import Mode
from etp.text import floor_text, list_text, range_text, ratio_text, speed_words

HEIGHT = 372


def _ratio_axis(domain: list[float], title: str) -> alt.X:
    ticks = base.log_ticks(domain, most=8)
    axis = alt.Axis(values=ticks, labelExpr=base.RATIO_LABELS, grid=True)
    return alt.X("ratio:Q", title=title, scale=base.log_scale(domain), axis=axis)


def ratio(
    df: pd.DataFrame,
    mode: Mode,
    baseline: str,
    floor: tuple[float, float] | None,
    selected: str | None = None,
    width: int = 560,
) -> alt.LayerChart:
    """Speed relative to ``baseline`` with its interval, fastest first, one product per row.

    Filled points do the same operation as ``baseline``. The words of the verdict stand at the
    right edge. The selection parameter "pick" is on ``product``.

    Args:
        df: Columns ``product``, ``ratio`` (time of the baseline over time of the product, above
            one is faster), ``low``, ``high``, ``words``, ``same_operation`` (bool); optional
            ``valid``. The baseline's own row is left out.
        mode: "light" or "dark".
        baseline: The product that the others are compared against.
        floor: Interval of the ratio of a product against itself, drawn as the noise floor.
        selected: A product to keep bright while the others fade.
        width: Expected width in pixels, for the room that the words take.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.checked(df, "product", "ratio", "low", "high", "words", "same_operation")
    df = base.checked(df[df["product"] != baseline], "product")
    df = base.faded(df.sort_values("ratio", ascending=False), selected)
    t = theme.tokens(mode)
    row_labels = max(labels.text_width(p) for p in df["product"]) + 20
    words = max(labels.text_width(w) for w in df["words"]) + 22
    plot = max(width - row_labels, 200)
    share = min(words / plot, 0.6)
    # An interval may reach zero or infinity when there were too few rounds: cut it at the edge.
    inside = [v for v in [*df["low"], *df["high"]] if 0 < v < float("inf")]
    xs = base.log_domain([*inside, *df["ratio"], 1.0, *(floor or ())], 0.08, 0.06)
    xs = [xs[0], base.at(1 / (1 - share), xs)]
    df["low"], df["high"] = df["low"].clip(lower=xs[0]), df["high"].clip(upper=xs[1])
    df["interval"] = [range_text(a, b) for a, b in zip(df["low"], df["high"], strict=True)]
    title = f"speed relative to {baseline}, 95 % interval"
    x = _ratio_axis(xs, title)
    rows = list(df["product"])
    y = base.row_axis(rows, t)
    pick = base.pick_parameter()
    hue, seen = base.colour(rows, mode), base.opacity(pick)
    outline = base.shape(rows)
    chart = alt.Chart(df).encode(x=x, y=y, color=hue, opacity=seen)
    same = df["same_operation"].astype(bool)
    layers: list[Any] = []
    if floor is not None:
        layers += _floor(floor, x, t)
    unity = alt.Chart(pd.DataFrame({"ratio": [1.0]})).mark_rule(color=t.axis, strokeWidth=1.2)
    layers.append(unity.encode(x=x))
    rules = chart.mark_rule(strokeWidth=2)
    layers.append(rules.encode(x=base.with_field(x, "low"), x2=alt.X2("high:Q")))
    if same.any():
        solid = alt.Chart(df[same]).mark_point(filled=True, size=100)
        layers.append(solid.encode(x=x, y=y, color=hue, opacity=seen, shape=outline))
    if not same.all():
        hollow = alt.Chart(df[~same])
        hollow = hollow.mark_point(filled=False, fill=t.page, size=85, strokeWidth=2)
        layers.append(hollow.encode(x=x, y=y, color=hue, opacity=seen, shape=outline))
    verdict = alt.Chart(df).mark_text(align="right", baseline="middle", color=t.mute)
    layers.append(
        verdict.encode(x=base.at_pixel("X", "width"), y=y, text=alt.Text("words:N"), opacity=seen)
    )
    target = alt.Chart(df, name="rows").mark_bar(
        fill="transparent", stroke=None, height={"band": 1}
    )
    target = target.encode(
        x=base.at_pixel("X", 0),
        x2=base.at_pixel("X2", "width"),
        y=y,
        tooltip=[
            alt.Tooltip("product:N"),
            alt.Tooltip("words:N", title=f"against {baseline}"),
            alt.Tooltip("interval:N", title="95 % interval"),
        ],
    )
    layers.append(target.add_params(pick))
    return base.finished(layers, mode, _finding(df, baseline, floor), HEIGHT)


def _floor(floor: tuple[float, float], x: alt.X, t: theme.Tokens) -> list[Any]:
    low, high = floor
    row = pd.DataFrame({"low": [low], "high": [high], "text": [f"noise floor {floor_text(floor)}"]})
    band = alt.Chart(row).mark_rect(color=t.band)
    band = band.encode(x=base.with_field(x, "low"), x2=alt.X2("high:Q"))
    note = alt.Chart(row).mark_text(align="left", baseline="bottom", dy=-3, fontSize=11.5)
    note = note.encode(
        x=base.with_field(x, "low"),
        y=base.at_pixel("Y", 0),
        text=alt.Text("text:N"),
        color=alt.ColorValue(t.mute),
    )
    return [band, note]


def _finding(df: pd.DataFrame, baseline: str, floor: tuple[float, float] | None) -> str:
    parts = [f"{p}: {w}" for p, w in zip(df["product"], df["words"], strict=True)]
    noise = f" Noise floor {floor_text(floor)}." if floor else ""
    return f"Speed relative to {baseline}: {list_text(parts, 20)}.{noise}"


def machines(
    df: pd.DataFrame,
    mode: Mode,
    selected: str | None = None,
    xlabel: str = "lmax",
) -> alt.LayerChart:
    """Speed of machine B relative to machine A, one product per row, one point per size.

    A larger point is a larger size; a rule is the interval of one ratio, a thin line the spread
    over sizes. The two were not measured in turns, so the interval is not that of a pair.

    Args:
        df: Columns ``product``, ``x`` (size), ``ratio`` (time on A over time on B, above one: B is
            faster), ``low``, ``high``; optional ``valid``.
        mode: "light" or "dark".
        selected: A product to keep bright while the others fade.
        xlabel: Name of the size.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.faded(base.checked(df, "product", "x", "ratio", "low", "high"), selected)
    t = theme.tokens(mode)
    xs = base.log_domain([*df["low"], *df["high"], *df["ratio"], 1.0], 0.08, 0.08)
    sizes = sorted(set(df["x"]))
    x = _ratio_axis(xs, "speed of B relative to A")
    rows = theme.order(df["product"])
    y = base.row_axis(rows, t)
    hue, seen, outline = base.colour(rows, mode), base.opacity(), base.shape(rows)
    df["interval"] = [
        f"{ratio_text(r)} [{range_text(a, b)}]"
        for r, a, b in zip(df["ratio"], df["low"], df["high"], strict=True)
    ]
    area = {s: 40 + 80 * i / max(len(sizes) - 1, 1) for i, s in enumerate(sizes)}
    df["area"] = [area[s] for s in df["x"]]
    spans = df.groupby(["product", "fade"], as_index=False).agg(
        low=("ratio", "min"), high=("ratio", "max")
    )
    unity = alt.Chart(pd.DataFrame({"ratio": [1.0]})).mark_rule(color=t.ink, strokeWidth=1.2)
    span = alt.Chart(spans).mark_rule(strokeWidth=1)
    rule = alt.Chart(df).mark_rule(strokeWidth=2)
    point = alt.Chart(df.sort_values("x")).mark_point(filled=True)
    layers = [
        unity.encode(x=x),
        *(
            rules.encode(
                x=base.with_field(x, "low"), x2=alt.X2("high:Q"), y=y, color=hue, opacity=seen
            )
            for rules in (span, rule)
        ),
        point.encode(
            x=x,
            y=y,
            color=hue,
            shape=outline,
            opacity=seen,
            size=alt.Size("area:Q", scale=None, legend=None),
            tooltip=[
                alt.Tooltip("product:N"),
                alt.Tooltip("x:Q", title=xlabel),
                alt.Tooltip("interval:N", title="B relative to A"),
            ],
        ),
    ]
    middle = df.groupby("product")["ratio"].median().sort_values(ascending=False)
    parts = [f"{p} {speed_words(r)}" for p, r in middle.items()]
    finding = f"On B against A, median over {xlabel}: {list_text(parts, 20)}."
    return base.finished(layers, mode, finding, base.row_height(len(rows), 27))
