"""Parts of the equivariance page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from etp import charts
from etp.analysis.equivariance import Drift
from etp.charts import sphere
from etp.problem import Problem
from etp.results.rows import Row
from etp.ui import show
from etp.ui.frame import mode, on_phone
from etp.ui.session import bound, settings, write_address

ROWS, COLUMNS = 33, 65


def distributions(found: Drift) -> None:
    """Every group element in every dtype, beside what a too small grid does."""
    left, right = st.columns([6, 4], gap="medium")
    with left:
        show.head(
            "Every rotation, every dtype",
            "one tick per group element; dashed: gates; red: above its gate",
        )
        elements = found.elements()
        if elements.empty:
            st.caption("Nothing was checked yet.")
        else:
            picture = charts.equivariance_strip(elements, mode(), found.gates(), settings().pick)
            show.chart(picture, "strip")
    with right:
        show.head(
            "What a too small grid does",
            f"gaunt-grid at lmax {found.lmax}, float64: exact or wrong, nothing between",
        )
        for side, label in (
            ("columns", "grid columns (longitude)"),
            ("rows", "grid rows (latitude)"),
        ):
            table, smallest = found.cliff(side)
            if table.empty:
                st.caption("Grid sizes were not tried here.")
                return
            show.chart(charts.cliff(table, mode(), label, smallest), f"cliff_{side}")


def by_degree(found: Drift) -> None:
    """Worst error of each output degree, for a dtype."""
    dtypes = list(found.gates())
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
    table = found.degrees(str(dtype))
    if table.empty:
        st.caption("No errors to show: they are exactly zero.")
    else:
        show.chart(charts.per_degree(table, mode(), settings().pick), "per_degree")


def _there(wanted: str | None, names: Sequence[str]) -> str:
    return wanted if wanted is not None and wanted in names else names[0]


def refusals(found: Drift) -> None:
    """Products that could not be checked, each with its reason."""
    for product, row in found.refused.items():
        show.refusal(product, row["reason"], row["badges"])


@st.fragment
def rotate(rows: list[Row]) -> None:
    """The sphere view: one product at a time, a slider that runs in the browser."""
    found = {row.product: row for row in rows if row.measure == "sphere"}
    good = {product: row for product, row in found.items() if row.status == "ok"}
    if not good:
        return
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        with st.container(gap=None, width="content"):
            st.markdown("##### See it rotate")
            st.caption("equivariant means: the two spheres in the middle agree at every angle")
        names = list(good)
        usual = "gaunt-grid" if "gaunt-grid" in names else names[0]
        product = st.segmented_control(
            "Product shown", names, required=True, label_visibility="collapsed",
            **bound("sphere", "default", shown=_there(settings().sphere, [usual, *names])),
        )  # fmt: skip
    write_address()
    row = good[str(product)]
    turn = _turn(row.id, row)
    figure = sphere.figure(turn, mode(), narrow=on_phone())
    st.plotly_chart(
        figure,
        theme=None,
        key=f"sphere_{product}",
        config={"displaylogo": False, "modeBarButtonsToRemove": ["resetCameraLastSave3d"]},
        alt=sphere.finding(turn, str(product)),
    )
    problem = Problem.from_dict(row.problem)
    st.markdown(sphere.finding(turn, str(product)))
    st.caption(
        f"{problem.dtype}, {problem.irreps1} ⊗ {problem.irreps2}; output copies of a degree are "
        "added up. Drag a sphere to turn the view."
    )


@st.cache_resource(show_spinner=False, max_entries=40)
def _turn(row_id: str, _row: Row) -> sphere.Turn:
    """Coefficients of a row as signals on a grid that closes on itself."""
    # Only this view needs torch in the server: a table of spherical harmonics.
    import torch

    from etp.maths.sphere import Grid, grid_points, spherical_harmonics

    beta = torch.linspace(0, torch.pi, ROWS, dtype=torch.float64)
    alpha = torch.linspace(0, 2 * torch.pi, COLUMNS, dtype=torch.float64)
    points = grid_points(Grid(beta, alpha, torch.ones_like(beta)))
    result = _row["result"]

    def signal(key: str) -> np.ndarray:
        coefficients = torch.tensor(result[key], dtype=torch.float64)
        lmax = int(coefficients.shape[1] ** 0.5) - 1
        table = spherical_harmonics(lmax, points)
        return torch.einsum("kc,rsc->krs", coefficients, table).numpy()

    gates = {"float64": 1e-12, "float32": 5e-6, "bfloat16": 3e-2}
    return sphere.Turn(
        points.numpy(),
        result["axis"],
        result["angles"],
        signal("first"),
        signal("multiplied_last"),
        signal("multiplied_first"),
        gates[_row["problem"]["dtype"]],
    )
