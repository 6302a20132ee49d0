"""What networks learned: right answers against cost, who was taken for whom, and the pieces."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import altair as alt
import pandas as pd
import plotly.graph_objects as go

from etp.charts import base, labels, theme
from etp.charts.lines import limits, lines, marks
from etp.charts.theme import Mode
from etp.experiments.pieces import NAMES, PIECES
from etp.text import count_text, time_text

HEIGHT = 260
_LEFT, _USED = 60, 0.8
_HIGH = 8.9
_AXES = {
    "step_s": ("time of a training step →", base.TIME_LABELS),
    "gamma": ("expressivity γ of the product →", "format(datum.value, '~r')"),
}


def _horizontal(
    df: pd.DataFrame, against: Literal["step_s", "gamma"], ticks: int = 9
) -> tuple[alt.X, list[float]]:
    """The axis of what a step or expressivity costs, and its ends."""
    title, written = _AXES[against]
    domain = base.log_domain(df[against], 0.12, 0.22)
    x = alt.X(f"{against}:Q").title(title).scale(base.log_scale(domain))
    steps = range(1, 10) if domain[1] < 4 * domain[0] else (1, 2, 5)
    return x.axis(values=base.log_ticks(domain, steps, ticks), labelExpr=written), domain


def learned(
    df: pd.DataFrame, mode: Mode, against: Literal["step_s", "gamma"], width: int = 560
) -> alt.LayerChart:
    """Pieces named rightly, of 8, against the time of a step or expressivity; rules: all seeds.

    Args:
        df: Columns ``product``, ``right``, ``low``, ``high``, ``step_s``, ``gamma``.
        mode: "light" or "dark".
        against: What the horizontal axis is.
        width: Expected width in pixels, for the labels.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.checked(df, "product", "right", "low", "high", "step_s", "gamma")
    df = base.checked(df[df[against] > 0], "product")
    t = theme.tokens(mode)
    x, domain = _horizontal(df, against)
    low = min(5.0, float(df["low"].min())) - 0.4
    y = alt.Y("right:Q").title("pieces named rightly").axis(values=list(range(9)), format="d")
    y = y.scale(alt.Scale(domain=[low, _HIGH], nice=False, zero=False))
    df["said"] = [f"{a:.3g} to {b:.3g} of 8" for a, b in zip(df["low"], df["high"], strict=True)]
    df["time"] = df["step_s"].map(time_text)
    wide, high = width - _LEFT, HEIGHT * _USED

    def py(right: float) -> float:
        return high * (1 - (right - low) / (_HIGH - low))

    points = [
        (wide * base.position(a, domain), py(right))
        for a, right in zip(df[against], df["right"], strict=True)
    ]
    bars = [
        (px - 2, py(most), px + 2, py(least))
        for (px, _), most, least in zip(points, df["high"], df["low"], strict=True)
    ]
    bars += [(0, py(7) - 1, wide, py(7) + 1), (0, py(7) - 1, 200, py(7) + 18)]
    hue = base.colour(df["product"], mode)
    limit = pd.DataFrame({"right": [7.0], "text": ["7 of 8: blind to mirror images"]})
    rule = alt.Chart(limit).mark_rule(color=t.faint, strokeDash=[4, 3])
    note = alt.Chart(limit).mark_text(
        align="left", baseline="top", dx=4, dy=5, fontSize=11.5, color=t.mute
    )
    chart = alt.Chart(df).encode(x=x, color=hue)
    layers: list[Any] = [
        rule.encode(y=y),
        note.encode(x=base.at_pixel("X", 0), y=y, text=alt.Text("text:N")),
        chart.mark_rule(strokeWidth=2).encode(y=base.with_field(y, "low"), y2=alt.Y2("high:Q")),
        chart.mark_point(filled=True, size=80).encode(
            y=y,
            shape=base.shape(df["product"]),
            tooltip=[
                alt.Tooltip("product:N"),
                alt.Tooltip("said:N", title="over the seeds"),
                alt.Tooltip("time:N", title="a step"),
                alt.Tooltip("gamma:Q", title="γ"),
            ],
        ),
    ]
    layers += _names(df, mode, x, y, points, (0, 0, wide, high), bars)
    best = df.sort_values(["right", "step_s"], ascending=[False, True]).iloc[0]
    finding = (
        f"{best['product']} names {best['right']:.3g} of 8 pieces, "
        f"{time_text(best['step_s'])} a step, γ {count_text(best['gamma'])}."
    )
    return base.finished(layers, mode, finding, HEIGHT)


