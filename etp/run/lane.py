"""One device's thread: takes the jobs whose turn it is and runs their cases, one at a time."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

from etp.results.database import StoreError
from etp.results.jobs import Job
from etp.results.rows import RESULTS, Row
from etp.results.store import Store
from etp.run.cluster import Cluster, SchedulerError, wait_for_exit
from etp.run.config import Limits
from etp.run.devices import lost_context
from etp.run.events import event
from etp.run.outbox import Outbox
from etp.run.turns import in_turn

if TYPE_CHECKING:
    from distributed import Future

CANCEL_S = 0.6
"""Time for a case to stop by itself after cancel, before its worker is ended."""
GIVE_UP_S = 10.0
"""Time for an ended worker's case to be known as ended; beyond it nobody waits."""
TICK_S = 0.05
LOOK_S = 0.25
"""How often the store is asked whether another process has cancelled."""
LATE_S = 10.0
GAVE_UP = "the worker process ended and could not be started; the next case starts another"
STOPPED = (
    "the server was stopped; what was measured until then is kept, and the rest can be resumed"
)


class StoppedError(Exception):
    """The server is being stopped: the job is interrupted, not failed."""


@dataclass
class Shared:
    """What the lanes of a runner share.

    Attributes:
        stopping: Jobs that were cancelled in this process.
        wake: Held around ``stopping`` and the lanes' queues.
        served: When each owner's last job began.
    """

    store: Store
    cluster: Cluster
    limits: Limits
    outbox: Outbox
    holder: str
    stopping: set[str] = field(default_factory=set)
    served: dict[str, float] = field(default_factory=dict)
    wake: threading.Condition = field(default_factory=threading.Condition)
    closed: bool = False


