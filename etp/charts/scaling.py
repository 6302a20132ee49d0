"""How the time grows: log-log lines, fitted slopes beside theory, and the roofline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor
from typing import Any

import altair as alt
import pandas as pd

from etp.charts import base, labels, theme
from etp.charts.lines import TITLES, lines
from etp.charts.theme import Mode
from etp.problem import Axis
from etp.text import list_text, rate_text, superscript, time_text

HEIGHT = 430
HEIGHT_ROOF = 360
_SYMBOLS: dict[str, str] = {"lmax": "L", "batch": "B", "channels": "C"}


def slope_text(slope: float, symbol: str = "L") -> str:
    """Return a growth law: ``∝ L²·⁵``."""
    return f"∝ {symbol}{superscript(f'{slope:.1f}')}"


def scaling(
    df: pd.DataFrame,
    mode: Mode,
    x: Axis = "lmax",
    slopes: Mapping[str, float] | None = None,
    selected: str | None = None,
) -> alt.LayerChart:
    """Time per call against a size, both log; each line ends in its name and fitted exponent.

    For lmax the axis is logarithmic in lmax + 1, the size that operation counts grow with, and
    labelled with lmax.

    Args:
        df: Columns ``product``, ``x``, ``median_s``, ``q25_s``, ``q75_s`` (quartiles may be
            missing: then no rule is drawn) and, optional, ``same_operation`` and ``valid``.
        mode: "light" or "dark".
        x: What the column ``x`` holds.
        slopes: Fitted exponent per product; a product without one ends in its name alone.
        selected: A product to keep bright while the others fade.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.faded(base.checked(df, "product", "x", "median_s", "q25_s", "q75_s"), selected)
    df["time"] = [time_text(m) for m in df["median_s"]]
    slopes = slopes or {}
    shift = 1 if x == "lmax" else 0
    title = TITLES[x] + (" (log scale in lmax + 1)" if shift else " (log scale)")
    df["x"] = df["x"] + shift
    sizes = sorted(set(df["x"]))
    scale = base.log_scale([sizes[0] * 0.95, sizes[-1] * (1 if len(sizes) > 1 else 1.05)])
    written = "format(datum.value - 1, 'd')" if shift else "format(datum.value, '~s')"
    axis = alt.Axis(values=sizes, labelExpr=written, grid=False)
    along = alt.X("x:Q", title=title, scale=scale, axis=axis)
    symbol = _SYMBOLS[x]

    def label(product: str) -> str:
        known = slopes.get(product)
        return product if known is None else f"{product} {slope_text(known, symbol)}"

    layers = lines(df, mode, along, "time per call", HEIGHT, label)
    fits = sorted(slopes.items(), key=lambda item: item[1])
    parts = [f"{p} {slope_text(s, symbol)}" for p, s in fits if p in set(df["product"])]
    finding = (
        f"Time grows like {list_text(parts, 20)}."
        if parts
        else f"Time per call against {x}; too few sizes for a slope."
    )
    return base.finished(layers, mode, finding, HEIGHT)


