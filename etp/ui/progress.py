"""The panel that watches a run, and what is said of one that has ended without results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from etp import charts
from etp.analysis.countdown import Countdown, Told
from etp.analysis.findings import Finding
from etp.charts.theme import Mode
from etp.results.rows import Row
from etp.results.store import Job
from etp.run.lane import answer
from etp.run.runner import Status
from etp.text import count_text, power_text, time_text
from etp.ui import asking, data, effort, jobs, show
from etp.ui.frame import mode
from etp.ui.kept import kept
from etp.ui.plain import plain

POLL_S = 1.0
NAMED = 6
"""Products whose reasons are given where nothing was measured."""


@dataclass
class RunState:
    """What stands above the results.

    Attributes:
        stale: Whether results below are not those of the run in the address.
        running: Whether that run waits or goes on.
    """

    stale: bool
    running: bool


@contextmanager
def place(job_id: str | None, *, measured: bool) -> Iterator[RunState]:
    """One place above all results, for the panel and whatever else comes and goes.

    What comes and goes inside leaves everything below where it is.

    Args:
        job_id: Of the run in the address; None without one.
        measured: Whether results of that run are shown.
    """
    with st.container():
        panel(job_id)
        finding = without_results(job_id, measured=measured)
        running = active(job_id)
        yield RunState(finding is not None or (running and not measured), running)
        if finding is not None:
            show.verdict(finding)
            st.caption("What follows is not what was asked here, but reference results.")


def panel(job_id: str | None) -> None:
    """Progress of a run, for as long as it goes on; nothing without one."""
    if job_id is None:
        return
    status = jobs.status(job_id)
    if status is None:
        st.warning(
            plain(
                f"address: there is no job {job_id!r} in this store; reference results are shown."
            ),
            icon=":material/link_off:",
        )
    elif status.active:
        _watch(job_id, status.done)
    elif status.state in ("failed", "interrupted"):
        st.error(f"This run ended early: {plain(status.reason)}.", icon=":material/report:")
        _resume(job_id, status)
    elif status.state == "cancelled":
        why = f": {status.reason}" if status.reason else ""
        st.info(
            plain(
                f"Cancelled after {status.done} of {status.total} cases{why}; what was measured is "
                "kept."
            ),
            icon=":material/stop_circle:",
        )
        _resume(job_id, status)


def _resume(job_id: str, status: Status) -> None:
    """The button that goes on with what a run did not reach."""
    if status.resumable and jobs.visitor().may_change(status.owner):
        st.button("Resume", on_click=asking.resume, args=(job_id,), key=f"resume_{job_id}")


def active(job_id: str | None) -> bool:
    """Whether a run waits or goes on."""
    status = jobs.status(job_id)
    return status is not None and status.active


def without_results(job_id: str | None, *, measured: bool) -> Finding | None:
    """What to say in the place of the verdict where a run has ended and measured nothing.

    Args:
        job_id: Of the run; None without one.
        measured: Whether it has results that are shown.
    """
    job = None if job_id is None or measured else jobs.store().job(job_id)
    if job is None or job.active or not job.cases:
        return None
    words = "was cancelled before anything was measured" if job.state == "cancelled" else (
        "measured nothing"
    )  # fmt: skip
    reasons = list(dict.fromkeys(_reasons(jobs.store().rows(job=job.id))))
    if job.reason:
        reasons.insert(0, job.reason)
    more = f" And {len(reasons) - NAMED} more." if len(reasons) > NAMED else ""
    said = " ".join(f"{reason.rstrip('.')}." for reason in reasons[:NAMED])
    return Finding(f"This run {words}.", f"{said}{more}".strip(), "")


def _reasons(rows: Sequence[Row]) -> list[str]:
    return [
        f"{row.product}: {row.reason}"
        for row in rows
        if row.status != "ok" and row.reason and not row.reason.startswith("cancelled before")
    ]


@st.fragment(run_every=POLL_S)
def _watch(job_id: str, seen: int) -> None:
    status, job = jobs.status(job_id), jobs.store().job(job_id)
    if status is None or job is None or not status.active or status.done != seen:
        st.rerun()
    told = _countdown(job_id, job.total, job.started or 0.0).tell(
        job.ended, _placed(job), status.seconds
    )
    with st.container(border=True):
        left, right = st.columns([3, 2], gap="medium")
        with left:
            st.markdown(f"**{plain(_headline(status, told))}**")
            st.progress(told.share if status.state == "running" else 0.0)
            st.caption(plain(_now(status)))
            st.caption(
                "You can close this page: the address holds the job, and what is measured stays."
            )
        with right:
            place = (status.now or {}).get("index", -1) if status.state == "running" else -1
            drawn = _drawn(job_id, job.ended, place, _live(job), mode())
            st.vega_lite_chart(drawn, theme=None, key="progress_grid")


@kept(50)
def _countdown(job_id: str, total: int, started: float) -> Countdown:
    """The one countdown of a run, whoever looks."""
    job = jobs.store().job(job_id)
    assert job is not None
    seconds, checks = [], []
    for case in job.cases:
        estimate = effort.of_case(case, _known_round_s(job_id, case))
        seconds.append((job.estimate_s or 10.0) / total if estimate is None else estimate.seconds)
        timed = 0.0 if estimate is None else estimate.rounds * estimate.round_s / estimate.seconds
        checks.append(1 - min(timed, 1.0))
    return Countdown(seconds, checks)


def _known_round_s(job_id: str, case: Mapping[str, Any]) -> float | None:
    """Seconds of a round that a case adds to: as told by the button that asked for it."""
    if not case.get("group"):
        return None
    before = data.compared(data.job_rows(job_id))
    known = [c.judgement.round_s for c in before if c.group == case["group"]]
    return known[0] if known and known[0] > 0 else None


def _placed(job: Job) -> dict[str, Any] | None:
    """The last event, with the place of its product among those of its case."""
    now, index = job.now, (job.now or {}).get("index", -1)
    if now is None or not 0 <= index < job.total:
        return now
    products = job.cases[index]["products"]
    if now.get("product") not in products:
        return now
    return now | {"place": (products.index(now["product"]), len(products))}


def _headline(status: Status, told: Told) -> str:
    if status.held_up is not None:
        return f"Waiting: {status.held_up}"
    if status.state == "queued":
        ahead = f", {status.ahead} ahead" if status.ahead else ""
        start = (
            "" if status.start_s is None else f", starts in about {time_text(status.start_s, 2)}"
        )
        return f"Waiting for the device{ahead}{start}"
    left = "longer than told" if told.left_s is None else (
        f"about {time_text(max(told.left_s, 1), 2)} left"
    )  # fmt: skip
    return f"Measuring: case {min(status.done + 1, status.total)} of {status.total}, {left}"


def _now(status: Status) -> str:
    now = status.now or {}
    if status.held_up is not None:
        return "It goes on by itself as soon as that is over."
    if status.state == "queued":
        return f"Place {status.ahead + 1} in the queue; a device runs one case at a time."
    if "round" in now:
        return f"round {now['round']} of {now['rounds']}, every product once in each"
    if "step" in now:
        return f"{now['product']}: step {now['step']} of {now['steps']}, loss {now['loss']:.3g}"
    if "product" in now:
        return f"{now['stage']} {now['product']}"
    return "starting the worker process"


def _live(job: Job) -> tuple[str, str]:
    """What happens now: the product it happens to, "" for all of the case, and in a word."""
    now = job.now or {}
    if "round" in now:
        return "", "timing"
    return str(now.get("product", "")), str(now.get("stage", "…")).split(" ")[0]


@kept(30)
def _drawn(
    job_id: str, ended: tuple[int, ...], running: int, live: tuple[str, str], mode: Mode
) -> dict[str, Any]:
    """Chart of a run's cases, drawn when something else begins: a measurement runs beside this."""
    job = jobs.store().job(job_id)
    assert job is not None
    rows = jobs.store().rows(job=job.id)
    return show.finished(charts.progress_grid, grid(job, rows, running, live), mode)


