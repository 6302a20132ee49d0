"""The runner, for real: worker processes that finish, hang, crash and are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etp.results.store import Store
from etp.run.runner import LOST_S, Runner, Status
from tests.make import MIMO

TASK = "tests.run.fake_tasks:run"
ROOT = Path(__file__).resolve().parents[2]

# The libraries underneath leave sockets to the garbage collector when a worker is killed.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("runner") / "etp.sqlite")


@pytest.fixture(scope="module")
def runner(store) -> Iterator[Runner]:
    os.environ["PYTHONPATH"] = str(ROOT)
    made = Runner(store, devices=["cpu"], task=TASK)
    yield made
    made.close()


def case(*products: str) -> dict[str, Any]:
    return {"problem": MIMO.as_dict(), "products": list(products)}


def wait(runner: Runner, job: str, until=lambda status: not status.active) -> Status:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        status = runner.status(job)
        assert status is not None
        if until(status):
            return status
        time.sleep(0.02)
    raise AssertionError(f"job {job} did not get there: {runner.status(job)}")


def reached(product: str):
    return lambda status: (status.now or {}).get("product") == product


def statuses(store: Store, job: str) -> dict[str, str]:
    return {row["product"]: row["status"] for row in store.rows(job=job)}


def test_a_job_runs_its_cases_in_order_and_all_rows_are_there_when_it_is_done(runner, store):
    job = runner.submit("t", [case("quick"), case("quick-2")])
    assert wait(runner, job).state == "done"
    assert [row["product"] for row in store.rows(job=job)] == ["quick", "quick-2"]
    status = runner.status(job)
    assert (status.done, status.total) == (2, 2)


@pytest.mark.fault(
    done="a worker killed while it measures, as when memory runs out",
    lost=0,
    doubled=0,
    says="the worker process was killed",
)
def test_a_killed_worker_leaves_a_true_reason_and_what_was_measured(runner, store):
    job = runner.submit("t", [case("quick", "suicide", "quick-2"), case("quick")])
    assert wait(runner, job).state == "done"
    rows = store.rows(job=job)
    assert [(r["product"], r["status"]) for r in rows] == [
        ("quick", "ok"), ("suicide", "failed"), ("quick-2", "failed"), ("quick", "ok"),
    ]  # fmt: skip
    assert "was killed while timing suicide" in rows[1]["reason"]


def test_a_worker_killed_from_outside_is_no_different(runner, store):
    job = runner.submit("t", [case("quick", "polite")])
    wait(runner, job, reached("polite"))
    (pid,) = runner._cluster.client.run(os.getpid).values()
    os.kill(pid, signal.SIGKILL)
    assert wait(runner, job).state == "done"
    assert statuses(store, job) == {"quick": "ok", "polite": "failed"}
    after = runner.submit("t", [case("quick")])
    assert wait(runner, after).state == "done"
    assert statuses(store, after) == {"quick": "ok"}


def test_an_error_in_a_case_becomes_its_reason_and_the_next_case_runs(runner, store):
    job = runner.submit("t", [case("error"), case("quick")])
    assert wait(runner, job).state == "done"
    first, second = store.rows(job=job)
    assert "RuntimeError while timing error: the device was lost" in first["reason"]
    assert second["status"] == "ok"


@pytest.mark.parametrize("product", ["polite", "deaf"])
def test_cancel_stops_within_a_second_and_keeps_what_was_measured(runner, store, product):
    job = runner.submit("t", [case("quick", product), case("quick-2")])
    wait(runner, job, reached(product))
    runner.cancel(job)
    status = wait(runner, job)
    assert status.state == "cancelled"
    by_product = statuses(store, job)
    assert by_product["quick"] == "ok"
    assert "quick-2" not in by_product


def test_a_run_that_was_cancelled_can_be_extended(runner, store):
    job = runner.submit("t", [case("quick", "polite")])
    wait(runner, job, reached("polite"))
    runner.cancel(job)
    assert wait(runner, job).state == "cancelled"
    runner.extend(job, [case("quick-2")])
    wait(runner, job, lambda status: "quick-2" in statuses(store, job))
    assert statuses(store, job)["quick-2"] == "ok"
    runner.cancel(job)
    wait(runner, job)


@pytest.mark.parametrize("product", ["polite", "deaf"])
def test_a_case_that_was_cancelled_is_run_again_when_the_job_is_resumed(runner, store, product):
    job = runner.submit("t", [case("quick"), case("quick-2", product), case("quick")])
    wait(runner, job, reached(product))
    runner.cancel(job)
    status = wait(runner, job)
    assert (status.state, status.done, status.resumable) == ("cancelled", 1, True)
    runner.resume(job)
    wait(runner, job, reached(product))
    runner.cancel(job)
    assert wait(runner, job).state == "cancelled"
    assert [row["product"] for row in store.rows(job=job)].count("quick") == 1


def test_jobs_wait_for_each_other_and_a_waiting_one_can_be_cancelled(runner, store):
    first = runner.submit("t", [case("polite")])
    wait(runner, first, reached("polite"))
    second, third = (runner.submit("t", [case("quick")]) for _ in range(2))
    assert runner.status(third).ahead == 2
    runner.cancel(third)
    assert wait(runner, third).state == "cancelled"
    runner.cancel(first)
    assert wait(runner, second).state == "done"
    assert store.rows(job=third) == []


def test_more_cases_can_be_added_to_a_job_that_has_ended(runner, store):
    job = runner.submit("t", [case("quick")])
    wait(runner, job)
    runner.extend(job, [case("quick-2")])
    assert wait(runner, job).state == "done"
    assert statuses(store, job) == {"quick": "ok", "quick-2": "ok"}
    with pytest.raises(ValueError, match="unknown"):
        runner.extend("nothing", [case("quick")])


def test_a_worker_allocates_memory_as_any_process_does(runner, store):
    job = runner.submit("t", [case("allocator")])
    wait(runner, job)
    (row,) = store.rows(job=job)
    assert row["badges"] == ()


def test_a_device_that_is_not_there_is_refused(runner):
    wrong = {"problem": MIMO.at(device="cuda:7").as_dict(), "products": ["quick"]}
    with pytest.raises(ValueError, match=r"device must be one of cpu.*cuda:7"):
        runner.submit("t", [wrong])
    with pytest.raises(ValueError, match="at least one case"):
        runner.submit("t", [])


def test_an_open_scheduler_is_refused(store):
    with pytest.raises(ValueError, match="tls"):
        Runner(store, scheduler="tcp://10.0.0.1:8786")


SERVER = """
import sys, time
from etp.run.runner import Runner
from etp.results.store import Store
if __name__ == "__main__":
    runner = Runner(Store(sys.argv[1]), devices=["cpu"], task="tests.run.fake_tasks:run")
    case = {"problem": %r, "products": ["quick", "deaf"]}
    print(runner.submit("t", [case]), flush=True)
    time.sleep(60)
