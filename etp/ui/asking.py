"""What a visitor may ask of the runner: to start, cancel, resume and extend a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from etp.results.store import StoreError
from etp.ui import jobs
from etp.ui.plans import PagePlan
from etp.ui.session import choose, settings
from etp.ui.settings import Settings
from etp.ui.visitors import label

BY_ITSELF_S = 30.0
"""What takes longer waits until it is asked for."""
LOOKING_ONLY = (
    "this server lets visitors look, not run: open /enter with the pass phrase, log in, or start "
    "the dashboard on your own machine"
)


def start(plan: PagePlan, chosen: Settings) -> None:
    """Run what is chosen and show it (a callback)."""
    who = jobs.visitor()
    if not who.may_run:
        st.session_state["refused"] = LOOKING_ONLY
        return
    try:
        job_id = jobs.runner().submit(
            plan.title, plan.checked(chosen), owner=who.id, estimate_s=plan.seconds(chosen)
        )
    except (ValueError, StoreError) as error:
        st.session_state["refused"] = str(error)
        return
    st.session_state.pop("refused", None)
    choose(**{plan.field: job_id})


def start_by_itself(plan: PagePlan, chosen: Settings) -> bool:
    """Run what needs no timing without being asked, once a question; return whether it began."""
    if not jobs.visitor().may_run:
        return False
    try:
        cases, seconds = plan.checked(chosen), plan.seconds(chosen)
    except (ValueError, StoreError):
        return False
    begun: set[str] = st.session_state.setdefault("begun_by_itself", set())
    question = json.dumps([plan.title, cases])
    if seconds > BY_ITSELF_S or question in begun:
        return False
    begun.add(question)
    start(plan, chosen)
    return "refused" not in st.session_state


def stop(field: str) -> None:
    """Cancel the job that is shown (a callback)."""
    job_id = getattr(settings(), field)
    job = None if job_id is None else jobs.store().job(job_id)
    if job is not None and jobs.visitor().may_change(job.owner):
        jobs.runner().cancel(job.id)
    elif job is not None:
        st.session_state["refused"] = f"this run belongs to {label(job.owner)}, who can cancel it"


def resume(job_id: str) -> None:
    """Run what a job did not reach (a callback)."""
    _change(job_id, jobs.runner().resume)


def extend(job_id: str, case: Mapping[str, Any]) -> None:
    """Run one more case of a job that has ended (a callback)."""
    _change(job_id, lambda job_id: jobs.runner().extend(job_id, [case]))


def _change(job_id: str, change: Callable[[str], None]) -> None:
    """Change a job of the visitor's own, or say why that cannot be done."""
    job = jobs.store().job(job_id)
    if job is None or not jobs.visitor().may_change(job.owner):
        return
    try:
        change(job_id)
    except (ValueError, StoreError) as error:
        st.session_state["refused"] = str(error)
