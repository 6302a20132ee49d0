"""What others measured, on every page: imported files open, are named, and can be taken away."""

from __future__ import annotations

import json

import pytest

from etp.results import formats, imports
from etp.results.rows import jsonl
from etp.results.store import Store, default_path
from etp.ui import jobs, removal
from etp.ui.visitors import Visitor
from tests.make import run_of
from tests.results.test_formats import BENCHMARK, NSIGHT, PAPER, oeq
from tests.ui.opening import PAGES, open_page, text_of

pytestmark = [
    pytest.mark.usefixtures("fresh_server"),
    pytest.mark.filterwarnings("ignore"),
]

FILES = {
    "nsight_profiling_RTX.csv": NSIGHT,
    "walltime_cpu.csv": PAPER,
    "flops_cpu.csv": PAPER.replace("Time", "flops"),
    "oeq.json": json.dumps(oeq([1.0, 2.0, 3.0])),
    "bench.json": json.dumps({"machine_info": None, "benchmarks": [BENCHMARK]}),
    "etp.jsonl": jsonl(run_of({"a": 1e-3, "cg-sparse": 2e-3}, twin="a")),
}


def imported() -> dict[str, str]:
    """Everything in the store; ids of the runs by name of the file."""
    store, run_ids = Store(default_path()), {}
    for name, text in FILES.items():
        (run,) = imports.adopted(formats.read_files({name: text.encode()}), name)
        store.add_imports([run])
        run_ids[name] = run.job
    return run_ids


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_with_every_kind_of_import(page):
    run_ids = imported()
    for name in ("nsight_profiling_RTX.csv", "flops_cpu.csv", "oeq.json"):
        job = run_ids[name]
        shown = open_page(page, job=job, scaling=job, checks=job, counts=job)
        assert not shown.exception
        assert "could not be shown" not in text_of(shown)


def test_results_name_imports_and_compare_them_with_others():
    run_ids = imported()
    page = open_page("results", a=run_ids["etp.jsonl"], b=run_ids["bench.json"])
    assert not page.exception
    table = next(d.value for d in page.dataframe if "origin" in d.value)
    assert set(table["origin"]) == {"imported"}
    assert {title.split()[0] for title in table["run"]} == set(FILES)


def test_a_run_is_removed_and_brought_back_by_buttons():
    run_ids = imported()
    page = open_page("results")
    page.selectbox(key="which Remove").select(run_ids["oeq.json"]).run()
    page.button(key="do Remove").click().run()
    assert "1 rows removed" in "".join(s.value for s in page.success)
    assert len(Store(default_path()).counts()) == len(FILES) - 1
    page.button(key="do Bring back").click().run()
    assert len(Store(default_path()).counts()) == len(FILES)


def test_a_reader_removes_nothing_whatever_her_browser_sends(monkeypatch):
    job = imported()["oeq.json"]
    monkeypatch.setattr(jobs, "visitor", lambda: Visitor("x", "x", "runner"))
    assert not any(s.key == "which Remove" for s in open_page("results").selectbox)
    removal._remove(job)
    assert job in Store(default_path()).counts()