def curves(
    df: pd.DataFrame, mode: Mode, against: Literal["check_s", "check_steps"], width: int = 560
) -> alt.LayerChart:
    """Errors of forces while networks learn: medians as lines, rules over all seeds.

    Args:
        df: Columns ``product``, ``x``, ``force``, ``low``, ``high`` (meV/A).
        mode: "light" or "dark".
        against: Whether ``x`` holds seconds or steps.
        width: Expected width in pixels, for the names.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.checked(df, "product", "x", "force", "low", "high")
    df = base.faded(df, None)
    df = df.rename(columns={"force": "median_s", "low": "q25_s", "high": "q75_s"})
    df["time"] = [
        f"{m:.0f} [{a:.0f} – {b:.0f}] meV/Å"
        for m, a, b in zip(df["median_s"], df["q25_s"], df["q75_s"], strict=True)
    ]
    title, written = {
        "check_s": ("time of training →", base.TIME_LABELS),
        "check_steps": ("steps of training →", "format(datum.value, '~s')"),
    }[against]
    domain = base.log_domain(df["x"], 0.04, 0.02 if against == "check_steps" else 0.12)
    x = alt.X("x:Q").title(title).scale(base.log_scale(domain))
    x = x.axis(values=base.log_ticks(domain, most=6), labelExpr=written, grid=False)
    last = df.sort_values("x").groupby("product").tail(1).sort_values("median_s")
    finding = "Errors of forces at the end, smallest first: " + ", ".join(
        f"{p} {m:.0f}" for p, m in zip(last["product"], last["median_s"], strict=True)
    )
    title, height = "error of forces / meV/Å", 300
    if against == "check_steps":
        layers = lines(df, mode, x, title, height, str, _errors)
    else:
        ends = limits(df, 0.12)
        y = _errors(ends, title)
        wide, high = width - _LEFT, height * _USED
        points = {
            product: [
                (wide * base.position(at, domain), high * (1 - base.position(error, ends)))
                for at, error in zip(own["x"], own["median_s"], strict=True)
            ]
            for product, own in df.sort_values("x").groupby("product")
        }
        drawn = [box for path in points.values() for box in _along(path)]
        layers = [
            *marks(df, mode, x, y, title),
            *_names(
                last, mode, x, base.with_field(y, "median_s"),
                [points[product][-1] for product in last["product"]], (0, 0, wide, high), drawn,
            ),
        ]  # fmt: skip
    return base.finished(layers, mode, f"{finding} meV/Å.", height)


def _along(path: Sequence[tuple[float, float]]) -> list[labels.Box]:
    """Small boxes along a line, in pixels: what names should not cover."""
    boxes = []
    for (x0, y0), (x1, y1) in pairwise(path):
        count = 1 + int(max(abs(x1 - x0), abs(y1 - y0)) / 4)
        for n in range(count + 1):
            x, y = x0 + n / count * (x1 - x0), y0 + n / count * (y1 - y0)
            boxes.append((x - 2, y - 2, x + 2, y + 2))
    return boxes


def _errors(domain: list[float], title: str) -> alt.Y:
    axis = alt.Axis(values=base.log_ticks(domain), format="~s")
    return alt.Y(title=title, scale=base.log_scale(domain), axis=axis)


def forces(
    df: pd.DataFrame, mode: Mode, against: Literal["step_s", "gamma"], width: int = 560
) -> alt.LayerChart:
    """Errors of forces on the test set against the time of a step or expressivity.

    Args:
        df: Columns ``product``, ``force``, ``low``, ``high`` (meV/A), ``step_s``, ``gamma``.
        mode: "light" or "dark".
        against: What the horizontal axis is.
        width: Expected width in pixels, for the labels.

    Raises:
        ValueError: If a column is missing or no valid row is left.
    """
    df = base.checked(df, "product", "force", "low", "high", "step_s", "gamma")
    df = base.checked(df[df[against] > 0], "product")
    x, domain = _horizontal(df, against, ticks=6)
    ends = base.log_domain([*df["low"], *df["high"]], 0.12, 0.12)
    y = _errors(ends, "error of forces / meV/Å")
    df["said"] = [f"{a:.0f} to {b:.0f} meV/Å" for a, b in zip(df["low"], df["high"], strict=True)]
    df["time"] = df["step_s"].map(time_text)
    wide, high = width - _LEFT, HEIGHT * _USED

    def py(force: float) -> float:
        return high * (1 - base.position(force, ends))

    xs = [wide * base.position(a, domain) for a in df[against]]
    points = [(px, py(force)) for px, force in zip(xs, df["force"], strict=True)]
    rules = [
        (px - 2, py(most), px + 2, py(least))
        for px, most, least in zip(xs, df["high"], df["low"], strict=True)
    ]
    hue = base.colour(df["product"], mode)
    chart = alt.Chart(df).encode(x=x, color=hue)
    layers: list[Any] = [
        chart.mark_rule(strokeWidth=2).encode(y=base.with_field(y, "low"), y2="high:Q"),
        chart.mark_point(filled=True, size=80).encode(
            y=base.with_field(y, "force"),
            shape=base.shape(df["product"]),
            tooltip=[
                "product:N",
                alt.Tooltip("said:N", title="over the seeds"),
                alt.Tooltip("time:N", title="a step"),
                alt.Tooltip("gamma:Q", title="γ"),
            ],
        ),
    ]
    layers += _names(df, mode, x, base.with_field(y, "force"), points, (0, 0, wide, high), rules)
    best = df.sort_values(["force", "step_s"]).iloc[0]
    finding = (
        f"{best['product']} has the smallest error of forces, {best['force']:.0f} meV/Å, at "
        f"{time_text(best['step_s'])} a step."
    )
    return base.finished(layers, mode, finding, HEIGHT)


def _names(
    df: pd.DataFrame,
    mode: Mode,
    x: alt.X,
    y: alt.Y,
    points: Sequence[tuple[float, float]],
    frame: labels.Box,
    obstacles: Sequence[labels.Box],
) -> list[Any]:
    """Layers with the name of each product beside its point, where it covers least.

    Args:
        df: Column ``product`` and those of the axes.
        mode: "light" or "dark".
        x: Encodes the points.
        y: Encodes the points.
        points: Where they are, in pixels.
        frame: What names should not leave.
        obstacles: What names should not cover.
    """
    widths = [labels.text_width(text, 12) for text in df["product"]]
    spots = labels.place(points, widths, frame, obstacles)
    placed = {key: [getattr(spot, key) for spot in spots] for key in ("align", "dx", "dy")}
    text = alt.Chart(df.assign(**placed)).encode(x=x, y=y, text=alt.Text("product:N"))
    style: dict[str, Any] = {key: alt.ExprRef(f"datum.{key}") for key in placed}
    style |= {"baseline": "middle", "fontSize": 12}
    page = theme.tokens(mode).page
    halo = text.encode(color=alt.ColorValue(page)).mark_text(**style, stroke=page, strokeWidth=4)
    return [halo, text.encode(color=base.colour(df["product"], mode)).mark_text(**style)]


def confusion(df: pd.DataFrame, mode: Mode, product: str) -> alt.LayerChart:
    """How often each piece (row) was called each name (column).

    Args:
        df: Columns ``piece``, ``called``, ``share``.
        mode: "light" or "dark".
        product: Whose answers they are.
    """
    df = base.checked(df, "piece", "called", "share")
    t = theme.tokens(mode)
    df["right"] = df["piece"] == df["called"]
    df["text"] = [f"{100 * share:.0f}" if share >= 0.005 else "" for share in df["share"]]
    names = list(NAMES)
    plain: dict[str, Any] = {"labelColor": t.ink, "labelOverlap": False, "grid": False}
    plain |= {"domain": False, "ticks": False}
    x = alt.X("called:N", sort=names, title="called (% of answers)")
    x = x.axis(labelAngle=-40, **plain)
    y = alt.Y("piece:N", sort=names, title=None).axis(**plain)
    hue = alt.condition("datum.right", alt.value(t.ok), alt.value(t.bad))
    cells = alt.Chart(df).mark_rect(stroke=t.page, strokeWidth=2)
    shown = alt.Opacity("share:Q").scale(domain=[0, 1], range=[0.04, 0.75]).legend(None)
    words = alt.Chart(df).mark_text(fontSize=12, color=t.ink)
    wrong = df[~df["right"]].sort_values("share").iloc[-1]
    finding = f"{product} names every piece rightly."
    if wrong["share"] >= 0.005:
        finding = (
            f"{product} calls the {wrong['piece']} “{wrong['called']}” in "
            f"{100 * wrong['share']:.0f} % of answers."
        )
    layers = [
        cells.encode(x=x, y=y, color=hue, opacity=shown,
                     tooltip=[alt.Tooltip("piece:N"), alt.Tooltip("called:N"),
                              alt.Tooltip("share:Q", format=".0%")]),
        words.encode(x=x, y=y, text=alt.Text("text:N")),
    ]  # fmt: skip
    return base.finished(layers, mode, finding, 320)


def answers(piece: Sequence[float], mirror: Sequence[float], mode: Mode) -> alt.LayerChart:
    """Probability of each name, for the left screw and for its mirror image.

    Args:
        piece: One number for each of the eight names.
        mirror: The same for the mirror image.
        mode: "light" or "dark".
    """
    t = theme.tokens(mode)
    shown = ("left screw", "its mirror image")
    df = pd.DataFrame(
        [
            {"name": name, "of": of, "probability": value}
            for of, values in zip(shown, (piece, mirror), strict=True)
            for name, value in zip(NAMES, values, strict=True)
        ]
    )
    y = alt.Y("name:N", sort=list(NAMES), title=None).axis(
        labelColor=t.ink, grid=False, labelOverlap=False
    )
    x = alt.X("probability:Q", title="what the network says (probability)").axis(format="%")
    x = x.scale(domain=[0, 1])
    bars = alt.Chart(df).mark_bar(height=8).encode(
        x=x,
        y=y,
        yOffset=alt.YOffset("of:N", sort=list(shown)),
        color=alt.Color("of:N", sort=list(shown))
        .scale(domain=list(shown), range=[t.primary, t.warn])
        .legend(orient="top", title=None, labelColor=t.ink),
        tooltip=[
            alt.Tooltip("of:N"),
            alt.Tooltip("name:N"),
            alt.Tooltip("probability:Q", format=".1%"),
        ],
    )  # fmt: skip
    gap = max(abs(a - b) for a, b in zip(piece, mirror, strict=True))
    finding = f"The two answers differ by at most {100 * gap:.1f} %."
    return base.finished([bars], mode, finding, 300)


Box = tuple[float, float]
_FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
_HALF = 0.47


def screws(called: tuple[str, str], mode: Mode) -> go.Figure:
    """The left screw and its mirror image in 3D, turned with the mouse.

    Args:
        called: What the network says of each.
        mode: "light" or "dark".
    """
    t = theme.tokens(mode)
    made = go.Figure()
    titles = ("left screw", "its mirror image")
    for number, (name, colour) in enumerate(zip(NAMES[:2], (t.primary, t.warn), strict=True)):
        for part in _cubes(PIECES[name], colour, t):
            made.add_trace(part.update(scene=f"scene{number + 1 if number else ''}"))
    boxes: tuple[Box, Box] = ((0.0, 0.48), (0.52, 1.0))
    hidden = {"visible": False}
    made.update_layout(
        height=300,
        margin={"l": 0, "r": 0, "t": 48, "b": 0},
        paper_bgcolor="rgba(0,0,0,0)",
        font={"family": theme.FONT, "size": 13, "color": t.ink},
        showlegend=False,
        annotations=[
            {
                "text": f"<b>{title}</b><br>{said}",
                "x": sum(box) / 2, "y": 1.0, "xref": "paper", "yref": "paper",
                "xanchor": "center", "yanchor": "bottom", "showarrow": False,
            }
            for title, said, box in zip(titles, called, boxes, strict=True)
        ],
        **{
            f"scene{number + 1 if number else ''}": {
                "domain": {"x": list(box), "y": [0.0, 1.0]},
                "xaxis": hidden, "yaxis": hidden, "zaxis": hidden,
                "aspectmode": "data",
                "camera": {"projection": {"type": "orthographic"},
                           "eye": {"x": 1.5, "y": -1.3, "z": 0.9}},
                "dragmode": "orbit",
            }
            for number, box in enumerate(boxes)
        },
    )  # fmt: skip
    return made


def _cubes(centres: Sequence[tuple[int, int, int]], colour: str, t: theme.Tokens) -> list[Any]:
    """A mesh of four cubes, and their edges."""
    xyz: list[list[float]] = [[], [], []]
    faces: list[list[int]] = [[], [], []]
    lines: list[list[float | None]] = [[], [], []]
    for centre in centres:
        start = len(xyz[0])
        corners = [
            [c + _HALF * (1 if corner >> axis & 1 else -1) for axis, c in enumerate(centre)]
            for corner in range(8)
        ]
        for corner in corners:
            for axis in range(3):
                xyz[axis].append(corner[axis])
        for a, b, c, d in _FACES:
            for triangle in ((a, b, c), (a, c, d)):
                for place, index in zip(faces, triangle, strict=True):
                    place.append(start + index)
            for index in (a, b, c, d, a):
                for axis in range(3):
                    lines[axis].append(corners[index][axis])
            for axis in range(3):
                lines[axis].append(None)
    return [
        go.Mesh3d(
            x=xyz[0], y=xyz[1], z=xyz[2], i=faces[0], j=faces[1], k=faces[2],
            color=colour, flatshading=True, hoverinfo="skip",
            lighting={"ambient": 0.6, "diffuse": 0.6, "specular": 0.05},
        ),
        go.Scatter3d(
            x=lines[0], y=lines[1], z=lines[2], mode="lines", hoverinfo="skip",
            line={"color": t.page, "width": 3},
        ),
    ]  # fmt: skip
