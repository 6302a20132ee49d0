"""Parts of the equivariance page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from etp import charts
from etp.analysis.equivariance import EquivarianceChecks
from etp.charts import sphere
from etp.problem import Problem
from etp.results.rows import Row
from etp.ui import show, tables
from etp.ui.frame import mode
from etp.ui.kept import kept
from etp.ui.session import bound, settings, write_address

GATES = {"float64": 1e-12, "float32": 5e-6, "bfloat16": 3e-2}
ASSETS = Path(__file__).resolve().parent.parent / "assets"


def distributions(checks: EquivarianceChecks) -> None:
    """Every group element in every dtype, beside what a too small grid does."""
    left, right = st.columns([6, 4], gap="medium")
    with left:
        show.head(
            "Every rotation, every dtype",
            "one tick per group element; dashed: gates; red: above its gate",
        )
        elements = tables.elements(checks)
        if elements.empty:
            st.caption("Nothing was checked yet.")
        else:
            drawn = (charts.equivariance_strip, elements, mode(), tables.gates(checks))
            show.chart(*drawn, settings().pick, key="strip")
    with right:
        show.head(
            "What a too small grid does",
            f"gaunt-grid at lmax {checks.lmax}, float64: exact or wrong, nothing between",
        )
        for side, label in (
            ("columns", "grid columns (longitude)"),
            ("rows", "grid rows (latitude)"),
        ):
            table, smallest = tables.cliff(checks, side)
            if table.empty:
                st.caption("Grid sizes were not tried here.")
                return
            show.chart(charts.cliff, table, mode(), label, smallest, key=f"cliff_{side}")


def by_degree(checks: EquivarianceChecks) -> None:
    """Worst error of each output degree, for a dtype."""
    dtypes = list(checks.gates())
    if not dtypes:
        return
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        with st.container(gap=None, width="content"):
            st.markdown("##### Which output degree is worst")
            st.caption("largest error over all group elements, by degree of the output")
        dtype = st.segmented_control(
            "Number type", dtypes, required=True, label_visibility="collapsed",
            **bound("degrees_of", "default", shown=_there(settings().degrees_of, dtypes)),
        )  # fmt: skip
    table = tables.degrees(checks, str(dtype))
    if table.empty:
        st.caption("No errors to show: they are exactly zero.")
    else:
        show.chart(charts.per_degree, table, mode(), key="per_degree", pick=settings().pick)


def _there(wanted: str | None, names: Sequence[str]) -> str:
    return wanted if wanted is not None and wanted in names else names[0]


def refusals(checks: EquivarianceChecks) -> None:
    """Products that could not be checked, each with its reason."""
    for product, row in checks.refused.items():
        show.refusal(product, row["reason"], row["badges"])


@st.fragment
def rotate(rows: list[Row]) -> None:
    """Two products on spheres that turn together: a right one beside one that is broken."""
    turns = _turns(rows)
    if not turns:
        return
    show.head(
        "See it rotate",
        "equivariant means: the two spheres in the middle agree at every angle · drag one and all "
        "turn",
    )
    names = list(turns)
    usual = [p for p in ("gaunt-grid", "cg-sparse") if p in names]
    broken = [name for name in names if not turns[name].equivariant]
    with st.container(horizontal=True):
        sides = {
            field: str(
                st.selectbox(label, names, width=320, **bound(
                    field, "index", names, shown=_there(getattr(settings(), field), wanted)
                ))
            )
            for field, label, wanted in (
                ("sphere", "Product", [*usual, *names]),
                ("sphere_beside", "Beside it", [*broken, *reversed(names)]),
            )
        }  # fmt: skip
    write_address()
    chosen = {name: turns[name] for name in sides.values()}
    arrows = "vector-signal" in chosen
    _spheres()(data=sphere.scene(chosen, mode(), arrows=arrows), key="spheres")
    problem = Problem.from_dict(next(r for r in rows if r.measure == "sphere").problem)
    st.caption(
        f"{problem.dtype}, {problem.irreps1} ⊗ {problem.irreps2}; output copies of a degree are "
        "added up."
    )


def _spheres() -> Callable[..., object]:
    """The component, known to this server under one name."""
    return st.components.v2.component(
        "etp_spheres",
        html='<div class="etp-spheres"></div>',
        css=(ASSETS / "sphere.css").read_text(encoding="utf-8"),
        js=(ASSETS / "sphere.js").read_text(encoding="utf-8"),
    )


@kept(20)
def _turns(rows: list[Row]) -> dict[str, sphere.Turn]:
    """By product, what was measured of its spheres."""
    return {
        row.product: sphere.Turn.of_result(row.measured, GATES[row.problem["dtype"]])
        for row in rows
        if row.measure == "sphere" and row.status == "ok"
    }
