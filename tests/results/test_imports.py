"""What comes from elsewhere: it cannot poison, join or speak for what was measured here."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
from typing import Any

import pytest

from etp.results.files import write_jsonl
from etp.results.formats import FormatError, gather_files, read_files
from etp.results.imports import adopted, harmless, harmless_name
from etp.results.reference import reference_rows
from etp.results.rows import RESULTS, Row, RowError, jsonl
from etp.results.store import Store
from tests.make import MIMO, expressivity, interactions, row, run_of

GOOD: dict[str, dict[str, Any]] = {
    "runtime": {"median_s": 1e-3, "q25_s": 1e-3, "q75_s": 1e-3},
    "equivariance": {"max": 1e-7, "median": 1e-8, "per_degree": {"0": 1e-7}, "gate": 1e-5},
    "agreement": {"max": 1e-7, "median": 1e-8, "per_degree": {"0": 1e-7}},
    "expressivity": {"closed_form": 1, "rank": 1, "paths": 1, "allowed": 1},
    "interactions": {"paths": [[0, 0, 0]], "triples": [["0e", "0e", "0e"]], "count": 1,
                     "allowed": 1},
    "memory": {"peak_bytes": 1, "table_bytes": 1},
    "cost": {"macs": 1, "bytes": 1, "flops": 2},
    "counters": {"flops": 1.0},
    "grid": {"rows": 1, "columns": 1, "max": 0.1, "gate": 0.1, "exact": True},
    "sphere": {"axis": [1.0, 0.0, 0.0], "angles": [0.0], "first": [[1.0]],
               "multiplied_last": [[1.0]], "multiplied_first": [[1.0]]},
    "tetris": {"accuracy": 1.0, "confusion": [[1.0] * 8] * 8, "pieces": ["line"],
               "losses": [1.0],
               "step_s": 1e-3, "steps": 1, "layers": 3, "equivariance": 1e-15,
               "mirror_gap": 0.1, "pseudoscalar": 0.1},
    "potential": {"energy_mev": {"test": 1.0}, "force_mev_per_a": {"test": 1.0},
                  "mean_energy_mev": {"test": 1.0}, "mean_force_mev_per_a": {"test": 1.0},
                  "losses": [1.0], "step_s": 1e-3, "steps": 1, "power": "none",
                  "check_s": [1.0], "check_steps": [1], "check_force_mev_per_a": [1.0]},
    "step-time": {"power": "cg", "median_s": 1e-3, "share": 0.1, "reference": "cg",
                  "ratio": 1.0, "rounds": 7},
    "roofline": {"copy_bytes_per_s": 1e9, "matmul_flops_per_s": {"float32": 1e9}},
}  # fmt: skip
HUGE = 10**400


def plain(measure: str = "runtime", **changes: object) -> dict[str, object]:
    return row(measure=measure, result=GOOD[measure]).as_dict() | changes


def test_bundled_rows_pass_the_check_that_they_passed_when_they_were_read():
    for stored in reference_rows():
        assert Row.read(stored.as_dict()) == stored


@pytest.mark.parametrize("measure", RESULTS)
def test_a_good_row_of_every_measure_passes(measure):
    assert Row.read(plain(measure)).measured == GOOD[measure]


@pytest.mark.parametrize("measure", RESULTS)
@pytest.mark.parametrize("poison", ["text", [["x"]], {"a": {"b": "c"}}, HUGE, -1.0, True])
def test_what_no_page_could_read_is_refused_in_every_key_of_every_measure(measure, poison):
    for key in GOOD[measure]:
        if isinstance(poison, str | bool) and type(poison) is type(GOOD[measure][key]):
            continue  # a text where a text belongs
        bad = plain(measure, result={**GOOD[measure], key: poison})
        with pytest.raises(RowError) as caught:
            Row.read(bad)
        assert "result" in caught.value.field
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "change",
    [
        {"status": "failed", "result": None, "reason": "x", "problem": {}},
        {"problem": MIMO.as_dict() | {"lmax": None}},
        {"problem": MIMO.as_dict() | {"lmax": "4"}},
        {"problem": MIMO.as_dict() | {"setting": 3}},
        {"problem": MIMO.as_dict() | {"irreps1": None}},
        {"problem": MIMO.as_dict() | {"device": None}},
        {"problem": MIMO.as_dict() | {"new": 1}},
        {"environment": {"device_name": "\ud800"}},
        {"environment": {"device_name": 3}},
        {"environment": {"flags": "x"}},
        {"environment": {"os": {"a": 1}}},
        {"environment": {"os": "\x00"}},
        {"environment": {"deep": [[[[[[[[[[[[[[1]]]]]]]]]]]]]]}},
        {"product": ""},
        {"product": "a\nb"},
        {"product": "x" * 200},
        {"created": "yesterday"},
        {"badges": [1]},
        {"schema": True},
        {"reason": 5},
        {"result": {"median_s": 1.0, "samples_s": [2.0, 3.0, 4.0]}},
        {"result": {"median_s": 1.0, "q25_s": 2.0, "q75_s": 3.0}},
        {"result": {"median_s": 1.0, "blocks_s": [1.0], "order": [1, 2]}},
        {"result": {"median_s": 1.0, "blocks_s": []}},
        {"result": {"median_s": 1.0, "extra": float("inf")}},
    ],
)
def test_a_row_that_would_take_a_page_away_is_refused_at_the_border(change, tmp_path):
    bad = plain(**change)
    with pytest.raises(RowError):
        Row.read(bad)
    with pytest.raises(RowError):
        Store(tmp_path / "s.sqlite").add_rows([bad])
    with pytest.raises(FormatError, match="line 1"):
        read_files({"x.jsonl": json.dumps(bad).encode()})


def test_null_stands_for_missing_quartiles():
    made = Row.read(plain(result={"median_s": 1.0, "q25_s": None, "q75_s": None}))
    assert made.measured == {"median_s": 1.0}


@pytest.mark.parametrize(
    ("measure", "change", "words"),
    [
        ("equivariance", {"per_element": [1.0]}, "give per_element and inverted together"),
        ("equivariance", {"per_element": [1.0], "inverted": []}, "be as long as"),
        ("potential", {"check_s": [1.0, 2.0]}, "be as long as"),
        ("potential", {"check_s": [], "check_steps": [], "check_force_mev_per_a": []}, "one check"),
        ("potential", {"force_mev_per_a": {"300K": 1.0}}, "with one called test"),
        ("potential", {"power": None}, "be given for potential"),
        ("tetris", {"confusion": [[1.0] * 8] * 7}, "a table of 8 by 8 numbers"),
        ("tetris", {"seen": [1.0]}, "a list of 8 numbers"),
        ("sphere", {"first": [[1.0] * 3]}, r"lines of \(lmax \+ 1\)\^2 numbers"),
        ("sphere", {"first": [[1.0], [1.0]]}, "be as long as"),
        ("sphere", {"first": [[]]}, "lines of"),
        ("sphere", {"multiplied_last": [[1.0] * 4]}, "be as wide as multiplied_last"),
        ("sphere", {"axis": [1.0]}, "three numbers"),
        ("runtime", {"q75_s": None}, "q75_s must be given beside q25_s"),
    ],
)
def test_what_no_chart_could_draw_together_is_refused(measure, change, words):
    values = plain(measure)
    Row.read(values)
    with pytest.raises(RowError, match=words):
        Row.read(values | {"result": GOOD[measure] | change})


@pytest.mark.parametrize(
    "change",
    [{"samples_s": None}, {"block_calls": None}, {"block_calls": [2] * 30},
     {"samples_s": [], "block_calls": [0] * 30}],
)  # fmt: skip
def test_calls_that_could_not_be_drawn_in_their_blocks_are_refused(change):
    timed = run_of({"a": 1e-3})[0]
    Row.read(timed)
    with pytest.raises(RowError, match="block_calls must name the block of every sample"):
        Row.read(timed.with_(result=timed.measured | change))


def test_an_older_row_has_the_defaults_of_what_it_does_not_say():
    old = MIMO.as_dict()
    for name in ("weights", "matmul", "cache"):
        del old[name]
    assert Row.read(plain(problem=old)).problem == MIMO.as_dict()


def test_a_row_of_an_empty_problem_may_say_that_it_is_empty():
    empty = MIMO.as_dict() | {"filter_out": "9o"}
    assert Row.read(plain(problem=empty, status="invalid", result=None, reason="nothing is left"))
    with pytest.raises(RowError, match="valid problem"):
        Row.read(plain(problem=empty))


def test_an_import_joins_no_run_that_was_measured_here(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    mine = [r.with_(job="mine") for r in run_of({"a": 1e-3, "b": 2e-3}, twin="a")]
    store.add_job("mine", "Compare", [])
    store.add_rows(mine)
    forged = [r.with_(product="my-startup-tp", id=f"x{n}") for n, r in enumerate(mine)]
    (run,) = adopted(forged, "evil.jsonl")
    assert store.add_imports([run]) == len(forged)
    assert store.rows(job="mine") == [r.light() for r in mine]
    theirs = store.rows(job=run.job)
    assert {r.group for r in theirs}.isdisjoint({r.group for r in mine})
    assert {r.environment["imported"] for r in theirs} == {"evil.jsonl"}
    job = store.job(run.job)
    assert job is not None
    assert (job.title, job.state) == ("evil.jsonl", "done")


def test_a_row_that_carries_the_id_of_another_replaces_nothing(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    mine = row(job="mine")
    store.add_rows([mine])
    store.add_imports(adopted([mine.with_(result={"median_s": 9.0})], "x.jsonl"))
    assert store.rows(job="mine") == [mine]
    assert len(store.rows()) == 2


def test_the_same_file_read_twice_adds_nothing_and_its_runs_stay_apart(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    rows = [*run_of({"a": 1e-3}, group="g"), row("b", job="j1"), row("c", job="j2")]
    runs = adopted(rows, "x.jsonl")
    assert [run.title for run in runs] == ["x.jsonl, run 1", "x.jsonl, run 2", "x.jsonl, run 3"]
    assert store.add_imports(runs) == 3
    assert store.add_imports(adopted(rows, "other.jsonl")) == 0


def test_rows_of_two_machines_read_together_are_two_runs():
    head = b"lmax,irreps_type,tensor_product_type,batch,Time\n2,MIMO,GTP-grid,1000,1e-3\n"
    reading = gather_files({"a_cpu.csv": head, "b_A100.csv": head, "bad.csv": b"?"})
    assert reading.files == ["a_cpu.csv", "b_A100.csv"]
    runs = adopted(reading.rows, "both")
    assert [{row.environment["device"] for row in run.rows} for run in runs] == [
        {"cpu"},
        {"cuda:0"},
    ]
    assert [run.title for run in runs] == ["both, run 1", "both, run 2"]


def test_a_paper_file_read_twice_is_the_same_run():
    text = b"lmax,irreps_type,tensor_product_type,batch,Time\n2,MIMO,GTP-grid,1000,1e-3\n"
    first, second = (adopted(read_files({"a.csv": text}), "a.csv")[0].job for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "text",
    [
        "[click](https://evil.example)", "![x](https://evil.example/pixel.png)", "<b>x</b>",
        "<https://evil.example>", "https://evil.example", "www.evil.example", "me@evil.example",
        '=HYPERLINK("https://evil.example")', "+1", "-1", "@sum", "\t=1", "`code`", "**bold**",
        ":red[x]", "$x$", "# head\nnext", "a|b", "__bold__", "_a_ b",
        ":material/home:", "~~x~~", "\\[x]", "\u202eevil.exe\u2066 x",
    ],
)  # fmt: skip
def test_nothing_from_a_file_is_read_as_more_than_text(text):
    shown = harmless(text)
    for mark in ("[", "]", "<", ">", "`", "*", "$", "#", "|", "~", "\\", "\n", "://", "www.", "@e",
                 "![", ":material/", "\u202e", "\u2066"):  # fmt: skip
        assert mark not in shown
    assert shown[0] not in "=+-@\t"
    assert not re.search(r"(^|\W)_|_(\W|$)", shown)
    assert harmless_name(text)[0].isalnum()
    made = adopted(
        [row(text.replace("\n", " ")[:80].strip(), status="failed", result=None, reason=text,
             badges=(text,), environment={"device_name": text, "irreps": [text]})], text
    )[0]  # fmt: skip
    (ours,) = made.rows
    assert ours.reason == ours.badges[0] == ours.environment["device_name"] == shown
    assert made.title == shown


def test_usual_names_stay_as_they_are():
    for name in ("cg-sparse", "gaunt-grid+compile", "GTP (S2 grid)", "e3x/tensor 2.0"):
        assert harmless_name(name) == name
    assert harmless("nsight_profiling_RTX.csv") == "nsight_profiling_RTX.csv"
    assert (
        harmless("NVIDIA RTX A5500, 64 cores (2.4 GHz)") == "NVIDIA RTX A5500, 64 cores (2.4 GHz)"
    )


def test_a_run_can_be_taken_away_and_brought_back(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    (run,) = adopted(run_of({"a": 1e-3}), "x.jsonl")
    store.add_imports([run])
    store.add_rows([row("b")])
    before, rows = store.revision(), store.rows()
    assert store.remove(run.job) == 1
    assert [r.product for r in store.rows()] == ["b"]
    assert store.rows(job=run.job) == []
    assert store.revision() > before
    assert store.bring_back(run.job) == 1
    assert store.rows() == rows
    store.remove(run.job)
    store.add_imports([run])
    assert store.rows() == rows
    for unknown in (store.remove, store.bring_back):
        with pytest.raises(ValueError, match="run must be one"):
            unknown("nobody")


def test_a_run_that_goes_on_is_not_taken_away(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    store.add_job("j", "Compare", [])
    with pytest.raises(ValueError, match="must have ended"):
        store.remove("j")


def test_rows_that_an_earlier_version_let_in_are_set_aside_and_named(tmp_path):
    path = tmp_path / "s.sqlite"
    store = Store(path)
    store.add_rows([row("good"), row("bad"), expressivity("worse", 3)])
    db = sqlite3.connect(path)
    db.execute("UPDATE row SET checked = 0")
    db.execute("UPDATE row SET problem = '{}' WHERE product = 'bad'")
    db.execute("UPDATE row SET result = '{\"rank\": \"x\"}' WHERE product = 'worse'")
    db.commit()
    db.close()
    again = Store(path)
    assert [r.product for r in again.rows()] == ["good"]
    assert sorted("problem" in why or "result" in why for why in again.refused().values()) == [
        True, True,
    ]  # fmt: skip
    assert Store(path).refused() == again.refused()


def test_out_may_be_a_pipe_or_a_device_but_no_folder(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        write_jsonl(tmp_path, [row()])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    made = row()
    write_jsonl(pipe, [made])
    reader.join(10)
    assert read == [jsonl([made])]
    assert pipe.is_fifo()


def test_all_helpers_of_the_tests_make_rows_that_pass():
    made = [*run_of({"a": 1e-3}, twin="a"), expressivity("a", 2)]
    made.append(interactions("a", {("0e", "0e", "0e"): 1.0}))
    for each in made:
        Row.read(each)
