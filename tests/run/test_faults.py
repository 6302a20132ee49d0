"""What goes wrong on a server, done for real: the store, the workers, the program, others."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from etp.results import database
from etp.results.store import Store, StoreError
from etp.run.config import LimitError, Limits
from etp.run.runner import Runner, Status
from tests.make import MIMO
from tests.run.fake_tasks import LOST

TASK = "tests.run.fake_tasks:run"
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "etp.sqlite")


@pytest.fixture
def make(monkeypatch) -> Iterator[Callable[..., Runner]]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made: list[Runner] = []

    def runner(store: Store, **options: Any) -> Runner:
        made.append(Runner(store, devices=["cpu"], task=TASK, **options))
        return made[-1]

    yield runner
    for each in made:
        each.close()


def case(*products: str) -> dict[str, Any]:
    return {"problem": MIMO.as_dict(), "products": list(products)}


def wait(runner: Runner, job: str, until=lambda status: not status.active) -> Status:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        # A store that cannot even be read says so; what it says of the job comes later.
        with suppress(StoreError):
            status = runner.status(job)
            if status is not None and until(status):
                return status
        time.sleep(0.02)
    raise AssertionError(f"job {job} did not get there: {runner.status(job)}")


def reached(product: str):
    return lambda status: (status.now or {}).get("product") == product


def products(store: Store, job: str) -> list[tuple[str, str]]:
    return [(row["product"], row["status"]) for row in store.rows(job=job)]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(descriptor, b"x" * 512)
    except OSError:
        os.close(descriptor)


@pytest.mark.fault(
    done="the store's disk full while a job runs",
    lost=0,
    doubled=0,
    says="cannot be used",
)
def test_rows_wait_in_memory_while_the_disk_is_full_and_the_next_job_runs(small_disk, make):
    store = Store(small_disk / "etp.sqlite")
    runner = make(store)
    job = runner.submit("t", [case("slow", "quick", "quick-2")])
    wait(runner, job, reached("slow"))
    filler = small_disk / "filler"
    fill(filler)
    end = time.monotonic() + 120
    while not len(runner._shared.outbox) and time.monotonic() < end:
        time.sleep(0.05)
    assert "cannot be used" in str(runner._shared.outbox.trouble)
    filler.unlink()
    assert wait(runner, job).state == "done"
    assert products(store, job) == [("slow", "ok"), ("quick", "ok"), ("quick-2", "ok")]
    after = runner.submit("t", [case("quick")])
    assert wait(runner, after).state == "done"


@pytest.mark.fault(
    done="the store locked by another program",
    lost=0,
    doubled=0,
    says="another program has held it",
)
def test_a_locked_store_is_waited_for_and_said(store, make, monkeypatch):
    monkeypatch.setattr(database, "BUSY_S", 0.2)
    runner = make(store)
    job = runner.submit("t", [case("slow", "quick")])
    wait(runner, job, reached("slow"))
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    status = wait(runner, job, lambda status: status.held_up is not None)
    assert "another program has held it" in str(status.held_up)
    holder.execute("ROLLBACK")
    holder.close()
    assert wait(runner, job).state == "done"
    assert products(store, job) == [("slow", "ok"), ("quick", "ok")]


@pytest.mark.fault(
    done="the store deleted while a job runs",
    lost="those in the deleted file",
    doubled=0,
    says="",
)
def test_a_store_deleted_under_the_program_is_begun_anew(store, make):
    runner = make(store)
    job = runner.submit("t", [case("slow", "quick")])
    wait(runner, job, reached("slow"))
    for path in store.path.parent.glob("etp.sqlite*"):
        path.unlink()
    time.sleep(0.5)
    assert runner.status(job) is None
    after = runner.submit("t", [case("quick")])
    assert wait(runner, after).state == "done"
    assert products(store, after) == [("quick", "ok")]


@pytest.mark.fault(
    done="the store overwritten while the program runs",
    lost="what was overwritten; the file is set aside",
    doubled=0,
    says=".damaged-",
)
def test_a_store_damaged_under_the_program_is_set_aside_under_a_name_that_is_told(store, make):
    runner = make(store)
    first = runner.submit("t", [case("quick")])
    wait(runner, first)
    for path in store.path.parent.glob("etp.sqlite*"):
        path.write_bytes(b"not what it was " * 400)
    after = runner.submit("t", [case("quick")])
    assert wait(runner, after).state == "done"
    assert store.set_aside is not None
    assert store.set_aside.read_bytes().startswith(b"not what it was")
    assert ".damaged-" in store.set_aside.name


@pytest.mark.fault(
    done="a worker that hangs (SIGSTOP), then Cancel",
    lost=0,
    doubled=0,
    says="",
)
def test_a_worker_that_hangs_is_replaced_when_its_job_is_cancelled(store, make):
    runner = make(store)
    job = runner.submit("t", [case("quick", "polite")])
    wait(runner, job, reached("polite"))
    (pid,) = runner._cluster.client.run(os.getpid).values()
    os.kill(pid, signal.SIGSTOP)
    runner.cancel(job)
    assert wait(runner, job).state == "cancelled"
    assert products(store, job) == [("quick", "ok"), ("polite", "cancelled")]
    after = runner.submit("t", [case("quick")])
    assert wait(runner, after).state == "done"


@pytest.mark.fault(
    done="a GPU's context is lost: an illegal memory access, a failed assertion",
    lost=0,
    doubled=0,
    says="illegal memory access",
)
@pytest.mark.parametrize("breaks", ["breaks", "breaks, raising"])
def test_a_lost_context_is_a_row_and_the_next_case_runs_in_a_new_process(store, make, breaks):
    runner = make(store)
    asked = [case("answers"), case("answers"), case(breaks), case("answers"), case("answers")]
    job = runner.submit("t", asked)
    assert wait(runner, job).state == "done"
    rows = list(store.rows(job=job))
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "ok", "ok"]
    assert LOST in rows[2]["reason"]
    before, same, _, after, later = (row["badges"] for row in rows)
    # Without an error a process is kept: a new one would compile and warm up again.
    assert before == same != after == later


def test_a_worker_does_not_run_the_program_that_asks(store, make, tmp_path, monkeypatch):
    trace, script = tmp_path / "trace", tmp_path / "page.py"
    script.write_text(f"open({str(trace)!r}, 'w').close()")
    # As Streamlit puts its page in the place of the program.
    drawn = ModuleType("__main__")
    drawn.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", drawn)
    runner = make(store)
    assert wait(runner, runner.submit("t", [case("suicide"), case("quick")])).state == "done"
    assert not trace.exists()


def test_a_worker_that_is_slow_to_start_again_is_not_given_up(store, make):
    import dask
    import distributed  # noqa: F401  its own settings come with it

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "10 ms"}):
        runner = make(store)
        job = runner.submit("t", [case("suicide"), case("quick"), case("suicide"), case("quick-2")])
        assert wait(runner, job).state == "done"
    kept = dict(products(store, job))
    assert kept == {"suicide": "failed", "quick": "ok", "quick-2": "ok"}


@pytest.mark.fault(
    done="a worker killed together with what starts it again",
    lost=0,
    doubled=0,
    says="the worker process was killed",
)
def test_a_worker_that_was_given_up_is_replaced(store, make, monkeypatch):
    runner = make(store)
    job = runner.submit("t", [case("quick", "polite"), case("quick-2")])
    wait(runner, job, reached("polite"))
    workers = runner._cluster._workers
    workers.sync(workers.workers["cpu"].close)
    assert wait(runner, job).state == "done"
    assert products(store, job) == [("quick", "ok"), ("polite", "failed"), ("quick-2", "ok")]
    assert "was killed while timing polite" in store.rows(job=job)[1]["reason"]
    # Where none takes its place, a case does not wait for it.
    workers.sync(workers.workers["cpu"].close)
    with monkeypatch.context() as here:
        here.setattr(runner._cluster, "_start_again", lambda: None)
        job = runner.submit("t", [case("quick")])
        assert wait(runner, job).state == "done"
    (row,) = store.rows(job=job)
    assert "could not be started" in row["reason"]


@pytest.mark.fault(
    done="two programs on one store",
    lost=0,
    doubled=0,
    says="another program with the same store measures on this device",
)
def test_two_programs_on_one_store_never_measure_on_one_device_at_once(store, make):
    first, second = make(store), make(Store(store.path))
    running = first.submit("t", [case("polite")])
    wait(first, running, reached("polite"))
    other = second.submit("t", [case("quick")])
    status = wait(second, other, lambda status: status.held_up is not None)
    assert "another program" in str(status.held_up)
    assert products(store, other) == []
    # Cancel works from the program that does not run it.
    second.cancel(running)
    assert wait(first, running).state == "cancelled"
    assert wait(second, other).state == "done"


def test_owners_take_turns(store, make):
    runner = make(store)
    held = runner.submit("t", [case("polite")], owner="ann", estimate_s=300)
    wait(runner, held, reached("polite"))
    second = runner.submit("t", [case("quick")], owner="ann", estimate_s=5)
    third = runner.submit("t", [case("quick")], owner="ann", estimate_s=5)
    other = runner.submit("t", [case("quick")], owner="bob", estimate_s=5)
    ahead = {job: runner.status(job) for job in (second, third, other)}
    assert [s.ahead for s in ahead.values() if s] == [2, 3, 1]
    assert ahead[other].start_s == pytest.approx(300, abs=100)
    runner.cancel(held)
    for job in (second, third, other):
        assert wait(runner, job).state == "done"
    started = {job: store.job(job).started for job in (second, third, other)}
    assert sorted(started, key=lambda job: started[job] or 0) == [other, second, third]


def test_a_case_and_a_job_that_outlive_their_limits_are_stopped_and_keep_what_they_have(
    store, make
):
    runner = make(store, limits=Limits(case_seconds=1))
    job = runner.submit("t", [case("quick", "deaf"), case("quick-2")])
    assert wait(runner, job).state == "done"
    rows = store.rows(job=job)
    assert [r["status"] for r in rows] == ["ok", "failed", "ok"]
    assert "case_seconds" in rows[1]["reason"]
    runner.close()
    runner = make(Store(store.path), limits=Limits(job_seconds=1))
    job = runner.submit("t", [case("slow"), case("quick")])
    status = wait(runner, job)
    assert status.state == "cancelled"
    assert "job_seconds" in str(status.reason)
    assert products(store, job) == [("slow", "ok")]


SERVER = """
import sys, time
from etp.run.runner import Runner
from etp.results.store import Store, StoreError
if __name__ == "__main__":
    runner = Runner(Store(sys.argv[1]), devices=["cpu"], task="tests.run.fake_tasks:run")
    case = {"problem": %r, "products": ["quick", "polite"]}
    print(runner.submit("t", [case, case | {"products": ["quick-2"]}]), flush=True)
    time.sleep(60)
