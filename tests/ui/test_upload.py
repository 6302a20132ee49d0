"""What a visitor may send and start: files within the limit, and runs of her own once logged in."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

from etp.results.store import Store
from etp.run.config import Limits
from etp.run.runner import Runner
from etp.ui import jobs, results, visitors
from tests.make import MIMO


class Large:
    """A file of one line of 100 MB, made when it is read."""

    name, size = "line.jsonl", 100_000_000
    read = 0

    def getvalue(self) -> bytes:
        Large.read += 1
        return b"9" * self.size


def test_a_line_of_100_mb_is_refused_without_being_read(tmp_path, monkeypatch):
    store = Store(tmp_path / "etp.sqlite")
    state: dict[str, object] = {"uploads": [Large()]}
    monkeypatch.setattr(results, "st", SimpleNamespace(session_state=state))
    ann = visitors.Visitor("ann", "ann", "runner")
    monkeypatch.setattr(jobs, "visitor", lambda: ann)
    monkeypatch.setattr(jobs, "store", lambda: store)
    limits = Limits(upload_bytes=10_000_000)
    monkeypatch.setattr(jobs, "runner", lambda: SimpleNamespace(limits=limits))
    tracemalloc.start()
    try:
        results._take_uploads()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    said = str(state["not_imported"])
    assert "upload_bytes" in said
    assert "Nothing was added" in said
    assert (Large.read, store.revision()) == (0, 0)
    assert peak < 3_000_000


def test_who_logged_in_runs_what_is_hers_and_a_reader_nothing(tmp_path):
    access = visitors.Access("oidc", runners=("bob@example.org",))
    bob, eve = (
        visitors.Visitor(
            email, email, visitors.role_of(access, loopback=False, cookie=None, email=email)
        )
        for email in ("bob@example.org", "eve@example.org")
    )
    assert (bob.may_run, eve.may_run) == (True, False)
    store = Store(tmp_path / "etp.sqlite")
    runner = Runner(store, devices=["cpu"], task="tests.run.fake_tasks:run")
    try:
        case = {"problem": MIMO.as_dict(), "products": ["polite"]}
        job = runner.submit("t", [case], owner=bob.id)
        status = runner.status(job)
        assert status is not None
        assert status.owner == bob.id
        assert (bob.may_change(status.owner), eve.may_change(status.owner)) == (True, False)
        runner.cancel(job)
    finally:
        runner.close()
