from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from etp import products
from etp.analysis.comparison import comparisons
from etp.cli import commands, terminal
from etp.cli.main import USUAL, main
from etp.results import formats
from etp.results.reference import reference_rows
from etp.results.rows import Row, jsonl
from etp.results.store import Store
from etp.run.case import run
from tests.make import row, run_of

SMALL = ["--setting", "MIMO", "--lmax", "1", "--batch", "8"]
KEYS = {
    "expressivity": {"closed_form", "rank", "paths"},
    "interactions": {"paths", "count", "allowed"},
    "equivariance": {"max", "median", "per_degree"},
    "agreement": {"max", "median", "per_degree"},
    "runtime": {"median_s", "q25_s", "q75_s", "samples_s", "first_call_s"},
}


def json_of(capsys, *words: str):
    assert main(list(words)) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1, "one object and nothing else"
    return json.loads(out)


def test_products_are_listed_with_why_one_cannot_run(capsys):
    by_name = {entry["name"]: entry for entry in json_of(capsys, "products", "--json")}
    assert by_name["cg-dense"]["unavailable"] is None
    assert all(entry["title"] and entry["reference"] for entry in by_name.values())
    assert main(["products"]) == 0
    assert "gaunt-grid" in capsys.readouterr().out


def test_columns_of_the_list_never_touch_however_long_a_title_is(capsys, monkeypatch):
    title = "A title that is longer than any " * 2
    monkeypatch.setattr(products.get("cg-sparse"), "title", title.strip())
    assert main(["products"]) == 0
    lines = capsys.readouterr().out.splitlines()
    groups = {line.index("O(3)") for line in lines if "SO(3)" not in line}
    assert len(groups) == 1
    assert any(f"{title.strip()}  O(3)" in line for line in lines)


@pytest.mark.parametrize("measure", KEYS)
def test_every_measure_prints_one_object_with_the_promised_keys(capsys, measure):
    printed = json_of(capsys, "measure", measure, "--product", "gaunt-grid", *SMALL, "--json")
    assert set(printed) == {"product", "measure", "problem", "result", "environment"}
    assert KEYS[measure] <= set(printed["result"])
    assert printed["environment"]["torch"]


def test_typed_irreps_with_channels_are_measured(capsys):
    words = ["--irreps1", "4x0e+4x1o", "--irreps2", "4x1o", "--filter-out", "0e+1e", "--json"]
    printed = json_of(capsys, "measure", "interactions", "--product", "cg-sparse", *words)
    assert printed["problem"]["channels"] == 4
    assert printed["result"]["paths"] == [[1, 1, 0], [1, 1, 1]]


