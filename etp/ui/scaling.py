"""Parts of the scaling page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import altair as alt
import pandas as pd
import streamlit as st

from etp import charts
from etp.charts.text import bytes_text, count_text, list_text, rate_text, time_text
from etp.charts.theme import Mode
from etp.growth import (
    LIMIT_WORDS,
    Line,
    crossing_sentence,
    crossings,
    fitted_sizes,
    growths,
    limits,
    pay_off_sentence,
    pay_offs,
    roofs_of,
)
from etp.growth.lines import size_text
from etp.growth.words import SYMBOLS
from etp.plans import SCALING, scaling_command, shown_problem, sizes
from etp.problem import MAX_BATCH, MAX_CHANNELS, Axis
from etp.settings import CUSTOM, Settings
from etp.tables import frame, timed_frame
from etp.ui import jobs, show
from etp.ui.bar import Sizes
from etp.ui.data import Swept
from etp.ui.frame import mode
from etp.ui.session import bound, choose, settings

BATCHES = (1, 10, 100, 1000, 10_000, 100_000)
CHANNELS = (1, 2, 4, 8, 16, 32, 64, 128)
SHOWN_CROSSINGS = 8


def axis_choice() -> None:
    """What changes along the page; the first control of its bar."""
    st.segmented_control(
        "Along", get_args(Axis), required=True, label_visibility="collapsed", **bound("axis")
    )


def _sizes_label(chosen: Settings) -> str:
    if chosen.axis == "lmax":
        channels = size_text("channels", chosen.channels)
        return f"batch {count_text(chosen.batch)} × {channels}"
    try:
        found, lmax = sizes(chosen), shown_problem(chosen).lmax
    except ValueError:
        return f"choose {chosen.axis}"
    span = f"{count_text(found[0])} – {count_text(found[-1])}"
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


SIZES = Sizes(_sizes_label, _sizes)


def _several(label: str, usual: Sequence[int], field: str) -> None:
    chosen = getattr(settings(), field)
    st.pills(
        label, sorted({*usual, *chosen}), selection_mode="multi", format_func=count_text,
        help=f"Any other numbers by the address: {field}=3,30,300", **bound(field),
    )  # fmt: skip


def _lmax_choice(chosen: Settings) -> None:
    """The one lmax of a run along batch or channels."""
    try:
        now = shown_problem(chosen).lmax
    except ValueError:
        return
    st.session_state["scaling_at"] = now
    st.segmented_control(
        "lmax", chosen.degrees(), key="scaling_at", required=True,
        on_change=lambda: choose(at=st.session_state["scaling_at"]),
    )  # fmt: skip


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
            on_click=jobs.start, args=(SCALING, chosen),
        )  # fmt: skip


def provenance(line: Line, source: str) -> None:
    """Where the numbers come from, and what they lack."""
    problem, table = line.last.problem, timed_frame(line.found)
    rounds = [one.judgement.rounds for one in line.found]
    fixed = [name for axis, name in (
        ("lmax", f"{problem.setting or 'typed irreps'}, lmax {problem.lmax}"),
        ("batch", size_text("batch", problem.batch)),
        ("channels", size_text("channels", problem.channels)),
    ) if axis != line.axis]  # fmt: skip
    if line.axis == "lmax":
        fixed.insert(0, str(problem.setting))
    few, many = min(rounds), max(rounds)
    note = " · ".join(
        [
            *fixed,
            problem.dtype,
            f"{problem.direction}, {problem.cache}",
            f"{few if few == many else f'{few} – {many}'} interleaved rounds per size"
            if few
            else "not timed in interleaved rounds",
        ]
    )
    worn = {badge for badges in table["badges"] for badge in badges}
    flags = [("no quartiles in this file", show.BADGES["no quartiles"].meaning)]
    rows = [row for one in line.found for entry in one.timed for row in entry.rows.values()]
    show.provenance_rows(rows, source, note, flags if "no quartiles" in worn else [])


def growth(swept: Swept, line: Line) -> None:
    """Time against the size, beside fitted slopes and those of the operation count."""
    table, slopes = timed_frame(line.found, line.axis), _slopes(line)
    wanted = fitted_sizes(line.sizes)
    left, right = st.columns([6, 4], gap="medium")
    with left:
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            with st.container(gap=None, width="content"):
                st.markdown(f"##### Time against {line.axis}")
                st.caption("line: quartiles · label: fitted exponent")
            if len(swept.others) > 1:
                _lmax_shown(swept, line)
        show.chart(_time_chart(table, slopes, line.axis, mode()), "scaling", selects=True)
    with right:
        base = "lmax + 1" if line.axis == "lmax" else line.axis
        show.head(
            "Fitted slope beside theory",
            f"point: fitted, with 95 % interval; bar: operation count · {line.named(wanted[0])} "
            f"to {count_text(wanted[-1])}",
        )
        if slopes.empty:
            st.caption("Too few sizes for a slope: it needs three.")
            return
        symbol = SYMBOLS[line.axis]
        show.chart(charts.slopes(slopes, mode(), symbol, settings().pick), "slopes")
        st.caption(
            f"Least squares of log time on log({base}), over the larger sizes; three sizes give no "
            "interval. The interval says how well one power describes these sizes. The bar is the "
            "same fit to the counted operations."
        )


def _lmax_shown(swept: Swept, line: Line) -> None:
    st.session_state["scaling_lmax"] = line.last.problem.lmax
    st.segmented_control(
        "lmax shown", list(swept.others), key="scaling_lmax", required=True,
        format_func=lambda lmax: f"lmax {lmax}" if lmax == line.last.problem.lmax else str(lmax),
        on_change=lambda: choose(at=st.session_state["scaling_lmax"]),
        label_visibility="collapsed",
    )  # fmt: skip


def _slopes(line: Line) -> pd.DataFrame:
    """Columns of :func:`charts.slopes`, without products that have too few sizes."""
    return pd.DataFrame(
        [
            {
                "product": g.product,
                "fitted": g.time.exponent,
                "low": g.time.low,
                "high": g.time.high,
                "theory": g.count.exponent if g.count else None,
            }
            for g in growths(line)
            if g.time is not None
        ]
    )


def _time_chart(
    table: pd.DataFrame, slopes: pd.DataFrame, axis: Axis, colours: Mode
) -> alt.LayerChart:
    known = {} if slopes.empty else dict(zip(slopes["product"], slopes["fitted"], strict=True))
    return charts.scaling(table, colours, axis, known, settings().pick)


def roofs(swept: Swept, line: Line) -> None:
    """Roofline of the device beside what limits each product at the largest size."""
    left, right = st.columns([6, 4], gap="medium")
    measured = roofs_of(swept.rows, line.last)
    with left:
        show.head(
            "Roofline of this device",
            "roofs measured in the same job; operations and bytes are counted, not read from "
            f"counters; larger point: larger {line.axis}",
        )
        if line.last.problem.direction != "forward":
            st.caption("Operations are counted for the forward call only.")
            return
        if measured is None:
            st.caption("The limits of this device were not measured in this run. Run here to see.")
            return
        points = _points(line, measured)
        if points.empty:
            st.caption("Operations were not counted in these results.")
            return
        show.chart(charts.roofline(points, measured, mode(), settings().pick), "roofline")
    with right:
        _limits(line, measured)


def _points(line: Line, measured: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "product": limit.product,
                "x": line.size(one),
                "intensity": limit.intensity,
                "flops_per_s": limit.flops_per_s,
            }
            for one in line.found
            for limit in limits(one, measured)
        ]
    )


def _limits(line: Line, measured: dict[str, float]) -> None:
    at = line.named(line.size(line.last))
    show.head(f"What limits each product at {at}", "share: of the roof above it")
    found = limits(line.last, measured)
    st.dataframe(
        pd.DataFrame(
            {
                "product": [limit.product for limit in found],
                "limit": [limit.word for limit in found],
                "share": [100 * limit.share for limit in found],
                "roof": [limit.roof for limit in found],
                "intensity": [limit.intensity for limit in found],
                "rate": [limit.flops_per_s / 1e9 for limit in found],
            }
        ),
        hide_index=True,
        key="limits",
        column_config={
            "product": st.column_config.TextColumn("product", pinned=True),
            "limit": st.column_config.TextColumn("limited by"),
            "share": st.column_config.ProgressColumn(
                "share of roof, %", format="%.0f", min_value=0, max_value=100, color="gray"
            ),
            "intensity": st.column_config.NumberColumn("FLOP/byte", format="%.3g"),
            "rate": st.column_config.NumberColumn("GFLOP/s", format="%.3g"),
        },
        alt=f"What limits each of {len(found)} products at {at}",
    )
    st.caption("A low share means overhead or more traffic than the least, not a slow device.")
    with st.expander("How each limit is told", icon=":material/help:"):
        for word, meaning in LIMIT_WORDS.items():
            st.markdown(f"**{word}**: {meaning}")
        fresh = measured.get("fresh_bytes_per_s")
        st.caption(
            "The rate of touching new memory was not measured here, so page faults are not told."
            if fresh is None
            else f"New memory is touched at {rate_text(fresh, 'B/s')} on this device."
        )


COSTS = (
    ("peak_bytes", "Memory", "peak of one call beyond its inputs", True),
    (
        "setup_s",
        "Set-up time",
        "building the product, once; caches of earlier products help",
        False,
    ),
    ("first_call_s", "First call", "plans, compilation and page faults included", False),
    ("compile_s", "Compile time", "apart from the first call", False),
)


def costs(line: Line) -> None:
    """Memory and what is paid once, against the size."""
    table = timed_frame(line.found, line.axis)
    there = [cost for cost in COSTS if table[cost[0]].fillna(0).gt(0).any()]
    if not there:
        return
    for column, (field, title, caption, in_bytes) in zip(
        st.columns(len(there), gap="medium"), there, strict=True
    ):
        with column:
            show.head(title, caption)
            lines = table.assign(value=table[field].astype(float))
            picture = charts.size_lines(
                lines, mode(), title.lower(), line.axis, settings().pick, in_bytes=in_bytes
            )
            show.chart(picture, f"cost_{field}")
    missing = [cost[1].lower() for cost in COSTS if cost not in there]
    if missing:
        st.caption(
            f"No {list_text(missing)} of its own: nothing here is compiled apart from its first "
            "call."
            if missing == ["compile time"]
            else f"Not measured in these results: {list_text(missing)}."
        )


def overtakings(line: Line) -> None:
    """Who overtakes whom, and when a larger set-up pays off, in sentences."""
    found = crossings(line)
    left, right = st.columns([1, 1], gap="medium")
    with left:
        show.head(
            "Who overtakes whom", "from paired verdicts at every size; where open, a tie stays one"
        )
        if not any(one.judgement.pairs for one in line.found):
            st.caption("Nothing was timed in the same rounds, so no pair can be judged.")
        elif not found:
            st.caption("No product overtakes another between these sizes.")
        first = sorted(found, key=lambda crossing: not crossing.same)
        for crossing in first[:SHOWN_CROSSINGS]:
            st.markdown(f"- {crossing_sentence(crossing, line)}")
        if rest := first[SHOWN_CROSSINGS:]:
            with st.expander(f"{len(rest)} more"):
                for crossing in rest:
                    st.markdown(f"- {crossing_sentence(crossing, line)}")
    with right:
        at = line.named(line.size(line.last))
        show.head(
            "When a larger set-up pays off",
            f"at {at}, against {line.last.baseline}; set-up and first call were each measured once",
        )
        earned = pay_offs(line.last)
        for one in earned:
            st.markdown(f"- {pay_off_sentence(one, line.last)}")
        if not earned:
            st.caption(
                f"No product is both faster than {line.last.baseline} and slower to get going."
            )


def table(swept: Swept, line: Line) -> None:
    """Everything in one table."""
    lines = timed_frame(line.found, line.axis).sort_values(["product", "x"])
    slopes = _slopes(line)
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        st.markdown(f"##### Everything along {line.axis}")
        pictures = {"scaling": partial(_time_chart, lines, slopes, line.axis, "light")}
        if not slopes.empty:
            symbol = SYMBOLS[line.axis]
            pictures["slopes"] = partial(charts.slopes, slopes, "light", symbol)
        show.downloads(lines, [row for row in swept.rows if _belongs(row, line)], pictures)
    names = list(lines["product"])
    st.dataframe(
        _shown(lines, line),
        hide_index=True,
        key="everything",
        on_select=show.pick_row(names, "everything"),
        selection_mode="single-row",
        column_config=_columns(),
        alt=f"All measures of {len(set(names))} products at {len(line.sizes)} sizes",
    )


def _belongs(row: dict[str, Any], line: Line) -> bool:
    """Whether a row is behind the line, or says what its device can do."""
    if row["measure"] == "roofline":
        return True
    return any(row["problem"] == one.problem.as_dict() for one in line.found)


def _shown(lines: pd.DataFrame, line: Line) -> pd.DataFrame:
    fits = {growth.product: growth for growth in growths(line)}
    found = [fits[product] for product in lines["product"]]
    return pd.DataFrame(
        {
            "product": lines["product"],
            line.axis: lines["x"],
            "median": lines["median_s"] * 1e3,
            "quartiles": [
                f"{a * 1e3:.3g} – {b * 1e3:.3g}" if b > a else ""
                for a, b in zip(lines["q25_s"], lines["q75_s"], strict=True)
            ],
            "slope": [growth.time.exponent if growth.time else None for growth in found],
            "interval": [
                f"{growth.time.low:.2f} – {growth.time.high:.2f}"
                if growth.time and growth.time.low is not None and growth.time.high is not None
                else ""
                for growth in found
            ],
            "theory": [growth.count.exponent if growth.count else None for growth in found],
            "macs": lines["macs"],
            "bytes": lines["bytes"],
            "memory": [_bytes(size) for size in lines["peak_bytes"]],
            "tables": [_bytes(size) for size in lines["table_bytes"]],
            "setup": lines["setup_s"].astype(float) * 1e3,
            "first": lines["first_call_s"].astype(float) * 1e3,
            "compile": lines["compile_s"].astype(float) * 1e3,
            "badges": lines["badges"],
        }
    )


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
        "macs": number("multiply-adds", format="compact"),
        "bytes": number("least bytes", format="bytes"),
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
    reasons: dict[tuple[str, str], list[int]] = {}
    for one in line.found:
        lines = frame(one)
        for _, refused in lines[~lines["valid"]].iterrows():
            reason = refused["reason"] or "was not timed"
            reasons.setdefault((refused["product"], reason), []).append(line.size(one))
    for (product, reason), found in reasons.items():
        sizes_ = list_text([count_text(size) for size in found], 8)
        st.markdown(f"**{product}** :red-badge[{line.axis} {sizes_}] {reason}")
