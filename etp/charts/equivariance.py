"""Equivariance errors: per product, per group element, per degree, and against grid size."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from etp.charts import base, theme
from etp.charts.theme import Mode
from etp.text import count_text, list_text, power_text

_FLOOR = 1e-17
"""An error of exactly zero is drawn here, below what any dtype resolves."""


def _error_axis(domain: list[float], title: str) -> alt.X:
    ticks = base.log_ticks(domain, (1,), most=7)
    axis = alt.Axis(values=ticks, labelExpr=base.POWER_LABELS, grid=True)
    return alt.X(title=title, scale=base.log_scale(domain), axis=axis)


def _gates(gates: dict[str, float], x: alt.X, t: theme.Tokens) -> list[Any]:
    rows = pd.DataFrame(
        {
            "gate": list(gates.values()),
            "text": [f"{name} {power_text(gate, 1)}" for name, gate in gates.items()],
            # Neighbours alternate between two levels so that their names keep apart.
            "level": [-5 - 13 * (i % 2) for i in range(len(gates))],
        }
    )
    rule = alt.Chart(rows).mark_rule(color=t.bad, strokeDash=[4, 3], strokeWidth=1.5)
    note = alt.Chart(rows).mark_text(
        # To the left of its gate: the last one stands near the right edge of a phone.
        align="right",
        baseline="bottom",
        fontSize=11.5,
        color=t.bad,
        dx=6,
        dy={"expr": "datum.level"},
    )
    shared = base.with_field(x, "gate")
    return [
        rule.encode(x=shared),
        note.encode(x=shared, y=base.at_pixel("Y", 0), text=alt.Text("text:N")),
    ]


def equivariance_dots(
    df: pd.DataFrame,
    mode: Mode,
    gate: float,
    dtype_title: str,
    selected: str | None = None,
) -> alt.LayerChart:
    """Relative equivariance error, one product per row: median as a point, range as a line.

    The gate is dashed; a product beyond it is drawn in red.

    Args:
        df: Columns ``product``, ``median``, ``max``, ``min``; optional ``valid``. Rows that failed
            should be among them: this chart ranks nothing.
        mode: "light" or "dark".
        gate: Largest error that counts as equivariant.
        dtype_title: Name of the dtype, for the label of the gate.
        selected: A product to keep bright while the others fade.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.faded(base.checked(df, "product", "median", "max", "min"), selected)
    t = theme.tokens(mode)
    for column in ("median", "max", "min"):
        df[column] = df[column].clip(lower=_FLOOR)
    df = df.sort_values("median")
    df["failed"] = df["max"] > gate
    df["range"] = [
        f"{power_text(m)} [{power_text(a)} – {power_text(b)}]"
        for m, a, b in zip(df["median"], df["min"], df["max"], strict=True)
    ]
    domain = base.log_domain([*df["min"], *df["max"], gate], 0.08, 0.08)
    x = _error_axis(domain, "relative equivariance error")
    rows = list(df["product"])
    y = base.row_axis(rows, t)
    hue, outline, seen = base.colour(rows, mode), base.shape(rows), base.opacity()
    tooltip = [alt.Tooltip("product:N"), alt.Tooltip("range:N", title="median [range]")]
    layers = _gates({f"{dtype_title} gate": gate}, x, t)
    for some, paint in ((df[~df["failed"]], hue), (df[df["failed"]], alt.ColorValue(t.bad))):
        if some.empty:
            continue
        rule = alt.Chart(some).mark_rule(strokeWidth=2)
        layers.append(
            rule.encode(
                x=base.with_field(x, "min"), x2=alt.X2("max:Q"), y=y, color=paint, opacity=seen
            )
        )
        point = (
            alt.Chart(some)
            .mark_point(filled=True, size=70)
            .encode(x=base.with_field(x, "median"), y=y, color=paint, shape=outline, opacity=seen)
        )
        layers.append(point.encode(tooltip=tooltip))
    worst = df.sort_values("max").iloc[-1]
    failed = list(df[df["failed"]]["product"])
    finding = (
        f"The largest {dtype_title} error is {power_text(worst['max'])} ({worst['product']}), "
        + (
            f"above the gate of {power_text(gate, 1)}: {list_text(failed)} "
            f"{'is' if len(failed) == 1 else 'are'} not equivariant."
            if failed
            else f"below the gate of {power_text(gate, 1)}: every product is equivariant."
        )
    )
    height = max(base.row_height(len(rows), 20, 66), 150)
    return base.finished(layers, mode, finding, min(height, 420))


