"""What the chart modules share: checks, scales, ticks, axes, configuration and export."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import altair as alt
import pandas as pd

from etp.charts import theme
from etp.charts.theme import Mode
from etp.text import power_text, superscript

Chart = alt.Chart | alt.LayerChart
PICK = "pick"
"""Name of the selection parameter that tells a page which product was clicked."""

FADED = 0.2


def checked(df: pd.DataFrame, *columns: str, name: str = "df") -> pd.DataFrame:
    """Return a copy of ``df`` without invalid rows, or say what is wrong with it.

    Rows whose optional column ``valid`` is false are left out: no chart ranks them.

    Args:
        df: Table of a chart.
        *columns: Columns that must be there and finite.
        name: What an error calls it.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    missing = [c for c in columns if c not in df.columns]
    if missing:
        raise ValueError(
            f"{name} must have the columns {', '.join(columns)}, got none called "
            f"{', '.join(missing)}"
        )
    if "valid" in df.columns:
        df = df[df["valid"].astype(bool)]
    if df.empty:
        raise ValueError(f"{name} must have at least one valid row, got none; say so in words")
    return df.reset_index(drop=True).copy()


def of_this_device(df: pd.DataFrame) -> pd.DataFrame:
    """Rows of products whose names do not say that they ran elsewhere."""
    return df[~df["product"].str.contains(theme.ON, regex=False)]


def faded(df: pd.DataFrame, selected: str | None) -> pd.DataFrame:
    """Add the column ``fade``: 1, or less for every product other than ``selected``."""
    known = selected is not None and (df["product"] == selected).any()
    df["fade"] = [1.0 if not known or p == selected else FADED for p in df["product"]]
    return df


def colour(products: Iterable[str], mode: Mode) -> alt.Color:
    """Encode ``product`` as the colour of its family; labels replace the legend."""
    names = theme.order(products)
    shades = [theme.style(p).colour(mode) for p in names]
    return alt.Color("product:N", scale=alt.Scale(domain=names, range=shades), legend=None)


def shape(products: Iterable[str]) -> alt.Shape:
    """Encode ``product`` as the shape of its mark."""
    names = theme.order(products)
    shapes = [theme.style(p).shape for p in names]
    return alt.Shape("product:N", scale=alt.Scale(domain=names, range=shapes), legend=None)


def dash(products: Iterable[str]) -> alt.StrokeDash:
    """Encode ``product`` as the dash of its line."""
    names = theme.order(products)
    dashes = [list(theme.style(p).dash) for p in names]
    return alt.StrokeDash("product:N", scale=alt.Scale(domain=names, range=dashes), legend=None)


def opacity(pick: alt.Parameter | None = None) -> Any:
    """Encode ``fade``; with ``pick``, what was not clicked fades as well, in the browser."""
    shown = alt.Opacity("fade:Q", scale=None, legend=None)
    if pick is None:
        return shown
    clicked = {
        "param": PICK,
        "field": "fade",
        "type": "quantitative",
        "scale": None,
        "legend": None,
    }
    return alt.OpacityValue(FADED, condition=clicked)


def pick_parameter() -> alt.Parameter:
    """Return the click selection; it must be added to one layer only."""
    return alt.selection_point(name=PICK, fields=["product"])


def log_domain(values: Iterable[float], low: float = 0.06, high: float = 0.06) -> list[float]:
    """Return the limits of a log axis: the data and a share ``low``, ``high`` of it beyond.

    Args:
        values: Data.
        low: Share below the smallest.
        high: Share above the largest.
    """
    positive = [v for v in values if v > 0 and math.isfinite(v)]
    if not positive:
        return [0.1, 10.0]
    start, stop = math.log10(min(positive)), math.log10(max(positive))
    span = max(stop - start, 0.3)
    middle = (start + stop) / 2
    start, stop = min(start, middle - span / 2), max(stop, middle + span / 2)
    return [10 ** (start - low * span), 10 ** (stop + high * span)]


def log_ticks(
    domain: Sequence[float], steps: Sequence[float] = (1, 2, 5), most: int = 9
) -> list[float]:
    """Return ticks at ``steps`` times powers of ten; fewer with too many, finer with too few.

    Args:
        domain: Ends of the axis.
        steps: Multiples within a decade.
        most: Ticks at the most.
    """
    ticks = _ticks_at(domain, steps)
    for coarser in ((1, 3), (1,)):
        if len(ticks) > most and len(steps) > 1:
            ticks = _ticks_at(domain, coarser)
    for finer in ((1, 1.5, 2, 3, 4, 5, 6, 8), [n / 10 for n in range(10, 100)]):
        if len(ticks) < 2:
            ticks = _ticks_at(domain, finer)
    while len(ticks) > most:
        ticks = ticks[::2] if len(ticks) % 2 else ticks[1::2]
    return ticks


def _ticks_at(domain: Sequence[float], steps: Sequence[float]) -> list[float]:
    first, last = math.floor(math.log10(domain[0])), math.ceil(math.log10(domain[1]))
    inside = (domain[0] * (1 - 1e-9), domain[1] * (1 + 1e-9))
    ticks = [float(f"{s}e{e}") for e in range(first, last + 1) for s in steps]
    return [t for t in ticks if inside[0] <= t <= inside[1]]