def test_weights_are_part_of_what_is_measured(capsys):
    words = [*SMALL, "--dtype", "float64", "--weights", "per-sample", "--json"]
    printed = json_of(capsys, "measure", "agreement", "--product", "cg-summed", *words)
    assert printed["problem"]["weights"] == "per-sample"
    assert printed["result"]["max"] < 1e-12


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["measure", "agreement", "--product", "nothing", *SMALL], "no tensor product 'nothing'"),
        (["measure", "agreement", "--product", "cg-sparse"], "--setting"),
        (["sweep", "--irreps1", "0e+1o"], "--irreps2 is missing"),
        (["sweep", "--degree", "3"], "unrecognized arguments: --degree 3 (see etp sweep --help)"),
        (["measure", "agreement", "--product", "cg-sparse", "--setting", "MIMO"], "--lmax"),
        (["measure", "speed", "--product", "cg-sparse", *SMALL], "speed"),
        (
            ["measure", "agreement", "--product", "cg-sparse", "--irreps1", "0x", "--irreps2=0e"],
            "position 1",
        ),
        (["sweep", "--products", "cg-sparse", *SMALL, "--out", "/no/such/folder/x"],
         "No such file"),
        (["sweep", "--products", "cg-sparse", "--setting", "MIMO", "--lmax", "a:b", "--out", "x"],
         "FROM:TO"),
        (["compare", "gone-1.jsonl", "gone-2.jsonl"], "gone-1.jsonl"),
        (["import", "gone.jsonl"], "gone.jsonl"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_status_2(capsys, words, part, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status: object
    try:
        status = main(words)
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert part in err


def test_what_cannot_fit_is_refused_with_the_estimate_and_a_batch_that_does(capsys, tmp_path):
    words = ["--setting", "MIMO", "--lmax", "8", "--batch", "10000000"]
    out = tmp_path / "x.jsonl"
    assert main(["sweep", "--products", "cg-dense", *words, "--out", str(out)]) == 2
    assert "GB are free on cpu: use a batch of at most" in capsys.readouterr().err
    assert not out.exists()


def test_a_sweep_writes_rows_resumes_and_says_verdicts(capsys, tmp_path):
    out = tmp_path / "x.jsonl"
    words = ["sweep", "--products", "cg-sparse,gaunt-grid", "--setting", "MIMO", "--lmax", "1:2"]
    words += ["--batch", "8", "--rounds", "12", "--budget", "60", "--paired", "--out", str(out)]
    assert main(words) == 0
    assert "gaunt-grid" in capsys.readouterr().out
    lines = out.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert {r["problem"]["lmax"] for r in rows} == {1, 2}
    assert main(words) == 0
    assert "already" in capsys.readouterr().err
    assert out.read_text().splitlines() == lines


def test_a_sweep_goes_along_batch_and_channels_and_measures_the_device_once(capsys, tmp_path):
    out = tmp_path / "x.jsonl"
    words = ["sweep", "--products", "cg-sparse", "--setting", "MIMO", "--lmax", "1", "--roofs"]
    words += ["--batch", "4", "8", "--channels", "1", "3", "--rounds", "1", "--budget", "0"]
    assert main([*words, "--out", str(out)]) == 0
    assert "4 of 4: lmax 1, batch 8, 3 channels" in capsys.readouterr().err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {(r["problem"]["batch"], r["problem"]["channels"]) for r in rows} == {
        (4, 1), (8, 1), (4, 3), (8, 3)
    }  # fmt: skip
    (roofs,) = [r["result"] for r in rows if r["measure"] == "roofline"]
    assert min(roofs["copy_bytes_per_s"], roofs["fresh_bytes_per_s"]) > 0


@pytest.mark.parametrize("text", ["1:2:3:4", "2:4:0", "x", ""])
def test_a_range_of_lmax_that_makes_no_sense_is_refused(capsys, text, tmp_path):
    words = ["sweep", "--products", "cg-sparse", "--setting", "MIMO", "--out", "x"]
    assert main([*words, "--lmax", text]) == 2
    assert "FROM:TO:STEP" in capsys.readouterr().err


def test_compare_leads_with_the_environment_and_says_unpaired(capsys, tmp_path):
    a, b = run_of({"x": 1e-3}), run_of({"x": 2e-3}, group="h", seed=3)
    b[0] = b[0].with_(environment=a[0].environment | {"threads": 4})
    for name, rows in (("a", a), ("b", b)):
        (tmp_path / name).with_suffix(".jsonl").write_text(jsonl(rows))
    assert main(["compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]) == 0
    out = capsys.readouterr().out
    assert out.index("threads: 2 -> 4") < out.index("unpaired") < out.index("B is slower")


def test_compare_pairs_what_was_timed_in_the_same_rounds(capsys, tmp_path):
    rows = run_of({"x": 1e-3}, twin="x")
    for name, timing in zip("ab", rows, strict=True):
        assert timing.result is not None
        timing.result["role"] = "product"
        (tmp_path / name).with_suffix(".jsonl").write_text(jsonl([timing]))
    assert main(["compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]) == 0
    assert "\npaired: " in capsys.readouterr().out


def test_import_and_export_move_everything(capsys, tmp_path, monkeypatch):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [*run_of({"a": 1e-3}), row("b")]
    source.write_text(jsonl(rows))
    store = ["--store", str(tmp_path / "s.sqlite")]
    assert main(["import", str(source), *store]) == 0
    assert main(["export", "--out", str(target), *store]) == 0
    moved = [Row.read(json.loads(line)) for line in target.read_text().splitlines()]
    assert [m.with_(id="", job=None, group=None, environment={}) for m in moved] == [
        r.with_(id="", group=None, environment={}) for r in rows
    ]


def test_a_bad_file_among_good_ones_is_listed_and_the_good_ones_are_added(tmp_path, capsys):
    good, bad = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    good.write_text(jsonl([row()]))
    bad.write_text("{")
    path = tmp_path / "s.sqlite"
    assert main(["import", str(good), str(bad), "--store", str(path)]) == 2
    assert len(Store(path).rows()) == 1
    told = capsys.readouterr()
    assert "1 of 1 rows added" in told.out
    assert f"{bad}, line 1" in told.err
    assert len(told.err.splitlines()) == 1


def test_the_module_runs_as_a_command_with_clean_output():
    words = ["measure", "expressivity", "--product", "cg-dense", *SMALL, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "etp", *words], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["result"]["rank"] == 6


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--products", ","], "--products must be names"),
        (["--products", "nothing"], "no tensor product"),
        (["--lmax", "6:1"], "FROM not above TO"),
        (["--lmax", "1:6:-1"], "FROM not above TO"),
        (["--lmax", "9" * 5000], "FROM:TO"),
        (["--budget", "nan"], "--budget: must be seconds, not negative, got 'nan'"),
        (["--budget", "-1"], "--budget: must be seconds"),
        (["--budget", "inf"], "--budget: must be seconds"),
        (["--rounds", "0"], "--rounds: must be a whole number of at least 1, got '0'"),
        (["--rounds", "1e3"], "--rounds: must be a whole number"),
        (["--processes", "9" * 5000], "--processes: must be a whole number"),
        (["--batch", "0"], "batch must be a whole number from 1"),
        (["--batch", "many"], "batch must be a whole number"),
        (["--dtype", "int8"], "dtype must be one of"),
        (["--device", "tpu"], "device must be 'cpu' or 'cuda:N'"),
        (["--setting", "MOMI"], "must be one of SISO"),
        (["--irreps1", "1o", "--irreps2", "1o", "--lmax", "3"], "--lmax goes with --setting"),
        (["--irreps1", "1o", "--irreps2", "1o", "--outputs", "natural"], "--outputs goes with"),
        (["--irreps1", "1o"], "--irreps2"),
        (["--out", "FOLDER"], "is a folder"),
        (["--out", ""], "--out: must be a path, got ''"),
        (["--out", "a" * 300], "has too long a name: name a shorter one"),
    ],
)
def test_a_sweep_that_makes_no_sense_measures_nothing(capsys, words, part, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("etp.cli.commands.run", lambda case: pytest.fail("measured"))
    (tmp_path / "FOLDER").mkdir()
    test_bad_input_is_one_line_and_status_2(capsys, ["sweep", *words], part, monkeypatch, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["FOLDER"]


@pytest.mark.parametrize(
    "words",
    [
        ["sweep", "--products", "cg-sparse", *SMALL],
        ["measure", "runtime", "--product", "cg-sparse", *SMALL],
        ["selftest"],
    ],
)
def test_a_device_that_is_not_there_is_one_line(capsys, words, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = [*words, "--device", "cuda"]
    test_bad_input_is_one_line_and_status_2(capsys, words, "sees no GPU", monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["sweep", "--products", "foo,bar,cg-sparse", "--lmax", "0:x", "--device", "cuda:9"],
         ["no tensor product 'foo'", "nor 'bar'", "--lmax must be", "sees no GPU"]),
        (["measure", "rank", "--product", "foo"], ["invalid choice: 'rank'"]),
        (["measure", "runtime", "--product", "foo", "--device", "cuda:9", "--setting", "MIMO"],
         ["no tensor product 'foo'", "--setting needs --lmax", "sees no GPU"]),
        (["advise", "--layer", "mace-large", "--products", "foo", "--device", "cuda:9"],
         ["no tensor product 'foo'", "sees no GPU"]),
        # Which names there are is not known before the layer is.
        (["sweep", "--layer", "mace", "--products", "cg", "--device", "cuda:9"],
         ["layer must be one of", "sees no GPU"]),
        (["measure", "runtime", "--product", "cg-sparse,matrix", *SMALL],
         ["--product must be one name, got 'cg-sparse,matrix'"]),
    ],
)  # fmt: skip
def test_all_that_is_wrong_with_a_question_is_said_at_once(
    capsys, words, parts, monkeypatch, tmp_path
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for part in parts:
        test_bad_input_is_one_line_and_status_2(capsys, words, part, monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["advise", "--layer", "mace-large", "--budget", "nan"], "--budget: must be seconds"),
        (["advise", "--layer", "mace-large", "--budget", "-1"], "--budget: must be seconds"),
        (["advise", "--model", "nequix", "--share", "2"], "--share: must be from 0 to 1, got '2'"),
        (["import", ""], "must be a path, got ''"),
        (["import", "\0"], "must be a path"),
        (["certificates", "--out", ""], "--out: must be a path"),
        (["certificates", "--out", "x", "--days", "99999999"], "--days: must be a whole number"),
        (["certificates", "--out", "FILE"], "FILE is there already and no folder"),
        (["certificates", "--out", "FILE/x"], "FILE/x does not lie in a folder"),
        (["export", "--out", "FILE/x"], "out must lie in a folder that is there, FILE is none"),
        (["export", "--out", "gone/x"], "out must lie in a folder that is there, gone is none"),
        (["backup", "--out", "gone/x"], "out must lie in a folder that is there, gone is none"),
        (["backup", "--out", "a" * 300], "has too long a name"),
        (["app", "--port", "0"], "--port: must be a whole number from 1 to 65535"),
        (["app", "--address", "no-such.invalid"], "must be free and of this machine, got no-such"),
    ],
)
def test_places_and_numbers_that_make_no_sense_are_one_line(
    capsys, words, part, monkeypatch, tmp_path
):
    monkeypatch.setenv("ETP_STORE", str(tmp_path / "store.sqlite"))
    (tmp_path / "FILE").write_text("{}")
    test_bad_input_is_one_line_and_status_2(capsys, words, part, monkeypatch, tmp_path)
    assert {path.name.partition(".")[0] for path in tmp_path.iterdir()} <= {"FILE", "store"}


def test_a_full_disk_is_said_with_the_mend_and_status_1(capsys, tmp_path):
    Store(tmp_path / "etp.sqlite").add_rows([run_of({"a": 1e-3, "b": 2e-3})[0]] * 1)
    words = ["export", "--store", str(tmp_path / "etp.sqlite"), "--out", "/dev/full"]
    assert main(words) == 1
    assert "no space is left on its disk: free some" in capsys.readouterr().err


def test_a_file_without_an_end_is_refused_and_a_pipe_is_read(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MAX_BYTES", 1 << 16)
    store = ["--store", str(tmp_path / "etp.sqlite")]
    assert main(["import", "/dev/zero", *store]) == 2
    assert "has more than 0 MiB: split it" in capsys.readouterr().err
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    text = jsonl(run_of({"a": 1e-3}))
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    assert main(["import", str(pipe), *store]) == 0
    writer.join(10)


def test_names_that_are_no_text_and_terminals_that_show_ascii_alone_end_nothing(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        file.write(jsonl([row(environment={"device_name": "Gerät"})]))
    store = ["--store", str(tmp_path / "etp.sqlite")]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    for words in (["import", path], ["runs"], ["export", "--out", path], ["compare", path, path]):
        own = [] if words[0] == "compare" else store
        command = [sys.executable, "-m", "etp", *words, *own]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert (done.returncode, done.stderr) == (0, ""), words


def test_a_port_in_use_is_named(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["app", "--port", str(port)]) == 2
    assert f"got 127.0.0.1 and {port}: Address already in use" in capsys.readouterr().err


def test_a_first_sweep_needs_no_option_and_prints_a_table_and_the_verdict(capsys, monkeypatch):
    asked = []
    real = run

    def quick(case):
        asked.append(case)
        return real(case | {"rounds": 1, "budget_s": 0.0, "products": ["cg-sparse", "matrix"]})

    monkeypatch.setattr(commands, "run", quick)
    assert main(["sweep", "--batch", "8"]) == 0
    out = capsys.readouterr().out
    assert [case["problem"]["lmax"] for case in asked] == [1, 2, 3, 4]
    assert asked[0]["products"] == list(USUAL)
    assert "At lmax 4, " in out
    assert out.count("\ncg-sparse  ") == 4
    assert "γ" in out


def busy(row: Row) -> Row:
    after = {**row.measured["state_after"], "load": 9.8}
    return replace(row, result={**row.measured, "state_after": after})


def test_a_table_says_what_its_verdict_rests_on():
    shown = comparisons(reference_rows())[0]
    quiet = "\n".join(terminal.table(shown))
    assert "rounds, twin within" in quiet
    assert "Repeat it" not in quiet

    timed = ("runtime", "ok")
    rows = [busy(row) if (row.measure, row.status) == timed else row for row in reference_rows()]
    loaded = "\n".join(terminal.table(comparisons(rows)[0]))
    assert "load 9.8 on 2 cores: " in loaded
    assert "Repeat it when the machine is quiet." in loaded


def test_case_of_names_and_choices_does_not_matter(capsys):
    words = ["--setting", "mimo", "--lmax", "1", "--dtype", "FLOAT64", "--json"]
    printed = json_of(capsys, "measure", "agreement", "--product", "CG-Sparse", *words)
    assert printed["product"] == "cg-sparse"
    assert (printed["problem"]["setting"], printed["problem"]["dtype"]) == ("MIMO", "float64")


def test_out_may_be_a_device_which_stays_one(capsys):
    words = ["sweep", "--products", "cg-sparse", *SMALL, "--batch", "4", "--rounds", "1"]
    assert main([*words, "--budget", "0", "--out", os.devnull]) == 0
    assert main(["export", "--out", os.devnull]) == 0
    assert not Path(os.devnull).is_file()


def test_what_takes_long_is_said_on_standard_error(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "QUIET_S", 0.01)
    with terminal.watched("measuring expressivity of x"):
        time.sleep(0.1)
    assert re.search(r"measuring expressivity of x, \d+ s so far", capsys.readouterr().err)


def test_a_store_that_cannot_be_used_is_one_line_and_keeps_its_file(capsys, tmp_path):
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"no database at all" * 100)
    before = path.read_bytes()
    for words in (["runs"], ["export", "--out", str(tmp_path / "x")]):
        assert main([*words, "--store", str(path)]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert str(path) in err
    assert path.read_bytes() == before


def test_what_nobody_foresaw_is_one_line_too(capsys, monkeypatch):
    def broken(*_):
        raise KeyError("surprise")

    monkeypatch.setattr(commands, "compare", broken)
    assert main(["compare", "a", "b"]) == 1
    assert capsys.readouterr().err == "etp: KeyError: 'surprise'\n"
    monkeypatch.setenv("ETP_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["compare", "a", "b"])


def test_a_python_without_torch_is_told_which_python_has_it(capsys, monkeypatch):
    def absent(*_):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(commands, "compare", absent)
    assert main(["compare", "a", "b"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for part in ("torch is not installed", sys.executable, ".venv/bin/python", "pip install"):
        assert part in said


def test_runs_are_listed_deleted_and_brought_back(capsys, tmp_path):
    source, store = tmp_path / "in.jsonl", ["--store", str(tmp_path / "s.sqlite")]
    source.write_text(jsonl([row("a"), row("b")]))
    assert main(["import", str(source), *store]) == 0
    name = capsys.readouterr().out.split()[-1]
    assert main(["runs", *store]) == 0
    assert f"{name}  " in (out := capsys.readouterr().out)
    assert "2 rows" in out
    assert main(["delete", name, *store]) == 0
    assert "2 rows deleted" in capsys.readouterr().out
    assert Store(store[1]).rows() == []
    assert main(["delete", name, "--undo", *store]) == 0
    assert len(Store(store[1]).rows()) == 2
    assert main(["delete", "nobody", *store]) == 2
    assert "run must be one" in capsys.readouterr().err


ROOT = Path(__file__).resolve().parents[2]
BARE = """
import json
import sys
for name in ("altair", "pandas", "streamlit", "plotly", "distributed", "dask", "vl_convert"):
    sys.modules[name] = None
from etp.cli.main import main
for words in json.loads(sys.argv[1]):
    if main(words) != 0:
        sys.exit(f"{words} failed")
    print("done", flush=True)
"""


def test_the_command_line_works_without_the_dashboard(tmp_path):
    quick = ["--products", "cg-sparse,matrix", *SMALL, "--batch", "4", "--rounds", "1", "--budget",
             "0", "--paired", "--out", "a.jsonl"]  # fmt: skip
    said = {
        ("sweep", *quick): "cg-sparse",
        ("compare", "a.jsonl", "a.jsonl"): "cg-sparse",
        ("import", "a.jsonl", "--store", "s.sqlite"): "rows added",
        ("runs", "--store", "s.sqlite"): "a.jsonl",
        ("export", "--out", "b.jsonl", "--store", "s.sqlite"): "rows written",
    }
    done = subprocess.run(
        [sys.executable, "-c", BARE, json.dumps([*said])], cwd=tmp_path, capture_output=True,
        text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = done.stdout.split("done\n")[:-1]
    assert all(part in out for part, out in zip(said.values(), told, strict=True)), done.stdout
