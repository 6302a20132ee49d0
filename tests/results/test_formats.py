from __future__ import annotations

import json

import pytest

from etp.results.formats import FormatError, read_files, read_path
from etp.results.rows import jsonl
from tests.make import row, run_of

PAPER = """lmax,irreps_type,tensor_product_type,batch,Time,normalization
1,SISO,CGTP-dense,1000,1.3e-05,
2,SISO,CGTP-dense,1000,5.4e-05,
1,SISO,GTP-grid,1000,2.0e-05,
2,MIMO,GTP-fourier,1000,3.0e-04,
2,MIMO,Matrix-TP,1000,1.0e-04,
"""


def read(name: str, text: str):
    return read_files({name: text.encode()})


def test_json_lines_come_back_as_they_were(tmp_path):
    rows = run_of({"a": 1e-3, "b": 2e-3})
    path = tmp_path / "x.jsonl"
    path.write_text(jsonl(rows))
    assert read_path(path) == rows


def test_the_papers_rows_are_read_in_seconds_under_our_names():
    rows = read("a100.csv", PAPER)
    assert [r["product"] for r in rows] == [
        "cg-dense", "cg-dense", "gaunt-grid", "gaunt-fourier-fft", "matrix-block",
    ]  # fmt: skip
    assert rows[1]["result"]["median_s"] == 5.4e-5
    assert rows[1]["environment"]["device_name"] == "a100"
    assert rows[1]["environment"]["implementation"] == "CGTP-dense"


def test_an_empty_or_zero_product_of_the_paper_is_invalid_with_its_reason():
    rows = read("a100.csv", PAPER)
    assert [r["status"] for r in rows] == ["invalid", "ok", "invalid", "ok", "ok"]
    assert (rows[0]["badges"], rows[2]["badges"]) == (("empty output",), ("identical zero",))
    assert "odd times odd is even" in rows[0]["reason"]
    assert rows[0]["result"] is None


def test_reading_a_file_twice_gives_the_same_ids():
    assert [r["id"] for r in read("a.csv", PAPER)] == [r["id"] for r in read("a.csv", PAPER)]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.jsonl", "{oops", "line 1"),
        ("x.jsonl", jsonl([row(), row(status="?")]), "line 2: status"),
        ("x.jsonl", "", "holds no row"),
        ("x.jsonl", "[1]", "one object in each line"),
        ("x.csv", "lmax,batch\n1,2\n", "no column 'irreps_type'"),
        ("x.csv", PAPER.replace("MIMO,GTP-fourier", "MOMI,GTP-fourier"), "line 5: irreps_type"),
        ("x.csv", PAPER.replace("Matrix-TP", "Tensor"), "tensor_product_type"),
        ("x.csv", PAPER.replace("1.0e-04", "-1"), "Time must be positive"),
        ("x.csv", PAPER.replace("1.0e-04", "fast"), "Time must be a number"),
        ("x.txt", "hello", "no known format"),
    ],
)
def test_a_bad_file_is_named_with_the_place_and_the_rule(name, text, words):
    with pytest.raises(FormatError) as error:
        read(name, text)
    assert name in str(error.value)
    assert words in str(error.value)


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(FormatError, match="UTF-8"):
        read_files({"x.csv": b"\xff\xfe\x00"})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"gone\.csv.*No such file"):
        read_path(tmp_path / "gone.csv")


def oeq(times: list[float], **changes: object) -> dict[str, object]:
    results = {
        "L1": "128x0e + 128x1o", "L2": "1x0e + 1x1o", "L3": "128x0e+256x1o",
        "batch_size": 5000, "rep_dtype": "<class 'numpy.float32'>", "time_millis": times,
    }  # fmt: skip
    return {
        "direction": "forward", "implementation_name": "LoopUnrollTP",
        "config_label": "nequip", "benchmark results": results,
    } | changes  # fmt: skip


def test_a_folder_of_openequivariance_is_read_with_its_gpu(tmp_path):
    (tmp_path / "metadata.json").write_text(json.dumps({"gpu_name": "H100", "test details": {}}))
    (tmp_path / "0_LoopUnrollTP.json").write_text(json.dumps(oeq([1.0, 2.0, 3.0])))
    (tmp_path / "1_CUETensorProduct.json").write_text(
        json.dumps(oeq([-1, -1], implementation_name="CUETensorProduct"))
    )
    ours, theirs = read_path(tmp_path)
    assert ours["product"] == "openequivariance"
    assert ours["result"]["median_s"] == 2e-3
    assert ours["result"]["samples_s"] == [1e-3, 2e-3, 3e-3]
    assert ours["environment"]["device_name"] == "H100"
    assert (ours["problem"]["channels"], ours["problem"]["batch"]) == (128, 5000)
    assert (theirs["product"], theirs["status"]) == ("cuequivariance", "invalid")


def test_pytest_benchmark_needs_to_be_told_what_was_multiplied():
    body = {
        "machine_info": {"cpu": {"brand_raw": "a processor", "count": 8}},
        "commit_info": {"id": "abc"},
        "benchmarks": [
            {
                "name": "test_x",
                "extra_info": {"product": "e3nn", "setting": "MIMO", "lmax": 2},
                "stats": {"data": [1.0, 3.0, 2.0]},
            }
        ],
    }
    (found,) = read("b.json", json.dumps(body))
    assert (found["product"], found["result"]["median_s"]) == ("e3nn", 2.0)
    assert found["environment"]["cpu"] == "a processor"
    body["benchmarks"][0]["extra_info"] = {}  # type: ignore[index]
    with pytest.raises(FormatError, match=r"'test_x'.*product.*extra_info"):
        read("b.json", json.dumps(body))
