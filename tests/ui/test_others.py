"""What other visitors do to a run that is not theirs, by the protocol that browsers speak: nothing.

The server, its worker and the visitors are real; only the drawing is left out.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.load import Visitor
from etp.results.store import Job, Store
from etp.ui.visitors import VISITOR
from tests.make import MIMO, run_of
from tests.ui.browsing import serving

QUESTION = {"lmax": "1:2", "batch": "100", "products": "cg-sparse,e3nn"}
PATIENCE_S = 120.0
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Served(NamedTuple):
    address: str
    store: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    """A server that tells its visitors apart."""
    store = tmp_path_factory.mktemp("store") / "etp.sqlite"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ETP_ACCESS", "open")
        with serving(store) as address:
            yield Served(address.removeprefix("http://"), store)


def cookie(served: Served) -> str:
    """What the server gives to a browser with its first page."""
    asked = urllib.request.Request(f"http://{served.address}/", headers={"accept": "text/html"})
    with urllib.request.urlopen(asked) as answer:
        jar: SimpleCookie = SimpleCookie(answer.headers["set-cookie"])
    return f"{VISITOR}={jar[VISITOR].value}"


@asynccontextmanager
async def two(served: Served) -> AsyncIterator[tuple[Visitor, Visitor, str]]:
    """Who begins a run, somebody else, and what the store calls the first."""
    mine = cookie(served)
    owner = await Visitor.enter(served.address, mine)
    other = await Visitor.enter(served.address, cookie(served))
    yield owner, other, mine.partition("=")[2].rpartition(".")[0]
    await owner.leave()
    await other.leave()


def reached(served: Served, job: str, when: Callable[[Job], bool]) -> Job:
    """The job, once it is so far."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        stored = Store(served.store).job(job)
        assert stored is not None
        if when(stored):
            return stored
        time.sleep(0.05)
    raise AssertionError(f"job {job} did not get there: {stored}")


async def started(served: Served, owner: Visitor) -> str:
    """A run that its owner has begun and that is being measured."""
    before = {job.id for job in Store(served.store).jobs()}
    await owner.look("", **QUESTION)
    await owner.look("", press="Run here", **QUESTION)
    (job,) = {job.id for job in Store(served.store).jobs()} - before
    reached(served, job, lambda job: job.now is not None)
    return job


def products(served: Served, job: str) -> list[tuple[int, str, str]]:
    """The timed products of a run."""
    return [
        (row.problem["lmax"], row.product, row.status)
        for row in Store(served.store).rows(job=job, measure="runtime")
        if row.role == "product"
    ]


@pytest.mark.fault(
    done="another visitor clears the server's caches while a job runs",
    lost=0,
    doubled=0,
    says="",
)
def test_caches_that_another_visitor_clears_hold_no_job(served):
    async def visits() -> str:
        async with two(served) as (owner, other, _):
            job = await started(served, owner)
            await other.look("")
            await other.clear_caches()
            assert (await other.look("")).errors == []
            reached(served, job, lambda job: not job.active)
            assert (await owner.look("", job=job)).errors == []
            return job

    job = asyncio.run(visits())
    stored = reached(served, job, lambda job: not job.active)
    assert (stored.state, stored.reason, stored.done) == ("done", None, 2)
    timed = products(served, job)
    assert sorted(timed) == sorted(
        (lmax, product, "ok") for lmax in (1, 2) for product in ("cg-sparse", "e3nn")
    )


@pytest.mark.fault(
    done="another visitor presses Cancel",
    lost=0,
    doubled=0,
    says="who can cancel it",
)
def test_only_who_began_a_run_cancels_it(served):
    async def visits() -> str:
        async with two(served) as (owner, other, _):
            job = await started(served, owner)
            await other.look("", job=job)
            refused = await other.look("", press="Cancel", job=job)
            assert any("who can cancel it" in alert for alert in refused.alerts)
            stored = Store(served.store).job(job)
            assert stored is not None
            assert (stored.state, stored.stop) == ("running", False)
            await owner.look("", press="Cancel", job=job)
            return job

    job = asyncio.run(visits())
    assert reached(served, job, lambda job: not job.active).state == "cancelled"
    timed = products(served, job)
    assert len(timed) == len(set(timed))


def test_only_who_began_a_run_asks_for_more_rounds(served):
    store, near = Store(served.store), {"cg-sparse": 1e-3, "matrix": 1.005e-3}
    case = {"problem": MIMO.as_dict(), "products": [*near]}
    store.add_rows([
        row.with_(job="near") for row in run_of(near, twin="cg-sparse", noise=0.05, group="near")
    ])  # fmt: skip

    async def visits() -> None:
        async with two(served) as (owner, other, name):
            store.add_job("near", "Compare", [case], owner=name)
            store.update_job("near", state="done", ended=[0], started=1.0, finished=2.0)
            await owner.look("", job="near")
            (more,) = [label for label in owner.buttons if label.startswith("Measure more")]
            await other.look("", job="near")
            assert more not in other.buttons
            other.buttons[more] = owner.buttons[more]
            await other.look("", press=more, job="near")
            assert not reached(served, "near", lambda job: True).active
            await owner.look("", press=more, job="near")

    asyncio.run(visits())
    done = reached(served, "near", lambda job: job.done == 2 and not job.active)
    assert done.state == "done"
    looks = [row.measured["look"] for row in store.rows(job="near", measure="runtime")]
    assert sorted(looks) == [0, 0, 0, 1, 1, 1]
