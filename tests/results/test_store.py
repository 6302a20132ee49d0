from __future__ import annotations

import json
import sqlite3
import threading

import pytest

from etp.results.files import write_jsonl
from etp.results.rows import SAMPLE_KEYS, Row, RowError
from etp.results.store import Store, StoreError
from tests.make import row, run_of


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "deep" / "etp.sqlite")


def test_rows_come_back_as_they_were_in_their_order(store):
    rows = [*run_of({"a": 1e-3, "b": 2e-3}), row("c", status="failed", result=None, reason="x")]
    assert store.add_rows(rows) == 3
    assert store.rows(samples=True) == rows


def test_a_row_is_kept_once(store):
    rows = [row()]
    assert (store.add_rows(rows), store.add_rows(rows)) == (1, 0)
    assert len(store.rows()) == 1


def test_listing_leaves_out_long_samples_but_keeps_what_verdicts_need(store):
    (made,) = run_of({"a": 1e-3})
    store.add_rows([made])
    (listed,) = store.rows()
    assert not set(SAMPLE_KEYS) & set(listed["result"])
    assert listed["result"]["blocks_s"] == made["result"]["blocks_s"]
    samples = store.samples(made["id"])
    assert samples is not None
    assert samples["samples_s"] == made["result"]["samples_s"]


def test_one_bad_row_keeps_all_out(store):
    with pytest.raises(RowError, match="status"):
        store.add_rows([row(), row(status="?")])
    assert store.rows() == []


def test_rows_are_found_by_what_they_are(store):
    store.add_rows(
        [row("a", job="j"), row("b"), row("b", status="failed", result=None, reason="r")]
    )
    assert [r["product"] for r in store.rows(job="j")] == ["a"]
    assert len(store.rows(product="b", status="failed")) == 1


def test_the_revision_grows_with_every_row(store):
    before = store.revision()
    store.add_rows([row()])
    assert store.revision() > before


def test_the_revision_of_a_run_changes_with_its_own_rows_alone(store):
    store.add_rows([row("a", job="j")])
    before = store.revision_of("j")
    store.add_rows([row("b", job="another")])
    assert store.revision_of("j") == before
    store.add_rows([row("c", job="j")])
    assert store.revision_of("j") != before


def test_many_threads_lose_nothing(store):
    def add() -> None:
        for _ in range(20):
            store.add_rows([row()])

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.rows()) == 120


def test_export_writes_every_row_whole_and_leaves_no_other_file(store, tmp_path):
    rows = run_of({"a": 1e-3, "b": 2e-3})
    store.add_rows(rows)
    out = tmp_path / "out.jsonl"
    assert store.export_jsonl(out) == 2
    assert [Row.read(json.loads(line)) for line in out.read_text().splitlines()] == rows
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_a_failed_export_leaves_the_old_file(store, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    with pytest.raises(ValueError, match="JSON"):
        write_jsonl(out, [row(result={"median_s": float("nan")})])
    assert out.read_text() == "old"


def test_jobs_are_remembered_and_change(store):
    store.add_job("j", "Compare", [{"products": ["a"]}])
    store.update_job("j", state="running", now={"round": 3}, started=1.0)
    job = store.job("j")
    assert job is not None
    assert (job.state, job.now, job.total, job.active) == ("running", {"round": 3}, 1, True)
    assert store.job("other") is None
    assert [j.id for j in store.jobs("running")] == ["j"]
    with pytest.raises(ValueError, match="no field 'title'"):
        store.update_job("j", title="x")


def test_more_cases_replace_those_that_were_not_reached(store):
    store.add_job("j", "Compare", [{"n": 0}, {"n": 1}])
    store.update_job("j", state="cancelled", ended=[0])
    store.extend_job("j", [{"n": 2}])
    job = store.job("j")
    assert job is not None
    assert [case["n"] for case in job.cases] == [0, 2]
    assert job.state == "queued"


def test_a_file_that_is_no_database_is_left_alone_and_named(tmp_path):
    path = tmp_path / "x.sqlite"
    path.write_text("something else, long enough to be read as a header" * 10)
    with pytest.raises(StoreError, match=r"x\.sqlite.*ETP_STORE"):
        Store(path)
    assert path.read_text().startswith("something else")


def test_a_newer_database_is_refused(tmp_path):
    path = tmp_path / "x.sqlite"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="version 99"):
        Store(path)
