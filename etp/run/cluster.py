"""The worker processes: one for each device of this machine, or those of a scheduler elsewhere.

Whoever reaches a scheduler can run code on its workers. The one started here speaks TLS with a
certificate made at that moment and kept in memory only; one elsewhere must do so too.
"""

from __future__ import annotations

import gc
import ipaddress
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing import spawn
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from etp.run import worker
from etp.run.events import event

if TYPE_CHECKING:
    from distributed import Client, Future

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
    # A worker that is slow to come back would be closed for good, and its device with it.
    "distributed.deploy.lost-worker-timeout": "365 days",
    "distributed.diagnostics.nvml": False,
    "distributed.admin.tick.limit": "60 s",
    "distributed.comm.timeouts.connect": "10 s",
    "logging": {"distributed": "critical"},
}
ENDED_BY_REQUEST = (-signal.SIGTERM, -signal.SIGINT)
"""Exit codes of a worker that was told to end, as when a server is stopped."""
GIVEN_UP = ("closing", "closing_gracefully", "closed", "failed")
"""States of what watches a worker in which it will not start it again."""
WORKER_NAME = "Dask Worker process (from Nanny)"
"""How distributed names the processes that it starts."""
ASK_S = 5.0
"""How long what a scheduler elsewhere said of its workers is believed."""
CERTIFICATES = ("ca.pem", "client-cert.pem", "client-key.pem")
"""Files in ``$ETP_CERTIFICATES`` that a connection to a scheduler elsewhere needs."""


