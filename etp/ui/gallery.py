"""Runs that their owners published: what a short link shows, and a picture of each."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from etp import report
from etp.analysis.comparison import Comparison
from etp.analysis.findings import finding
from etp.results.jobs import Job
from etp.ui import jobs, visitors
from etp.ui.opened import address

KEPT = 50


@dataclass(frozen=True)
class Published:
    """One run of the gallery.

    Attributes:
        key: Its short, stable address.
        page: Page that shows it, "" for the first.
        query: What opens it there.
        title: What was asked.
        sentence: What was found.
        owner: Label of who asked.
        when: Seconds since the epoch.
    """

    key: str
    page: str
    query: str
    title: str
    sentence: str
    owner: str
    when: float


def published(key: str) -> Published | None:
    """A published run; None if there is none under this key."""
    job = jobs.store().job(key)
    return None if job is None or job.published is None else _described(job)


def every() -> list[Published]:
    """The gallery, newest first."""
    return [_described(job) for job in jobs.store().published()]


def _described(job: Job) -> Published:
    rows = jobs.store().rows(job=job.id)
    page, _, query = address(job.title, job.id, rows).removeprefix("/").partition("?")
    shown = report.shown(rows)
    title = job.title if shown is None else f"{job.title}: {report.question(shown)}"
    sentence = "" if shown is None else finding(shown).heading
    owner = visitors.label(job.owner) if job.owner else "the host"
    return Published(job.id, page, query, title, sentence, owner, job.published or 0.0)


def _shown(key: str) -> Comparison | None:
    """The comparison that the page opens with."""
    return report.shown(jobs.store().rows(job=key))


_pictures: OrderedDict[str, bytes] = OrderedDict()
_lock = Lock()


def drawn(key: str) -> bytes | None:
    """The trade-off of a run as PNG, drawn once; None where nothing was timed."""
    with _lock:
        if key not in _pictures:
            shown = _shown(key)
            if shown is None:
                return None
            _pictures[key] = report.picture(shown)
            while len(_pictures) > KEPT:
                _pictures.popitem(last=False)
        return _pictures[key]
