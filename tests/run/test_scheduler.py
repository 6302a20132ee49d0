"""A scheduler elsewhere that is killed while it runs a job, and one that takes its place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etp.results.store import Store
from etp.run import cluster
from etp.run.runner import Runner, Status
from tests.make import MIMO
from tests.network import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore")


class Machines:
    """A scheduler and one worker, on loopback."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start both; the worker waits for the scheduler."""
        for words in (
            ["dask_scheduler", "--host=127.0.0.1", f"--port={self.port}", "--no-dashboard"],
            ["dask_worker", self.address, "--nthreads=1", "--no-nanny", "--no-dashboard",
             "--resources=cpu=1"],
        ):  # fmt: skip
            words[0] = f"distributed.cli.{words[0]}"
            self.started.append(
                subprocess.Popen(
                    [sys.executable, "-m", *words], cwd=ROOT,
                    env=os.environ | {"PYTHONPATH": str(ROOT)},
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
        wait_for(self.port)

    def kill(self, *numbers: int) -> None:
        """End processes by their place in the order of their starts."""
        for number in numbers:
            self.started[number].send_signal(signal.SIGKILL)
            self.started[number].wait()


def wait(runner: Runner, job: str, product: str | None = None) -> Status:
    """Until a job has ended, or is at a product."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        status = runner.status(job)
        assert status is not None
        if not status.active or (status.now or {}).get("product") == (product or ""):
            return status
        time.sleep(0.02)
    raise AssertionError(runner.status(job))


@pytest.mark.fault(
    done="a scheduler elsewhere killed while a job runs",
    lost=0,
    doubled=0,
    says="does not answer; what was measured until then is kept",
)
def test_a_scheduler_is_killed_and_the_next_job_runs_on_one_that_takes_its_place(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(cluster._CONFIG, "distributed.comm.timeouts.connect", "2 s")
    machines, store = Machines(), Store(tmp_path / "etp.sqlite")
    machines.start()
    runner = Runner(store, scheduler=machines.address, task="tests.run.fake_tasks:run")
    try:
        case = {"problem": MIMO.as_dict(), "products": ["quick", "polite"]}
        job = runner.submit("t", [case, case | {"products": ["quick-2"]}])
        wait(runner, job, "polite")
        machines.kill(0)
        status = wait(runner, job)
        assert (status.state, status.done) == ("interrupted", 0)
        assert "scheduler" in str(status.reason)
        assert [(r["product"], r["status"]) for r in store.rows(job=job)] == [("quick", "ok")]
        # While there is none, that is said of the next job too.
        lost = runner.submit("t", [case | {"products": ["quick"]}])
        status = wait(runner, lost)
        assert (status.state, status.resumable) == ("interrupted", True)
        assert machines.address in str(status.reason)
        machines.kill(1)
        machines.start()
        runner.resume(lost)
        assert wait(runner, lost).state == "done"
        assert [(r["product"], r["status"]) for r in store.rows(job=lost)] == [("quick", "ok")]
    finally:
        runner.close()
        machines.kill(*range(len(machines.started)))
