"""Charts and sentences of the scaling page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import altair as alt
import pandas as pd
import streamlit as st

from etp import charts
from etp.analysis.growth import (
    LIMIT_WORDS,
    Crossing,
    Limit,
    Line,
    crossing_sentence,
    fitted_sizes,
    pay_off_sentence,
)
from etp.analysis.growth.lines import size_text
from etp.analysis.growth.words import SYMBOLS
from etp.charts.theme import ON, Mode
from etp.text import bytes_text, count_text, counted, list_text, rate_text, time_text
from etp.ui import axis, folded, show, tables
from etp.ui.data import Swept
from etp.ui.frame import mode, on_phone
from etp.ui.kept import kept
from etp.ui.plain import plain
from etp.ui.session import settings

SHOWN_CROSSINGS = 4
WIDE_PX, PHONE_PX = 620, 340
CROWD = 6
"""Products whose names may not all find room."""


def provenance(line: Line, source: str) -> None:
    """Where the numbers come from, and what they lack."""
    problem, table = line.last.problem, tables.timed_frame(line.comparisons)
    rounds = [comparison.judgement.rounds for comparison in line.comparisons]
    fixed = [name for along, name in (
        ("lmax", f"{problem.setting or 'typed irreps'}, lmax {problem.lmax}"),
        ("batch", size_text("batch", problem.batch)),
        ("channels", size_text("channels", problem.channels)),
    ) if along != line.axis]  # fmt: skip
    if line.axis == "lmax":
        fixed.insert(0, str(problem.setting))
    few, many = min(rounds), max(rounds)
    note = " · ".join(
        [
            *fixed,
            problem.dtype,
            f"{problem.direction}, {problem.cache}",
            f"{'' if few == many else f'{few} – '}{counted(many, 'interleaved round')} per size"
            if few
            else "not timed in interleaved rounds",
        ]
    )
    worn = {badge for badges in table["badges"] for badge in badges}
    flags = [("no quartiles in this file", show.BADGES["no quartiles"].meaning)]
    rows = [
        row
        for comparison in line.comparisons
        for entry in comparison.timed
        for row in entry.rows.values()
    ]
    show.provenance_rows(rows, source, note, flags if "no quartiles" in worn else [])


def growth(swept: Swept, line: Line) -> None:
    """Time against the size, beside fitted slopes and those of the operation count."""
    slopes = slopes_of(line)
    wanted = fitted_sizes(line.sizes)
    left, right = st.columns([6, 4], gap="medium")
    with left:
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            with st.container(gap=None, width="content"):
                st.markdown(f"##### Time against {line.axis}")
                st.caption("line: quartiles · label: fitted exponent, where one power fits")
            if len(swept.others) > 1:
                axis.lmax_shown(swept, line)
            other = axis.elsewhere(swept)
        # Beside another device every line is a product's: none fades.
        pick = settings().pick if other is None else None
        show.chart(time_chart, line, mode(), other, key="scaling", pick=pick)
        if other is not None:
            st.caption(elsewhere_text(line, other))
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
        show.chart(charts.slopes, slopes, mode(), symbol, key="slopes", pick=settings().pick)
        st.caption(
            f"Least squares of log time on log({base}), over the larger sizes; three sizes give no "
            "interval. The interval says how well one power describes these sizes. The bar is the "
            "same fit to the counted operations."
        )


@kept(50)
def slopes_of(line: Line) -> pd.DataFrame:
    """Columns of :func:`charts.slopes`, without products that have too few sizes."""
    return pd.DataFrame(
        [
            {
                "product": g.product,
                "fitted": g.time.exponent,
                "low": g.time.low,
                "high": g.time.high,
                "theory": g.count.exponent if g.count else None,
                "clear": g.time.clear,
            }
            for g in tables.growths(line)
            if g.time is not None
        ]
    )


def time_chart(line: Line, colours: Mode, other: Line | None = None) -> alt.LayerChart:
    """Log-log lines of the time, each with its fitted exponent.

    Args:
        line: What is shown.
        colours: Light or dark.
        other: Of another device: its times are drawn too, of the products that both have.
    """
    slopes = slopes_of(line)
    clear = slopes[slopes["clear"]] if not slopes.empty else slopes
    known = {} if clear.empty else dict(zip(clear["product"], clear["fitted"], strict=True))
    table = tables.timed_frame(line.comparisons, line.axis)
    if other is not None:
        both = set(line.products) & set(other.products)
        there = tables.timed_frame(other.comparisons, other.axis)
        there = there[there["product"].isin(both)]
        named = there["product"] + ON + short_device(other)
        table = pd.concat([table[table["product"].isin(both)], there.assign(product=named)])
    return charts.scaling(table, colours, line.axis, known)


def short_device(line: Line) -> str:
    """Device of a line as the end of a label."""
    return line.device().removeprefix("NVIDIA ")


def elsewhere_text(line: Line, other: Line) -> str:
    """What two devices in one chart have not in common."""
    ours, theirs = line.last.problem, other.last.problem
    unlike = [
        f"{name} {count_text(left)} and {count_text(right)}"
        for name, left, right in (
            ("batch", ours.batch, theirs.batch),
            ("channels", ours.channels, theirs.channels),
        )
        if left != right and name != line.axis
    ]
    if ours.outputs != theirs.outputs:
        unlike.append(f"outputs of {ours.outputs} and {theirs.outputs} parities")
    environment = other.last.environment()
    source = str(environment.get("source", ""))
    parts = [
        f"Dotted: {other.device()}",
        *([f"{source}, {environment.get('timed')}, the authors' own code"] if source else []),
        *([f"not the same work: {'; '.join(unlike)}"] if unlike else []),
        "times of two devices are shown, not ranked",
    ]
    return plain(" · ".join(parts)) + "."


def roofs(swept: Swept, line: Line) -> None:
    """Roofline of the device beside what limits each product at the largest size."""
    left, right = st.columns([6, 4], gap="medium")
    measured = tables.roofs_of(swept.rows, line.last)
    with left:
        show.head(
            "Roofline of this device",
            f"{roofs_words(measured)}; operations and bytes are counted, not read from counters; "
            f"larger point: larger {line.axis}",
        )
        if line.last.problem.direction != "forward":
            st.caption("Operations are counted for the forward call only.")
            return
        if measured is None:
            st.caption("The limits of this device were not measured in this run. Run here to see.")
            return
        points, other = _points(line, measured), None
        beside = swept.elsewhere.get(str(settings().elsewhere))
        above = None if beside is None else tables.roofs_of(swept.rows, beside.last)
        if beside is not None and above is not None:
            other = (short_device(beside), above)
            there = _points(beside, above)
            there = there[there["product"].isin(points["product"])]
            points = pd.concat([points, there.assign(product=there["product"] + ON + other[0])])
        if points.empty:
            st.caption("Operations were not counted in these results.")
            return
        wide = PHONE_PX if on_phone() else WIDE_PX
        drawn = (charts.roofline, points, measured, mode(), settings().pick, wide, other)
        show.chart(*drawn, key="roofline")
        if points["product"].nunique() > CROWD:
            st.caption("A mark without a name tells it when you point at it.")
        if other is not None:
            st.caption(plain(f"Dotted: {other[0]}, {charts.roofs_text(other[1])}."))
    with right:
        _limits(line, measured)


def roofs_words(measured: dict[str, float] | None) -> str:
    """The roofs, where they were measured."""
    if measured is None:
        return "roofs measured in the same job"
    return f"measured in the same job: {charts.roofs_text(measured)}"


@kept(50)
def _points(line: Line, measured: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "product": limit.product,
                "x": line.size(comparison),
                "intensity": limit.intensity,
                "flops_per_s": limit.flops_per_s,
            }
            for comparison in line.comparisons
            for limit in tables.limits(comparison, measured)
        ]
    )


@kept(50)
def _limits_frame(limits: Sequence[Limit]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "product": [limit.product for limit in limits],
            "limit": [limit.word for limit in limits],
            "share": [100 * limit.share for limit in limits],
            "roof": [limit.roof for limit in limits],
            "intensity": [limit.intensity for limit in limits],
            "rate": [limit.flops_per_s / 1e9 for limit in limits],
        }
    )


def _limits(line: Line, measured: dict[str, float]) -> None:
    at = line.named(line.size(line.last))
    show.head(f"What limits each product at {at}", "share: of the roof above it")
    limits = tables.limits(line.last, measured)
    st.dataframe(
        show.sent(_limits_frame(limits)),
        hide_index=True,
        key="limits",
        column_config={
            "product": st.column_config.TextColumn("product", pinned=True),
            "limit": st.column_config.TextColumn("limited by", width=85),
            "share": st.column_config.ProgressColumn(
                "share, %", format="%.0f", min_value=0, max_value=100, color="gray", width=95
            ),
            "roof": st.column_config.TextColumn("roof", width=70),
            "intensity": st.column_config.NumberColumn("FLOP/B", format="%.3g", width=65),
            "rate": st.column_config.NumberColumn("GFLOP/s", format="%.3g", width=70),
        },
        alt=f"What limits each of {len(limits)} products at {at}",
    )
    note = "A low share means overhead or more traffic than the least, not a slow device."
    if any(limit.share > 1 for limit in limits):
        note += (
            " A share above 100 % is in doubt: the data stay in the cache, which the roof of main "
            "memory does not bound, or operations were counted that are not done."
        )
    st.caption(note)
    folded.expander("How each limit is told", partial(_told, measured), key="told", icon="help")


def _told(measured: dict[str, float]) -> None:
    for word, meaning in LIMIT_WORDS.items():
        st.markdown(f"**{word}**: {meaning}")
    fresh = measured.get("fresh_bytes_per_s")
    st.caption(
        "The rate of touching new memory was not measured here, so page faults are not told."
        if fresh is None
        else f"New memory is touched at {rate_text(fresh, 'B/s')} on this device."
    )


COSTS = (
    ("peak_bytes", "Memory", "peak of one call beyond its inputs"),
    ("setup_s", "Set-up time", "building the product, once; caches of earlier products help"),
    ("first_call_s", "First call", "with plans and page faults, without compilers"),
    (
        "compile_s",
        "Compile time",
        "what making its kernels took, once for a machine; without any, no line",
    ),
)


def costs(line: Line) -> None:
    """Memory and what is paid once, against the size."""
    table = tables.timed_frame(line.comparisons, line.axis)
    there = [cost for cost in COSTS if table[cost[0]].notna().any()]
    changing = [cost for cost in there if not constant(table, cost[0])]
    with st.grid(max(len(changing), 1), min_column_width=290, gap="medium"):
        for field, title, caption in changing:
            with st.container():
                show.head(title, caption)
                drawn = (_cost_chart, line, field, title.lower(), mode())
                show.chart(*drawn, key=f"cost_{field}", pick=settings().pick)
    for field, title, _ in there:
        if constant(table, field):
            st.caption(f"{title}, the same at every {line.axis}: {_constants(table, field)}.")
    missing = [cost[1].lower() for cost in COSTS if cost not in there]
    if missing:
        st.caption(f"Not measured in these results: {list_text(missing)}.")


@kept(100)
def constant(table: pd.DataFrame, field: str) -> bool:
    """Whether a column says the same of each product at every size, as what is paid once does."""
    known = table[table[field].notna() & (table[field] > 0)]
    return bool((known.groupby("product")[field].agg(lambda v: v.max() / v.min()) < 1.01).all())


@kept(100)
def _constants(table: pd.DataFrame, field: str) -> str:
    """Products by their one value."""
    known = table[table[field].notna() & (table[field] > 0)]
    written = bytes_text if field.endswith("_bytes") else time_text
    by_value = known.groupby("product")[field].median().map(written)
    return (
        "; ".join(
            f"{value} for {list_text(sorted(group.index), 20)}"
            for value, group in by_value.groupby(by_value)
        )
        or "nothing"
    )


def _cost_chart(line: Line, field: str, title: str, colours: Mode) -> alt.LayerChart:
    table = tables.timed_frame(line.comparisons, line.axis)
    table = table.assign(value=table[field].astype(float))
    in_bytes = field.endswith("_bytes")
    return charts.size_lines(table, colours, title, line.axis, in_bytes=in_bytes)


def overtakings(line: Line) -> None:
    """Who overtakes whom, and when a larger set-up pays off, in sentences."""
    crossings = tables.crossings(line)
    left, right = st.columns([1, 1], gap="medium")
    with left:
        show.head(
            "Who overtakes whom", "from paired verdicts at every size; where open, a tie stays one"
        )
        if not any(comparison.judgement.pairs for comparison in line.comparisons):
            st.caption("Nothing was timed in the same rounds, so no pair can be judged.")
        elif not crossings:
            st.caption("No product overtakes another between these sizes.")
        first = sorted(crossings, key=lambda crossing: not crossing.same)
        _sentences(first[:SHOWN_CROSSINGS], line)
        if rest := first[SHOWN_CROSSINGS:]:
            content = partial(_sentences, rest, line)
            folded.expander(f"{len(rest)} more", content, key="more_crossings")
    with right:
        at = line.named(line.size(line.last))
        show.head(
            "When a larger set-up pays off",
            f"at {at}, against {line.last.baseline}; set-up and first call were each measured once",
        )
        earned = tables.pay_offs(line.last)
        for pay_off in earned:
            st.markdown(f"- {pay_off_sentence(pay_off, line.last)}")
        if not earned:
            st.caption(
                f"No product is both faster than {line.last.baseline} and slower to get going."
            )


def _sentences(crossings: Sequence[Crossing], line: Line) -> None:
    for crossing in crossings:
        st.markdown(f"- {crossing_sentence(crossing, line)}")
