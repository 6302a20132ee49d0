"""Parts of the gallery page, and the button that puts a run there."""

from __future__ import annotations

import time

import streamlit as st

from etp.ui import jobs
from etp.ui.gallery import Published, every
from etp.ui.plain import plain
from etp.ui.visitors import base_path


def publish(job_id: str | None) -> None:
    """Under a run of one's own that has ended: put it into the gallery, or take it out."""
    job = None if job_id is None else jobs.store().job(job_id)
    if job is None or job.active or not jobs.visitor().may_change(job.owner):
        return
    if job.published is None:
        st.button(
            "Publish",
            icon=":material/public:",
            key="publish",
            help="Put this run into the gallery, under a short link with a picture for chats",
            on_click=_set,
            args=(job.id, time.time()),
        )
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"In the gallery, under `{base_path()}/r/{job.id}`")
        st.button("Take out", key="unpublish", on_click=_set, args=(job.id, None))


def _set(job_id: str, when: float | None) -> None:
    """Change whether a run is in the gallery (a callback)."""
    job = jobs.store().job(job_id)
    if job is not None and jobs.visitor().may_change(job.owner):
        jobs.store().update_job(job_id, published=when)


def gallery() -> None:
    """Published runs, newest first."""
    runs = every()
    st.markdown("### Published runs" if runs else "### Nothing is published yet")
    st.caption(
        "Runs that their owners keep for others to see. "
        + ("Open one, copy its link, or press" if runs else "Press")
        + " Publish under a run of your own."
    )
    for run in runs:
        _card(run)


def _card(run: Published) -> None:
    with st.container(border=True):
        st.markdown(f"**{plain(run.title)}**")
        if run.sentence:
            st.markdown(plain(run.sentence))
        with st.container(horizontal=True, vertical_alignment="center"):
            base, day = base_path(), time.strftime("%Y-%m-%d", time.gmtime(run.when))
            st.link_button("Open", f"{base}/{run.page}?{run.query}", icon=":material/open_in_new:")
            st.caption(f"{base}/r/{run.key} · {run.owner} · {day}")