class Lane:
    """The queue of one device.

    Args:
        device: Its name.
        shared: What all lanes use.
        left: Called with a job when this lane has nothing more to do for it.
    """

    def __init__(self, device: str, shared: Shared, left: Callable[[Job, Lane], None]) -> None:
        self.device, self._shared, self._left = device, shared, left
        self.waiting: list[Job] = []
        self.running: Job | None = None
        self.held_up: str | None = None
        self._begun: float | None = None
        name = f"etp-lane-{device}"
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def add(self, job: Job) -> None:
        """Let a job wait for this device; the caller holds ``wake``."""
        self.waiting.append(job)

    def held(self) -> list[Job]:
        """Jobs that wait or run here; the caller holds ``wake``."""
        return self.waiting if self.running is None else [self.running, *self.waiting]

    def keep(self) -> None:
        """Say that the device is still held."""
        if self.running is not None and self.held_up is None:
            self._shared.store.lease(self._lease, self._shared.holder)

    def seconds(self) -> float:
        """Time since the running job began, 0 before."""
        begun = self._begun
        return 0.0 if begun is None else time.monotonic() - begun

    def drop(self, job_id: str) -> bool:
        """Take a waiting job out; the caller holds ``wake``. Whether it was there."""
        before = len(self.waiting)
        self.waiting = [job for job in self.waiting if job.id != job_id]
        return len(self.waiting) < before

    def ahead(self, job_id: str) -> list[Job] | None:
        """Jobs that run here before a waiting one; None if it does not wait here."""
        order = in_turn(self.waiting, self._shared.served)
        places = [job.id for job in order]
        if job_id not in places:
            return None
        running = [] if self.running is None else [self.running]
        return running + order[: places.index(job_id)]

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._run(job)
            except Exception as error:
                # Whatever went wrong belongs to this job; the next one must still run.
                self._end(job, "failed", f"{type(error).__name__}: {error}")
            finally:
                with self._shared.wake:
                    self.running = self._begun = None
                self._left(job, self)

    def _next(self) -> Job | None:
        """The job whose turn it is, waited for; None once closed."""
        shared = self._shared
        with shared.wake:
            shared.wake.wait_for(lambda: self.waiting or shared.closed)
            if shared.closed:
                return None
            job = in_turn(self.waiting, shared.served)[0]
            self.waiting.remove(job)
            shared.served[job.owner] = time.monotonic()
            self.running = job
            return job

    def _run(self, job: Job) -> None:
        shared = self._shared
        if not self._taken(job):
            return
        try:
            now, begun = time.time(), time.monotonic()
            self._begun = begun
            shared.outbox.put(
                lambda: shared.store.update_job(job.id, state="running", started=now, beat=begun)
            )
            for index in self.mine(job):
                limit = shared.limits.job_seconds
                if limit is not None and time.monotonic() - begun > limit:
                    self._end(job, "cancelled", _too_long("job_seconds", limit))
                    return
                if shared.closed or self._stopped(job):
                    return
                self._run_case(job, index)
                if self._stopped(job):
                    return  # Nobody knows how far it came: it is run again when the job is resumed.
                shared.outbox.put(lambda index=index: shared.store.end_case(job.id, index))  # type: ignore[misc]
        except StoppedError:
            self._end(job, "interrupted", STOPPED)
        except SchedulerError as error:
            self._end(job, "interrupted", str(error))
        finally:
            with suppress(StoreError):
                shared.store.release(self._lease, shared.holder)

    def mine(self, job: Job) -> list[int]:
        """Places of the cases of a job that are for this device and have not ended."""
        return [i for i in job.left if job.cases[i]["problem"]["device"] == self.device]

    @property
    def _lease(self) -> str:
        return f"{self._shared.cluster.place} {self.device}"

    def _taken(self, job: Job) -> bool:
        """Wait until no other program measures on this device; False if the job ended meanwhile."""
        shared = self._shared
        while not shared.closed and not self._stopped(job):
            try:
                if shared.store.lease(self._lease, shared.holder):
                    self.held_up = None
                    return True
                self.held_up = "another program with the same store measures on this device"
            except StoreError as error:
                self.held_up = str(error)
            with shared.wake:
                shared.wake.wait_for(lambda: shared.closed, timeout=LOOK_S)
        self.held_up = None
        return False

    def _stopped(self, job: Job) -> bool:
        """Whether a job was cancelled, here or through the store."""
        if job.id in self._shared.stopping:
            return True
        with suppress(StoreError):
            now = self._shared.store.job(job.id)
            if now is not None and (now.stop or not now.active):
                self._shared.stopping.add(job.id)
                return True
        return False

    def _run_case(self, job: Job, index: int) -> None:
        shared, case = self._shared, job.cases[index]
        name = f"etp-{job.id}-{index}-{uuid.uuid4().hex[:8]}"
        inbox: Queue[str] = Queue()
        client = shared.cluster.connect()
        client.subscribe_topic(name, lambda event: inbox.put(event[1]))
        taken = _Taken(shared, job, index, inbox)
        try:
            future = shared.cluster.start(case, name)
            reason = self._watch(future, taken, job, name)
            self._collect(future, taken)
            if reason is None and shared.cluster.has_lost(client, future):
                raise SchedulerError(str(shared.cluster.scheduler))
            if future.status != "finished":
                if wait_for_exit(shared.cluster, self.device, 0.0 if reason else 1.0):
                    raise StoppedError
                why = reason or _why(future, taken.last)
                status = "cancelled" if job.id in shared.stopping else "failed"
                event("case_ended", job=job.id, case=index, state=status, reason=why)
                rows = _unmeasured(job, case, taken.settled, status, why)
                shared.outbox.put(lambda: shared.store.add_rows(rows))
                taken.said.append(why)
            # A result kept on a worker that restarts would be computed a second time.
            future.release()
            if any(map(lost_context, taken.said)) and not shared.closed:
                # All that this process asked of its device from now on would fail.
                shared.cluster.renew_worker(self.device)
        finally:
            with suppress(OSError, RuntimeError):
                client.unsubscribe_topic(name)

    def _watch(self, future: Future[int], taken: _Taken, job: Job, name: str) -> str | None:
        """Receive rows until the case has ended; why it was made to end, if it was."""
        shared, begun = self._shared, time.monotonic()
        limit, reason = shared.limits.case_seconds, None
        looked = asked = ended = None
        while not future.done() and not shared.closed:
            taken.receive()
            shared.outbox.flush()
            now = time.monotonic()
            if asked is None and limit is not None and now - begun > limit:
                reason = _too_long("case_seconds", limit)
            if reason is None and (looked is None or now - looked > LOOK_S):
                looked = now
                if self._stopped(job):
                    reason = "cancelled before it was measured"
                elif shared.cluster.gave_up(self.device) and not shared.closed:
                    return GAVE_UP
            if reason is not None and asked is None:
                asked = now
                shared.cluster.ask_to_stop(name)
            elif asked is not None and ended is None and now - asked > CANCEL_S:
                ended = now
                shared.cluster.end_worker(self.device)
            elif ended is not None and now - ended > GIVE_UP_S:
                break
        if shared.closed:
            raise StoppedError
        return reason

    def _collect(self, future: Future[int], taken: _Taken) -> None:
        """Receive what was sent before the case ended and is still under way."""
        sent = future.result() if future.status == "finished" else None
        deadline = time.monotonic() + (LATE_S if sent is not None else 4 * TICK_S)
        while taken.count != sent and time.monotonic() < deadline:
            taken.receive()

    def _end(self, job: Job, state: str, reason: str) -> None:
        end_job(self._shared, job.id, state, reason)


