"""Parts of the compare page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from etp import charts
from etp.analysis.comparison import Comparison
from etp.analysis.findings import pair_sentence
from etp.charts.theme import Mode
from etp.measure.state import state_text
from etp.report.figure import Figure
from etp.text import list_text, time_text
from etp.ui import asking, data, effort, folded, jobs, show, tables
from etp.ui.data import View
from etp.ui.frame import mode, on_phone
from etp.ui.plain import plain
from etp.ui.session import bound, choose, settings

BEYOND_REACH = "Too noisy here for more rounds to settle"
HERO_PX, RATIO_PX, PHONE_PX = 580, 500, 350


def welcome(view: View) -> None:
    """One line for who comes for the first time: what this is, and the paper behind it."""
    if view.source == "reference":
        # No caption: its grey leaves a link too pale to read.
        st.markdown(
            "Equivariant tensor products side by side: what each computes and what it costs. The "
            "fast ones mostly compute less, as [The Price of Freedom]"
            "(https://arxiv.org/abs/2506.13523) (Xie et al., ICML 2025) showed. MIMO: both inputs "
            "hold one copy of every degree up to lmax, and every output degree is kept. A path "
            "takes one degree of each input to one of the output."
        )


def hero(view: View) -> None:
    """Trade-off beside certainty."""
    comparison = view.chosen
    left, right = st.columns([11, 9], gap="medium")
    with left:
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            st.markdown("##### What a millisecond buys", width="content")
            if len(view.degrees) > 1:
                _degree_choice(view)
        st.caption(
            f"hollow: not the same operation as {comparison.baseline} · line: quartiles · steps: "
            "the front, beaten in both by none · click a point to follow it"
        )
        if tables.tradeoff_frame(comparison).empty:
            st.caption("What these products compute was not measured here, only their time.")
        else:
            drawn = _tradeoff(comparison, mode())
            show.chart(*drawn, key="tradeoff", pick=settings().pick, selects=True)
    with right:
        show.head(
            "How sure is that?",
            f"time of {comparison.baseline} / time of product, paired; grey band: the same product "
            "against itself",
        )
        if tables.judged_frame(comparison).empty:
            st.caption("Nothing else was timed in the same rounds.")
        else:
            drawn = _ratio(comparison, mode())
            show.chart(*drawn, key="ratio", pick=settings().pick, selects=True)


def _degree_choice(view: View) -> None:
    # A label must not depend on what is chosen: Streamlit tells the choices apart by them.
    st.segmented_control(
        "lmax shown",
        view.degrees,
        format_func=lambda lmax: f"lmax {lmax}" if lmax == view.degrees[0] else str(lmax),
        required=True,
        label_visibility="collapsed",
        **bound("at", "default", shown=view.chosen.problem.lmax),
    )


def _tradeoff(comparison: Comparison, colours: Mode) -> tuple[Any, ...]:
    """A chart's function, and what it is given."""
    table = tables.tradeoff_frame(comparison)
    return charts.tradeoff, table, colours, comparison.baseline, None, _width(HERO_PX)


def _width(pixels: int) -> int:
    return PHONE_PX if on_phone() else pixels


def _ratio(comparison: Comparison, colours: Mode) -> tuple[Any, ...]:
    others, floor = tables.judged_frame(comparison), comparison.judgement.floor
    return charts.ratio, others, colours, comparison.baseline, floor, None, _width(RATIO_PX)


def multiples(view: View) -> None:
    """Runtime, runtime per expressivity and error, side by side."""
    every = tables.timed_frame(view.comparisons)
    if every.empty:
        return
    shown = tables.of_devices(view.comparisons, view.elsewhere) if view.elsewhere else every
    pick, lmax = settings().pick, view.chosen.problem.lmax
    left, middle, right = st.columns(3, gap="medium")
    with left:
        devices = "; dotted: on " + ", ".join(elsewhere_names(view)) if view.elsewhere else ""
        show.head("Runtime", f"median and quartiles; grey: the lmax shown above{devices}")
        show.chart(charts.runtime_lines, shown, mode(), "lmax", lmax, key="runtime", pick=pick)
    with middle:
        show.head("Runtime per unit of expressivity", "time per call / γ")
        gammas = tables.with_gamma(every)
        if gammas.empty:
            st.caption("Expressivity was not measured here.")
        else:
            drawn = (charts.per_gamma_lines, gammas, mode(), "lmax", lmax)
            show.chart(*drawn, key="per_gamma", pick=pick)
    with right:
        dtype = view.chosen.problem.dtype
        show.head("Equivariance error", f"{dtype}, lmax {lmax}, rotations and inversion")
        errors = tables.errors(view.chosen)
        if errors.empty:
            st.caption("The equivariance error was not measured here.")
        else:
            gate = float(errors["gate"].iloc[0])
            dots = (charts.equivariance_dots, errors, mode(), gate, dtype)
            show.chart(*dots, key="errors", pick=pick)


