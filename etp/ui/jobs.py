"""The one runner and store of this server, and what a visitor may ask of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import streamlit as st

from etp.results.store import Store, StoreError, default_path
from etp.run.catalog import Catalog
from etp.run.config import limits
from etp.run.runner import Runner, Status
from etp.ui.session import choose, settings
from etp.ui.settings import Settings
from etp.ui.visitors import ROLE, VISITOR, Visitor, access, label, role_of, unsigned

if TYPE_CHECKING:
    from etp.ui.plans import PagePlan

BY_ITSELF_S = 30.0
"""What takes longer waits until it is asked for."""
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


def start(plan: PagePlan, chosen: Settings) -> None:
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


def start_by_itself(plan: PagePlan, chosen: Settings) -> bool:
    """Run what needs no timing without being asked, once a question; return whether it began."""
    if not visitor().may_run:
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
    job = None if job_id is None else store().job(job_id)
    if job is not None and visitor().may_change(job.owner):
        runner().cancel(job.id)
    elif job is not None:
        st.session_state["refused"] = f"this run belongs to {label(job.owner)}, who can cancel it"


def resume(job_id: str) -> None:
    """Run what a job did not reach (a callback)."""
    _change(job_id, runner().resume)


def extend(job_id: str, case: Mapping[str, Any]) -> None:
    """Run one more case of a job that has ended (a callback)."""
    _change(job_id, lambda job_id: runner().extend(job_id, [case]))


def _change(job_id: str, change: Callable[[str], None]) -> None:
    """Change a job of the visitor's own, or say why that cannot be done."""
    job = store().job(job_id)
    if job is None or not visitor().may_change(job.owner):
        return
    try:
        change(job_id)
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
