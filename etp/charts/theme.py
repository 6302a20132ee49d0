"""Colours, shapes and dashes: one look for the screen (light, dark) and for paper."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from etp.kernels.torch_compile import asked, plain_name

Mode = Literal["light", "dark"]

FONT = '"Source Sans", "Source Sans 3", "Source Sans Pro", "Open Sans", sans-serif'


@dataclass(frozen=True)
class Tokens:
    """The colours of a mode that mean something other than a product.

    ``page`` is the ground, ``ink`` text, ``mute`` axis text, ``faint`` fronts and guides, ``band``
    noise floors and stripes, ``bad`` gates and failures; ``sphere`` has five stops, zero third.
    """

    page: str
    ink: str
    mute: str
    faint: str
    grid: str
    axis: str
    band: str
    warn: str
    bad: str
    ok: str
    primary: str
    on_primary: str
    sphere: tuple[str, str, str, str, str]


_TOKENS: dict[Mode, Tokens] = {
    "light": Tokens(
        page="#FFFFFF",
        ink="#1C2127",
        mute="#5B6570",
        faint="#8A939D",
        grid="#E9ECEF",
        axis="#C3C9D0",
        band="#E4E8ED",
        warn="#A15C00",
        bad="#B3261E",
        ok="#1B7F4B",
        primary="#1B4F8A",
        on_primary="#FFFFFF",
        sphere=("#0A3E9A", "#5B93EA", "#F3F3F0", "#F0907C", "#B5301A"),
    ),
    "dark": Tokens(
        page="#14181D",
        ink="#E6EAEF",
        mute="#9DA7B3",
        faint="#77828E",
        grid="#262D35",
        axis="#44505B",
        band="#2A323B",
        warn="#F0B45A",
        bad="#FF8A80",
        ok="#5CCB8F",
        primary="#3476CE",
        on_primary="#FFFFFF",
        sphere=("#9AD6FF", "#4C9BE0", "#232A32", "#DE7824", "#FFB37A"),
    ),
}

FAMILIES: dict[str, dict[Mode, str]] = {
    "clebsch-gordan": {"light": "#0B57D0", "dark": "#6CC4FF"},
    "gaunt": {"light": "#E8563C", "dark": "#EE7D22"},
    "matrix": {"light": "#0D9C9A", "dark": "#3E9C88"},
    "vector": {"light": "#9B1C8E", "dark": "#BC78EA"},
    "so2": {"light": "#735109", "dark": "#F0D64A"},
    "peer": {"light": "#3D3B43", "dark": "#E9EDF1"},
    "other": {"light": "#5B6570", "dark": "#9DA7B3"},
}
"""Colour per family and mode. Families stay apart under simulated colour blindness."""

STAR = "M0,-1.15L0.27,-0.37L1.09,-0.36L0.44,0.14L0.68,0.93L0,0.46L-0.68,0.93L-0.44,0.14L-1.09,-0.36L-0.27,-0.37Z"  # noqa: E501 (one path)
X = "M-0.9,-0.55L-0.55,-0.9L0,-0.35L0.55,-0.9L0.9,-0.55L0.35,0L0.9,0.55L0.55,0.9L0,0.35L-0.55,0.9L-0.9,0.55L-0.35,0Z"  # noqa: E501 (one path)
HEXAGON = "M0,-1L0.87,-0.5L0.87,0.5L0,1L-0.87,0.5L-0.87,-0.5Z"

SOLID, LONG, SHORT, MIXED, COMPILED = (1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (1, 4)
ELSEWHERE = (3, 5)
ON = " · "
"""Between a product and the device that it ran on, where a chart shows two."""


@dataclass(frozen=True)
class Style:
    """How one product is drawn: family (gives the colour), Vega shape and dash pattern."""

    family: str
    shape: str
    dash: tuple[int, ...]

    def colour(self, mode: Mode) -> str:
        """Return the colour of the family in ``mode``."""
        return FAMILIES[self.family][mode]


STYLES: dict[str, Style] = {
    "cg-dense": Style("clebsch-gordan", "circle", SOLID),
    "cg-sparse": Style("clebsch-gordan", "triangle-up", LONG),
    "cg-summed": Style("clebsch-gordan", "square", SHORT),
    "cp-full": Style("clebsch-gordan", "diamond", MIXED),
    "cp-64": Style("clebsch-gordan", "triangle-left", SHORT),
    "cp-16": Style("clebsch-gordan", "triangle-down", LONG),
    "gaunt-grid": Style("gaunt", "circle", SOLID),
    "gaunt-grid-fixed": Style("gaunt", "triangle-down", SHORT),
    "gaunt-grid-fft": Style("gaunt", "triangle-up", LONG),
    "gaunt-fourier-direct": Style("gaunt", "square", SHORT),
    "gaunt-fourier-fft": Style("gaunt", "diamond", MIXED),
    "matrix": Style("matrix", "circle", SOLID),
    "matrix-block": Style("matrix", "square", SHORT),
    "vector-signal": Style("vector", "triangle-up", SHORT),
    "gaunt-bracket": Style("vector", "diamond", LONG),
    "spin": Style("vector", "circle", SOLID),
    "low-rank-2": Style("vector", "square", SHORT),
    "low-rank-4": Style("vector", "triangle-down", MIXED),
    "complete": Style("vector", STAR, SOLID),
    "complete-vector": Style("vector", STAR, LONG),
    "so2": Style("so2", "circle", SOLID),
    "so2-linear": Style("so2", "triangle-up", LONG),
    "so2-linear-2": Style("so2", "diamond", SHORT),
    "e3nn": Style("peer", "cross", SOLID),
    "cuequivariance": Style("peer", X, LONG),
    "openequivariance": Style("peer", HEXAGON, SHORT),
}

_OTHER_SHAPES = ("triangle-down", "triangle-left", "triangle-right", "diamond", "square", "circle")
_OTHER_DASHES = ((4, 2), (1, 2), (10, 3), (6, 2, 1, 2), SOLID)


def tokens(mode: Mode) -> Tokens:
    """Return the tokens of ``mode``.

    Raises:
        ValueError: If ``mode`` is neither "light" nor "dark".
    """
    if mode not in _TOKENS:
        raise ValueError(f"mode must be 'light' or 'dark', got {mode!r}")
    return _TOKENS[mode]


def style(product: str) -> Style:
    """Return the style of ``product``; a name unknown here always gets the same grey one.

    A compiled product has the colour and shape of its plain form and dashes of its own, as has one
    that is shown beside others of another device ("cg-sparse · A100").
    """
    name, on, _ = product.partition(ON)
    if on:
        return replace(style(name), dash=ELSEWHERE)
    known = STYLES.get(plain_name(product))
    if known is not None:
        return replace(known, dash=COMPILED) if asked(product) else known
    code = zlib.crc32(product.encode())  # hash() changes from run to run
    shape = _OTHER_SHAPES[code % len(_OTHER_SHAPES)]
    return Style("other", shape, _OTHER_DASHES[code // 7 % len(_OTHER_DASHES)])


def order(products: Iterable[str]) -> list[str]:
    """Return the distinct products in the order of the palette, unknown ones last by name."""
    known = {name: place for place, name in enumerate(STYLES)}
    return sorted(
        set(products), key=lambda p: (known.get(plain_name(p.partition(ON)[0]), len(known)), p)
    )


def config(mode: Mode) -> dict[str, Any]:
    """Return the Vega-Lite configuration shared by all charts."""
    t = tokens(mode)
    axis = {
        "labelColor": t.mute,
        "titleColor": t.mute,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "gridColor": t.grid,
        "domainColor": t.axis,
        "tickColor": t.axis,
        "tickSize": 4,
        "labelOverlap": True,
        "titlePadding": 8,
    }
    return {
        "background": "transparent",
        "font": FONT,
        "padding": 4,
        "view": {"stroke": None},
        "axis": axis,
        "axisX": {"grid": False},
        "axisY": {"grid": True, "domain": False, "ticks": False, "labelPadding": 6},
        "text": {"color": t.ink, "fontSize": 12, "font": FONT},
        "title": {"color": t.ink, "fontSize": 12, "fontWeight": 600, "anchor": "start"},
        "line": {"strokeWidth": 1.8, "strokeCap": "butt"},
        "point": {"opacity": 1},
    }


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two ``#RRGGBB`` colours (WCAG 2.2, 1 to 21)."""

    def luminance(colour: str) -> float:
        channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
