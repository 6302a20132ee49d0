"""The one runner and store of this server, and the panel that watches a job."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from etp import charts
from etp.analysis.text import count_text, time_text
from etp.charts.theme import Mode
from etp.results.rows import Row
from etp.results.store import Job, Store, StoreError, default_path
from etp.run.catalog import Catalog
from etp.run.config import limits
from etp.run.lane import answer
from etp.run.runner import Runner, Status
from etp.ui.frame import mode
from etp.ui.plain import plain
from etp.ui.session import choose, settings
from etp.ui.settings import Settings
from etp.ui.visitors import ROLE, VISITOR, Visitor, access, label, role_of, unsigned

if TYPE_CHECKING:
    from etp.ui.plans import Plan

POLL_S = 1.0
LOOKING_ONLY = (
    "this server lets visitors look, not run: open /enter with the pass phrase, log in, or start "
    "the dashboard on your own machine"
)


# Kept by Python, not in a cache of Streamlit: any visitor can clear those, and jobs with them.


@cache
def store() -> Store:
    """Results and jobs."""
    return Store(default_path())


@cache
def runner() -> Runner:
    """The runner of this server; its workers start in the background."""
    made = Runner(store(), limits=limits())
    made.warm()
    return made


def close() -> None:
    """End the runner, if there is one."""
    if runner.cache_info().currsize:
        runner().close()
        runner.cache_clear()


@cache
def catalog() -> Catalog:
    """Products that can be chosen."""
    return Catalog()


def status(job_id: str | None) -> Status | None:
    """Where a job stands; None without one."""
    return None if job_id is None else runner().status(job_id)


def start(plan: Plan, chosen: Settings) -> None:
    """Run what is chosen and show it (a callback)."""
    who = visitor()
    if not who.may_run:
        st.session_state["refused"] = LOOKING_ONLY
        return
    try:
        job_id = runner().submit(
            plan.title, plan.checked(chosen), owner=who.id, estimate_s=plan.seconds(chosen)
        )
    except (ValueError, StoreError) as error:
        st.session_state["refused"] = str(error)
        return
    st.session_state.pop("refused", None)
    choose(**{plan.field: job_id})


def stop(field: str) -> None:
    """Cancel the job that is shown (a callback)."""
    job_id = getattr(settings(), field)
    job = None if job_id is None else store().job(job_id)
    if job is not None and visitor().may_change(job.owner):
        runner().cancel(job.id)
    elif job is not None:
        st.session_state["refused"] = f"this run belongs to {label(job.owner)}, who can cancel it"


def resume(job_id: str) -> None:
    """Run what a job did not reach (a callback)."""
    job = store().job(job_id)
    if job is not None and visitor().may_change(job.owner):
        try:
            runner().resume(job_id)
        except (ValueError, StoreError) as error:
            st.session_state["refused"] = str(error)


def visitor() -> Visitor:
    """Who is looking at this page."""
    cookies = st.context.cookies
    chosen = access()
    address = st.get_option("server.address")
    loopback = address in ("localhost", "127.0.0.1", "::1")
    known = chosen.mode == "oidc" and st.user.is_logged_in
    email = str(st.user["email"]) if known and st.user.get("email") else None
    role = role_of(chosen, loopback=loopback, cookie=cookies.get(ROLE), email=email)
    # Alone on the loopback interface everything is hers, whichever browser she uses.
    own = "" if chosen.mode is None else email or unsigned(cookies.get(VISITOR)) or ""
    return Visitor(own, email or (label(own) if own else "you"), role)


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
        st.error(f"This run ended early: {plain(found.reason)}.", icon=":material/report:")
        if found.resumable and visitor().may_change(found.owner):
            st.button("Resume", on_click=resume, args=(job_id,), key=f"resume_{job_id}")
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
            st.markdown(f"**{plain(_headline(found))}**")
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
    if found.held_up is not None:
        return f"Waiting: {found.held_up}"
    if found.state == "queued":
        ahead = f", {found.ahead} ahead" if found.ahead else ""
        start = "" if found.start_s is None else f", starts in about {time_text(found.start_s, 2)}"
        return f"Waiting for the device{ahead}{start}"
    left = ""
    if found.done:
        seconds = found.seconds / found.done * (found.total - found.done)
        left = f", about {time_text(max(seconds, 1), 2)} left"
    return f"Measuring: case {found.done + 1} of {found.total}{left}"


def _share(found: Status) -> float:
    now = found.now or {}
    inside = 0.1
    for part, whole in (("round", "rounds"), ("step", "steps")):
        inside = now[part] / now[whole] if part in now else inside
    return min((found.done + inside) / found.total, 1.0)


def _now(found: Status) -> str:
    now = found.now or {}
    if "round" in now:
        return f"round {now['round']} of {now['rounds']}, every product once in each"
    if "step" in now:
        return f"{now['product']}: step {now['step']} of {now['steps']}, loss {now['loss']:.3g}"
    if "product" in now:
        return f"{now['stage']} {now['product']}"
    return "starting the worker process"


def _grid(job: Job, running: int) -> pd.DataFrame:
    """Cells of products by case: done, running, queued."""
    several = [
        field
        for field in ("lmax", "batch", "channels", "device", "seed")
        if len({case["problem"][field] for case in job.cases}) > 1
    ] or ["lmax"]
    times = {
        (row.product, _label(row.problem, several)): row
        for measure in {answer(case) for case in job.cases}
        for row in store().rows(job=job.id, measure=measure)
    }
    cells = []
    for number, case in enumerate(job.cases):
        for product in case["products"]:
            label = _label(case["problem"], several)
            row = times.get((product, label))
            state, text = "queued", ""
            if row is not None and row.status == "ok":
                state, text = "done", _outcome(row)
            elif row is not None:
                state, text = "invalid", (row.badges or [row.status])[0]
            elif number == running:
                state, text = "running", "…"
            cells.append({"product": product, "column": label, "state": state, "text": text})
    return pd.DataFrame(cells)


def _outcome(row: Row) -> str:
    """What came out, in a cell."""
    if row.measure == "tetris":
        return f"{8 * row.measured['accuracy']:.3g} of 8"
    return time_text(row.typical_s if row.measure == "runtime" else row.measured["median_s"])


def _label(problem: dict[str, Any], several: Sequence[str]) -> str:
    """Head of a column: what tells its case from the others."""
    return " ".join(
        count_text(problem[field]) if field in ("batch", "channels") else str(problem[field])
        for field in several
    )
