"""More of what goes wrong on a server, done for real: its folder, its clock, its neighbours."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etp.results.rows import jsonl
from etp.results.store import Store
from tests.make import run_of
from tests.run.test_faults import (  # noqa: F401
    Clock,
    case,
    make,
    products,
    reached,
    store,
    wait,
)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.fault(
    done="the folder of the store removed while a job runs",
    lost="those in the removed folder",
    doubled=0,
    says="",
)
def test_a_folder_that_is_removed_is_made_again(tmp_path, make):  # noqa: F811
    own = Store(tmp_path / "data" / "etp.sqlite")
    runner = make(own)
    job = runner.submit("t", [case("slow", "quick")])
    wait(runner, job, reached("slow"))
    shutil.rmtree(own.path.parent)
    time.sleep(0.5)
    after = runner.submit("t", [case("quick")])
    assert wait(runner, after).state == "done"
    assert products(own, after) == [("quick", "ok")]


@pytest.mark.fault(
    done="the folder of the store replaced by a file while a job runs, then given back",
    lost="those in the removed folder",
    doubled=0,
    says="cannot be used",
)
def test_a_folder_that_became_a_file_is_said_and_waited_for(tmp_path, make):  # noqa: F811
    own = Store(tmp_path / "data" / "etp.sqlite")
    runner = make(own)
    job = runner.submit("t", [case("slow", "quick")])
    wait(runner, job, reached("slow"))
    shutil.rmtree(own.path.parent)
    own.path.parent.write_text("not a folder")
    end = time.monotonic() + 20
    while not runner._shared.outbox.trouble and time.monotonic() < end:
        time.sleep(0.05)
    assert "cannot be used" in str(runner._shared.outbox.trouble)
    own.path.parent.unlink()
    after = runner.submit("t", [case("quick")])
    assert wait(runner, after).state == "done"


@pytest.mark.fault(
    done="two programs on one store cancel one job at once",
    lost=0,
    doubled=0,
    says="",
)
def test_two_programs_cancel_at_once_and_the_next_jobs_run(store, make):  # noqa: F811
    first, second = make(store), make(Store(store.path))
    job = first.submit("t", [case("quick", "polite", "quick-2")])
    wait(first, job, reached("polite"))
    waits = second.submit("t", [case("quick")])
    for runner in (first, second, first, second):
        runner.cancel(job)
        runner.cancel(waits)
    assert wait(first, job).state == wait(second, job).state == "cancelled"
    assert wait(second, waits).state == "cancelled"
    rows = products(store, job)
    assert rows.count(("quick", "ok")) == 1
    assert [product for product, _ in rows] == list(dict.fromkeys(product for product, _ in rows))
    assert products(store, waits) == []
    for runner in (second, first):
        assert wait(runner, runner.submit("t", [case("quick")])).state == "done"


@pytest.mark.fault(
    done="the clock set forward by a day while a job runs",
    lost=0,
    doubled=0,
    says="",
)
def test_the_clock_is_set_forward_while_a_job_runs(store, make, monkeypatch):  # noqa: F811
    clock = Clock(monkeypatch)
    first = make(store)
    job = first.submit("t", [case("slow", "quick")], owner="ann", estimate_s=5)
    wait(first, job, reached("slow"))
    clock.set(24 * 3600)
    second = make(Store(store.path))
    other = second.submit("t", [case("quick")])
    status = wait(first, job)
    assert (status.state, status.reason) == ("done", None)
    assert products(store, job) == [("slow", "ok"), ("quick", "ok")]
    assert wait(second, other).state == "done"


KILLED = """
import sys, time
from etp.results import imports, store
from etp.cli.main import main
real = store.Store.add_imports
def slowly(self, runs):
    print("adding", flush=True)
    time.sleep(float(sys.argv[1]))
    return real(self, runs)
store.Store.add_imports = slowly
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.fault(
    done="an import ended by SIGTERM",
    lost="those not added yet: the same import adds them",
    doubled=0,
    says="",
)
def test_an_import_that_is_ended_can_be_done_again(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl(run_of({"a": 1e-3, "b": 2e-3})))
    words = ["import", str(path), "--store", str(tmp_path / "etp.sqlite")]
    command = [sys.executable, "-c", KILLED, "30", *words]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "adding\n"
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert process.returncode != 0
    own = Store(tmp_path / "etp.sqlite")
    assert own.rows() == []
    for _ in range(2):
        subprocess.run([sys.executable, "-m", "etp", *words], check=True, env=environment)
        assert len(own.rows()) == 2
