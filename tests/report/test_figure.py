"""Figures for paper: at the width of a column in every format, with their words in them."""

from __future__ import annotations

import re
import struct
from functools import partial

import pytest

from etp import charts
from etp.analysis.comparison import comparisons
from etp.analysis.growth import lines
from etp.analysis.tables import frame, tradeoff_frame
from etp.charts import labels, paper
from etp.report.figure import BIBTEX, WIDTHS, Figure
from etp.results.reference import reference_rows
from etp.ui.scaling import time_chart


@pytest.fixture(scope="module")
def figure():
    comparison = comparisons(reference_rows(), "e3nn")[0]
    table = tradeoff_frame(frame(comparison))
    return Figure(
        partial(charts.tradeoff, table, "light", "e3nn"), "A title", "Measured on a named machine."
    )


@pytest.mark.parametrize("inches", WIDTHS.values())
def test_a_figure_is_as_wide_as_a_column_in_every_format(figure, inches):
    svg = figure.file("svg", inches).decode()
    width = re.search(r'width="([\d.]+)in"', svg)
    assert width is not None
    assert float(width[1]) == pytest.approx(inches, abs=0.02)
    pdf = figure.file("pdf", inches)
    box = re.search(rb"MediaBox ?\[0 0 ([\d.]+)", pdf)
    assert box is not None
    assert float(box[1]) / 72 == pytest.approx(inches, abs=0.02)
    png = figure.file("png", inches)
    assert struct.unpack(">I", png[16:20])[0] / 300 == pytest.approx(inches, abs=0.02)


def test_title_caption_and_citation_come_with_it(figure):
    svg = figure.file("svg", WIDTHS["one column"]).decode()
    assert "A title" in svg
    assert "named machine" in svg
    words = figure.words()
    assert BIBTEX in words
    assert "Fastest with the same operation" in words or "None of the others" in words


@pytest.fixture(scope="module")
def grown():
    line = lines(comparisons(reference_rows(), "e3nn"), "lmax")[0]
    return Figure(
        partial(time_chart, line, "light"),
        "A title that is much longer than one column of a paper is wide, so that it is folded",
        "A caption that is longer than the chart is wide. " * 4,
    )


def test_words_neither_leave_a_figure_nor_squeeze_it(grown):
    """A title that took part in the layout was cut off, and left a third to the chart."""
    svg = grown.file("svg", WIDTHS["one column"]).decode()
    wide = float(re.findall(r'viewBox="0 0 ([\d.]+)', svg)[0])
    own = re.findall(r'<text x="5" y="([\d.]+)"[^>]*font-size="(\d+)px"[^>]*>([^<]+)<', svg)
    assert " ".join(text for _, _, text in own).startswith(grown.title)
    assert len(own) > 4
    for _, pixels, text in own:
        assert 5 + labels.text_width(text, float(pixels)) * 0.95 < wide
    bare = charts.export(grown.draw(), "svg", width_in=WIDTHS["one column"]).decode()
    assert bare[bare.index("<g") :].split("</svg>")[0] in svg


def test_a_chart_is_as_wide_as_its_names_leave_it(grown):
    """Names of fonts in quotation marks had text measured twice as wide as it is drawn."""
    svg = charts.export(grown.draw(), "svg", width_in=3.3).decode()
    whole = re.search(r'viewBox="0 0 ([\d.]+)', svg)
    plot = re.search(r'class="background" aria-hidden="true" d="M[\d.,-]+h([\d.]+)', svg)
    assert whole is not None
    assert plot is not None
    names = max(labels.text_width(p + " ∝ L³·⁹") for p in grown.draw.args[0].products)
    assert float(plot[1]) > float(whole[1]) - names - 100


def test_superscripts_are_of_a_font_without_serifs(grown):
    svg = grown.file("svg", WIDTHS["one column"]).decode()
    rare = re.findall(r'<text[^>]*font-family="([^"]*)"[^>]*>[^<]*[⁰-⁹∝]', svg)
    assert rare
    assert set(rare) == {paper.RARE_FONTS}
