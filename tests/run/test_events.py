"""The log of a server, and what its limit of rows removes."""

from __future__ import annotations

import json
import logging
import time

import pytest

from etp.results.store import Store
from etp.run import events, runner
from etp.run.config import Limits
from etp.run.runner import Runner
from tests.make import run_of


@pytest.fixture
def told(capsys):
    """Events as they were written to standard error."""
    log = logging.getLogger("etp.events")
    before = list(log.handlers)
    events.to_stderr()
    events.to_stderr()
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    log.handlers[:] = before


def test_an_event_is_one_line_whatever_it_holds(told):
    try:
        raise ValueError("two\nlines \ud800")
    except ValueError as error:
        events.event("page_failed", error=str(error), odd={1, 2}.__class__)
    (line,) = told()
    assert line["event"] == "page_failed"
    assert line["error"] == "two\nlines \ud800"
    assert "ValueError" in line["traceback"]


def test_a_library_is_silent(capsys):
    events.event("job_queued", job="x")
    assert capsys.readouterr().err == ""


def test_the_runner_keeps_the_store_to_its_limit(told, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "PRUNE_S", 0.05)
    store = Store(tmp_path / "etp.sqlite")
    for name in ("published", "old", "new"):
        store.add_job(name, name, [{"n": 0}])
        store.update_job(name, state="done")
        store.add_rows([row.with_(job=name) for row in run_of({"a": 1e-3, "b": 2e-3})])
    store.update_job("published", published=1.0)
    made = Runner(store, limits=Limits(rows=4))
    try:
        end = time.monotonic() + 120
        while store.job("old") is not None and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        made.close()
    assert {row["job"] for row in store.rows()} == {"published", "new"}
    assert [line["rows"] for line in told() if line["event"] == "rows_pruned"] == [2]
