from __future__ import annotations

import json

import pytest

from etp.results.formats import FormatError, gather, read_files, read_path
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
        "cg-dense", "cg-dense", "gaunt-grid", "gaunt-fourier-direct", "matrix-block",
    ]  # fmt: skip
    assert rows[1]["result"]["median_s"] == 5.4e-5
    assert rows[1]["environment"]["device_name"] == "NVIDIA A100"
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
        ("x.csv", PAPER.replace("Matrix-TP", ""), "tensor_product_type"),
        ("x.csv", PAPER.replace("2,MIMO,Matrix", "25,MIMO,Matrix"), "line 6: lmax must be"),
        ("x.csv", PAPER.replace("2,MIMO,Matrix", "2.5,MIMO,Matrix"), "lmax must be a whole number"),
        ("x.csv", PAPER.replace("TP,1000,1.0e-04", "TP,0.5,1e-4"), "batch must be a whole number"),
        ("x.csv", PAPER.replace("1.0e-04", "9" * 5000), "line 6: Time must be positive"),
        ("x.csv", PAPER.replace("Time", "time"), "no column 'Time or"),
        ("x.csv", PAPER + "1,SISO,CGTP-dense,10,,", "has no number in Time"),
        ("x.csv", PAPER.replace("1.0e-04", "0,0001"), "more cells than columns"),
        ("x.csv", PAPER + "x" * 200_000, "is no CSV"),
        ("x.json", "[" * 100_000, "known format"),
        ("x.jsonl", "[" * 100_000, "nested too deep"),
        ("x.jsonl", '{"schema": ' + "1" * 5000 + "}", "too many digits"),
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


def test_line_ends_of_every_system_are_read():
    for end in ("\r", "\r\n"):
        assert len(read("x.csv", PAPER.replace("\n", end))) == len(read("x.csv", PAPER))


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(FormatError, match="UTF-8"):
        read_files({"x.csv": b"\xff\xfe\x00"})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"gone\.csv.*No such file"):
        read_path(tmp_path / "gone.csv")


def oeq(times: list[float], **changes: object) -> dict[str, object]:
    results = {
        "L1": "128x0e + 128x1o", "L2": "1x0e + 1x1o", "L3": "256x0e+256x1o",
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
    problem = ours["problem"]
    assert (problem["kind"], problem["irreps1"]) == ("edge", "128x0e+128x1o")
    assert (problem["irreps2"], problem["weights"]) == ("0e+1o", "per-sample")
    assert (problem["channels"], problem["batch"]) == (1, 5000)
    assert ours["badges"] == ()
    assert (theirs["product"], theirs["status"]) == ("cuequivariance", "invalid")


CONFIG = "TPProblem(..., [(0, 0, 0, 'uvw', True)], shared_weights=False)"


@pytest.mark.parametrize(
    ("change", "irreps", "product"),
    [
        ({"implementation_name": "E3NNTensorProduct"}, {}, "e3nn"),
        ({"implementation_name": "CUETensorProduct"}, {}, "cuequivariance"),
        ({"config_repr": CONFIG}, {}, "openequivariance-uvw"),
        ({"implementation_name": "E3NNTensorProduct", "config_repr": CONFIG}, {}, "e3nn-uvw"),
        ({}, {"L3": "128x0e+256x1o"}, "openequivariance-some-paths"),
        ({}, {"L1": "8x0e", "L2": "8x0e", "L3": "8x0e"}, "openequivariance-uvu"),
        ({"implementation_name": "FlashTP"}, {}, "FlashTP"),
        # Multiplicities of input 1 need not be equal, and a path has those of its input 1.
        ({}, {"L1": "32x0e+16x1o", "L3": "32x1o + 16x0e + 16x1o + 32x0e"}, "openequivariance"),
    ],
)  # fmt: skip
def test_a_run_of_openequivariance_has_our_name_only_where_it_is_our_operation(
    change, irreps, product
):
    run = oeq([1.0, 2.0, 3.0], **change)
    run["benchmark results"] |= irreps
    (row,) = read("0.json", json.dumps(run))
    assert row.product == product
    assert row.problem["weights"] == "per-sample"


def test_a_convolution_of_openequivariance_has_a_form(tmp_path):
    run = {
        "config": "32x0e+16x1o", "irrep_dtype": "<class 'numpy.float64'>", "direction": "backward",
        "graph": "covid_spike", "name": "LoopUnrollConvScatterSum",
        "benchmark": {
            "L1": "32x0e+16x1o", "L2": "0e+1o", "L3": "48x0e+48x1o", "time_millis": [4.0, 2.0, 3.0],
            "graph_node_count": 100, "graph_adj_nnz": 1020,
        },
    }  # fmt: skip
    about = {"test_name": "Convolution", "implementations": [], "graph": "covid_spike"}
    (tmp_path / "metadata.json").write_text(json.dumps(about))
    (tmp_path / "0.json").write_text(json.dumps(run))
    (row,) = read_path(tmp_path)
    problem = row.problem
    assert (problem["kind"], problem["neighbours"], problem["batch"]) == ("convolution", 10, 1020)
    assert (problem["dtype"], problem["direction"]) == ("float64", "backward")
    assert row.product == "openequivariance"
    assert row.measured["median_s"] == 3e-3
    assert row.environment["graph"] == "covid_spike"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"L1": None}, "L1 must be irreps, got 'None'"),
        ({"L2": "8x0e"}, "irreps"),
        ({"L1": "9" * 5000 + "x0e"}, 'position 1: "9+[.]{3}" has a number of more than 9 digits'),
        ({"L1": "128x0e" * 5000}, '"128x0e128x0e.{25}[.]{3}" is not an irrep'),
        ({"batch_size": "many"}, "batch_size must be a positive whole number"),
        ({"time_millis": [1.0, None]}, "time_millis must be a list of positive numbers"),
        ({"time_millis": None}, "time_millis must be"),
    ],
)
def test_a_bad_run_of_openequivariance_is_refused_in_words(change, words):
    run = oeq([1.0])
    run["benchmark results"] |= change
    with pytest.raises(FormatError, match=words):
        read("0.json", json.dumps(run))


