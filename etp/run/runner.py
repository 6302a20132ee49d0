"""Jobs in worker processes: submit, watch, cancel.

Nothing is measured in the process that asks. Each device has one worker process and one queue, in
which owners take turns; cases run one after the other, so that no measurement disturbs another.
Their rows reach the store as they appear, whatever happens to the worker, the browser, the store
or the job.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from etp.problem import Problem
from etp.results.database import StoreError
from etp.results.jobs import Job, alive
from etp.results.store import Store
from etp.run.case.case import check_fits
from etp.run.cluster import Cluster, check_address
from etp.run.config import HOUR_S, Limits
from etp.run.devices import devices as find_devices
from etp.run.devices import label as device_label
from etp.run.events import event
from etp.run.lane import STOPPED, Lane, Shared, end_job
from etp.run.outbox import Outbox

TASK = "etp.run.case:run"
BEAT_S = 1.0
PRUNE_S = 60.0
"""How often what is over the limit of rows is removed."""
LOST_S = 10.0
"""A job whose process has not said it lives for this long is interrupted."""
_LOST = "the process that ran it ended; what was measured until then is kept"


@dataclass(frozen=True)
class Status:
    """Where a job stands.

    Attributes:
        state: As :attr:`etp.results.jobs.Job.state`.
        done: Cases that have ended.
        total: Cases asked for.
        now: What was reported last: the case's ``index`` and the event.
        ahead: Jobs that run before this one starts.
        start_s: Seconds until it starts, where those ahead said how long they take.
        reason: Why it failed or was interrupted.
        seconds: Time since it started, 0 before.
        held_up: Why its device or the store takes nothing at the moment, None if they do.
        owner: Who asked.
    """

    state: str
    done: int
    total: int
    now: dict[str, Any] | None
    ahead: int
    start_s: float | None
    reason: str | None
    seconds: float
    held_up: str | None
    owner: str

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("queued", "running")

    @property
    def resumable(self) -> bool:
        """Whether cases are left that could still be run."""
        return not self.active and self.done < self.total


class Runner:
    """Runs jobs, one at a time on each device; used from any thread.

    Args:
        store: Where jobs and rows are kept.
        scheduler: Address of a dask scheduler whose workers have a resource for each device
            (``dask worker --nthreads 1 --resources "cuda:0=1"``); by default ``$ETP_SCHEDULER``,
            or workers of this machine.
        devices: Devices to use, by default all that torch sees.
        task: What a case does, ``"module:function"``.
        limits: The most that can be asked for.

    Raises:
        ValueError: If the scheduler's connection would let others run code.
    """

    def __init__(
        self,
        store: Store,
        *,
        scheduler: str | None = None,
        devices: Sequence[str] | None = None,
        task: str = TASK,
        limits: Limits | None = None,
    ) -> None:
        self.store, self.limits = store, limits or Limits()
        address = scheduler or os.environ.get("ETP_SCHEDULER")
        self._remote = None if address is None else check_address(address)
        self._wanted = None if devices is None else tuple(devices)
        self._cluster = Cluster(task, self._remote, lambda: tuple(self.devices()))
        self._shared = Shared(
            store, self._cluster, self.limits, Outbox(), holder=f"{os.getpid()}-{uuid.uuid4().hex}"
        )
        self._lanes: dict[str, Lane] = {}
        self._mark_lost()
        self._thread = threading.Thread(target=self._beat, name="etp-beat", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def devices(self) -> dict[str, str]:
        """Devices a case can ask for, with the names of the hardware or of its machines."""
        if self._remote is not None:
            return self._cluster.devices_elsewhere()
        names = find_devices()
        return {d: n for d, n in names.items() if self._wanted is None or d in self._wanted}

    def label(self, device: str) -> str:
        """A device in words: its name, and the memory of a GPU of this machine."""
        if self._remote is not None:
            return self.devices().get(device, "not on the machines that measure")
        return device_label(device)

    def submit(
        self,
        title: str,
        cases: Sequence[Mapping[str, Any]],
        *,
        owner: str = "",
        estimate_s: float | None = None,
    ) -> str:
        """Queue a job; return its id at once.

        Args:
            title: What it is, in a few words.
            cases: What to measure.
            owner: Who asks; owners take turns.
            estimate_s: Seconds that it is expected to take.

        Raises:
            ValueError: As :meth:`check`.
            LimitError: If this visitor has asked for too much within an hour.
            StoreError: If the store cannot be used.
        """
        self.check(cases)
        self.limits.check_rate(self.store.jobs_since(owner, time.time() - HOUR_S))
        job_id = uuid.uuid4().hex[:12]
        self.store.add_job(job_id, title, cases, owner=owner, estimate_s=estimate_s)
        event("job_queued", job=job_id, title=title, cases=len(cases), estimate_s=estimate_s)
        self._enqueue(job_id)
        return job_id

    def extend(self, job_id: str, cases: Sequence[Mapping[str, Any]]) -> None:
        """Add cases to a job that has ended, such as more rounds of one of its cases.

        Raises:
            ValueError: As :meth:`submit`, or if the job is unknown or still active.
        """
        self.check(cases)
        self._ended(job_id)
        self.store.extend_job(job_id, cases)
        self._enqueue(job_id)

    def resume(self, job_id: str) -> None:
        """Run the cases that a job did not reach.

        Raises:
            ValueError: If the job is unknown, still active, or has nothing left.
        """
        job = self._ended(job_id)
        if not job.left:
            raise ValueError(f"job {job_id!r} must have cases left, all {job.total} have ended")
        self.check([job.cases[index] for index in job.left])
        self.store.resume_job(job_id)
        self._enqueue(job_id)

    def _ended(self, job_id: str) -> Job:
        job = self.store.job(job_id)
        if job is None or (job.active and not self._lost(job)):
            state = "unknown" if job is None else job.state
            raise ValueError(f"job {job_id!r} must have ended, it is {state}")
        return job

    def check(self, cases: Sequence[Mapping[str, Any]]) -> None:
        """Refuse what could not be run.

        Raises:
            LimitError: If this server does not allow so much.
            TooLargeError: If a case cannot fit into the memory of its device.
            ValueError: If there is no case, or one asks for a device that is not there.
        """
        if not cases:
            raise ValueError("cases must hold at least one case, got none")
        known = self.devices()
        for case in cases:
            device = case["problem"]["device"]
            if known and device not in known:
                raise ValueError(f"device must be one of {', '.join(known)}, got {device!r}")
        self.limits.check(cases)
        # The memory of other machines is known there only.
        for case in cases if self._remote is None else ():
            check_fits(Problem.from_dict(case["problem"]))

    def _enqueue(self, job_id: str) -> None:
        job = self.store.job(job_id)
        if job is None:
            return
        with self._shared.wake:
            self._shared.stopping.discard(job_id)
            for device in dict.fromkeys(job.cases[i]["problem"]["device"] for i in job.left):
                self._lane(device).add(job)
            self._shared.wake.notify_all()

    def _lane(self, device: str) -> Lane:
        if device not in self._lanes:
            self._lanes[device] = Lane(device, self._shared, self._left)
        return self._lanes[device]

    def _left(self, job: Job, lane: Lane) -> None:
        """A lane has nothing more to do for a job: if no other has, the job has ended."""
        shared = self._shared
        with shared.wake:
            held = any(
                other.running is not None and other.running.id == job.id
                for other in self._lanes.values()
            ) or any(job.id == w.id for other in self._lanes.values() for w in other.waiting)
        if held or shared.closed:
            return
        state = "cancelled" if job.id in shared.stopping else "done"

        def finish() -> None:
            now = self.store.job(job.id)
            # What ended it early has said so already.
            if now is not None and now.active:
                self.store.update_job(job.id, state=state, reason=None, finished=time.time())
                event("job_ended", job=job.id, state=state, reason=None)

        shared.outbox.put(finish)

    def status(self, job_id: str) -> Status | None:
        """Where a job stands, None if it is unknown."""
        job = self.store.job(job_id)
        if job is None:
            return None
        state, reason = job.state, job.reason
        with self._shared.wake:
            queues = [
                (lane, before)
                for lane in self._lanes.values()
                if (before := lane.ahead(job_id)) is not None
            ]
            running = [lane for lane in self._lanes.values() if _runs(lane, job_id)]
        if self._lost(job):
            state, reason = "interrupted", _LOST
        ahead: Sequence[Job] = ()
        gone = 0.0
        if not running and queues:
            first, ahead = min(queues, key=lambda queue: len(queue[1]))
            gone = first.seconds()
        lanes = running or [lane for lane, _ in queues]
        held_up = self._shared.outbox.trouble or next(
            (lane.held_up for lane in lanes if lane.held_up), None
        )
        # Elsewhere or in the past: by the time of day, which may have been set back.
        seconds = max((lane.seconds() for lane in running), default=0.0) or max(
            0.0, (job.finished or time.time()) - (job.started or math.inf)
        )
        return Status(
            state, job.done, job.total, job.now, len(ahead), _start_s(ahead, gone), reason, seconds,
            held_up, job.owner,
        )  # fmt: skip

    def cancel(self, job_id: str) -> None:
        """Stop a job within a second, whichever process runs it; what was measured is kept."""
        with self._shared.wake:
            mine = self._is_mine(job_id)
            if mine:
                self._shared.stopping.add(job_id)
            waited = [lane.drop(job_id) for lane in self._lanes.values()]
            runs = any(_runs(lane, job_id) for lane in self._lanes.values())
            self._shared.wake.notify_all()
        if any(waited) and not runs:
            end_job(self._shared, job_id, "cancelled", None)
        else:
            with suppress(StoreError):
                self.store.stop_job(job_id)

    def warm(self) -> None:
        """Start the workers in the background, so that a first job does not wait for them."""

        def start() -> None:
            # What is wrong is said with the first job.
            with suppress(Exception):
                self._cluster.connect()

        threading.Thread(target=start, name="etp-warm", daemon=True).start()

    def close(self) -> None:
        """End the workers; jobs that had not ended are marked interrupted."""
        with self._shared.wake:
            if self._shared.closed:
                return
            self._shared.closed = True
            self._shared.wake.notify_all()
        atexit.unregister(self.close)
        for job_id in self._ids():
            end_job(self._shared, job_id, "interrupted", STOPPED)
        self._shared.outbox.drain(2.0)
        self._cluster.close()

    # What keeps jobs alive

    def _beat(self) -> None:
        shared = self._shared
        pruned = -PRUNE_S
        while not shared.closed:
            if time.monotonic() > pruned + PRUNE_S:
                pruned = time.monotonic()
                self._keep_few()
            with suppress(StoreError):
                for job_id in self._ids():
                    self.store.update_job(job_id, beat=time.monotonic())
                for lane in list(self._lanes.values()):
                    lane.keep()
                self._mark_lost()
            with suppress(Exception):
                shared.outbox.flush()
            with shared.wake:
                shared.wake.wait_for(lambda: shared.closed, timeout=BEAT_S)

    def _keep_few(self) -> None:
        """Hold the store to its limit of rows."""
        if self.limits.rows is None:
            return
        with suppress(StoreError):
            if gone := self.store.prune(self.limits.rows):
                event("rows_pruned", rows=gone, limit=self.limits.rows)

    def _ids(self) -> list[str]:
        """Jobs that wait or run in this process."""
        with self._shared.wake:
            jobs = [job for lane in self._lanes.values() for job in lane.held()]
        return list(dict.fromkeys(job.id for job in jobs))

    def _is_mine(self, job_id: str) -> bool:
        return job_id in self._ids()

    def _lost(self, job: Job) -> bool:
        """Whether a job's process has ended without saying so."""
        return job.active and not alive(job.beat, LOST_S) and not self._is_mine(job.id)

    def _mark_lost(self) -> None:
        """Jobs of processes that have ended, however they did."""
        for job in self.store.jobs("queued", "running"):
            if self._lost(job):
                end_job(self._shared, job.id, "interrupted", _LOST)


def _runs(lane: Lane, job_id: str) -> bool:
    return lane.running is not None and lane.running.id == job_id


def _start_s(ahead: Sequence[Job], gone: float) -> float | None:
    """Seconds until those ahead are done, as far as they said; the first is at it already."""
    known = [job.estimate_s for job in ahead if job.estimate_s is not None]
    if not ahead or len(known) < len(ahead):
        return None
    return max(0.0, sum(known) - gone)
