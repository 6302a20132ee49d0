"""Figures for paper: at the width of a column in every format, with their words in them."""

from __future__ import annotations

import re
import struct
from functools import partial

import pytest

from etp import charts
from etp.analysis.comparison import comparisons
from etp.analysis.tables import frame, tradeoff_frame
from etp.report.figure import BIBTEX, WIDTHS, Figure
from etp.results.reference import reference_rows


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