NSIGHT = """,irreps_type,tensor_product_type,lmax,batch,normalization,Time,all GFLOPs,GB,GB/s
1,SISO,GTP-grid,1,10000,1,6.0e-05,0.065,0.0057,116.8
2,MIMO,GTP-fourier,1,10000,5,0.0001,0.25,0.0117187500,163.0
104,MIMO,e3x-TP,3,1000,1,4.78e-05,0.063,0.006,140.0
"""


def test_counters_of_the_paper_are_measures_of_their_own_and_other_products_keep_their_names():
    rows = read("nsight_profiling_RTX.csv", NSIGHT)
    assert [(r.product, r.measure, r.status) for r in rows] == [
        ("gaunt-grid", "runtime", "invalid"), ("gaunt-grid", "counters", "invalid"),
        ("gaunt-fourier-direct", "runtime", "ok"), ("gaunt-fourier-direct", "counters", "ok"),
        ("e3x-TP", "runtime", "ok"), ("e3x-TP", "counters", "ok"),
    ]  # fmt: skip
    # Their giga is 2^30: the published numbers are whole in that unit.
    assert rows[3].measured == {"flops": 1 << 28, "bytes": 12582912}
    assert {r.environment["device_name"] for r in rows} == {"NVIDIA RTX A5500"}


@pytest.mark.parametrize(
    ("name", "column", "value", "measure", "result"),
    [
        ("flops_cpu_perf.csv", "flops", "33462053", "counters", {"flops": 33462053}),
        ("walltime_cpu.csv", "Time", "0.5", "runtime", {"median_s": 0.5, "role": "product"}),
        ("x.csv", "wall_time_cpu", "2", "runtime", {"median_s": 2.0, "role": "product"}),
    ],
)
def test_a_processors_file_of_the_paper_is_that_of_a_processor(
    name, column, value, measure, result
):
    head = "lmax,irreps_type,tensor_product_type,batch," + column
    (row,) = read(name, f"{head}\n1,MIMO,CGTP-dense,10000,{value}\n")
    assert (row.problem["device"], row.environment["device"]) == ("cpu", "cpu")
    assert (row.measure, row.measured) == (measure, result)


def test_what_is_good_is_read_and_what_is_not_is_listed_with_its_line(tmp_path):
    (tmp_path / "a.csv").write_text(PAPER.replace("1.0e-04", "fast"))
    (tmp_path / "b.jsonl").write_text(jsonl([row(), row(status="?"), row()]))
    (tmp_path / "c.json").write_text("{")
    (tmp_path / "d.json").write_bytes(b"\xff")
    reading = gather(tmp_path)
    assert len(reading.rows) == 6
    told = [str(error).removeprefix(f"{tmp_path}/") for error in reading.refused]
    assert [text.partition(":")[0] for text in told] == [
        "d.json", "c.json", "b.jsonl, line 2", "a.csv, line 6",
    ]  # fmt: skip
    with pytest.raises(FormatError, match=r"d\.json"):
        read_path(tmp_path)
    (tmp_path / "a.csv").unlink()
    (tmp_path / "b.jsonl").unlink()
    with pytest.raises(FormatError, match=r"d\.json"):
        gather(tmp_path)


BENCHMARK = {"name": "test_x", "extra_info": {"product": "e3nn", "setting": "MIMO", "lmax": 2},
             "stats": {"data": [1.0, 3.0, 2.0]}}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"benchmarks": [BENCHMARK | {"stats": None}]}, "stats must be an object"),
        ({"benchmarks": [BENCHMARK | {"extra_info": None}]}, "extra_info has no 'product'"),
        ({"benchmarks": [BENCHMARK | {"extra_info": [1]}]}, "extra_info must be an object"),
        ({"benchmarks": [BENCHMARK | {"stats": {"data": [1.0, "x"]}}]}, "stats.data must be"),
        ({"benchmarks": [BENCHMARK | {"stats": {}}]}, "median_s must be given"),
        ({"benchmarks": [None]}, "a benchmark must be an object"),
        ({"benchmarks": None}, "holds no benchmark"),
        (
            {"benchmarks": [BENCHMARK | {"extra_info": {"product": "x", "setting": "MIMO"}}]},
            "lmax is missing",
        ),
        (
            {"benchmarks": [BENCHMARK | {"extra_info": {"product": "x", "irreps1": "1o"}}]},
            "irreps2 is missing",
        ),
        ({"benchmarks": [BENCHMARK], "machine_info": 3}, "machine_info must be an object"),
    ],
)
def test_nulls_of_pytest_benchmark_are_refused_in_words(body, words):
    with pytest.raises(FormatError, match=words):
        read("b.json", json.dumps({"machine_info": None} | body))


def test_pytest_benchmark_need_not_know_its_machine():
    body = {"machine_info": None, "commit_info": None, "benchmarks": [BENCHMARK]}
    (row,) = read("b.json", json.dumps(body))
    assert row.measured["median_s"] == 2.0


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
    (row,) = read("b.json", json.dumps(body))
    assert (row["product"], row["result"]["median_s"]) == ("e3nn", 2.0)
    assert row["environment"]["cpu"] == "a processor"
    body["benchmarks"][0]["extra_info"] = {}  # type: ignore[index]
    with pytest.raises(FormatError, match=r"'test_x'.*product.*extra_info"):
        read("b.json", json.dumps(body))
