"""Jobs in worker processes: submit, watch, cancel.

Nothing is measured in the process that asks. Workers (one for each device) run cases one after the
other, so that no measurement disturbs another; their rows reach the store as they appear, whatever
happens to the worker, the browser or the job.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

from etp.results.rows import SCHEMA, Row
from etp.results.store import Job, Store
from etp.run import worker
from etp.run.devices import devices as find_devices

if TYPE_CHECKING:
    from distributed import Client, Future

TASK = "etp.run.case:run"
BEAT_S = 1.0
LOST_S = 10.0
"""A job whose process has not said it lives for this long is interrupted."""
CANCEL_S = 0.6
"""Time for a case to stop by itself after cancel, before its worker is ended."""
TICK_S = 0.05
LATE_S = 10.0

# Each of these mends a default of distributed that would falsify or lose a measurement.
_CONFIG = {
    "distributed.scheduler.allowed-failures": 0,  # a case that kills its worker is not run again
    "distributed.scheduler.work-stealing": False,  # no messages between workers while one times
    "distributed.worker.profile.enabled": False,  # a sampling thread every 10 ms disturbs timing
    "distributed.worker.memory.target": False,  # resident torch libraries are not a leak to spill
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    # A fixed trim threshold gives memory back after every call: each output is page faults anew.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.worker.daemon": True,  # workers end with this process, however it ends
    "distributed.diagnostics.nvml": False,
    "distributed.admin.tick.limit": "60 s",
    "distributed.comm.timeouts.connect": "10 s",
    "logging": {"distributed": "critical"},
}


@dataclass(frozen=True)
class Status:
    """Where a job stands.

    Attributes:
        state: As :attr:`etp.results.store.Job.state`.
        done: Cases that have ended.
        total: Cases asked for.
        now: What was reported last: the case's ``index`` and the event.
        ahead: Jobs that run before this one starts.
        reason: Why it failed or was interrupted.
        seconds: Time since it started, 0 before.
    """

    state: str
    done: int
    total: int
    now: dict[str, Any] | None
    ahead: int
    reason: str | None
    seconds: float

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("queued", "running")


class Runner:
    """Runs jobs one after the other; used from any thread.

    Args:
        store: Where jobs and rows are kept.
        scheduler: Address of a dask scheduler whose workers have a resource for each device
            (``dask worker --nthreads 1 --resources "cuda:0=1"``); by default ``$ETP_SCHEDULER``,
            or workers of this machine on the loopback interface.
        devices: Devices to use, by default all that torch sees.
        task: What a case does, ``"module:function"``.
    """

    def __init__(
        self,
        store: Store,
        *,
        scheduler: str | None = None,
        devices: Sequence[str] | None = None,
        task: str = TASK,
    ) -> None:
        self.store = store
        self._scheduler = scheduler or os.environ.get("ETP_SCHEDULER")
        if self._scheduler is not None and not self._scheduler.startswith(("tls://", "tcp://127.")):
            raise ValueError(
                f"scheduler must be tls://... (or tcp://127.0.0.1), got {self._scheduler!r}: "
                "other connections let anyone run code on the workers"
            )
        self._wanted = None if devices is None else tuple(devices)
        self._task = task
        self._queue: deque[str] = deque()
        self._stopping: set[str] = set()
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._inbox: Queue[dict[str, Any]] = Queue()
        self._client: Client | None = None
        self._cluster: Any = None
        self._closed = False
        self._mark_lost()
        self._threads = [
            threading.Thread(target=self._beat, name="etp-beat", daemon=True),
            threading.Thread(target=self._work, name="etp-runner", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)

    def devices(self) -> dict[str, str]:
        """Devices a case can ask for, with the names of the hardware."""
        found = find_devices()
        return {d: n for d, n in found.items() if self._wanted is None or d in self._wanted}

    def submit(self, title: str, cases: Sequence[Mapping[str, Any]]) -> str:
        """Queue a job; return its id at once.

        Raises:
            ValueError: If there is no case, or one asks for a device that is not there.
        """
        self._check(cases)
        job_id = uuid.uuid4().hex[:12]
        self.store.add_job(job_id, title, cases)
        self._enqueue(job_id)
        return job_id

    def extend(self, job_id: str, cases: Sequence[Mapping[str, Any]]) -> None:
        """Add cases to a job that has ended, such as more rounds of one of its cases.

        Raises:
            ValueError: As :meth:`submit`, or if the job is unknown or still active.
        """
        self._check(cases)
        job = self.store.job(job_id)
        if job is None or job.active:
            state = "unknown" if job is None else job.state
            raise ValueError(f"job {job_id!r} must have ended, it is {state}")
        self.store.extend_job(job_id, cases)
        with self._lock:
            self._stopping.discard(job_id)
        self._enqueue(job_id)

    def _check(self, cases: Sequence[Mapping[str, Any]]) -> None:
        if not cases:
            raise ValueError("cases must hold at least one case, got none")
        known = self.devices()
        for case in cases:
            device = case["problem"]["device"]
            if self._scheduler is None and device not in known:
                raise ValueError(f"device must be one of {', '.join(known)}, got {device!r}")

    def _enqueue(self, job_id: str) -> None:
        with self._wake:
            self._queue.append(job_id)
            self._wake.notify_all()

    def status(self, job_id: str) -> Status | None:
        """Where a job stands, None if it is unknown."""
        job = self.store.job(job_id)
        if job is None:
            return None
        state, reason = job.state, job.reason
        if job.active and time.time() - job.beat > LOST_S:
            state, reason = "interrupted", _LOST
        with self._lock:
            ahead = self._queue.index(job_id) if job_id in self._queue else 0
        end = job.finished or time.time()
        seconds = end - job.started if job.started else 0.0
        return Status(state, job.done, job.total, job.now, ahead, reason, seconds)

    def cancel(self, job_id: str) -> None:
        """Stop a job within a second; rows measured until then are kept."""
        job = self.store.job(job_id)
        if job is None or not job.active:
            return
        with self._wake:
            self._stopping.add(job_id)
            waiting = job_id in self._queue and self._queue[0] != job_id
            if waiting:
                self._queue.remove(job_id)
        if waiting or job.state == "queued":
            self._finish(job, "cancelled", None)
        if not waiting and self._client is not None:
            with suppress(OSError, TimeoutError):
                self._client.run(worker.cancel, job_id, on_error="ignore", wait=False)

    def warm(self) -> None:
        """Start the workers in the background, so that a first job does not wait for them."""
        with self._wake:
            self._queue.append("")
            self._wake.notify_all()

    def close(self) -> None:
        """End the workers; jobs that had not ended are marked interrupted."""
        with self._wake:
            if self._closed:
                return
            self._closed = True
            self._wake.notify_all()
        atexit.unregister(self.close)
        for job in self._mine():
            self._finish(job, "interrupted", "etp was closed while it ran")
        for end in (self._client, self._cluster):
            if end is not None:
                with suppress(OSError, TimeoutError, RuntimeError):
                    end.close(timeout=5)

    # The thread that works through the queue

    def _work(self) -> None:
        while (job_id := self._next()) is not None:
            try:
                client = self._connected()
                job = self.store.job(job_id) if job_id else None
                if job is not None and job.active:
                    self._run(client, job)
            except Exception as error:
                if self._closed:
                    return
                # Whatever went wrong belongs to this job; the next one must still run.
                if (job := self.store.job(job_id)) is not None:
                    self._finish(job, "failed", f"{type(error).__name__}: {error}")
            finally:
                with self._lock:
                    if self._queue and self._queue[0] == job_id:
                        self._queue.popleft()

    def _next(self) -> str | None:
        """Job at the head of the queue, waited for; None once closed."""
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._closed)
            return None if self._closed else self._queue[0]

    def _run(self, client: Client, job: Job) -> None:
        self.store.update_job(job.id, state="running", started=time.time())
        client.subscribe_topic(worker.topic(job.id), lambda event: self._inbox.put(event[1]))
        try:
            for index, case in list(enumerate(job.cases))[job.done :]:
                if job.id in self._stopping or self._closed:
                    break
                self._run_case(client, job, index, case)
                self.store.update_job(job.id, done=index + 1)
        finally:
            client.unsubscribe_topic(worker.topic(job.id))
        if not self._closed:
            state = "cancelled" if job.id in self._stopping else "done"
            self._finish(job, state, None)

    def _run_case(self, client: Client, job: Job, index: int, case: dict[str, Any]) -> None:
        future = client.submit(
            worker.run_case, self._task, case, job.id, index,
            key=f"{job.id}-{index}-{uuid.uuid4().hex[:6]}",
            pure=False, retries=0, resources={case["problem"]["device"]: 1},
        )  # fmt: skip
        taken = _Taken(self.store, job, index)
        stop_at: float | None = None
        while not future.done() and not self._closed:
            self._receive(taken)
            if stop_at is None and job.id in self._stopping:
                stop_at = time.monotonic() + CANCEL_S
            elif stop_at is not None and time.monotonic() > stop_at:
                self._end_worker(client, future)
                stop_at = time.monotonic() + LATE_S
        if self._closed:
            return
        sent = future.result() if future.status == "finished" else None
        deadline = time.monotonic() + (LATE_S if sent is not None else 4 * TICK_S)
        while taken.count != sent and time.monotonic() < deadline:
            self._receive(taken)
        if future.status != "finished":
            reason = _why(future, taken.last)
            status = "cancelled" if job.id in self._stopping else "failed"
            self.store.add_rows(_unmeasured(job, case, taken.settled, status, reason))
        # A result kept on a worker that restarts would be computed a second time.
        future.release()

    def _receive(self, taken: _Taken) -> None:
        with suppress(Empty):
            taken.take(self._inbox.get(timeout=TICK_S))

    def _end_worker(self, client: Client, future: Future[int]) -> None:
        """End the process that runs a case: it does not answer, and its nanny starts another."""
        where = client.who_has([future]) or {}
        busy = [address for address, keys in client.processing().items() if future.key in keys]
        for address in busy or [a for found in where.values() for a in found]:
            client.run(worker.die, workers=[address], on_error="ignore", wait=False)

    def _connected(self) -> Client:
        """Client of the workers, started on first use."""
        if self._client is None:
            import dask

            dask.config.set(_CONFIG)
            from distributed import Client

            if self._scheduler is None:
                self._cluster = _local_cluster(tuple(self.devices()))
            self._client = Client(self._scheduler or self._cluster, set_as_default=False)
            self._client.get_versions(check=self._scheduler is not None)
            ready = [
                self._client.submit(worker.prepare, self._task, resources={d: 1}, pure=False)
                for d in (self.devices() if self._scheduler is None else ())
            ]
            for future in ready:
                future.result()
                future.release()
        return self._client

    # Jobs that did not end

    def _beat(self) -> None:
        while not self._closed:
            for job in self._mine():
                self.store.update_job(job.id, beat=time.time())
            with self._wake:
                self._wake.wait_for(lambda: self._closed, timeout=BEAT_S)

    def _mine(self) -> list[Job]:
        with self._lock:
            ids = set(self._queue)
        return [job for job in self.store.jobs("queued", "running") if job.id in ids]

    def _mark_lost(self) -> None:
        for job in self.store.jobs("queued", "running"):
            if time.time() - job.beat > LOST_S:
                self._finish(job, "interrupted", _LOST)

    def _finish(self, job: Job, state: str, reason: str | None) -> None:
        self.store.update_job(job.id, state=state, reason=reason, finished=time.time())


_LOST = "the process that ran it ended; what was measured until then is kept"


class _Taken:
    """What has arrived of one case."""

    def __init__(self, store: Store, job: Job, index: int) -> None:
        self.store, self.job, self.index = store, job, index
        self.count = 0
        self.last: dict[str, Any] | None = None
        self.settled: set[str] = set()

    def take(self, message: dict[str, Any]) -> None:
        if (message["job"], message["index"]) != (self.job.id, self.index):
            return
        self.count += 1
        item = json.loads(message["item"])
        if "event" in item:
            self.last = item
            self.store.update_job(self.job.id, now={"index": self.index, **item})
            return
        if item["measure"] == "runtime":
            self.settled.add(item["product"])
        self.store.add_rows([item | {"job": self.job.id}])


def _why(future: Future[int], last: dict[str, Any] | None) -> str:
    """Reason in words for a case that did not end by itself."""
    from distributed import KilledWorker

    doing = ""
    if last is not None:
        doing = f" while {last.get('stage', 'working on')} {last.get('product', '')}".rstrip()
    if future.cancelled():
        return "cancelled before it was measured"
    error = future.exception()
    if isinstance(error, KilledWorker):
        return f"the worker process was killed{doing}: most often the memory ran out"
    if isinstance(error, ValueError):
        return str(error)
    return f"{type(error).__name__}{doing}: {error}"


def _unmeasured(
    job: Job, case: Mapping[str, Any], settled: set[str], status: str, reason: str
) -> list[Row]:
    """One row for each product of a case that has no runtime row."""
    if status == "cancelled":
        reason = "cancelled before it was measured"
    return [
        {
            "schema": SCHEMA,
            "id": uuid.uuid4().hex,
            "job": job.id,
            "group": None,
            "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "product": product,
            "measure": "runtime",
            "problem": case["problem"],
            "status": status,
            "reason": reason,
            "badges": [],
            "result": None,
            "environment": {"device": case["problem"]["device"]},
        }
        for product in case["products"]
        if product not in settled
    ]


def _local_cluster(names: Sequence[str]) -> Any:
    """One worker process for each device, on the loopback interface only."""
    from distributed import Nanny, Scheduler, SpecCluster

    cores = str(os.cpu_count() or 1)
    threads = {f"{library}_NUM_THREADS": cores for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    workers = {
        name: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "resources": {name: 1},
                "host": "127.0.0.1",
                "dashboard": False,
                "memory_limit": 0,
                "silence_logs": 50,
                # A nanny sets one thread by itself: CPU numbers would be single-threaded.
                "env": threads | ({"CUDA_VISIBLE_DEVICES": ""} if name == "cpu" else {}),
            },
        }
        for name in names
    }
    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": "127.0.0.1",
            "port": 0,
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
        },
    }
    return SpecCluster(workers, scheduler, silence_logs=False, name=f"etp-{uuid.uuid4().hex[:6]}")
