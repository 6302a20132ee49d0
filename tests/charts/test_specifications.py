"""Every chart is a valid specification of Vega-Lite, and its table has what it uses, no more.

The server draws without checking (it would take most of the time of a page), so it is checked here:
every chart of every page, drawn by the pages themselves.
"""

from __future__ import annotations

import inspect
import io
import re
from itertools import combinations
from typing import Any

import altair as alt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from altair.utils import schemapi
from jsonschema import ValidationError  # type: ignore[import-untyped]
from streamlit.testing.v1 import AppTest

from etp import charts
from etp.analysis import learning
from etp.charts import base, labels
from etp.charts.base import FADED
from etp.charts.spec import Unchecked, fields_of, picked, specification
from etp.results.reference import potential_rows
from etp.ui import show
from etp.ui.kept import kept
from tests.ui.opening import open_page

PAGES = ("compare", "layers", "scaling", "equivariance", "expressivity", "applications")
FEWEST = {"compare": 5, "layers": 2, "scaling": 6, "equivariance": 4, "expressivity": 2,
          "applications": 4}  # fmt: skip


@pytest.fixture(autouse=True)
def empty_store(tmp_path, monkeypatch):
    from etp.ui import jobs

    monkeypatch.setenv("ETP_STORE", str(tmp_path / "etp.sqlite"))
    jobs.store.cache_clear()
    yield
    jobs.close()
    jobs.store.cache_clear()


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: function, arguments and specification."""
    drawings = []

    @kept(50)
    def finished(draw, *args):
        with Unchecked():
            spec = specification(draw(*args))
        drawings.append((draw, args, spec))
        return spec

    monkeypatch.setattr(show, "finished", finished)
    return drawings


def opened(name: str, **asked: Any) -> AppTest:
    page = open_page(name, **asked)
    assert not page.exception
    return page


def valid(spec: dict[str, Any]) -> None:
    """Raise unless the schema of Vega-Lite allows the specification."""
    plain = {key: value for key, value in spec.items() if key != "datasets"}
    schemapi.validate_jsonschema(plain, alt.TopLevelUnitSpec._rootschema)


def tables(spec: dict[str, Any]) -> dict[str, pd.DataFrame]:
    return {
        name: pa.ipc.open_stream(io.BytesIO(body)).read_pandas()
        for name, body in spec["datasets"].items()
    }


@pytest.mark.parametrize("name", PAGES)
def test_every_chart_of_a_page_is_valid_and_drawn_once(name, drawn):
    page = opened(name)
    assert len(drawn) >= FEWEST[name]
    for _, _, spec in drawn:
        valid(spec)
        assert spec["description"]
        named = {part["data"]["name"] for part in [spec, *spec["layer"]] if "name" in
                 part.get("data", {})}  # fmt: skip
        assert named == set(spec["datasets"])
        used = fields_of({key: value for key, value in spec.items() if key != "datasets"})
        for table in tables(spec).values():
            assert set(table.columns) <= used
            assert len(table)
    before = len(drawn)
    page.run()
    assert len(drawn) == before, "a view that was shown before is not drawn again"


SELECTS = {"tradeoff", "ratio", "runtime_lines", "per_gamma_lines", "equivariance_dots", "slopes",
           "per_degree", "gamma_bars"}  # fmt: skip


@pytest.mark.parametrize("name", ["compare", "scaling", "equivariance", "expressivity"])
def test_shortcuts_give_the_chart_that_altair_draws(name, drawn):
    opened(name)
    for draw, args, spec in drawn:
        # Outside of Unchecked everything is copied and checked.
        assert spec == specification(draw(*args))
        if draw.__name__ in SELECTS:
            given = inspect.signature(draw).bind(*args).arguments | {"selected": "cg-sparse"}
            assert picked(spec, "cg-sparse") == specification(draw(**given)) != spec
            assert picked(spec, "no-such-product") == spec
    assert {draw.__name__ for draw, _, _ in drawn} & SELECTS


def test_what_is_picked_fades_the_rest_and_draws_nothing_again(drawn):
    opened("compare")
    before = len(drawn)
    opened("compare", pick="cg-sparse")
    assert len(drawn) == before
    spec = next(spec for draw, _, spec in drawn if draw.__name__ == "tradeoff")
    faded = [t for t in tables(picked(spec, "cg-sparse")).values() if "fade" in t]
    assert {*faded[0]["fade"]} == {1.0, FADED}
    for table in faded:
        assert {*table.loc[table["product"] == "cg-sparse", "fade"]} <= {1.0}
        assert {*table.loc[table["product"] != "cg-sparse", "fade"]} <= {FADED}


def test_an_invalid_specification_is_told_from_a_valid_one(drawn):
    opened("compare")
    spec = dict(drawn[0][2])
    valid(spec)
    spec["layer"] = [*spec["layer"], {"mark": "no such mark"}]
    with pytest.raises(ValidationError):
        valid(spec)


def test_a_table_keeps_the_rows_and_the_columns_that_are_used():
    table = pd.DataFrame({
        "product": ["a", "b"], "x": [1, 1], "median_s": [1e-3, 2e-3], "q25_s": [1e-3, 2e-3],
        "q75_s": [1e-3, 2e-3], "of no use": ["c", "d"],
    })  # fmt: skip
    spec = specification(charts.runtime_lines(table, "light"))
    sent = max(tables(spec).values(), key=lambda columnar: len(columnar.columns))
    assert list(sent["median_s"]) == [1e-3, 2e-3]
    assert "of no use" not in sent.columns
    valid(spec)


def test_a_mistake_is_still_told_where_charts_are_drawn_for_themselves():
    with Unchecked():
        pass
    with pytest.raises(schemapi.SchemaValidationError):
        alt.Chart(pd.DataFrame({"a": [1]})).mark_point(size="large").to_dict()  # type: ignore[arg-type]


def test_what_is_kept_is_bounded_and_told_apart_by_value_or_object():
    calls = []

    @kept(2)
    def pair(first, second=None):
        calls.append((first, second))
        return [first, second]

    rows = [1]
    assert pair(rows) is pair(rows)
    assert pair([1]) is not pair(rows), "an equal list is another list"
    assert len(calls) == 2
    assert pair(1) is not pair(True), "equal numbers of two types are written in two ways"
    assert len(pair.__dict__["kept"]) == 2
    pair(rows)
    assert len(calls) == 5, "the longest unused went first"


def test_two_devices_stand_in_one_chart_and_are_told_apart(drawn):
    opened("scaling", elsewhere="published: NVIDIA RTX A5500")
    (spec,) = [spec for draw, _, spec in drawn if draw.__name__ == "time_chart"]
    valid(spec)
    names = {name for table in tables(spec).values() for name in table.get("product", [])}
    assert {"cg-sparse", "cg-sparse · RTX A5500"} <= names
    assert "so2" not in names, "what only one of them has is left out"


def test_a_single_size_is_no_line():
    table = pd.DataFrame({
        "product": ["a", "b"], "x": [2, 2], "median_s": [1e-3, 2e-3], "q25_s": [1e-3, 1.5e-3],
        "q75_s": [1e-3, 2e-3],
    })  # fmt: skip
    spec = specification(charts.runtime_lines(table, "light"))
    valid(spec)
    marks = {layer["mark"]["type"] for layer in spec["layer"]}
    assert marks == {"rule", "point"}
    longer = pd.concat([table, table.assign(x=3)])
    marks = {layer["mark"]["type"] for layer in specification(charts.runtime_lines(longer, "light"))
             ["layer"]}  # fmt: skip
    assert "line" in marks


@pytest.mark.parametrize("low", [3e-8, 1e-7, 0.02])
def test_neighbouring_ticks_never_read_the_same(low):
    import vl_convert

    table = pd.DataFrame({
        "product": ["a"] * 3, "degree": [0, 1, 2], "error": [low, 1.7 * low, 3 * low],
    })  # fmt: skip
    picture = vl_convert.vegalite_to_svg(charts.per_degree(table, "light").to_dict())
    written = re.findall(r">([^<>]*10[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)</text>", picture)
    assert len(written) >= 2
    assert len(set(written)) == len(written)


def test_two_devices_of_a_run_share_a_chart_and_no_ranking(drawn):
    from etp.results.reference import reference_rows
    from etp.ui import jobs

    names = ("cg-sparse", "gaunt-grid")
    wanted = [
        row for row in reference_rows()
        if row.problem["setting"] == "MIMO" and row.problem["batch"] == 1000
        and row.problem["lmax"] < 4 and row.product in names and row.measure != "sphere"
    ]  # fmt: skip
    here = [row.with_(job="both", id=f"{n:032x}") for n, row in enumerate(wanted)]
    there = [
        row.with_(
            job="both",
            id=f"{n + 10_000:032x}",
            group=f"{row.group}-there" if row.group else None,
            problem={**row.problem, "device": "cuda:0"},
            environment={**row.environment, "device": "cuda:0", "device_name": "NVIDIA H100"},
        )
        for n, row in enumerate(wanted)
    ]
    jobs.store().add_job("both", "Compare", [])
    jobs.store().update_job("both", state="done", ended=[], started=1.0, finished=2.0)
    jobs.store().add_rows([*here, *there])
    opened("compare", job="both")

    def products(name: str) -> set[str]:
        (spec,) = [spec for draw, _, spec in drawn if draw.__name__ == name]
        return {p for table in tables(spec).values() for p in table.get("product", [])}

    assert products("runtime_lines") == {*names, *(f"{name} · H100" for name in names)}
    assert products("tradeoff") == set(names)


@pytest.mark.parametrize(("number", "named"), [(5, 10), (15, 15)])
def test_lines_of_another_device_are_named_only_where_all_names_fit(number, named):
    names = [f"cg-{n}" for n in range(number)]
    both = [*names, *(f"{name} · H100" for name in names)]
    table = pd.DataFrame(
        [(name, x, 1e-3 * x, None, None) for name in both for x in (1, 2)],
        columns=["product", "x", "median_s", "q25_s", "q75_s"],
    )
    spec = charts.runtime_lines(table, "light").to_dict()
    texts = [layer for layer in spec["layer"] if layer["mark"].get("type") == "text"]
    shown = {row["text"] for layer in texts for row in spec["datasets"][layer["data"]["name"]]}
    assert len(shown) == named


def test_each_of_two_devices_stands_under_its_roof():
    points = pd.DataFrame(
        [(f"cg-sparse{on}", x, 2.0 * x, rate * x) for on, rate in (("", 1e9), (" · H100", 1e11))
         for x in (1, 2)],
        columns=["product", "x", "intensity", "flops_per_s"],
    )  # fmt: skip
    here = {"copy_bytes_per_s": 1e10, "matmul_flops_per_s": 1e11}
    there = {"copy_bytes_per_s": 2e12, "matmul_flops_per_s": 5e13}
    spec = charts.roofline(points, here, "light", other=("H100", there)).to_dict()
    valid(spec)
    peaks = [max(row["flops_per_s"] for row in table) for table in spec["datasets"].values()
             if all("product" not in row for row in table)]  # fmt: skip
    assert sorted(peaks) == [1e11, 5e13]
    assert "Dotted: H100, matrix product 50.0 TFLOP/s" in spec["description"]
    with pytest.raises(ValueError, match="roofs must have copy_bytes_per_s"):
        charts.roofline(points, here, "light", other=("H100", {"matmul_flops_per_s": 1.0}))


def test_names_on_a_crowded_roofline_never_stand_on_one_another():
    crowd = [
        {"product": f"product-{n}", "x": 4.0, "intensity": 10 * 1.02**n, "flops_per_s": 1e10}
        for n in range(15)
    ]
    roofs = {"copy_bytes_per_s": 1e10, "matmul_flops_per_s": 1e11}
    chosen = "product-9"
    spec = charts.roofline(pd.DataFrame(crowd), roofs, "light", chosen, width=340).to_dict()
    texts = [layer for layer in spec["layer"] if layer["mark"]["type"] == "text"]
    data = {layer["data"]["name"] for layer in texts}
    names = [row for name in data for row in spec["datasets"][name]]
    domain = texts[0]["encoding"]["x"]["scale"]["domain"]
    boxes = []
    for row in names:
        right = row["dx"] + 270 * base.position(row["intensity"], domain)
        size = labels.text_width(row["product"], 12)
        left = right - {"left": 0, "center": size / 2, "right": size}[row["align"]]
        boxes.append((left, row["dy"] - 6, left + size, row["dy"] + 6))
    assert 2 <= len(names) < 15
    assert chosen in {row["product"] for row in names}
    assert max(labels.overlap(a, b) for a, b in combinations(boxes, 2)) <= labels.SHARED


@pytest.mark.parametrize("width", [340, 560])
def test_names_of_learning_curves_stand_apart_though_their_lines_end_anywhere(width):
    table = learning.curves(potential_rows(), "check_s")
    spec = charts.curves(table, "light", "check_s", width).to_dict()
    *_, text = spec["layer"]
    names = spec["datasets"][text["data"]["name"]]
    assert {row["product"] for row in names} == set(table["product"])
    ends = {axis: text["encoding"][axis]["scale"]["domain"] for axis in "xy"}
    wide, high = width - 60, 300 * 0.8
    boxes = []
    for row in names:
        right = row["dx"] + wide * base.position(row["x"], ends["x"])
        down = row["dy"] + high * (1 - base.position(row["median_s"], ends["y"]))
        size = labels.text_width(row["product"], 12)
        left = right - {"left": 0, "center": size / 2, "right": size}[row["align"]]
        boxes.append((left, down - 6, left + size, down + 6))
    assert [labels.overlap(a, b) for a, b in combinations(boxes, 2)] == [0] * 28
