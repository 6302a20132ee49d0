"""Results that come with the package, offered where results are listed."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import pandas as pd
import streamlit as st

from etp.analysis.machines import Run
from etp.results.published import published_keys, published_of
from etp.results.reference import layer_rows, reference_rows
from etp.results.rows import Row
from etp.ui import show
from etp.ui.kept import kept
from etp.ui.visitors import base_path


def offered() -> None:
    """Reference results and published figures, each with a way to open it."""
    show.head("Comes with the package", "reference results, and GPU times of the paper as data")
    lines = _lines(base_path())
    link = st.column_config.LinkColumn
    st.dataframe(
        lines,
        hide_index=True,
        key="offered",
        placeholder="",
        column_config={
            "open": link("open", display_text="Open", width="small"),
            "growth": link("growth", display_text="Scaling", width="small"),
        },
        alt=f"{len(lines)} sets of results that come with the package",
    )


@kept(1)
def _lines(base: str) -> pd.DataFrame:
    lines = [
        _line("reference results", reference_rows(), f"{base}/", f"{base}/scaling"),
        _line("reference results of layers", layer_rows(), f"{base}/layers", None),
        *(
            _line(key, published_of(key), None, f"{base}/scaling?scaling={quote(key)}")
            for key in published_keys()
        ),
    ]
    return pd.DataFrame(lines)


def _line(
    title: str, rows: Sequence[Row], opened: str | None, growth: str | None
) -> dict[str, object]:
    run = Run(title, title, list(rows))
    return {
        "open": opened,
        "growth": growth,
        "results": title,
        "rows": len(rows),
        "invalid": len(run.invalid),
        "machine": run.machine,
        "problem": run.problem,
    }
