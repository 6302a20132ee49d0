"""Workers elsewhere: a scheduler and two workers of their own, with certificates, on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from etp.results.store import Store
from etp.run.certificates import make
from etp.run.runner import Runner
from tests.make import MIMO
from tests.network import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore")
NAMES = ("cpu", "cuda:0")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "certificates"
    make(folder, days=1)
    return folder


@pytest.fixture(scope="module")
def address(certificates) -> Iterator[str]:
    port = free_port()
    url = f"tls://127.0.0.1:{port}"
    with ExitStack() as stack:

        def start(role: str, module: str, *words: str) -> None:
            tls = [f"--tls-ca-file={certificates / 'ca.pem'}"]
            tls += [
                f"--tls-{part}={certificates / f'{role}-{part}.pem'}" for part in ("cert", "key")
            ]
            command = [sys.executable, "-m", f"distributed.cli.{module}", *words, *tls]
            process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.terminate)

        start("scheduler", "dask_scheduler", "--protocol=tls", "--host=127.0.0.1",
              f"--port={port}", "--no-dashboard")  # fmt: skip
        for name in NAMES:
            start("worker", "dask_worker", url, "--protocol=tls", "--nthreads=1", "--no-dashboard",
                  f"--resources={name}=1", f"--name={name}")  # fmt: skip
        wait_for(port, 30)
        yield url


def test_each_case_runs_on_the_worker_of_its_device(address, certificates, tmp_path, monkeypatch):
    monkeypatch.setenv("ETP_CERTIFICATES", str(certificates))
    store = Store(tmp_path / "etp.sqlite")
    runner = Runner(store, scheduler=address, task="tests.run.fake_tasks:run")
    try:
        problem = MIMO.as_dict()
        cases = [{"problem": problem | {"device": d}, "products": ["quick"]} for d in NAMES]
        job = runner.submit("t", cases)
        end = time.monotonic() + 120
        while runner.status(job).active and time.monotonic() < end:  # type: ignore[union-attr]
            time.sleep(0.05)
        assert sorted(row["problem"]["device"] for row in store.rows(job=job)) == sorted(NAMES)
        assert {row["status"] for row in store.rows(job=job)} == {"ok"}
        assert runner.devices() == dict.fromkeys(sorted(NAMES), "127.0.0.1")
        with pytest.raises(ValueError, match="cpu, cuda:0"):
            runner.submit("t", [{"problem": problem | {"device": "cuda:7"}, "products": ["quick"]}])
    finally:
        runner.close()


def test_without_certificates_nothing_is_connected_and_the_mend_is_named(
    address, tmp_path, monkeypatch
):
    monkeypatch.setenv("ETP_CERTIFICATES", str(tmp_path))
    runner = Runner(Store(tmp_path / "etp.sqlite"), scheduler=address)
    try:
        with pytest.raises(ValueError, match="etp certificates"):
            runner._cluster.connect()
    finally:
        runner.close()