def check_address(address: str) -> str:
    """A scheduler's address, if connecting to it lets nobody else run code.

    Raises:
        ValueError: If it is neither TLS nor the loopback interface.
    """
    parts = urlsplit(address)
    if parts.scheme == "tls" or (parts.scheme == "tcp" and _is_loopback(parts.hostname or "")):
        return address
    raise ValueError(
        f"scheduler must be tls://... (or tcp://127.0.0.1), got {address!r}: other connections let "
        "anyone run code on the workers"
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class SchedulerError(OSError):
    """A scheduler elsewhere does not answer; says which."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the scheduler at {address} does not answer; what was measured until then is kept, "
            "and the rest can be resumed when it runs again"
        )


class Cluster:
    """Workers, started or connected to on first use; used from any thread.

    Args:
        task: What a case does, ``"module:function"``.
        scheduler: Address of a scheduler elsewhere, None for workers of this machine.
        devices: Names of the devices of this machine to use.
    """

    def __init__(self, task: str, scheduler: str | None, devices: Callable[[], Sequence[str]]):
        self.task, self.scheduler, self._devices = task, scheduler, devices
        self.client: Client | None = None
        self._workers: Any = None
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        self._asked = -ASK_S

    @property
    def place(self) -> str:
        """What tells this cluster's devices from those of another machine."""
        return self.scheduler or os.uname().nodename

    def connect(self) -> Client:
        """The client of the workers."""
        with self._lock:
            if self.client is not None and self.has_lost(self.client):
                with suppress(OSError, TimeoutError, RuntimeError):
                    self.client.close(timeout=1)
                self.client = None
            if self.client is None:
                self.client = self._started()
            self._start_again()
            return self.client

    def _start_again(self) -> None:
        """Start workers in the place of those that were given up."""
        if gone := [name for name in self._nannies if self.gave_up(name)]:
            for name in gone:
                del self._nannies[name]
            self._workers.scale(len(self._workers.worker_spec))

    def gave_up(self, device: str) -> bool:
        """Whether nothing will start the worker of a device again, as when it dies at its start."""
        nanny = self._nannies.get(device)
        return nanny is not None and nanny.status.name in GIVEN_UP

    @property
    def _nannies(self) -> dict[str, Any]:
        """What starts each worker of this machine again when it ends."""
        return {} if self._workers is None else self._workers.workers

    def has_lost(self, client: Client, future: Future[int] | None = None) -> bool:
        """Whether a client lost its scheduler elsewhere, now or since it asked for a future."""
        lost = client.status != "running" or (future is not None and future.cancelled())
        return self.scheduler is not None and lost

    def _started(self) -> Client:
        import dask

        dask.config.set(_CONFIG)
        from distributed import Client, Security

        if self.scheduler is not None:
            security = _certificates(self.scheduler)
            client = None
            with suppress(OSError, TimeoutError):
                client = Client(self.scheduler, security=security, set_as_default=False)
            if client is None:
                # What is left of it closes itself when collected: here, not in a loop's own thread.
                gc.collect()
                raise SchedulerError(self.scheduler)
            client.get_versions(check=True)
            return client
        security = Security.temporary()
        names = tuple(self._devices())
        self._workers = _local_workers(names, security)
        client = Client(self._workers, security=security, set_as_default=False)
        prepared = [
            client.submit(worker.prepare, self.task, resources={name: 1}, pure=False)
            for name in names
        ]
        for future in prepared:
            future.result()
            future.release()
        return client

    def devices_elsewhere(self) -> dict[str, str]:
        """Devices of a scheduler's workers and the hosts that have them; empty until connected."""
        client = self.client
        if client is None or self.has_lost(client) or time.monotonic() < self._asked + ASK_S:
            return self._known
        self._asked = time.monotonic()
        with suppress(OSError, TimeoutError):
            hosts: dict[str, set[str]] = {}
            for info in client.scheduler_info(n_workers=-1)["workers"].values():
                for device in info.get("resources", {}):
                    hosts.setdefault(device, set()).add(str(info["host"]))
            self._known = {name: ", ".join(sorted(hosts[name])) for name in sorted(hosts)}
        return self._known

    def start(self, case: Mapping[str, Any], name: str) -> Future[int]:
        """Begin a case on its device; what it sends comes under the topic of its name."""
        return self.connect().submit(
            worker.run_case, self.task, dict(case), name,
            key=f"{name}-{uuid.uuid4().hex[:6]}",
            pure=False, retries=0, resources={case["problem"]["device"]: 1},
        )  # fmt: skip

    def ask_to_stop(self, name: str) -> None:
        """Tell the worker of a case to stop at its next sample; never waits for it."""

        def ask() -> None:
            # A worker that hangs does not answer.
            with suppress(OSError, TimeoutError, RuntimeError):
                if self.client is not None:
                    self.client.run(worker.cancel, name, on_error="ignore", wait=False)

        threading.Thread(target=ask, name="etp-cancel", daemon=True).start()

    def end_worker(self, device: str) -> None:
        """End the process of a device, whatever it is doing; another takes its place."""
        event("worker_ended", device=device)
        if self._workers is not None:
            # Without a process there is none to end: it is being started.
            with suppress(KeyError, OSError, TypeError):
                os.kill(self._nannies[device].pid, signal.SIGKILL)
            return
        client, addresses = self.connect(), self._addresses(device)
        threading.Thread(
            target=lambda: client.restart_workers(addresses, timeout=30, raise_for_error=False),
            name="etp-restart",
            daemon=True,
        ).start()

    def renew_worker(self, device: str) -> None:
        """Put a new process in the place of an idle one that its device no longer answers."""
        event("worker_renewed", device=device)
        with suppress(OSError, TimeoutError, RuntimeError, KeyError):
            self.connect().restart_workers(
                self._addresses(device), timeout=30, raise_for_error=False
            )

    def _addresses(self, device: str) -> list[str]:
        """Workers that have a device."""
        return [
            address
            for address, info in self.connect().scheduler_info(n_workers=-1)["workers"].items()
            if device in info.get("resources", {})
        ]

    def ended_by_request(self, device: str) -> bool:
        """Whether the last process of a device was told to end, from outside this program."""
        nanny = self._nannies.get(device)
        return nanny is not None and nanny.last_exit in ENDED_BY_REQUEST

    def close(self) -> None:
        """End the workers."""
        for end in (self.client, self._workers):
            if end is not None:
                with suppress(OSError, TimeoutError, RuntimeError):
                    end.close(timeout=5)


def _certificates(address: str) -> Any:
    """Certificates for a scheduler elsewhere; None on the loopback interface without TLS."""
    from distributed import Security

    if not address.startswith("tls://"):
        return None
    folder = Path(os.environ.get("ETP_CERTIFICATES", "certificates"))
    paths = [folder / name for name in CERTIFICATES]
    if missing := [str(path) for path in paths if not path.exists()]:
        raise ValueError(
            f"a tls:// scheduler needs certificates, {missing[0]} is not there: make them with "
            "'etp certificates --out FOLDER' and set ETP_CERTIFICATES"
        )
    ca, cert, key = map(str, paths)
    return Security(
        tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key, require_encryption=True
    )


def _local_workers(names: Sequence[str], security: Any) -> Any:
    """One worker process for each device, on the loopback interface only."""
    from distributed import Nanny, Scheduler, SpecCluster

    class Watched(Nanny):
        """Remembers how its last process ended."""

        last_exit: int | None = None

        def _on_worker_exit_sync(self, exitcode: int) -> None:
            self.last_exit = exitcode
            super()._on_worker_exit_sync(exitcode)  # type: ignore[no-untyped-call]

    cores = str(os.cpu_count() or 1)
    threads = {f"{library}_NUM_THREADS": cores for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    workers = {
        name: {
            "cls": Watched,
            "options": {
                "nthreads": 1,
                "resources": {name: 1},
                "host": "127.0.0.1",
                "protocol": "tls://",
                "security": security,
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
            "protocol": "tls://",
            "security": security,
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
        },
    }
    name = f"etp-{uuid.uuid4().hex[:6]}"
    _leave_main_out()
    return SpecCluster(workers, scheduler, security=security, silence_logs=False, name=name)


@cache
def _leave_main_out() -> None:
    """Workers do not import the program that asks for them: what they run has a module's name.

    Under Streamlit that program is the page drawn last, which every worker would draw once more at
    its start; in a script without a guard it is the script itself.
    """
    prepared = spawn.get_preparation_data

    def prepare(name: str) -> dict[str, Any]:
        data = prepared(name)
        if name == WORKER_NAME:
            for key in ("init_main_from_name", "init_main_from_path"):
                data.pop(key, None)
        return data

    spawn.get_preparation_data = prepare


def wait_for_exit(cluster: Cluster, device: str, seconds: float = 1.0) -> bool:
    """Whether the process of a device turns out to have been told to end, asked for a moment.

    Args:
        cluster: The workers.
        device: Whose process is meant.
        seconds: How long to ask.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if cluster.ended_by_request(device):
            return True
        time.sleep(0.05)
    return False
