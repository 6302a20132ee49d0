"""Parts of the expressivity page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd
import streamlit as st

from etp import charts
from etp.analysis.expressivity import Counts, cross_product
from etp.problem import Problem
from etp.text import count_text
from etp.ui import asking, folded, progress, show, tables
from etp.ui.data import Shown
from etp.ui.frame import mode
from etp.ui.plans import COUNTS
from etp.ui.session import bound, settings
from etp.ui.settings import Settings

RULES = "selection rules"


def count_by_itself(chosen: Settings, shown: Shown) -> None:
    """Counting needs no quiet machine: what is asked and not there yet is counted at once."""
    if progress.active(chosen.counts):
        return
    there = {
        (row.product, row.problem["irreps1"], row.problem["irreps2"], row.problem["filter_out"])
        for row in shown.rows
        if row.measure == "expressivity" or row.status != "ok"
    }
    try:
        asked = [
            (product, problem.irreps1, problem.irreps2, problem.filter_out)
            for problem in chosen.problems("cpu")
            for product in chosen.products
        ]
    except ValueError:
        return
    if not there.issuperset(asked) and asking.start_by_itself(COUNTS, chosen):
        st.rerun()


def headline(counts: Counts) -> None:
    """1 x 1 -> 1, the smallest odd path, before anything else."""
    have, lack = cross_product(counts)
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


def interactability(counts: Counts, problem: Problem) -> None:
    """Which degrees can interact, in two products side by side."""
    counted = [p for p in counts.products if (p, problem.lmax) in counts.reached]
    show.head(
        "Which degrees can interact",
        "(l1, l2) → l3; rows l1, columns l2; framed: the two products differ",
    )
    names = [RULES, *counted]
    pick = settings().pick
    full = [p for p in ("cg-sparse", "cg-dense", "e3nn", RULES) if p in names]
    sides = [
        _side("map", "Product", names, (pick, "gaunt-grid", *counted)),
        _side("beside", "Beside it", names, tuple(full)),
    ]
    with st.container(horizontal=True, gap="small"):
        shown = []
        for (field, label, usual), other in zip(sides, reversed(sides), strict=True):
            with st.container(width=charts.MAP_WIDTH + 8, gap="xsmall"):
                product = str(
                    st.selectbox(label, names, **bound(field, "index", names, shown=usual))
                )
                own, others = (_reached(counts, p, problem) for p in (product, other[2]))
                table = tables.compared_maps(problem, own, others)
                drawn = (charts.interactability_map, table, mode(), product)
                show.chart(*drawn, key=f"map_{field}", width="content")
                st.markdown(_counted(table))
                shown.append((product, own))
    st.caption(
        "■ reached, by some parity · ◈ missing: allowed by symmetry, coefficient 0 · dot: "
        "forbidden by the triangle rule or parity"
    )
    if not counted:
        st.caption("Press Run here to see which of these paths each product reaches.")
    content = partial(_paths, problem, shown)
    folded.expander("Every path by irreps", content, key="paths", icon="list")


def _side(
    field: str, label: str, names: Sequence[str], usual: Sequence[str | None]
) -> tuple[str, str, str]:
    """Setting, label and product of one of the two maps."""
    wanted = (getattr(settings(), field), *usual, RULES)
    return field, label, next(p for p in wanted if p in names)


def _reached(
    counts: Counts, product: str, problem: Problem
) -> frozenset[tuple[str, str, str]] | None:
    return None if product == RULES else frozenset(counts.labels(product, problem.lmax))


def _counted(table: pd.DataFrame) -> str:
    states = table["state"].value_counts()
    return " · ".join(
        f"{mark} **{count_text(states.get(state, 0))}** {state}"
        for mark, state in (("■", "reached"), (":orange[◈]", "missing"))
    )


def _paths(
    problem: Problem, shown: Sequence[tuple[str, frozenset[tuple[str, str, str]] | None]]
) -> None:
    columns = dict(shown)
    lines = []
    for a, b, c in problem.triples():
        labels = (str(a), str(b), str(c))
        lines.append({"path": f"{a} ⊗ {b} → {c}"} | {
            product: "allowed" if reached is None
            else "reached" if labels in reached else "missing"
            for product, reached in columns.items()
        })  # fmt: skip
    st.dataframe(lines, hide_index=True, height=240)


def gammas(counts: Counts, lmax: int) -> None:
    """γ at each lmax, and γ beside the paths reached."""
    show.head(
        "γ at each lmax",
        "numerical rank with the product's free weights / without them where that is less; in "
        "brackets the closed form where it differs",
    )
    table = tables.ranks(counts)
    if table.empty:
        st.caption("Nothing was counted yet.")
        return
    st.dataframe(
        show.sent(table),
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
    conditions = counts.conditions()
    if conditions:
        folded.expander(
            "Where the closed forms hold",
            partial(_conditions, conditions),
            key="conditions",
            icon="functions",
        )
    bars = tables.bars(counts, lmax)
    if not bars.empty:
        show.head("γ and reached paths", f"bar: γ; grey: paths reached, at lmax {lmax}")
        show.chart(charts.gamma_bars, bars, mode(), key="gamma_bars", pick=settings().pick)


def _conditions(conditions: Mapping[str, str]) -> None:
    for product, condition in conditions.items():
        st.markdown(f"**{product}**: {condition}")


def refusals(counts: Counts) -> None:
    """Products that could not be counted, each with its reason."""
    for product, row in counts.refused.items():
        if product not in counts.products:
            show.refusal(product, row["reason"], row["badges"])
