"""Charts as files for paper: as wide as a column, with their words, in fonts without serifs."""

from __future__ import annotations

import html
import re
import textwrap
from typing import Literal

from etp.charts.base import Chart

COLUMN_IN, PAGE_IN = 3.3, 6.9
"""Widths of one column and of two in inches."""


def export(
    chart: Chart,
    kind: Literal["svg", "png", "pdf"],
    *,
    width_in: float = PAGE_IN,
    height_in: float | None = None,
    ppi: int = 300,
    title: str = "",
    caption: str = "",
) -> bytes:
    """Return a chart for paper: white ground, one (3.3 in) or two columns (6.9 in) wide.

    Args:
        chart: Drawn in light mode, by the function that draws it on the screen.
        kind: The format.
        width_in: Width in inches.
        height_in: Height in inches; the height on the screen if left out.
        ppi: Pixels per inch of a PNG.
        title: Above the chart.
        caption: Below the title, small, folded to the width: where the numbers come from.

    Raises:
        ValueError: If ``kind`` is not a format known here.
    """
    import vl_convert  # 84 MB: only when something is exported

    if kind not in ("svg", "png", "pdf"):
        raise ValueError(f"kind must be 'svg', 'png' or 'pdf', got {kind!r}")
    spec = chart.to_dict()
    spec["width"] = round(width_in * 96)
    if height_in is not None:
        spec["height"] = round(height_in * 96)
    spec["background"] = "#FFFFFF"
    spec["config"]["background"] = "#FFFFFF"
    spec["config"]["font"] = spec["config"]["text"]["font"] = FONT
    drawn = _with_words(vl_convert.vegalite_to_svg(spec), title, caption)
    drawn = _RARE.sub(rf'\1 font-family="{RARE_FONTS}"\2', drawn)
    if kind == "png":
        # 96 pixels an inch on the screen, 72 points an inch on paper
        return vl_convert.svg_to_png(drawn, scale=0.75, ppi=ppi)
    if kind == "svg":
        return _sized(drawn, 1 / 96, "in").encode()
    return vl_convert.svg_to_pdf(_sized(drawn, 0.75, ""))


_SIZE = re.compile(r' width="([\d.]+)" height="([\d.]+)"')
_RARE = re.compile(r'(<text[^>]*?) font-family="[^"]*"([^>]*>[^<]*[\u2070-\u207f\u221d\u2198])')
"""Text with what few fonts have: superscripts, in proportion to, an arrow."""
FONT = "Source Sans Pro, Open Sans, sans-serif"
"""Without quotation marks: names in them are not understood where text is measured, and what is
measured too wide leaves a third of the width empty."""
RARE_FONTS = "DejaVu Sans, Segoe UI, Lucida Grande, sans-serif"
"""Otherwise a font with serifs stands in for all of such a text."""


def _with_words(svg: str, title: str, caption: str) -> str:
    """A drawing below its title and its caption, both folded to its width.

    A title of Vega's own takes part in the fit of a chart to its width, and squeezes it.
    """
    size = _SIZE.search(svg)
    if size is None or not (title or caption):
        return svg
    wide, high = float(size[1]), float(size[2])
    # A letter of 13 bold pixels is about 7 wide, one of 10 pixels about 5.
    lines = [(line, 13, 600) for line in textwrap.wrap(title, max(int(wide) // 8, 20))]
    lines += [(line, 10, 400) for line in textwrap.wrap(caption, max(int(wide) // 5, 20))]
    down, words = 4.0, ""
    for line, pixels, weight in lines:
        down += pixels + 3
        words += (
            f'<text x="5" y="{down:g}" font-family="{FONT}" '
            f'font-size="{pixels}px" font-weight="{weight}">{html.escape(line)}</text>'
        )
    down += 10
    below = svg.replace("<svg ", f'<svg y="{down:g}" ', 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:g}" height="{high + down:g}" '
        f'viewBox="0 0 {wide:g} {high + down:g}"><rect width="100%" height="100%" fill="#FFFFFF"/>'
        f"{words}{below}</svg>"
    )


def _sized(svg: str, factor: float, unit: str) -> str:
    """A drawing whose size is told in another unit; its coordinates stay."""
    return re.sub(
        r' (width|height)="([\d.]+)"',
        lambda match: f' {match[1]}="{float(match[2]) * factor:.4g}{unit}"',
        svg,
        count=2,
    )