"""


@pytest.mark.fault(
    done="the server ended by SIGTERM",
    lost=0,
    doubled=0,
    says="",
)
def test_a_server_that_is_told_to_stop_interrupts_its_jobs_which_can_be_resumed(tmp_path, make):
    script = tmp_path / "server.py"
    script.write_text(SERVER % MIMO.as_dict())
    store = Store(tmp_path / "etp.sqlite")
    with subprocess.Popen(
        [sys.executable, str(script), str(store.path)],
        stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as server:  # fmt: skip
        assert server.stdout is not None
        job = server.stdout.readline().strip()
        end = time.monotonic() + 120
        while not store.rows(job=job) and time.monotonic() < end:
            time.sleep(0.05)
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    assert [s for _, s in products(store, job)] == ["ok"]
    again = make(store)
    store.update_job(job, beat=-1e9)
    status = wait(again, job)
    assert (status.state, status.resumable) == ("interrupted", True)
    again.cancel(job)
    again.resume(job)
    wait(again, job, reached("polite"))
    again.cancel(job)
    assert wait(again, job).state == "cancelled"


@pytest.mark.fault(
    done="workers ended by SIGTERM",
    lost=0,
    doubled=0,
    says="the server was stopped",
)
def test_workers_are_ended_from_outside_and_the_job_says_that_the_server_was_stopped(store, make):
    runner = make(store)
    job = runner.submit("t", [case("quick", "polite"), case("quick-2")])
    wait(runner, job, reached("polite"))
    (pid,) = runner._cluster.client.run(os.getpid).values()
    os.kill(pid, signal.SIGTERM)
    status = wait(runner, job)
    assert (status.state, status.done) == ("interrupted", 0)
    assert "server was stopped" in str(status.reason)
    assert products(store, job) == [("quick", "ok")]


STRANGER = """
import sys
from distributed import Client
for address in sys.argv[1:]:
    try:
        Client(address, timeout=2)
    except (OSError, TypeError, RuntimeError) as error:
        print("refused")