TIME_LABELS = (
    "datum.value >= 0.99 ? format(datum.value, '~r') + ' s'"
    " : datum.value >= 0.99e-3 ? format(datum.value * 1e3, '.3~r') + ' ms'"
    " : datum.value >= 0.99e-6 ? format(datum.value * 1e6, '.3~r') + ' µs'"
    " : format(datum.value * 1e9, '.3~r') + ' ns'"
)
"""Vega expression: a tick in seconds, written in the unit that suits it."""

BYTES_LABELS = (
    "datum.value >= 0.99e9 ? format(datum.value / 1e9, '.3~r') + ' GB'"
    " : datum.value >= 0.99e6 ? format(datum.value / 1e6, '.3~r') + ' MB'"
    " : datum.value >= 0.99e3 ? format(datum.value / 1e3, '.3~r') + ' kB'"
    " : format(datum.value, '~r') + ' B'"
)
"""Vega expression: a tick in bytes, written in the decimal unit that suits it."""

RATIO_LABELS = "format(datum.value, '~r') + '×'"

_POWERS = [f"10{superscript(e)}" for e in range(-20, 21)]
_EXPONENT = "floor(log(datum.value) / LN10 + 1e-9)"
_MANTISSA = f"datum.value / pow(10, {_EXPONENT})"
POWER_LABELS = (
    f"abs(datum.value - 1) < 1e-9 ? '{power_text(1.0, 1)}' : "
    f"(abs({_MANTISSA} - 1) < 1e-6 ? '' : format({_MANTISSA}, '.2~r') + ' × ') + "
    f"{json.dumps(_POWERS, ensure_ascii=False)}[{_EXPONENT} + 20]"
)
"""Vega expression: a tick as a power of ten, with its factor where that is not one."""


def time_axis(domain: Sequence[float], title: str) -> alt.Y:
    """Return a log axis for seconds over ``domain``, field to be set by the caller."""
    axis = alt.Axis(values=log_ticks(domain), labelExpr=TIME_LABELS)
    return alt.Y(title=title, axis=axis, scale=log_scale(domain))


def bytes_axis(domain: Sequence[float], title: str) -> alt.Y:
    """Return a log axis for bytes over ``domain``, field to be set by the caller."""
    axis = alt.Axis(values=log_ticks(domain), labelExpr=BYTES_LABELS)
    return alt.Y(title=title, axis=axis, scale=log_scale(domain))


def log_scale(domain: Sequence[float]) -> alt.Scale:
    """Return a log scale with exactly this domain; guide layers must share it."""
    return alt.Scale(type="log", domain=list(domain), nice=False)


def row_height(rows: int, each: int = 22, rest: int = 46) -> int:
    """Return the height of a chart with one row per product.

    Args:
        rows: Products.
        each: Pixels of a row.
        rest: Pixels beside the rows.
    """
    return rows * each + rest


def finished(
    layers: Sequence[Any],
    mode: Mode,
    finding: str,
    height: int,
    width: int | Literal["container"] = "container",
) -> alt.LayerChart:
    """Lay charts over one another, with size, look and alternative text (the finding).

    Args:
        layers: Charts, the lowest first.
        mode: Light or dark.
        finding: What the chart shows, in words.
        height: Pixels.
        width: Pixels, or None for the width of the page.
    """
    # All at once: each later change would copy the whole chart.
    return alt.LayerChart(
        layer=list(layers),
        width=width,
        height=height,
        description=finding,
        autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        config=theme.config(mode),
    )


def alt_text(chart: Any) -> str:
    """Return the finding that a chart shows, as a sentence: its alternative text."""
    return str(chart.to_dict()["description"])


def position(value: float, domain: Sequence[float]) -> float:
    """Return where ``value`` lies on a log axis, 0 at its start and 1 at its end."""
    start, stop = math.log(domain[0]), math.log(domain[1])
    return (math.log(value) - start) / (stop - start)


def at(fraction: float, domain: Sequence[float]) -> float:
    """Return the value at ``fraction`` of a log axis: the inverse of :func:`position`."""
    start, stop = math.log(domain[0]), math.log(domain[1])
    return math.exp(start + fraction * (stop - start))


def row_axis(rows: Sequence[str], t: theme.Tokens, *, grid: bool = False) -> alt.Y:
    """Return the axis of a chart with one product per row, in the order given.

    Args:
        rows: Products, the highest first.
        t: Colours of the mode.
        grid: Whether lines are drawn.
    """
    axis = alt.Axis(grid=grid, labelColor=t.ink, labelLimit=240, labelOverlap=False, labelPadding=8)
    return alt.Y("product:N", sort=list(rows), title=None, axis=axis)


def at_pixel(channel: Literal["X", "X2", "Y"], value: float | str) -> Any:
    """Return a position in pixels, or ``"width"`` or ``"height"``, on a channel."""
    made: Any = {"X": alt.XValue, "X2": alt.X2Value, "Y": alt.YValue}[channel]
    return made(value)


def with_field(channel: Any, field: str) -> Any:
    """Return a copy of a positional channel that reads another quantitative field.

    Layers that share an axis must have the same title and scale, or Vega-Lite joins the titles.
    """
    copied = channel.copy(deep=False)
    copied["shorthand"] = f"{field}:Q"
    return copied