def equivariance_strip(
    df: pd.DataFrame,
    mode: Mode,
    gates: dict[str, float],
    selected: str | None = None,
) -> alt.LayerChart:
    """One tick per group element, all dtypes on one axis from 10⁻¹⁵ to 1, gates dashed.

    Args:
        df: Columns ``product``, ``dtype``, ``error``, ``inverted`` (bool), ``broken`` (bool: wrong
            on purpose, drawn in red below the others). One row per group element.
        mode: "light" or "dark".
        gates: Largest error that counts as equivariant, per dtype.
        selected: A product to keep bright while the others fade.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.faded(base.checked(df, "product", "dtype", "error", "inverted", "broken"), selected)
    t = theme.tokens(mode)
    df["error"] = df["error"].clip(lower=_FLOOR)
    low = min(df["error"].min(), 1e-15)
    domain = [low * 0.6, max(df["error"].max(), 1.0) * 1.2]
    x = _error_axis(domain, "relative equivariance error")
    medians = df.groupby("product").agg(broken=("broken", "max"), middle=("error", "median"))
    rows = list(medians.sort_values(["broken", "middle"]).index)
    y = base.row_axis(rows, t)
    df["element"] = ["rotation and inversion" if i else "rotation" for i in df["inverted"]]
    layers: list[Any] = []
    broken = df["broken"].astype(bool)
    for some, paint in (
        (df[~broken], base.colour(rows, mode)),
        (df[broken], alt.ColorValue(t.bad)),
    ):
        if some.empty:
            continue
        tick = alt.Chart(some[["product", "dtype", "error", "element", "fade"]])
        tick = tick.mark_tick(thickness=1.4, height={"band": 0.68}, orient="vertical")
        layers.append(
            tick.encode(
                x=base.with_field(x, "error"),
                y=y,
                color=paint,
                opacity=alt.OpacityValue(0.75) if selected is None else base.opacity(),
                tooltip=[
                    alt.Tooltip("product:N"),
                    alt.Tooltip("dtype:N"),
                    alt.Tooltip("element:N"),
                    alt.Tooltip("error:Q", format=".1e"),
                ],
            )
        )
    shown = {d: g for d, g in gates.items() if d in set(df["dtype"])}
    layers += _gates(dict(sorted(shown.items(), key=lambda item: item[1])), x, t)
    sound = df[~broken]
    over = {
        str(p)
        for p, d, e in zip(sound["product"], sound["dtype"], sound["error"], strict=True)
        if e > gates.get(d, float("inf"))
    }
    finding = (
        f"{list_text(sorted(over))} {'is' if len(over) == 1 else 'are'} beyond the gate."
        if over
        else "Every product stays below the gate of every dtype tested."
    )
    if broken.any():
        worst = power_text(df[broken]["error"].max())
        finding += f" Broken on purpose, for comparison: error up to {worst}."
    height = max(base.row_height(len(rows), 23, 92), 200)
    return base.finished(layers, mode, finding, height)


def per_degree(df: pd.DataFrame, mode: Mode, selected: str | None = None) -> alt.LayerChart:
    """Largest relative error against the degree of the output, one line per product.

    Args:
        df: Columns ``product``, ``degree``, ``error``; optional ``valid``.
        mode: "light" or "dark".
        selected: A product to keep bright while the others fade.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.faded(base.checked(df, "product", "degree", "error"), selected)
    df["error"] = df["error"].clip(lower=_FLOOR)
    domain = base.log_domain(df["error"], 0.06, 0.08)
    degrees = sorted(set(df["degree"]))
    x = alt.X("degree:Q").title("degree of the output").axis(values=degrees, format="d")
    x = x.scale(alt.Scale(domain=[degrees[0] - 0.1, degrees[-1]], nice=False, zero=False))
    y = alt.Y(title="relative error", scale=base.log_scale(domain))
    y = y.axis(values=base.log_ticks(domain, (1,)), labelExpr=base.POWER_LABELS)
    # Imported here, not above: lines is the larger module and needs nothing of this one.
    from etp.charts.lines import end_labels

    height = 270
    ends = end_labels(
        df.rename(columns={"degree": "x", "error": "median_s"}), domain, height * 0.8
    ).rename(columns={"x": "degree"})
    names = list(df["product"])
    hue, seen = base.colour(names, mode), base.opacity()
    chart = alt.Chart(df).encode(x=x, y=base.with_field(y, "error"), color=hue, opacity=seen)
    text = alt.Chart(ends).mark_text(align="left", baseline="middle", dx=11, fontSize=12)
    layers = [
        chart.mark_line().encode(strokeDash=base.dash(names)),
        chart.mark_point(filled=True, size=36).encode(
            shape=base.shape(names),
            tooltip=[
                alt.Tooltip("product:N"),
                alt.Tooltip("degree:Q"),
                alt.Tooltip("error:Q", format=".1e"),
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
    worst = df.sort_values("error").iloc[-1]
    finding = (
        f"The largest error over all degrees is {power_text(worst['error'])}: "
        f"{worst['product']} at degree {count_text(worst['degree'])}."
    )
    return base.finished(layers, mode, finding, height)


def cliff(
    df: pd.DataFrame, mode: Mode, xlabel: str, smallest_exact: float | None
) -> alt.LayerChart:
    """Worst error against the size of the grid: crosses are wrong, circles exact.

    Args:
        df: Columns ``size``, ``error``, ``exact`` (bool); optional ``product`` (its colour).
        mode: "light" or "dark".
        xlabel: Title of the x axis, such as "grid columns (longitude)".
        smallest_exact: Smallest size that is exact, marked by a dashed rule; None if there is none.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.checked(df, "size", "error", "exact").sort_values("size")
    t = theme.tokens(mode)
    df["error"] = df["error"].clip(lower=_FLOOR)
    product = str(df["product"].iloc[0]) if "product" in df.columns else "gaunt-grid"
    domain = [min(df["error"].min(), 1e-15) * 0.3, max(df["error"].max(), 1.0) * 3]
    sizes = sorted(set(df["size"]))
    scale = alt.Scale(domain=[sizes[0] - 0.5, sizes[-1] + 0.9], nice=False, zero=False)
    x = alt.X("size:Q").title(xlabel).scale(scale).axis(values=sizes, format="d")
    y = alt.Y("error:Q").title("worst error").scale(base.log_scale(domain))
    y = y.axis(values=[1e-15, 1e-10, 1e-5, 1], labelExpr=base.POWER_LABELS)
    chart = alt.Chart(df).encode(x=x, y=y)
    layers: list[Any] = [chart.mark_line(color=t.axis, strokeWidth=1.2)]
    exact = df["exact"].astype(bool)
    tooltip = [alt.Tooltip("size:Q", title=xlabel), alt.Tooltip("error:Q", format=".1e")]
    if (~exact).any():
        wrong = alt.Chart(df[~exact]).mark_point(shape=theme.X, filled=True, size=44, color=t.bad)
        layers.append(wrong.encode(x=x, y=y, tooltip=tooltip))
    if exact.any():
        right = alt.Chart(df[exact]).mark_point(
            shape="circle", filled=True, size=60, color=theme.style(product).colour(mode)
        )
        layers.append(right.encode(x=x, y=y, tooltip=tooltip))
    finding = f"No {xlabel} tested is exact."
    if smallest_exact is not None:
        row = pd.DataFrame(
            {"size": [smallest_exact - 0.5], "text": [f"smallest exact: {smallest_exact:g}"]}
        )
        rule = alt.Chart(row).mark_rule(color=t.faint, strokeDash=[4, 3], strokeWidth=1.2)
        note = alt.Chart(row).mark_text(
            align="left", baseline="top", dx=6, fontSize=11.5, color=t.mute
        )
        layers += [
            rule.encode(x=x),
            note.encode(x=x, y=base.at_pixel("Y", 0), text=alt.Text("text:N")),
        ]
        below = df[~exact]["error"]
        finding = f"From {smallest_exact:g} {xlabel} on the product is exact"
        finding += f"; below, the error is up to {power_text(below.max())}." if len(below) else "."
    return base.finished(layers, mode, finding, 148)