def elsewhere_names(view: View) -> list[str]:
    """Other devices of the same run."""
    return list(dict.fromkeys(tables.device_of(comparison) for comparison in view.elsewhere))


def pairs(view: View) -> None:
    """Every verdict as a sentence."""
    comparison = view.chosen
    judged = comparison.judgement
    if not judged.verdicts:
        return
    folded.expander(
        "Every pair in words", partial(_sentences, comparison), key="pairs", icon="balance"
    )


def _sentences(comparison: Comparison) -> None:
    for product in comparison.judgement.verdicts:
        st.markdown(f"- {plain(pair_sentence(comparison, product))}")


def trust(view: View, job: str | None) -> None:
    """Beside the verdict: what it rests on, and a button for what is still open.

    Args:
        view: What is shown.
        job: The run in the address; None without one.
    """
    facts = tables.trust(view.chosen)
    if not facts:
        return
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center", key="trust"):
        for fact in facts:
            st.badge(
                fact.text,
                color="orange" if fact.doubtful else "gray",
                icon=":material/warning:" if fact.doubtful else None,
                help=fact.meaning,
            )
        _more(view, job)


def _more(view: View, job: str | None) -> None:
    comparison = view.chosen
    judged = comparison.judgement
    open_pairs = [p for p, v in judged.verdicts.items() if v.word in ("open", "too few")]
    if not open_pairs or view.source != "run" or job is None:
        return
    stored = jobs.store().job(job)
    if stored is None or stored.active or not jobs.visitor().may_change(stored.owner):
        return
    if judged.needed is None:
        st.caption(f"{BEYOND_REACH}: {list_text(open_pairs, 4)}.", width="content")
        return
    more = max(judged.needed - judged.rounds, 12)
    case = _more_rounds(comparison, more)
    seconds = effort.efforts(comparison.problem.device).case(case, judged.round_s).seconds
    st.button(
        f"Measure more: {more} rounds, about {time_text(seconds, 2)}",
        icon=":material/add_circle:",
        on_click=asking.extend,
        args=(job, case),
        help=f"Not settled yet: {', '.join(open_pairs)}. All rounds so far count.",
    )


def _more_rounds(comparison: Comparison, rounds: int) -> dict[str, Any]:
    """More rounds of a case; of its questions those that the rows of its times rest on."""
    return {
        "problem": comparison.problem.as_dict(),
        "products": [entry.product for entry in comparison.timed],
        "reference": comparison.baseline,
        "rounds": rounds,
        "budget_s": round(2 * rounds * comparison.judgement.round_s + 2, 1),
        "questions": ["agreement", "equivariance", "interactions"],
        "memory": False,
        "group": comparison.group,
        "look": comparison.judgement.looks,
    }


def samples(view: View) -> None:
    """Every timed call of the product that was picked, in time order."""
    pick = settings().pick
    entry = next((e for e in view.chosen.timed if e.product == pick), None)
    if entry is None or entry.runtime is None:
        return
    recording = jobs.store().samples(entry.runtime["id"]) if view.source == "run" else None
    with st.container(border=True):
        show.head(f"{pick}: every timed call", "in time order; a drift or a step shows here")
        if recording is None or "start_s" not in recording:
            st.caption("Single calls are not kept in the reference results; run it here.")
        else:
            course = _course(entry.product, recording)
            show.chart(charts.samples_over_time, course, mode(), key="samples")
        result = entry.result("runtime")
        before, after = result.get("state_before"), result.get("state_after")
        if before and after:
            st.caption(f"before and after the rounds: {state_text(before, after)}")
        st.button("Close", on_click=choose, kwargs={"pick": None}, key="close_samples")


def _course(product: str, recording: dict[str, list[float]]) -> pd.DataFrame:
    """Calls of each block placed after the start of the block."""
    lines, position = [], 0
    for start, calls in zip(recording["start_s"], recording["block_calls"], strict=True):
        now = start
        for seconds in recording["samples_s"][position : position + int(calls)]:
            lines.append({"product": product, "start_s": now, "time_s": seconds})
            now += seconds
        position += int(calls)
    return pd.DataFrame(lines)