def slopes(
    df: pd.DataFrame, mode: Mode, symbol: str = "L", selected: str | None = None
) -> alt.LayerChart:
    """Fitted exponent (point, with its interval) beside that of the operation count (bar).

    Args:
        df: Columns ``product``, ``fitted``, ``low``, ``high``, ``theory`` (may be missing);
            optional ``valid``.
        mode: "light" or "dark".
        symbol: What the time is a power of: "L", "B" or "C".
        selected: A product to keep bright while the others fade.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.checked(df, "product", "fitted", "low", "high", "theory")
    df = base.faded(df.sort_values("fitted"), selected)
    t = theme.tokens(mode)
    for bound in ("low", "high"):
        df[bound] = df[bound].fillna(df["fitted"])
    values = [*df["fitted"], *df["low"], *df["high"], *df["theory"].dropna()]
    low, high = min(0, floor(min(values))), floor(max(values)) + 1
    powers = [symbol + superscript(k) for k in range(low, high + 1)]
    written = f"{powers!r}[datum.value - ({low})]"
    x = alt.X(
        "fitted:Q",
        title=f"exponent of the time in {symbol}",
        scale=alt.Scale(domain=[low, high], nice=False),
        axis=alt.Axis(values=list(range(low, high + 1)), labelExpr=written, grid=True),
    )
    rows = list(df["product"])
    y = base.row_axis(rows, t)
    hue, seen = base.colour(rows, mode), base.opacity()
    known = df.dropna(subset=["theory"])
    link = alt.Chart(known).mark_rule(strokeWidth=1.2, opacity=0.6)
    bar = alt.Chart(known).mark_tick(thickness=2.5, height=14, orient="vertical")
    spread = alt.Chart(df).mark_rule(strokeWidth=2.5)
    point = alt.Chart(df).mark_point(filled=True, size=80)
    tooltip = [
        alt.Tooltip("product:N"),
        alt.Tooltip("fitted:Q", format=".2f"),
        alt.Tooltip("low:Q", format=".2f"),
        alt.Tooltip("high:Q", format=".2f"),
        alt.Tooltip("theory:Q", title="operation count"),
    ]
    layers: list[Any] = []
    if not known.empty:
        layers.append(link.encode(x=x, x2=alt.X2("theory:Q"), y=y, color=hue))
        theory = base.with_field(x, "theory")
        layers.append(bar.encode(x=theory, y=y, color=hue, opacity=seen))
    layers.append(
        spread.encode(
            x=base.with_field(x, "low"), x2=alt.X2("high:Q"), y=y, color=hue, opacity=seen
        )
    )
    layers.append(
        point.encode(x=x, y=y, color=hue, shape=base.shape(rows), opacity=seen, tooltip=tooltip)
    )
    parts = []
    for product, fitted, theory in zip(df["product"], df["fitted"], df["theory"], strict=True):
        beside = "" if pd.isna(theory) else f" (operation count {theory:g})"
        parts.append(f"{product} {fitted:.1f}{beside}")
    finding = f"Fitted exponent in {symbol}: {list_text(parts, 20)}."
    return base.finished(layers, mode, finding, max(base.row_height(len(rows), 23, 62), 200))


def roofs_text(roofs: Mapping[str, float]) -> str:
    """Return the roofs in words: ``matrix product 199 GFLOP/s (flat), copy 35 GB/s (slope)``."""
    flat = rate_text(roofs["matmul_flops_per_s"], "FLOP/s")
    slope = rate_text(roofs["copy_bytes_per_s"], "B/s")
    return f"matrix product {flat} (flat), copy {slope} (slope)"


def roofline(
    df: pd.DataFrame,
    roofs: Mapping[str, float],
    mode: Mode,
    selected: str | None = None,
    width: int = 640,
    other: tuple[str, Mapping[str, float]] | None = None,
) -> alt.LayerChart:
    """Counted operations per second against counted operations per byte, under measured roofs.

    Args:
        df: Columns ``product``, ``x`` (size; a larger point is a larger size), ``intensity``
            (operations per byte of inputs and outputs), ``flops_per_s``; optional ``valid``.
        roofs: ``copy_bytes_per_s`` and ``matmul_flops_per_s``, measured on the same device.
        mode: "light" or "dark".
        selected: A product to keep bright while the others fade.
        width: Expected width in pixels, for the labels.
        other: Name and roofs of another device, drawn dotted; its products are those of ``df``
            whose names say where they ran, told by colour and mark alone.

    Raises:
        ValueError: If a column or a roof is missing or no valid row is left.
    """
    df = base.faded(base.checked(df, "product", "x", "intensity", "flops_per_s"), selected)
    all_roofs = [roofs] if other is None else [roofs, other[1]]
    for roof in all_roofs:
        missing = [k for k in ("copy_bytes_per_s", "matmul_flops_per_s") if k not in roof]
        if missing:
            raise ValueError(
                f"roofs must have {', '.join(missing)}, got {', '.join(roof) or 'none'}"
            )
    t = theme.tokens(mode)
    copy, peak = roofs["copy_bytes_per_s"], roofs["matmul_flops_per_s"]
    peaks = [roof["matmul_flops_per_s"] for roof in all_roofs]
    ridges = [roof["matmul_flops_per_s"] / roof["copy_bytes_per_s"] for roof in all_roofs]
    xs = base.log_domain([*df["intensity"], min(ridges) / 3, max(ridges) * 3], 0.06, 0.14)
    left = min(copy * xs[0], float(df["flops_per_s"].min()))
    ys = base.log_domain([*df["flops_per_s"], *peaks, left], 0.04, 0.12)
    df["rate"] = [rate_text(v, "FLOP/s") for v in df["flops_per_s"]]
    sizes = sorted(set(df["x"]))
    area = {s: 18 + 82 * i / max(len(sizes) - 1, 1) for i, s in enumerate(sizes)}
    df["area"] = [area[s] for s in df["x"]]
    df = df.sort_values(["product", "x"])
    ticks = base.log_ticks(xs, most=7 if width > 450 else 5)
    x = alt.X(
        "intensity:Q",
        title="counted FLOP per byte of input and output",
        scale=base.log_scale(xs),
        axis=alt.Axis(values=ticks, grid=True, format=",~r"),
    )
    written = "replace(format(datum.value, '~s'), 'G', ' G')"
    y = alt.Y(
        "flops_per_s:Q",
        title="counted FLOP/s",
        scale=base.log_scale(ys),
        axis=alt.Axis(values=base.log_ticks(ys), labelExpr=written),
    )
    names = list(df["product"])
    hue, seen = base.colour(names, mode), base.opacity()
    high, wide = HEIGHT_ROOF * 0.84, width - 70
    tops = [high * (1 - base.position(p, ys)) for p in peaks]
    here = base.of_this_device(df)
    ends = here.groupby("product", as_index=False).tail(1)
    ends = ends.sort_values("product", key=lambda names: names != selected, kind="stable")
    spots = labels.place(
        [
            (wide * base.position(i, xs), high * (1 - base.position(f, ys)))
            for i, f in zip(ends["intensity"], ends["flops_per_s"], strict=True)
        ],
        [labels.text_width(p) for p in ends["product"]],
        (0, 0, wide, high),
        [
            (a - 4, b - 4, a + 4, b + 4)
            for a, b in (
                (wide * base.position(i, xs), high * (1 - base.position(f, ys)))
                for i, f in zip(df["intensity"], df["flops_per_s"], strict=True)
            )
        ]
        + [(0, top - 3, wide, top + 3) for top in tops],
    )
    ends["dx"], ends["dy"] = [s.dx for s in spots], [s.dy for s in spots]
    # A name that would lie on another is told by its tooltip and in the table beside alone.
    ends["align"] = [
        s.align if clear else "none" for s, clear in zip(spots, labels.legible(spots), strict=True)
    ]
    points = alt.Chart(df).encode(x=x, y=y, color=hue, opacity=seen)
    layers: list[Any] = [
        *(
            alt.Chart(_roof(roof, xs))
            .mark_line(color=t.ink, strokeWidth=1.4, clip=True, strokeDash=list(dash))
            .encode(x=x, y=y)
            for roof, dash in zip(all_roofs, (theme.SOLID, theme.ELSEWHERE), strict=False)
        ),
        points.mark_line(strokeWidth=1).encode(
            order=alt.Order("x:Q"), **({} if other is None else {"strokeDash": base.dash(names)})
        ),
        points.mark_point(filled=True).encode(
            shape=base.shape(names),
            size=alt.Size("area:Q", scale=None, legend=None),
            tooltip=[
                alt.Tooltip("product:N"),
                alt.Tooltip("x:Q", title="size"),
                alt.Tooltip("intensity:Q", format=",.3~r", title="FLOP per byte"),
                alt.Tooltip("rate:N", title="counted"),
            ],
        ),
    ]
    for align in ("left", "center", "right"):
        some = ends[ends["align"] == align]
        if some.empty:
            continue
        named = alt.Chart(some).encode(
            x=x, y=y, text=alt.Text("product:N"), color=hue, opacity=seen
        )
        style: dict[str, Any] = {
            "align": align,
            "baseline": "middle",
            "dx": {"expr": "datum.dx"},
            "dy": {"expr": "datum.dy"},
        }
        halo = named.encode(color=alt.ColorValue(t.page))
        layers += [halo.mark_text(**style, stroke=t.page, strokeWidth=4), named.mark_text(**style)]
    ends["share"] = [
        f / min(peak, i * copy) for f, i in zip(ends["flops_per_s"], ends["intensity"], strict=True)
    ]
    parts = [
        f"{p} {s:.0%}" + (" (above the roof, so in doubt)" if s > 1 else "")
        for p, s in ends.sort_values("share", ascending=False)[["product", "share"]].to_numpy()
    ]
    finding = f"Share of the measured roof at the largest size: {list_text(parts, 20)}."
    finding += f" Roofs: {roofs_text(roofs)}."
    if other is not None:
        finding += f" Dotted: {other[0]}, {roofs_text(other[1])}."
    return base.finished(layers, mode, finding, HEIGHT_ROOF)


def _roof(roofs: Mapping[str, float], xs: Sequence[float]) -> pd.DataFrame:
    """Corners of a roof between two intensities."""
    copy, peak = roofs["copy_bytes_per_s"], roofs["matmul_flops_per_s"]
    corners = {"intensity": [xs[0], peak / copy, xs[1]], "flops_per_s": [copy * xs[0], peak, peak]}
    return pd.DataFrame(corners)