def end_job(shared: Shared, job_id: str, state: str, reason: str | None) -> None:
    """Note that a job has ended, once the store takes it.

    Args:
        shared: What the lanes share.
        job_id: Its id.
        state: ``done``, ``cancelled``, ``failed`` or ``interrupted``.
        reason: Why it ended early, or None.
    """
    now = time.time()
    event("job_ended", job=job_id, state=state, reason=reason)
    shared.outbox.put(
        lambda: shared.store.update_job(job_id, state=state, reason=reason, finished=now)
    )


def _too_long(name: str, limit: int) -> str:
    return f"stopped after {limit} s, the limit {name} of this server; what was measured is kept"


class _Taken:
    """What has arrived of one case; ``said`` are the reasons of what failed."""

    def __init__(self, shared: Shared, job: Job, index: int, inbox: Queue[str]) -> None:
        self._shared, self._job, self._index, self._inbox = shared, job, index, inbox
        self.count = 0
        self.last: dict[str, Any] | None = None
        self.settled: set[str] = set()
        self.said: list[str] = []

    def receive(self) -> None:
        """Wait a moment for the next message and take it."""
        with suppress(Empty):
            self._take(json.loads(self._inbox.get(timeout=TICK_S)))

    def _take(self, item: dict[str, Any]) -> None:
        self.count += 1
        store, job = self._shared.store, self._job.id
        if "event" in item:
            self.last = item
            now = {"index": self._index, **item}
            # Progress is of no use later: where the store is busy it is left out.
            if not len(self._shared.outbox):
                self._shared.outbox.put(lambda: store.update_job(job, now=now))
            return
        if item["measure"] == answer(self._job.cases[self._index]):
            self.settled.add(item["product"])
        if item["status"] == "failed":
            self.said.append(str(item["reason"]))
        row = item | {"job": job}
        self._shared.outbox.put(lambda: store.add_rows([row]))


def _why(future: Future[int], last: dict[str, Any] | None) -> str:
    """Reason in words for a case that did not end by itself."""
    from distributed import KilledWorker

    doing = ""
    if last is not None:
        doing = f" while {last.get('stage', 'working on')} {last.get('product', '')}".rstrip()
    if future.cancelled():
        return "cancelled before it was measured"
    if not future.done():
        return f"the worker process did not answer{doing}"
    error = future.exception()
    if isinstance(error, KilledWorker):
        return f"the worker process was killed{doing}: most often the memory ran out"
    if isinstance(error, ValueError):
        return str(error)
    return f"{type(error).__name__}{doing}: {error}"


def answer(case: Mapping[str, Any]) -> str:
    """Measure of the row that settles a product: a runtime, or what the case is a kind of."""
    kind = case.get("kind")
    return kind if kind in RESULTS else "runtime"


def _unmeasured(
    job: Job, case: Mapping[str, Any], settled: set[str], status: str, reason: str
) -> list[Row]:
    """One row for each product of a case that has no answer yet."""
    return [
        Row.new(
            case["problem"], product, answer(case), None, {"device": case["problem"]["device"]},
            status=status, reason=reason, job=job.id,
        )
        for product in case["products"]
        if product not in settled
    ]  # fmt: skip