"""


def test_nobody_else_on_this_machine_can_use_the_workers(store, make):
    runner = make(store)
    wait(runner, runner.submit("t", [case("quick")]))
    address = runner._cluster.client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    # In a process of its own: what is left of a client that failed closes itself when collected,
    # and would hold up the loop of other tests.
    stranger = subprocess.run(
        [sys.executable, "-c", STRANGER, address, address.replace("tls", "tcp")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert stranger.stdout.split() == ["refused", "refused"], stranger.stderr


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.1:8786", "tcp://127.evil.example:1", "ucx://127.0.0.1:1", "x"]
)
def test_a_scheduler_that_lets_anyone_run_code_is_refused(store, address):
    with pytest.raises(ValueError, match="tls"):
        Runner(store, scheduler=address)


@pytest.mark.fault(
    done="twenty jobs of four owners at once",
    lost=0,
    doubled=0,
    says="",
)
def test_many_submitters_lose_and_double_nothing(store, make):
    runner = make(store)
    jobs: list[str] = []

    def submit(owner: str) -> None:
        for _ in range(5):
            jobs.append(runner.submit("t", [case("quick")], owner=owner))

    threads = [threading.Thread(target=submit, args=[name]) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in jobs:
        assert wait(runner, job).state == "done"
        assert products(store, job) == [("quick", "ok")]


class Clock:
    """The time of day as this process sees it, which can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import distributed  # noqa: F401  it keeps the function under names of its own

        self.off, self._real = 0.0, time.time
        for module in list(sys.modules.values()):
            if getattr(module, "time", None) is self._real:
                monkeypatch.setattr(module, "time", self.now)
        monkeypatch.setattr(time, "time", self.now)

    def now(self) -> float:
        """What ``time.time()`` says."""
        return self._real() + self.off

    def set(self, off: float) -> None:
        """Once nothing is under way: distributed holds messages back by the time of day."""
        time.sleep(0.5)
        self.off = off


