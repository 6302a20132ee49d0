"""Parts of the results page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import pandas as pd
import streamlit as st

from etp import charts
from etp.analysis.findings import Finding
from etp.analysis.growth import swept_axis
from etp.analysis.machines import (
    NOT_DECIDED,
    Run,
    beside_words,
    differences,
    matching,
    name_of,
    side_by_side,
    usual_other,
)
from etp.results import formats, imports
from etp.results.reference import reference_rows
from etp.results.rows import STATUSES, Row, RowError, jsonl
from etp.results.store import StoreError
from etp.run.config import LimitError
from etp.text import count_text, ratio_text, time_text
from etp.ui import asking, jobs, show
from etp.ui.frame import mode
from etp.ui.opened import address
from etp.ui.plain import plain
from etp.ui.plans import SCALING
from etp.ui.removal import job_title
from etp.ui.session import bound, settings
from etp.ui.visitors import base_path

REFERENCE = "reference results"
SHOWN_ROWS = 500
SHOWN_ERRORS = 8


def controls(rows: list[Row]) -> list[Row]:
    """Filter, statuses, import and export; return the rows that are left."""
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        text = st.text_input(
            "Filter", placeholder="Filter: product, machine, setting …", width=300,
            label_visibility="collapsed", **bound("filter"),
        )  # fmt: skip
        wanted = st.pills(
            "Status", STATUSES, selection_mode="multi", label_visibility="collapsed",
            **bound("statuses", "default"),
        )  # fmt: skip
        with st.popover("Import", icon=":material/upload:", key="import"):
            _import()
        left = [r for r in rows if r.status in wanted and matching(r, text or "")]
        st.download_button(
            f"Export {count_text(len(left))} rows",
            data=lambda: _exported([row.id for row in left]),
            file_name="etp.jsonl",
            mime="application/jsonl",
            icon=":material/download:",
            on_click="ignore",
            help="JSON Lines with manifests and all samples",
        )
    for message in st.session_state.pop("imported", []):
        st.success(plain(message), icon=":material/check:")
    if refused := st.session_state.pop("not_imported", []):
        listed = [plain(message) for message in refused[:SHOWN_ERRORS]]
        if len(refused) > SHOWN_ERRORS:
            listed.append(f"and {count_text(len(refused) - SHOWN_ERRORS)} more")
        lines = listed if len(listed) == 1 else ["Not imported:\n", *(f"- {t}" for t in listed)]
        st.error("\n".join(lines), icon=":material/error:")
    return left


def _exported(ids: list[str]) -> bytes:
    wanted = set(ids)
    rows = [row for row in jobs.store().rows(samples=True) if row.id in wanted]
    return jsonl(rows).encode()


def _import() -> None:
    st.caption(
        "JSON Lines of etp, the CSV files published with the paper, pytest-benchmark JSON, or the "
        "files of an OpenEquivariance result folder together"
    )
    st.file_uploader(
        "Files", accept_multiple_files=True, key="uploads", label_visibility="collapsed"
    )
    st.button("Add to the store", on_click=_take_uploads, type="primary")


def _take_uploads() -> None:
    """Store what is good of the files chosen, and say what is not (a callback)."""
    files = st.session_state.get("uploads") or []
    if not files:
        st.session_state["not_imported"] = ["Choose a file first."]
        return
    if not jobs.visitor().may_run:
        st.session_state["not_imported"] = [f"Not imported: {asking.LOOKING_ONLY}"]
        return
    try:
        for file in files:
            jobs.runner().limits.check_upload(file.name, file.size)
        read = formats.gather_files({file.name: file.getvalue() for file in files})
        title, more = read.files[0], len(read.files) - 1
        title += f" and {more} more" if more else ""
        added = jobs.store().add_imports(imports.adopted(read.rows, title))
    except (LimitError, formats.FormatError, RowError, StoreError) as error:
        st.session_state["not_imported"] = [f"{error}. Nothing was added."]
        return
    st.session_state["not_imported"] = [str(error) for error in read.refused]
    known = len(read.rows) - added
    note = f"; {count_text(known)} were there already" if known else ""
    st.session_state["imported"] = [f"{count_text(added)} rows added{note}."]


def finding(runs: list[Run]) -> Finding:
    """How much is stored, and what of it is not what it claims."""
    wrong = [row for run in runs for row in run.wrong]
    if not runs:
        return Finding(
            "Nothing is stored yet.",
            "Run a comparison, or import results: what you measure appears here.",
            "",
        )
    noun = "run is" if len(runs) == 1 else "runs are"
    heading = f"{len(runs)} {noun} stored."
    if wrong:
        rows = "row is not what it claims" if len(wrong) == 1 else "rows are not what they claim"
        heading += f" {len(wrong)} {rows}, kept out of every ranking."
    empty = any({"empty output", "identical zero"} & set(row.badges) for row in wrong)
    meaning = (
        "SISO at odd lmax with natural outputs: odd times odd is even, so nothing of the requested "
        "parity is left. The time is the cost of doing nothing."
        if empty
        else "Every row keeps the machine, the versions and the samples behind it."
    )
    return Finding(heading, meaning, "")


def listing(runs: list[Run]) -> None:
    """Runs, newest first, with a way to open each."""
    if not runs:
        return
    st.markdown("##### Runs")
    base, begun = base_path(), {job.id: job.title for job in jobs.store().jobs()}
    there = [entry.name for entry in jobs.catalog().entries(wait_s=0.05)]
    lines = [
        {
            "open": base + address(begun.get(run.key, ""), run.key, run.rows, there)
            if run.stored
            else None,
            "growth": _growth(run, base, there),
            "run": run.title,
            "origin": "imported" if "imported" in run.environment else "measured here",
            "machine": run.machine,
            "software": f"torch {run.environment['torch']}" if "torch" in run.environment else "",
            "problem": run.problem,
            "rows": len(run.rows),
            "status": list(run.counts()),
            "date": str(run.environment.get("date") or run.rows[0]["created"])[:16],
        }
        for run in runs
    ]
    st.dataframe(
        pd.DataFrame(lines),
        hide_index=True,
        key="runs",
        placeholder="",
        column_config={
            "open": st.column_config.LinkColumn("open", display_text="Open", width="small"),
            "growth": st.column_config.LinkColumn("growth", display_text="Scaling", width="small"),
            "status": st.column_config.MultiselectColumn(
                "status", options=list(STATUSES), color=["green", "red", "orange", "gray"]
            ),
        },
        alt=f"{len(lines)} stored runs",
    )


def _growth(run: Run, base: str, there: Sequence[str]) -> str | None:
    """Where the growth of a run is shown, if something changes in it."""
    axis = swept_axis(run.timed)
    if axis is None:
        return None
    if not run.stored:
        return f"{base}/scaling?scaling={quote(run.key)}&axis={axis}"
    return base + address(SCALING.title, run.key, run.timed, there)


def doubtful(runs: list[Run]) -> None:
    """Rows that are never ranked, each with its reason."""
    invalid = [(run, row) for run in runs for row in run.invalid]
    if not invalid:
        return
    show.head(
        "Rows that are never ranked",
        "not what they claim, or not possible here: each with its reason",
    )
    lines = [
        {
            "run": run.title,
            "product": row.environment.get("implementation") or row.product,
            "problem": name_of(row.problem),
            "measure": row.measure,
            "badge": row.badges,
            "reason": row.reason,
        }
        for run, row in invalid[:SHOWN_ROWS]
    ]
    st.dataframe(
        pd.DataFrame(lines),
        hide_index=True,
        key="doubtful",
        column_config={
            "badge": st.column_config.MultiselectColumn(
                "badge",
                options=list(show.BADGES),
                color="red",
                width="medium",
            )
        },
        alt=f"{len(invalid)} invalid rows with their reasons",
    )


def rows_and_manifest(rows: list[Row]) -> None:
    """Every row, and the manifest of the one chosen."""
    with st.expander(f"All {count_text(len(rows))} rows", icon=":material/table_rows:"):
        newest = rows[::-1][:SHOWN_ROWS]
        lines = [
            {
                "product": row.product,
                "measure": row.measure,
                "problem": name_of(row.problem),
                "batch": row.problem["batch"],
                "dtype": row.problem["dtype"],
                "result": _result_text(row),
                "status": row.status,
                "reason": row.reason or "",
                "date": row.created[:16],
            }
            for row in newest
        ]
        event: Any = st.dataframe(
            pd.DataFrame(lines), hide_index=True, on_select="rerun", selection_mode="single-row",
            key="all_rows",
        )  # fmt: skip
        if len(rows) > SHOWN_ROWS:
            st.caption(f"The newest {SHOWN_ROWS}; export gives all of them.")
        chosen = event.selection.rows
        if chosen:
            st.caption("Manifest of the row chosen")
            st.dataframe(show.manifest(newest[chosen[0]]["environment"]), hide_index=True)
        else:
            st.caption("Choose a row to see its manifest.")


def _result_text(row: Row) -> str:
    result = row.result
    if result is None:
        return ""
    if row.measure == "runtime":
        return time_text(row.typical_s)
    for key in ("max", "rank", "count", "peak_bytes", "macs"):
        if key in result:
            return f"{key} {result[key]:.3g}"
    return ""


def machines(runs: list[Run]) -> None:
    """Two runs side by side: what differs first, then the ratios."""
    show.head("A and B side by side", "what differs first, then the ratio")
    timed = {run.key: run for run in _with_reference(runs) if run.timed}
    if len(timed) < 2:
        st.caption("Measure something, or import results of another machine, to compare with.")
        return
    with st.container(horizontal=True):
        b_first = next(iter(timed.values()))
        b = timed.get(str(settings().b), b_first)
        a = _choice("A", "a", timed, usual_other(list(timed.values()), b).key)
        b = _choice("B", "b", timed, b_first.key)
    with st.container(border=True):
        unlike = differences(a.environment, b.environment)
        # What only one of them says is no difference that is known.
        known = [line for line in unlike if "?" not in line[1:]]
        noun = "field differs" if len(known) == 1 else "fields differ"
        silent = len(unlike) - len(known)
        st.markdown(
            f"**{len(known)} {noun}.** "
            + " · ".join(
                f"{plain(name)} **{plain(left)} → {plain(right)}**"
                for name, left, right in known[:8]
            )
            + (f" {silent} more {'is' if silent == 1 else 'are'} said by one of them only."
               if silent else "")
        )  # fmt: skip
    beside = side_by_side(a.timed, b.timed)
    table = pd.DataFrame(beside)
    if table.empty:
        st.caption(
            "No product was timed on the same work in both: the same irreps, batch, number type "
            "and direction. Choose another run as A or B."
        )
        return
    bounded = table[(table["low"] > 0) & (table["high"] < float("inf"))]
    if not bounded.empty:
        show.chart(charts.machines, bounded, mode(), key="machines")
    shown = table[["product", "problem"]].assign(
        ratio=[ratio_text(line.ratio) for line in beside],
        word=[beside_words(line) for line in beside],
    )
    st.dataframe(
        shown,
        hide_index=True,
        height=min(220, 36 * (len(shown) + 1)),
        key="machine_table",
        column_config={
            "ratio": st.column_config.TextColumn("time of A / B"),
            "word": st.column_config.TextColumn("B is"),
        },
    )
    st.caption(f":gray[Unpaired: {NOT_DECIDED}. γ, paths and errors do not depend on the machine.]")


def _choice(label: str, field: str, timed: dict[str, Run], usual: str) -> Run:
    """One of the two runs compared."""
    keys = list(timed)
    wanted = getattr(settings(), field)
    now = wanted if wanted in timed else usual
    key = st.selectbox(
        label, keys, format_func=lambda key: timed[key].title,
        **bound(field, "index", keys, shown=now),
    )  # fmt: skip
    return timed[str(key)]


def _with_reference(runs: list[Run]) -> list[Run]:
    named: list[Run] = []
    seen: dict[str, int] = {}
    for run in [*runs, Run(REFERENCE, REFERENCE, list(reference_rows()))]:
        seen[run.title] = seen.get(run.title, 0) + 1
        title = run.title if seen[run.title] == 1 else f"{run.title} ({seen[run.title]})"
        named.append(Run(run.key, title, run.rows))
    return named


def stored() -> tuple[list[Row], dict[str, str]]:
    """All stored rows, and the title of each job."""
    return _stored(jobs.store().revision()), {job.id: job_title(job) for job in jobs.store().jobs()}


@st.cache_data(show_spinner=False, max_entries=3)
def _stored(revision: int) -> list[Row]:
    return jobs.store().rows()
