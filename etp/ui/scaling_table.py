"""The table of the scaling page, how to reproduce it, and what was left out."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from etp import charts
from etp.analysis.growth import Line
from etp.analysis.growth.words import SYMBOLS
from etp.kernels.torch_compile import plain_name
from etp.report.figure import Figure
from etp.text import bytes_text, count_text, list_text, quartiles_text, superscript
from etp.ui import data, jobs, show, tables
from etp.ui.data import Swept
from etp.ui.kept import kept
from etp.ui.plans import scaling_command
from etp.ui.scaling import slopes_of, time_chart
from etp.ui.settings import Settings


def table(swept: Swept, line: Line) -> None:
    """Everything in one table."""
    lines = tables.along(line)
    slopes = slopes_of(line)
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        st.markdown(f"##### Everything along {line.axis}")
        behind = partial(data.rows_behind, swept.rows, line.comparisons)
        show.downloads(lines, behind, _figures(line, slopes))
    names = list(lines["product"])
    st.dataframe(
        show.sent(_shown(lines, line)),
        hide_index=True,
        key="everything",
        placeholder="",
        on_select=show.pick_row(names, "everything"),
        selection_mode="single-row",
        column_config=_columns(),
        alt=f"All measures of {len(set(names))} products at {len(line.sizes)} sizes",
    )


def _figures(line: Line, slopes: pd.DataFrame) -> dict[str, Figure]:
    problem = line.last.problem
    where = f"{problem.setting or 'typed irreps'} {line.where()}, {problem.dtype}"
    figures = {
        "scaling": Figure(
            partial(time_chart, line, "light"),
            f"Time against {line.axis}",
            f"Medians and quartiles; labels: fitted exponent where one power fits. {where}.",
        )
    }
    if not slopes.empty:
        symbol = SYMBOLS[line.axis]
        figures["slopes"] = Figure(
            partial(charts.slopes, slopes, "light", symbol),
            f"Fitted exponent of {line.axis} beside that of the operation count",
            f"Points: fitted, with 95 % intervals; bars: operation count. {where}.",
        )
    return figures


@kept(50)
def _shown(lines: pd.DataFrame, line: Line) -> pd.DataFrame:
    fits = {growth.product: growth for growth in tables.growths(line)}
    growths = [fits[product] for product in lines["product"]]
    return pd.DataFrame(
        {
            "product": lines["product"],
            line.axis: lines["x"],
            "median": lines["median_s"] * 1e3,
            "quartiles": [
                quartiles_text(a, b) if b > a else ""
                for a, b in zip(lines["q25_s"], lines["q75_s"], strict=True)
            ],
            "slope": [growth.time.exponent if growth.time else None for growth in growths],
            "interval": [
                f"{growth.time.low:.2f} to {growth.time.high:.2f}"
                if growth.time and growth.time.low is not None and growth.time.high is not None
                else ""
                for growth in growths
            ],
            "theory": [growth.count.exponent if growth.count else None for growth in growths],
            "asymptotic": _asymptotic(lines["product"], line),
            "macs": lines["macs"],
            "bytes": [_bytes(size) for size in lines["bytes"]],
            "memory": [_bytes(size) for size in lines["peak_bytes"]],
            "tables": [_bytes(size) for size in lines["table_bytes"]],
            "setup": lines["setup_s"].astype(float) * 1e3,
            "first": lines["first_call_s"].astype(float) * 1e3,
            "compile": lines["compile_s"].astype(float) * 1e3,
            "badges": lines["badges"],
        }
    )


def _asymptotic(products: pd.Series, line: Line) -> list[str]:
    """Power of lmax that the count reaches in the end, where it is known."""
    if line.axis != "lmax" or line.last.problem.setting != "MIMO":
        return [""] * len(products)
    known = {entry.name: entry.mimo_exponent for entry in jobs.catalog().entries()}
    exponents = [known.get(plain_name(product)) for product in products]
    return ["" if power is None else f"L{superscript(str(power))}" for power in exponents]


def _bytes(size: float | None) -> str:
    return "" if size is None or pd.isna(size) else bytes_text(size)


def _columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "product": st.column_config.TextColumn("product", pinned=True),
        "median": number("median, ms", format="%.4g"),
        "quartiles": "quartiles, ms",
        "slope": number("fitted slope", format="%.2f"),
        "interval": "95 % interval",
        "theory": number("slope of count", format="%.2f"),
        "asymptotic": st.column_config.TextColumn(
            "in the end", help="Power of lmax that the count of multiply-adds reaches in MIMO"
        ),
        "macs": number("multiply-adds", format="compact"),
        "bytes": "least bytes",
        "memory": "peak memory",
        "setup": number("set-up, ms", format="%.3g"),
        "first": number("first call, ms", format="%.3g"),
        "compile": number("compile, ms", format="%.3g"),
        "badges": st.column_config.MultiselectColumn(
            "badges",
            width="large",
            options=list(show.BADGES),
            color=[badge.colour for badge in show.BADGES.values()],
        ),
    }


def reproduce(line: Line, chosen: Settings) -> None:
    """Manifest, command and Python for what would be measured."""
    show.reproduce(line.last, chosen, partial(scaling_command, chosen))


def left_out(line: Line) -> None:
    """Products that were not timed at some size, each with its reason."""
    for (product, reason), sizes in _refused(line).items():
        listed = list_text([count_text(size) for size in sizes], 8)
        show.refusal(product, reason, [f"{line.axis} {listed}"])


@kept(50)
def _refused(line: Line) -> dict[tuple[str, str], list[int]]:
    """Sizes at which a product was not timed for a reason."""
    reasons: dict[tuple[str, str], list[int]] = {}
    for comparison in line.comparisons:
        for refused in (entry for entry in comparison.entries if not entry.valid):
            reason = refused.row.reason or "was not timed"
            reasons.setdefault((refused.product, reason), []).append(line.size(comparison))
    return reasons
