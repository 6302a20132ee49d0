"""The one runner and store of this server, and who is looking."""

from __future__ import annotations

from functools import cache

import streamlit as st

from etp.results.store import Store, default_path
from etp.run.catalog import Catalog
from etp.run.config import limits
from etp.run.runner import Runner, Status
from etp.ui.visitors import ROLE, VISITOR, Visitor, access, label, role_of, unsigned

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
