"""Four spheres and a rotation slider: see that multiplying commutes with rotating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import degrees
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from etp.analysis.text import power_text
from etp.charts import theme
from etp.charts.theme import Mode

Values = NDArray[np.float64]
SIZE = 1.75
PIN = (0.95, 1.25)


@dataclass(frozen=True)
class Turn:
    """Signals on a grid of the sphere for each angle of a full turn.

    Attributes:
        points: Grid of unit vectors (x, y, z), shape ``(rows, columns, 3)``; it closes on itself.
        axis: Unit vector that is turned about.
        angles: Radians, shape ``(k,)``.
        first: The first input, rotated: ``(k, rows, columns)``.
        multiplied_last: Rotate, then multiply.
        multiplied_first: Multiply, then rotate.
        gate: Largest relative difference that is roundoff.
    """

    points: Values
    axis: Sequence[float]
    angles: Sequence[float]
    first: Values
    multiplied_last: Values
    multiplied_first: Values
    gate: float

    @property
    def difference(self) -> Values:
        """What the order of rotating and multiplying changes."""
        return self.multiplied_last - self.multiplied_first

    @property
    def relative(self) -> float:
        """Largest difference over the largest value."""
        largest = float(np.abs(self.multiplied_first).max()) or 1.0
        return float(np.abs(self.difference).max()) / largest

    @property
    def equivariant(self) -> bool:
        """Whether the difference is roundoff."""
        # A pointwise maximum may exceed the gate of a norm by a small factor.
        return self.relative <= 10 * self.gate


def figure(turn: Turn, mode: Mode, *, narrow: bool = False, start: int = 4) -> go.Figure:
    """One figure: the rotated input, both orders of the product, and their difference.

    The two in the middle share a scale. The difference has its own where it is roundoff, and the
    signal's where it is a failure. The slider runs in the browser.

    Args:
        turn: What to draw.
        mode: "light" or "dark".
        narrow: Two rows of two spheres instead of one row of four.
        start: Step of the slider at first.
    """
    t = theme.tokens(mode)
    shared = float(np.abs(turn.multiplied_first).max()) or 1.0
    own = float(np.abs(turn.difference).max()) or 1e-16
    panels = [
        ("R x", "first input, rotated", turn.first, float(np.abs(turn.first).max())),
        ("T(R x, R y)", "rotate, then multiply", turn.multiplied_last, shared),
        ("R T(x, y)", "multiply, then rotate", turn.multiplied_first, shared),
        (
            "difference",
            f"at most {power_text(own)}" if turn.equivariant else "on the signal's scale",
            turn.difference,
            own if turn.equivariant else shared,
        ),
    ]
    boxes = _boxes(narrow=narrow)
    made = go.Figure()
    for number, ((_, _, values, limit), box) in enumerate(zip(panels, boxes, strict=True)):
        made.add_trace(_sphere(turn, values[start], limit, number, box, t))
        made.add_trace(_pin(turn.axis, number, t))
    made.frames = [
        go.Frame(
            name=str(step),
            data=[go.Surface(surfacecolor=_rounded(values[step])) for _, _, values, _ in panels],
            traces=[0, 2, 4, 6],
        )
        for step in range(len(turn.angles))
    ]
    made.update_layout(
        height=680 if narrow else 440,
        margin={"l": 0, "r": 0, "t": 0, "b": 70},
        paper_bgcolor="rgba(0,0,0,0)",
        font={"family": theme.FONT, "size": 13, "color": t.ink},
        showlegend=False,
        annotations=[
            _title(title, caption, box, t)
            for (title, caption, _, _), box in zip(panels, boxes, strict=True)
        ],
        sliders=[_slider(turn, start, t)],
        **{f"scene{n + 1 if n else ''}": _scene(box) for n, box in enumerate(boxes)},
    )
    return made


def finding(turn: Turn, product: str) -> str:
    """What the figure shows, in words."""
    if turn.equivariant:
        return (
            f"{product}: both orders agree at every angle, to {power_text(turn.relative)} of the "
            "signal: that is roundoff."
        )
    return (
        f"{product}: the two orders differ by up to {turn.relative:.0%} of the signal: it is not "
        "equivariant."
    )


Box = tuple[tuple[float, float], tuple[float, float]]


def _boxes(*, narrow: bool) -> list[Box]:
    """Domains of the four scenes."""
    if narrow:
        rows = [(0.56, 0.9), (0.06, 0.4)]
        return [((x, x + 0.48), y) for y in rows for x in (0.0, 0.52)]
    return [((0.25 * n, 0.25 * n + 0.24), (0.1, 0.86)) for n in range(4)]


def _sphere(
    turn: Turn, values: Values, limit: float, number: int, box: Box, t: theme.Tokens
) -> go.Surface:
    x, y, z = np.moveaxis(turn.points, -1, 0)
    (left, right), (bottom, _) = box
    return go.Surface(
        x=x,
        y=y,
        z=z,
        surfacecolor=_rounded(values),
        cmin=-limit,
        cmax=limit,
        colorscale=[[0.25 * n, colour] for n, colour in enumerate(t.sphere)],
        # The second of the pair shows the scale of both.
        showscale=number != 2,
        colorbar={
            "orientation": "h",
            "x": (left + right) / 2,
            "y": bottom - (0.1 if right - left < 0.3 else 0.06),
            "len": 0.15 if right - left < 0.3 else 0.3,
            "thickness": 8,
            "tickvals": [-limit, 0, limit],
            "ticktext": [f"−{power_text(limit)}", "0", power_text(limit)],
            "outlinewidth": 0,
            "tickfont": {"color": t.mute, "size": 12},
        },
        lighting={"ambient": 0.9, "diffuse": 0.25, "specular": 0.02},
        hoverinfo="skip",
        scene=f"scene{number + 1 if number else ''}",
    )


def _pin(axis: Sequence[float], number: int, t: theme.Tokens) -> go.Scatter3d:
    ends = np.outer(PIN, axis)
    return go.Scatter3d(
        x=ends[:, 0],
        y=ends[:, 1],
        z=ends[:, 2],
        mode="lines",
        line={"color": t.ink, "width": 5},
        hoverinfo="skip",
        scene=f"scene{number + 1 if number else ''}",
    )


def _scene(box: Box) -> dict[str, Any]:
    hidden = {"visible": False}
    return {
        "domain": {"x": list(box[0]), "y": list(box[1])},
        "xaxis": hidden,
        "yaxis": hidden,
        "zaxis": hidden,
        "aspectmode": "manual",
        "aspectratio": {"x": SIZE, "y": SIZE, "z": SIZE},
        "camera": {"projection": {"type": "orthographic"}, "eye": {"x": 1.6, "y": 0.9, "z": 0.8}},
        "dragmode": "orbit",
    }


def _title(title: str, caption: str, box: Box, t: theme.Tokens) -> dict[str, Any]:
    return {
        "text": f"<b>{title}</b><br><span style='color:{t.mute};font-size:12px'>{caption}</span>",
        "x": sum(box[0]) / 2,
        "y": box[1][1] + 0.02,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "center",
        "yanchor": "bottom",
        "showarrow": False,
    }


def _slider(turn: Turn, start: int, t: theme.Tokens) -> dict[str, Any]:
    steps = [
        {
            "label": f"{round(degrees(angle))}",
            "method": "animate",
            "args": [
                [str(number)],
                {"mode": "immediate", "frame": {"duration": 0, "redraw": True}},
            ],
        }
        for number, angle in enumerate(turn.angles)
    ]
    return {
        "active": start,
        "steps": steps,
        "currentvalue": {
            "prefix": "rotated by ",
            "suffix": "° about the axis drawn",
            "font": {"color": t.ink, "size": 13},
        },
        "pad": {"t": 14, "b": 0},
        "x": 0,
        "len": 1,
        "font": {"color": t.mute, "size": 11},
        "bgcolor": t.band,
        "bordercolor": t.axis,
        "tickcolor": t.axis,
    }


def _rounded(values: Values) -> Values:
    """Three significant digits of the largest value: enough for a colour, a third of the bytes."""
    largest = float(np.abs(values).max())
    if largest == 0:
        return values
    digits = 3 - int(np.floor(np.log10(largest)))
    return np.round(values, digits)