@pytest.mark.fault(
    done="the clock set back by a day while a job runs",
    lost=0,
    doubled=0,
    says="another program with the same store measures on this device",
)
def test_the_clock_is_set_back_while_a_job_runs(store, make, monkeypatch):
    clock = Clock(monkeypatch)
    first = make(store, limits=Limits(case_seconds=4, jobs_per_hour=4))
    job = first.submit("t", [case("slow", "quick"), case("deaf"), case("quick-2")], owner="ann")
    waits = first.submit("t", [case("quick")], owner="ann", estimate_s=5)
    wait(first, job, reached("slow"))
    clock.set(-24 * 3600)
    # Another program neither takes the device nor thinks that the first has ended.
    second = make(Store(store.path))
    other = second.submit("t", [case("quick")])
    held = wait(second, other, lambda status: status.held_up is not None)
    assert "another program" in str(held.held_up)
    for runner in (first, second):
        status = runner.status(job)
        assert status is not None
        assert status.state == "running"
    status = first.status(job)
    assert status is not None
    assert 0 < status.seconds < 60
    over = wait(first, job)
    assert (over.state, over.reason) == ("done", None)
    rows = store.rows(job=job)
    assert [(r["product"], r["status"]) for r in rows] == [
        ("slow", "ok"), ("quick", "ok"), ("deaf", "failed"), ("quick-2", "ok"),
    ]  # fmt: skip
    assert "case_seconds" in rows[2]["reason"]
    assert wait(first, waits).state == "done"
    assert wait(second, other).state == "done"
    ended = first.status(job)
    assert ended is not None
    assert ended.seconds >= 0


def test_leases_and_lives_are_told_by_a_clock_that_nobody_sets(store, monkeypatch):
    clock = Clock(monkeypatch)
    assert store.lease("cpu", "one")
    for clock.off in (-1e6, 1e6):
        assert not store.lease("cpu", "two")
    # Its holder has ended, or the machine was started anew: then others may have it.
    for beat in (time.monotonic() - 11, time.monotonic() + 1e6):
        with sqlite3.connect(store.path) as db:
            db.execute("UPDATE lease SET beat = ?", [beat])
        db.close()
        holder = f"after {beat}"
        assert store.lease("cpu", holder)
        assert not store.lease("cpu", "two")


def test_the_limit_of_jobs_within_an_hour_outlives_no_clock(store, make, monkeypatch):
    runner = make(store, limits=Limits(jobs_per_hour=1))
    clock = Clock(monkeypatch)
    clock.off = 1e7
    wait(runner, runner.submit("t", [case("quick")], owner="ann"))
    with pytest.raises(LimitError, match="jobs_per_hour"):
        runner.submit("t", [case("quick")], owner="ann")
    clock.set(0.0)
    after = runner.submit("t", [case("quick")], owner="ann")
    assert wait(runner, after).state == "done"
