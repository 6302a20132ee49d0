"""The one runner and store of this server, and the panel that watches a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from etp import charts
from etp.analysis.text import count_text, time_text
from etp.charts.theme import Mode
from etp.results.store import Job, Store, default_path
from etp.run.catalog import Catalog
from etp.run.runner import Runner, Status
from etp.ui.frame import mode
from etp.ui.plans import Plan
from etp.ui.session import choose, settings
from etp.ui.settings import Settings

POLL_S = 1.0


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """Results and jobs."""
    return Store(default_path())


@st.cache_resource(show_spinner=False, on_release=lambda runner: runner.close())
def runner() -> Runner:
    """The runner of this server; its workers start in the background."""
    made = Runner(store())
    made.warm()
    return made


@st.cache_resource(show_spinner=False)
def catalog() -> Catalog:
    """Products that can be chosen."""
    return Catalog()


def status(job_id: str | None) -> Status | None:
    """Where a job stands; None without one."""
    return None if job_id is None else runner().status(job_id)


def start(plan: Plan, chosen: Settings) -> None:
    """Run what is chosen and show it (a callback)."""
    try:
        job_id = runner().submit(plan.title, plan.cases(chosen))
    except ValueError as error:
        st.session_state["refused"] = str(error)
        return
    st.session_state.pop("refused", None)
    choose(**{plan.field: job_id})


def stop(field: str) -> None:
    """Cancel the job that is shown (a callback)."""
    if (job_id := getattr(settings(), field)) is not None:
        runner().cancel(job_id)


def panel(job_id: str | None) -> None:
    """Progress of a job, for as long as it runs; nothing without one."""
    if job_id is None:
        return
    found = status(job_id)
    if found is None:
        st.warning(
            f"address: there is no job {job_id!r} in this store; reference results are shown.",
            icon=":material/link_off:",
        )
    elif found.active:
        _watch(job_id, found.done)
    elif found.state in ("failed", "interrupted"):
        st.error(f"This run ended early: {found.reason}.", icon=":material/report:")
    elif found.state == "cancelled":
        st.info(
            f"Cancelled after {found.done} of {found.total} cases; what was measured is kept.",
            icon=":material/stop_circle:",
        )


@st.fragment(run_every=POLL_S)
def _watch(job_id: str, seen: int) -> None:
    found = status(job_id)
    if found is None or not found.active or found.done != seen:
        st.rerun()
    with st.container(border=True):
        left, right = st.columns([3, 2], gap="medium")
        with left:
            st.markdown(f"**{_headline(found)}**")
            st.progress(_share(found))
            st.caption(_now(found))
            st.caption(
                "You can close this page: the address holds the job, and what is measured stays."
            )
        with right:
            place = (found.now or {}).get("index", -1)
            st.vega_lite_chart(_drawn(job_id, found.done, place, mode()), theme=None)


@st.cache_data(show_spinner=False, max_entries=100)
def _drawn(job_id: str, done: int, running: int, mode: Mode) -> dict[str, Any]:
    """Chart of a job's cases, drawn when one begins or ends: a measurement runs beside this."""
    job = store().job(job_id)
    assert job is not None
    drawn: dict[str, Any] = charts.progress_grid(_grid(job, running), mode).to_dict()
    return drawn


def _headline(found: Status) -> str:
    if found.state == "queued":
        ahead = f", {found.ahead} ahead" if found.ahead else ""
        return f"Waiting for the device{ahead}"
    left = ""
    if found.done:
        seconds = found.seconds / found.done * (found.total - found.done)
        left = f", about {time_text(max(seconds, 1), 2)} left"
    return f"Measuring: case {found.done + 1} of {found.total}{left}"


def _share(found: Status) -> float:
    now = found.now or {}
    inside = now["round"] / now["rounds"] if "round" in now else 0.1
    return min((found.done + inside) / found.total, 1.0)


def _now(found: Status) -> str:
    now = found.now or {}
    if "round" in now:
        return f"round {now['round']} of {now['rounds']}, every product once in each"
    if "product" in now:
        return f"{now['stage']} {now['product']}"
    return "starting the worker process"


def _grid(job: Job, running: int) -> pd.DataFrame:
    """Cells of products by case: done, running, queued."""
    several = [
        field
        for field in ("lmax", "batch", "channels", "device")
        if len({case["problem"][field] for case in job.cases}) > 1
    ] or ["lmax"]
    times = {
        (row["product"], _label(row["problem"], several)): row
        for row in store().rows(job=job.id, measure="runtime")
    }
    cells = []
    for number, case in enumerate(job.cases):
        for product in case["products"]:
            label = _label(case["problem"], several)
            row = times.get((product, label))
            state, text = "queued", ""
            if row is not None and row["status"] == "ok":
                state, text = "done", time_text(row["result"]["median_s"])
            elif row is not None:
                state, text = "invalid", (row["badges"] or [row["status"]])[0]
            elif number == running:
                state, text = "running", "…"
            cells.append({"product": product, "column": label, "state": state, "text": text})
    return pd.DataFrame(cells)


def _label(problem: dict[str, Any], several: Sequence[str]) -> str:
    """Head of a column: what tells its case from the others."""
    return " ".join(
        count_text(problem[field]) if field in ("batch", "channels") else str(problem[field])
        for field in several
    )
