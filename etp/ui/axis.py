"""Controls of the scaling page: what changes along it, and what stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import streamlit as st

from etp.analysis.growth.lines import Line, size_text
from etp.problem import MAX_BATCH, MAX_CHANNELS, Axis
from etp.text import batch_text, count_text, time_text
from etp.ui import asking, jobs
from etp.ui.bar import SizeControl
from etp.ui.data import Swept
from etp.ui.plans import SCALING, shown_problem, sizes
from etp.ui.session import bound, settings
from etp.ui.settings import CUSTOM, Settings

BATCHES = (1, 10, 100, 1000, 10_000, 100_000)
CHANNELS = (1, 2, 4, 8, 16, 32, 64, 128)


def axis_choice() -> None:
    """What changes along the page; the first control of its bar."""
    st.segmented_control(
        "Along",
        get_args(Axis),
        required=True,
        label_visibility="collapsed",
        **bound("axis", "default"),
    )


def _sizes_label(chosen: Settings) -> str:
    if chosen.axis == "lmax":
        return batch_text(chosen.batch, chosen.channels)
    try:
        values, lmax = sizes(chosen), shown_problem(chosen).lmax
    except ValueError:
        return f"choose {chosen.axis}"
    span = f"{count_text(values[0])} – {count_text(values[-1])}"
    at = "" if chosen.setting == CUSTOM else f"lmax {lmax}, "
    if chosen.axis == "batch":
        return f"{at}batch {span} × {size_text('channels', chosen.channels)}"
    return f"{at}batch {count_text(chosen.batch)} × {span} channels"


def _sizes() -> None:
    chosen = settings()
    if chosen.axis != "lmax" and chosen.setting != CUSTOM:
        _lmax_choice(chosen)
    if chosen.axis == "batch":
        _several("Batches", BATCHES, "batches")
    else:
        st.number_input("Batch", 1, MAX_BATCH, step=1000, **bound("batch"))
    if chosen.axis == "channels":
        _several("Channels", CHANNELS, "channel_counts")
    else:
        st.number_input("Channels", 1, MAX_CHANNELS, **bound("channels"))


SIZES = SizeControl(_sizes_label, _sizes)


def _several(label: str, usual: Sequence[int], field: str) -> None:
    chosen = getattr(settings(), field)
    st.pills(
        label, sorted({*usual, *chosen}), selection_mode="multi", format_func=count_text,
        help=f"Any other numbers by the address: {field}=3,30,300", **bound(field, "default"),
    )  # fmt: skip


def _lmax_choice(chosen: Settings) -> None:
    """The one lmax of a run along batch or channels."""
    try:
        now = shown_problem(chosen).lmax
    except ValueError:
        return
    st.segmented_control(
        "lmax", chosen.degrees(), required=True, **bound("at", "default", shown=now)
    )


def nothing_yet(chosen: Settings) -> None:
    """In place of results: what is missing, and a button that measures it."""
    with st.container(gap=None):
        st.markdown(f"### Nothing was measured along {chosen.axis} yet.")
        st.markdown("A run here takes every product in turn at each size and compares them there.")
    try:
        number, seconds = len(sizes(chosen)), SCALING.seconds(chosen)
    except ValueError:
        return
    status = jobs.status(chosen.scaling)
    if status is None or not status.active:
        st.button(
            f"Run here: {number} sizes, about {time_text(seconds, 2)}",
            icon=":material/play_arrow:", type="primary", key="run_axis",
            on_click=asking.start, args=(SCALING, chosen),
        )  # fmt: skip


def lmax_shown(swept: Swept, line: Line) -> None:
    """Which of several lines, one for each lmax, is shown."""
    now = line.last.problem.lmax
    st.segmented_control(
        "lmax shown", list(swept.others), required=True, label_visibility="collapsed",
        format_func=lambda lmax: f"lmax {lmax}" if lmax == min(swept.others) else str(lmax),
        **bound("at", "default", shown=now, at="_line"),
    )  # fmt: skip


NOWHERE = "nothing"


def elsewhere(swept: Swept) -> Line | None:
    """Choose another device whose times stand in the same chart."""
    names = [NOWHERE, *swept.elsewhere]
    if len(names) == 1:
        return None
    wanted = settings().elsewhere
    chosen = str(
        st.selectbox(
            "Beside it", names, width=260, help="Times of another device in the same chart: shown, "
            "and never ranked against these",
            **bound("elsewhere", "index", names, shown=wanted if wanted in names else NOWHERE),
        )
    )  # fmt: skip
    return swept.elsewhere.get(chosen)
