"""Every page by AppTest: alone (a cold deep link), with bad addresses, with a run in the store."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from etp.problem import Problem
from etp.results.rows import Row
from etp.results.store import Store, default_path
from etp.run.case import Case
from etp.run.case import run as run_case
from etp.ui import jobs
from tests.make import MIMO, row, run_of
from tests.ui.opening import PAGES, ROOT, charts_of, open_page, text_of

pytestmark = [
    pytest.mark.usefixtures("fresh_server"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_alone_and_shows_something(name):
    page = open_page(name)
    assert not page.exception
    assert not page.error
    assert any(m.value.startswith("### ") for m in page.markdown)


def test_the_application_opens_on_the_compare_page():
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert not page.exception
    assert "What a millisecond buys" in text_of(page)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    "query",
    [
        {"setting": "XIXO"}, {"lmax": "700"}, {"setting": "Custom", "irreps1": "1x + 2e"},
        {"batch": "-5"},
        {"job": "nothing", "checks": "nothing", "counts": "nothing", "scaling": "nothing"},
        {"axis": "colour"}, {"axis": "batch", "batches": "ten"}, {"channel_counts": "0"},
        {"axis": "channels", "channel_counts": "3"}, {"axis": "batch", "batches": "10,10000000"},
        {"products": "no-such-product"}, {"devices": "cuda:9"}, {"at": "9"}, {"pick": "nobody"},
        {"setting": "Custom", "irreps1": "1o", "irreps2": "1o", "keep": "1o"},
        {"setting": "SISO", "outputs": "natural", "lmax": "1:1"},
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_address_is_answered_in_words(name, query):
    page = open_page(name, **query)
    assert not page.exception
    assert "could not be shown" not in text_of(page)
    assert any(m.value.startswith("### ") for m in page.markdown)


def test_a_device_in_the_address_that_is_not_here_is_said_before_a_run():
    page = open_page("compare", devices="cuda:9")
    assert "devices: cuda:9 is not on this machine; choose among cpu" in text_of(page)
    assert next(b for b in page.button if b.label == "Run here").disabled


def test_a_product_in_the_address_that_is_not_here_is_said_before_a_run():
    jobs.catalog().entries(wait_s=120)
    page = open_page("compare", products="foo,matrix")
    assert "products: foo is not on this machine" in text_of(page)
    assert next(b for b in page.button if b.label == "Run here").disabled


def test_typed_irreps_that_are_wrong_say_where_and_offer_the_mend():
    page = open_page("compare", setting="Custom", irreps2="0e + 1x + 2e")
    assert "Input 2: position 6" in text_of(page)
    assert "Cannot run: input 2 is not valid" in text_of(page)
    button = next(b for b in page.button if b.label.startswith("Use "))
    button.click().run()
    assert "position" not in text_of(page)
    assert next(b for b in page.button if b.label == "Run here").disabled is False


def test_an_impossible_filter_is_explained_and_can_be_removed():
    page = open_page("compare", setting="Custom", irreps1="1o", irreps2="1o", keep="1o")
    assert "odd times odd is even" in text_of(page)
    next(b for b in page.button if b.label == "Keep all outputs").click().run()
    assert not page.error


def stored_run(lmax: int = 2) -> Store:
    """A finished job with rows of a real comparison."""
    store = Store(default_path())
    case = Case(
        Problem.of_setting("MIMO", lmax, batch=16), ("cg-sparse", "gaunt-grid"),
        rounds=12, budget_s=60.0,
    )  # fmt: skip
    rows = [item.with_(job="job1") for item in run_case(case.as_dict()) if isinstance(item, Row)]
    store.add_job("job1", "Compare", [case.as_dict()])
    store.update_job("job1", state="done", ended=[0], started=1.0, finished=2.0)
    store.add_rows(rows)
    return store


def test_a_run_in_the_address_is_shown_with_its_table_and_verdict():
    stored_run()
    page = open_page("compare", job="job1")
    assert not page.exception
    assert "reference results" not in str(page)
    assert list(page.dataframe[0].value["product"]) != []
    assert "12 rounds" in text_of(page)
    assert charts_of(page) >= 4


def test_picking_a_product_shows_its_samples():
    stored_run()
    page = open_page("compare", job="job1", pick="gaunt-grid")
    assert "gaunt-grid: every timed call" in text_of(page)


def test_a_job_that_ended_early_says_why():
    store = stored_run()
    store.update_job("job1", state="interrupted", reason="the process that ran it ended")
    assert "the process that ran it ended" in text_of(open_page("compare", job="job1"))


def test_the_same_numbers_are_shown_for_another_baseline():
    stored_run()
    page = open_page("compare", job="job1", baseline="gaunt-grid", products="cg-sparse,gaunt-grid")
    assert "time of gaunt-grid / time of product" in text_of(page)


def test_results_list_runs_and_set_invalid_rows_apart():
    store = Store(default_path())
    empty = row(
        "cg-dense", status="invalid", result=None, badges=["empty output"],
        reason="odd times odd is even", environment={"source": "a paper", "device_name": "A100"},
    )  # fmt: skip
    store.add_rows([*run_of({"a": 1e-3}), empty])
    page = open_page("results")
    assert "1 row is not what it claims" in text_of(page)
    shown = [frame.value for frame in page.dataframe]
    assert any(
        "reason" in frame and "odd times odd is even" in list(frame["reason"]) for frame in shown
    )


def test_the_filter_of_results_leaves_what_matches():
    Store(default_path()).add_rows([*run_of({"alpha": 1e-3}), row("beta")])
    page = open_page("results")
    page.text_input[0].input("beta").run()
    every = next(f.value for f in page.dataframe if "measure" in f.value)
    assert set(every["product"]) == {"beta"}


SWEPT = {10: (1e-3, 5e-3), 100: (6e-3, 1e-2), 1000: (4e-2, 2e-2), 10000: (2.5e-1, 4e-2)}


def stored_sweep() -> None:
    """A finished sweep along batch in which gaunt-grid overtakes cg-sparse at 1000."""
    store, rows = Store(default_path()), []
    problem = Problem.of_setting("MIMO", 2)
    for batch, (first, second) in SWEPT.items():
        now = problem.at(batch=batch)
        timed = run_of({"cg-sparse": first, "gaunt-grid": second}, twin="cg-sparse", problem=now)
        for name in ("cg-sparse", "gaunt-grid"):
            timed.append(row(name, "cost", {"macs": 9 * batch, "bytes": batch, "flops": 18 * batch},
                             now))  # fmt: skip
        rows += [
            entry.with_(group=f"g{batch}" if entry.group else None, job="swept") for entry in timed
        ]
    roofs = {"copy_bytes_per_s": 1e10, "matmul_flops_per_s": {"float32": 1e11}}
    rows.append(row("device", "roofline", roofs, problem, job="swept"))
    store.add_job("swept", "Scaling", [{"problem": problem.as_dict(), "products": ["cg-sparse"]}])
    store.update_job("swept", state="done", ended=[0], started=1.0, finished=2.0)
    store.add_rows(rows)


def test_a_sweep_is_shown_with_slopes_limits_and_who_overtakes_whom():
    stored_sweep()
    page = open_page("scaling", scaling="swept", axis="batch")
    assert not page.exception
    assert not page.error
    text = text_of(page)
    assert "### From batch 10 to 10\u202f000, gaunt-grid grows like B⁰·³ and cg-sparse like" in text
    assert "gaunt-grid overtakes cg-sparse at batch 1\u202f000 for lmax 2 on a processor" in text
    assert "30 interleaved rounds per size" in text
    assert "no quartiles in this file" not in text_of(page)
    assert charts_of(page) >= 3
    limits = next(f.value for f in page.dataframe if "limit" in f.value)
    assert set(limits["limit"]) <= {"bytes", "neither roof", "cache", "launch", "arithmetic"}
    every = next(f.value for f in page.dataframe if "slope" in f.value)
    assert sorted(set(every["batch"])) == list(SWEPT)


def test_imported_rows_without_quartiles_are_shown_from_results_with_a_badge():
    Store(default_path()).add_rows(
        [
            row(name, result={"median_s": law * batch}, problem=MIMO.at(batch=batch),
                badges=["no quartiles"], environment={"source": "a file", "device_name": "A100"})
            for batch in (10, 100, 1000, 10000)
            for name, law in (("cg-dense", 1e-6), ("e3nn", 3e-6))
        ]
    )  # fmt: skip
    links = next(f.value for f in open_page("results").dataframe if "growth" in f.value)
    assert links["growth"][0] == "/scaling?scaling=a%20file%3A%20A100&axis=batch"
    page = open_page("scaling", scaling="a file: A100", axis="batch")
    assert not page.warning
    assert "cg-dense grows like B¹·⁰" in text_of(page)
    assert "no pair can be judged" in text_of(page)
    assert "no quartiles in this file" in text_of(page)


def test_an_axis_that_was_not_measured_is_said_and_can_be_run(monkeypatch):
    from etp.ui import data

    monkeypatch.setattr(data, "reference_rows", lambda: [])
    page = open_page("scaling", axis="channels", channel_counts="1,2,8")
    assert "### Nothing was measured along channels yet." in text_of(page)
    assert [b.label for b in page.button if b.label.startswith("Run here: 3 sizes, about ")]


def test_choosing_an_axis_changes_the_address():
    page = open_page("scaling")
    choice: Any = next(g for g in page.get("button_group") if "channels" in str(g))
    choice.set_value("channels").run()
    assert not page.exception
    assert "channels" in page.query_params["axis"]


def test_typed_irreps_show_their_paths_before_anything_is_counted():
    page = open_page(
        "expressivity", unfolded=["paths"], setting="Custom", irreps1="1o", irreps2="2e"
    )
    assert not page.exception
    paths = [f.value for f in page.dataframe if "path" in f.value]
    assert "1o ⊗ 2e → 3o" in list(paths[0]["path"])


def test_the_sphere_view_offers_a_product_that_is_broken_on_purpose():
    page = open_page("equivariance")
    broken = "gaunt-grid, one column short"
    product, beside = (box for box in page.selectbox if broken in box.options)
    assert (product.value, beside.value) == ("gaunt-grid", broken)


def test_typed_irreps_of_a_published_layer_lead_to_its_results():
    page = open_page(
        "layers", layer="Custom", irreps1="128x0e+128x1o+128x2e", irreps2="0e+1o+2e+3o"
    )
    assert "Nothing was measured on this layer yet" in text_of(page)
    (button,) = [button for button in page.button if button.label.startswith("Show mace-large")]
    assert "faster" in text_of(button.click().run())


def test_devices_are_named_with_memory_and_why_some_are_not_offered(monkeypatch):
    from etp.run import devices
    from etp.ui import bar

    cards = {"cuda:0": ("NVIDIA A100", 40 * 10**9), "cuda:1": ("AMD Instinct", 64 * 10**9)}
    monkeypatch.setattr(devices, "_cuda", lambda: cards)
    monkeypatch.setattr(bar, "not_offered", lambda: {"mps": "it has no float64"})
    devices.devices.cache_clear()
    try:
        for name in ("compare", "scaling"):
            page = open_page(name)
            (pills,) = [group for group in page.button_group if group.label == "Devices"]
            assert {"cuda:0: NVIDIA A100, 40 GB", "cuda:1: AMD Instinct, 64 GB"} <= set(
                pills.options
            )
            assert "mps is not offered: it has no float64." in text_of(page)
    finally:
        devices.devices.cache_clear()


def test_all_layers_of_a_model_are_added_up_and_the_share_tells_what_the_whole_gains():
    page = open_page("layers", unfolded=["whole_nequix"], layer="nequix-main", share="50")
    assert not page.exception
    (table,) = [frame.value for frame in page.dataframe if "all layers" in frame.value]
    fast = table.set_index("product").loc["cg-sparse"].to_dict()
    speed = float(fast["× e3nn"].rstrip("×"))
    assert speed > 2
    assert float(fast["a forward gains"].rstrip("×")) == pytest.approx(
        2 / (1 + 1 / speed), rel=0.05
    )
    shares = [int(fast[name].rstrip(" %")) for name in fast if "× nequix" in str(name)]
    assert sum(shares) == pytest.approx(100, abs=2)


def test_the_device_of_a_layer_is_chosen_and_the_run_asks_for_it(monkeypatch):
    from etp.run import devices
    from etp.ui.plans import LAYERS
    from etp.ui.settings import Settings

    monkeypatch.setattr(devices, "_cuda", lambda: {"cuda:0": ("NVIDIA A100", 40 * 10**9)})
    devices.devices.cache_clear()
    try:
        page = open_page("layers")
        (pills,) = [group for group in page.button_group if group.label == "Device"]
        pills.set_value("cuda:0").run()
        assert not page.exception
        assert page.query_params["devices"] in ("cuda:0", ["cuda:0"])
        (case,) = LAYERS.cases(Settings(devices=("cuda:0",)))
        assert case["problem"]["device"] == "cuda:0"
    finally:
        devices.devices.cache_clear()


def test_where_a_layer_of_a_model_was_not_measured_the_command_that_does_is_shown(monkeypatch):
    from etp.results.reference import layer_rows
    from etp.ui import layers

    without = [row for row in layer_rows() if row.problem["irreps1"] != "128x0e"]
    monkeypatch.setattr(layers, "layer_rows", lambda: without)
    page = open_page("layers", unfolded=["whole_mace-medium"], layer="mace-medium")
    assert any("etp advise --model mace-medium" in code.value for code in page.code)


def test_a_layer_of_uma_says_what_of_it_is_timed_and_runs_so2_beside_the_others():
    from etp.ui.plans import LAYERS
    from etp.ui.settings import Settings

    page = open_page("layers", layer="uma-s")
    assert not page.exception
    assert "cg-sparse does what e3nn does" in text_of(page)
    page = open_page("layers", layer="escn-l6-m2")
    assert "Nothing was measured on this layer yet" in text_of(page)
    assert "Timed here is what is done channel by channel" in text_of(page)
    assert not [button for button in page.button if button.label.startswith("Show escn-l6-m2")]
    (case,) = LAYERS.cases(Settings(layer="uma-s"))
    assert {"cg-sparse", "so2-linear", "so2-linear-2"} <= set(case["products"])


def test_neighbours_and_weights_of_a_layer_are_asked_and_said():
    from etp.ui.plans import layer_problem
    from etp.ui.settings import Settings

    page = open_page("layers", neighbours="5", layer_weights="shared")
    assert not page.exception
    assert [box.value for box in page.number_input if box.label == "Neighbours"] == [5]
    (said,) = [info.value for info in page.info if "You ask" in info.value]
    assert "edges of 5 a node, shared weights" in said
    problem = layer_problem(Settings(neighbours=5, layer_weights="shared"))
    assert (problem.neighbours, problem.weights) == (5, "shared")


def test_a_power_of_a_model_is_shown_with_nodes_and_its_own_line_to_copy():
    page = open_page("layers", layer="mace-medium-power")
    assert not page.exception
    assert "Fewer couplings: gaunt-grid reaches 6 of 29 couplings" in text_of(page)
    assert any("etp.powers.get('cg')" in code.value for code in page.code)
    assert any("--kind power" in code.value for code in page.code)
    assert not [box for box in page.number_input if box.label == "Neighbours"]


def test_elements_of_a_power_are_asked_and_said():
    from etp.ui.plans import layer_problem
    from etp.ui.settings import Settings

    page = open_page("layers", layer="mace-medium-power", elements="10")
    assert not page.exception
    assert [box.value for box in page.number_input if box.label == "Elements"] == [10]
    assert any("nodes of 10 elements" in info.value for info in page.info)
    problem = layer_problem(Settings(layer="mace-medium-power", elements=10))
    assert "--elements 10" in problem.command()


def test_who_comes_first_reads_what_a_model_gains():
    page = open_page("compare")
    said = text_of(page)
    assert "In a model, at the layer mace-medium: The same operation: cg-sparse" in said
    assert "/layers?layer=mace-medium" in said


def test_a_layer_says_what_its_verdict_rests_on():
    worn = text_of(open_page("layers"))
    for fact in ("rounds", "twin within", "load"):
        assert fact in worn