def table(view: View) -> None:
    """Everything in one table."""
    comparison = view.chosen
    lines = tables.fastest_first(comparison)
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        st.markdown(f"##### Everything at lmax {comparison.problem.lmax}")
        behind = partial(data.rows_behind, view.rows, [*view.comparisons, *view.elsewhere])
        show.downloads(tables.frame(comparison), behind, _figures(comparison))
    names = list(lines["product"])
    event = show.pick_row(names, "everything")
    st.dataframe(
        show.sent(tables.shown(lines, comparison.baseline)),
        hide_index=True,
        key="everything",
        placeholder="",
        on_select=event,
        selection_mode="single-row",
        column_config=_columns(comparison, lines),
        alt=f"All measures of {len(names)} products at lmax {comparison.problem.lmax}",
    )


def _figures(comparison: Comparison) -> dict[str, Figure]:
    if tables.timed(comparison).empty:
        return {}
    problem, measured = comparison.problem, show.provenance_text(comparison)
    where = problem.setting or f"{problem.irreps1} with {problem.irreps2}"
    rounds = f"{comparison.judgement.rounds} interleaved rounds"
    figures = {
        "trade-off": Figure(
            partial(_tradeoff_drawn, comparison, settings().pick),
            f"Time against expressivity, {where}, lmax {problem.lmax}",
            f"Filled: the same operation as {comparison.baseline}; hollow: another. Rules: "
            f"quartiles. Steps: the front. {measured} · {rounds}.",
        )
    }
    if not tables.judged_frame(comparison).empty:
        figures["ratios"] = Figure(
            partial(_ratio_drawn, comparison, settings().pick),
            f"Speed relative to {comparison.baseline}, {where}, lmax {problem.lmax}",
            f"95 % intervals of paired ratios that hold together; grey: a product against itself. "
            f"{measured} · {rounds}.",
        )
    return figures


PAPER_PX = 330
"""Width that labels are placed for on paper: one column."""


def _tradeoff_drawn(comparison: Comparison, pick: str | None) -> alt.LayerChart:
    table = tables.tradeoff_frame(comparison)
    return charts.tradeoff(table, "light", comparison.baseline, pick, PAPER_PX)


def _ratio_drawn(comparison: Comparison, pick: str | None) -> alt.LayerChart:
    others, floor = tables.judged_frame(comparison), comparison.judgement.floor
    return charts.ratio(others, "light", comparison.baseline, floor, pick, PAPER_PX)


def _columns(comparison: Comparison, lines: pd.DataFrame) -> dict[str, Any]:
    allowed = int(lines["allowed"].max()) if lines["allowed"].notna().any() else 0
    number = st.column_config.NumberColumn
    return {
        "product": st.column_config.TextColumn("product", pinned=True),
        "median": number("median, ms", format="%.4g"),
        "quartiles": "quartiles, ms",
        "ratio": st.column_config.TextColumn(
            f"× {comparison.baseline}",
            help="Time of the baseline over its own: above 1 it is faster",
        ),
        "paths": st.column_config.ProgressColumn(
            f"paths of {allowed}", format="%d", min_value=0, max_value=allowed or 1, color="gray"
        ),
        "outputs": st.column_config.TextColumn("outputs", help="What has an output of its own"),
        "weights": st.column_config.TextColumn("weights", help="What a free weight scales"),
        "gamma": number("γ", help="Independent bilinear maps (numerical rank), weights free"),
        "us_per_gamma": number("µs per γ", format="%.3g"),
        "error": "equiv. error, max",
        "first": number(
            "first call, ms",
            format="%.3g",
            help="The first call after it was built, with plans and page faults, without compilers",
        ),
        # Where calls end when they return, it is the time in the first column.
        "wall": None
        if comparison.problem.device == "cpu"
        else number("wall, ms", format="%.4g", help="Until the device had finished, per call"),
        "memory": number("peak memory, MB", format="%.3g"),
        "badges": st.column_config.MultiselectColumn(
            "badges",
            width="large",
            options=["baseline", *show.BADGES],
            color=["gray", *(badge.colour for badge in show.BADGES.values())],
        ),
    }


def left_out(view: View) -> None:
    """Products that were not timed, each with its reason, and what the badges mean."""
    refused, worn = tables.left_out(view.chosen)
    for product, reason, badges in refused:
        show.refusal(product, reason, badges)
    if worn:
        folded.expander("What the badges mean", partial(_meanings, worn), key="badges", icon="help")


def _meanings(badges: Sequence[str]) -> None:
    for badge in badges:
        known = show.BADGES.get(badge)
        st.markdown(f"**{badge}**: {known.meaning if known else ''}")
