"""Runs and imports taken away and brought back, and rows that no page could show."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from etp.results.store import Job, StoreError
from etp.text import count_text, counted
from etp.ui import jobs
from etp.ui.plain import plain


def removal() -> None:
    """Take runs and imports away, and bring them back, for whoever may."""
    who, store = jobs.visitor(), jobs.store()
    gone = store.removed()
    taken = {job.id for job in gone}
    stored = [job for job in store.jobs() if job.id not in taken and not job.active][::-1]
    stored, gone = ([job for job in some if who.may_change(job.owner)] for some in (stored, gone))
    if not stored and not gone:
        return
    for message in st.session_state.pop("removal", []):
        st.success(plain(message), icon=":material/check:")
    with st.popover("Remove", icon=":material/delete:", key="remove"):
        _one_of("Run or import to remove", stored, "Remove", _remove)
        _one_of("Removed before", gone, "Bring back", _bring_back)
        st.caption("What is removed is shown nowhere and can be brought back here.")


def _one_of(label: str, some: list[Job], verb: str, work: Callable[[str], None]) -> None:
    """A choice among runs, and a button that does something with the one chosen."""
    if not some:
        return
    names = {job.id: job_title(job) for job in some}
    chosen = st.selectbox(label, list(names), format_func=names.__getitem__, key=f"which {verb}")
    st.button(verb, on_click=work, args=(chosen,), key=f"do {verb}")


def _remove(job_id: str) -> None:
    _changed(job_id, jobs.store().remove, "rows removed; they can be brought back under Remove")


def _bring_back(job_id: str) -> None:
    _changed(job_id, jobs.store().bring_back, "rows are back")


def _changed(job_id: str, work: Callable[[str], int], said: str) -> None:
    """Do it if the visitor may, whatever her browser sent, and say so (a callback)."""
    job = jobs.store().job(job_id)
    if job is None or not jobs.visitor().may_change(job.owner):
        st.session_state["not_imported"] = ["Only its owner and administrators may change a run."]
        return
    try:
        st.session_state["removal"] = [f"{job.title}: {count_text(work(job_id))} {said}."]
    except (ValueError, StoreError) as error:
        st.session_state["not_imported"] = [str(error)]


def set_aside() -> None:
    """Rows of earlier versions that no page could show, each by its id and with the reason."""
    refused = jobs.store().refused()
    if not refused:
        return
    with st.expander(f"{counted(len(refused), 'row')} set aside", icon=":material/report:"):
        st.dataframe(
            pd.DataFrame({"row": list(refused), "reason": list(refused.values())}),
            hide_index=True,
            key="set_aside",
        )


def job_title(job: Job) -> str:
    """A run as people tell it from others."""
    return f"{job.title} {pd.Timestamp(job.created, unit='s'):%d %b %H:%M}"