def grid(job: Job, rows: Sequence[Row], running: int, live: tuple[str, str]) -> pd.DataFrame:
    """Cells of products by case: done, running, queued.

    Args:
        job: The run.
        rows: What it has so far.
        running: Place of the case that runs, -1 for none.
        live: The product that something happens to, "" for all of that case, and what.
    """
    heads = _heads(job.cases)
    cells = []
    for number, case in enumerate(job.cases):
        measure = _measure(case)
        by_product = {row.product: row for row in rows if _is_of(row, case, measure)}
        for product in case["products"]:
            row, state, text = by_product.get(product), "queued", ""
            if row is not None and row.status == "ok":
                state, text = "done", _outcome(row)
            elif row is not None:
                state, text = "invalid", (row.badges or [row.status])[0]
            elif number == running and live[0] in ("", product):
                state, text = "running", live[1]
            elif number in job.ended:
                state, text = "done", ""
            cells.append(
                {"product": product, "column": heads[number], "state": state, "text": text}
            )
    return pd.DataFrame(cells)


_MEASURES = {"grids": "grid", "spheres": "sphere"}


def _measure(case: Mapping[str, Any]) -> str:
    """Measure whose row settles a product of a case."""
    if case.get("timed", True):
        return _MEASURES.get(str(case.get("kind")), answer(case))
    return str(case["questions"][0])


def _is_of(row: Row, case: Mapping[str, Any], measure: str) -> bool:
    """Whether a row is the answer of a case about a product; that of its twin is not."""
    if row.problem != case["problem"] or row.role != "product":
        return False
    if row.status == "ok":
        return row.measure == measure and row.measured.get("look", 0) == case.get("look", 0)
    return row.measure in (measure, "runtime")


def _outcome(row: Row) -> str:
    """What came out, in a cell."""
    measured = row.measured
    if row.measure == "tetris":
        return f"{8 * measured['accuracy']:.3g} of 8"
    if row.measure == "potential":
        return f"{measured['force_mev_per_a']['test']:.0f} meV/Å"
    if row.measure == "step-time":
        return time_text(measured["median_s"])
    if row.measure == "runtime":
        return time_text(row.typical_s)
    if row.measure == "equivariance":
        return power_text(measured["max"])
    return count_text(measured["rank"]) if row.measure == "expressivity" else ""


_FIELDS = ("setting", "lmax", "batch", "channels", "dtype", "device", "seed")


def _heads(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Heads of the columns: what tells each case from the others, and never two alike."""
    alike = [case for case in cases if "kind" not in case] or list(cases)
    told = [f for f in _FIELDS if len({case["problem"][f] for case in alike}) > 1] or ["lmax"]
    heads: list[str] = []
    for case in cases:
        head = " ".join(_word(field, case["problem"][field]) for field in told)
        if "kind" in case and case not in alike:
            head = str(case["kind"])
        if case.get("look", 0):
            head += ", more rounds"
        again = sum(other == head or other.startswith(f"{head}, ") for other in heads)
        heads.append(f"{head}, {again + 1}" if again else head)
    return heads


def _word(field: str, value: object) -> str:
    if field in ("batch", "channels"):
        return count_text(value)  # type: ignore[arg-type]
    return f"{field} {value}" if field in ("lmax", "seed") else str(value)
