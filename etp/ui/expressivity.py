"""Parts of the expressivity page."""

from __future__ import annotations

import streamlit as st

from etp import charts
from etp.analysis.expressivity import Counts, cross_product, map_frame
from etp.analysis.text import count_text
from etp.problem import Problem
from etp.ui import show
from etp.ui.frame import mode
from etp.ui.session import bound, settings

RULES = "selection rules"
MAX_PANELS = 21


def headline(found: Counts) -> None:
    """1 x 1 -> 1, the smallest odd path, before anything else."""
    have, lack = cross_product(found)
    if not have and not lack:
        return
    with st.container(border=True):
        parts = [
            "**1 ⊗ 1 → 1, the cross product.** The smallest odd path, and the one that tells a "
            "molecule from its mirror image."
        ]
        if have:
            parts.append(f":green-badge[:material/check: reached] {', '.join(have)}")
        if lack:
            parts.append(f":orange-badge[:material/close: missing] {', '.join(lack)}")
        st.markdown("  ".join(parts))


def interactability(found: Counts, problem: Problem) -> None:
    """Which degrees can interact, one small map for each output degree."""
    counted = [p for p in found.products if (p, problem.lmax) in found.reached]
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        with st.container(gap=None, width="content"):
            st.markdown("##### Which degrees can interact")
            st.caption("(l1, l2) → l3; rows l1, columns l2")
        names = [RULES, *counted]
        wanted = (settings().map, settings().pick, "gaunt-grid", *counted)
        usual = next((p for p in wanted if p in names), RULES)
        product = str(
            st.selectbox("Product", names, label_visibility="collapsed", width=220,
                         **bound("map", "index", names, shown=usual))
        )  # fmt: skip
    reached = None if product == RULES else found.labels(product, problem.lmax)
    table = map_frame(problem, reached)
    panels = charts.interactability_panels(table, mode(), product)
    with st.container(horizontal=True, gap="small"):
        for title, picture in panels[:MAX_PANELS]:
            with st.container(width="content"):
                st.altair_chart(picture, theme=None, width="content", key=f"map_{title}")
    states = table["state"].value_counts()
    st.markdown(
        f"■ **reached** {count_text(states.get('reached', 0))} :gray[by some parity] &nbsp; "
        f":orange[◈ **missing**] {count_text(states.get('missing', 0))} :gray[allowed by symmetry, "
        f"coefficient 0] &nbsp; · **forbidden** {count_text(states.get('forbidden', 0))} "
        ":gray[triangle rule or parity]"
    )
    if not counted:
        st.caption("Press Run here to see which of these paths each product reaches.")
    _paths(problem, reached)


def _paths(problem: Problem, reached: set[tuple[str, str, str]] | None) -> None:
    with st.expander("Every path by irreps", icon=":material/list:"):
        lines = []
        for a, b, c in problem.triples():
            labels = (str(a), str(b), str(c))
            state = "allowed" if reached is None else "reached" if labels in reached else "missing"
            lines.append({"path": f"{a} ⊗ {b} → {c}", "state": state})
        st.dataframe(lines, hide_index=True, height=240)


def gammas(found: Counts, lmax: int) -> None:
    """γ at each lmax, and γ beside the paths reached."""
    show.head(
        "γ at each lmax",
        "numerical rank with the product's free weights / without them where that is less; in "
        "brackets the closed form where it differs",
    )
    table = found.table()
    if table.empty:
        st.caption("Nothing was counted yet.")
        return
    st.dataframe(
        table,
        hide_index=True,
        key="gamma_table",
        column_config={
            "product": st.column_config.TextColumn("product", pinned=True),
            "closed form": st.column_config.MultiselectColumn(
                "closed form",
                options=["agree", "differ", "rank only"],
                color=["green", "orange", "gray"],
                help="Agree: the proved formula gives the rank. Rank only: no formula is claimed "
                "for these irreps.",
            ),
        },
        alt="Expressivity of every product at every lmax, as numerical rank",
    )
    conditions = found.conditions()
    if conditions:
        with st.expander("Where the closed forms hold", icon=":material/functions:"):
            for product, condition in conditions.items():
                st.markdown(f"**{product}**: {condition}")
    bars = found.bars(lmax)
    if not bars.empty:
        show.head("γ and reached paths", f"bar: γ; grey: paths reached, at lmax {lmax}")
        show.chart(charts.gamma_bars(bars, mode(), settings().pick), "gamma_bars")


def refusals(found: Counts) -> None:
    """Products that could not be counted, each with its reason."""
    for product, row in found.refused.items():
        if product not in found.products:
            show.refusal(product, row["reason"], row["badges"])
