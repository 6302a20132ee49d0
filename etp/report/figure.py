"""A figure for a paper: title, caption with its provenance, and what to cite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import altair as alt

from etp import charts

Form = Literal["svg", "pdf", "png"]
FORMS: tuple[Form, ...] = get_args(Form)
WIDTHS = {"one column": charts.COLUMN_IN, "two columns": charts.PAGE_IN}
"""Widths in inches by name."""
BIBTEX = """@inproceedings{xie2025price,
  title     = {The Price of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant
               Tensor Products},
  author    = {Xie, YuQing and Daigavane, Ameya and Kotak, Mit and Smidt, Tess},
  booktitle = {International Conference on Machine Learning},
  year      = {2025}
}
"""


@dataclass(frozen=True)
class Figure:
    """A chart and its words.

    Attributes:
        draw: Draws it, in light mode.
        title: Above it.
        caption: How to read it and where its numbers come from.
    """

    draw: Callable[[], alt.LayerChart]
    title: str
    caption: str

    def file(self, form: Form, width_in: float) -> bytes:
        """The picture in a format.

        Args:
            form: ``svg``, ``pdf`` or ``png``.
            width_in: Inches.
        """
        return charts.export(
            self.draw(), form, width_in=width_in, title=self.title, caption=self.caption
        )

    def words(self) -> str:
        """Caption and BibTeX as text, with the finding."""
        return f"{self.title}. {self.caption}\n\n{charts.alt_text(self.draw())}\n\n{BIBTEX}"