"""


@pytest.mark.fault(
    done="the server killed while a job runs",
    lost=0,
    doubled=0,
    says="the process that ran it ended; what was measured until then is kept",
)
def test_a_killed_application_finds_its_store_whole_and_leaves_no_worker(tmp_path):
    script = tmp_path / "server.py"
    script.write_text(SERVER % MIMO.as_dict())
    path = tmp_path / "etp.sqlite"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(script), str(path)],
        stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        job = server.stdout.readline().strip()
        store = Store(path)
        end = time.monotonic() + 120
        while not store.rows(job=job) and time.monotonic() < end:
            time.sleep(0.05)
        workers = children(server.pid)
        server.kill()
        server.wait()
    assert statuses(Store(path), job) == {"quick": "ok"}
    end = time.monotonic() + 120
    while any(alive(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [pid for pid in workers if alive(pid)]
    store.update_job(job, beat=time.monotonic() - 2 * LOST_S)
    again = Runner(Store(path), devices=["cpu"], task=TASK)
    try:
        status = again.status(job)
        assert status is not None
        assert status.state == "interrupted"
        assert "what was measured until then is kept" in str(status.reason)
    finally:
        again.close()


def children(pid: int) -> list[int]:
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if parent == pid:
                pids.append(int(entry.name))
    return pids


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
