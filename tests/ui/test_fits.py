"""A question that cannot be run is refused on the page, with a button that mends it."""

from __future__ import annotations

import pytest

from etp.run import environment
from etp.run.config import LimitError
from etp.run.runner import Runner
from etp.ui import effort, jobs
from etp.ui.mends import rounded_down
from etp.ui.plans import COMPARE
from etp.ui.settings import Settings
from tests.ui.opening import dimmed, open_page, text_of

PATIENCE_S = 60.0
PRODUCTS = Settings().products

pytestmark = [
    pytest.mark.usefixtures("fresh_server"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("compare", {"lmax": "10", "batch": "1000000", "channels": "512"}),
        ("scaling", {"axis": "batch", "batches": "10,100,10000000", "channels": "64"}),
        ("layers", {"edges": "10000000"}),
    ],
)
def test_the_mend_is_a_button_and_then_it_can_be_run(monkeypatch, page, query):
    monkeypatch.setattr(environment, "available_bytes", lambda: 4 * 10**9)
    shown = open_page(page, **query)
    assert shown.button(key="run").disabled
    assert "GB are free on cpu: use a batch of at most" in text_of(shown)
    assert "Cannot run: it does not fit" in text_of(shown)
    assert not any("press Run here" in info.value for info in shown.info)
    assert shown.button(key="mend_batch").label.endswith("which fits")
    shown.button(key="mend_batch").click().run()
    assert not shown.exception
    assert not shown.button(key="run").disabled
    assert "GB are free" not in text_of(shown)


@pytest.mark.parametrize(
    ("page", "products", "mend"),
    [
        ("compare", "cg-sparse,foo,bar", "Leave out foo, bar"),
        ("scaling", "foo", f"Use {', '.join(PRODUCTS)}"),
        ("equivariance", "cg-sparse,foo,bar", "Leave out foo, bar"),
        ("expressivity", "foo", f"Use {', '.join(PRODUCTS)}"),
        ("applications", "cg-sparse,foo,bar", "Leave out foo, bar"),
    ],
)
def test_what_is_not_here_is_left_out_by_a_button_and_answered_by_nothing(page, products, mend):
    # The list of products is made by a process of its own, once for all pages.
    assert "cg-sparse" in {entry.name for entry in jobs.catalog().entries(wait_s=PATIENCE_S)}
    shown = open_page(page, products=products)
    assert shown.button(key="run").disabled
    assert "Cannot run: not here: foo" in text_of(shown)
    assert dimmed(shown)
    assert shown.button(key="mend_not_here_products").label == mend
    shown.button(key="mend_not_here_products").click().run()
    assert not shown.exception
    assert not shown.button(key="run").disabled
    assert not dimmed(shown)


@pytest.mark.parametrize("page", ["compare", "scaling"])
def test_every_fault_of_an_address_is_told_and_has_its_mend(page):
    assert jobs.catalog().entries(wait_s=PATIENCE_S)
    shown = open_page(page, products="cg-sparse,foo", devices="cuda:9", lmax="abc")
    assert ["lmax must be" in warning.value for warning in shown.warning] == [True]
    said = [error.value.replace("\u2060", "") for error in shown.error]
    assert ["cuda:9 is not" in error for error in said] == [True, False]
    assert ["foo is not" in error for error in said] == [False, True]
    assert "Cannot run: not here: cuda:9; not here: foo" in text_of(shown)
    shown.button(key="mend_not_here_products").click().run()
    assert shown.button(key="run").disabled
    shown.button(key="mend_not_here_devices").click().run()
    assert not shown.error
    assert not shown.button(key="run").disabled


@pytest.mark.parametrize(
    ("page", "query", "label"),
    [
        ("compare", {"setting": "Custom", "irreps2": "0e + 1x"}, "Use 0e + 1o"),
        ("compare", {"setting": "Custom", "irreps1": "1o", "irreps2": "1o", "keep": "1o"},
         "Keep all outputs"),
        ("scaling", {"setting": "Custom"}, "Go along batch"),
        ("scaling", {"lmax": "3"}, "Use the usual lmax"),
        ("scaling", {"axis": "batch", "batches": "10"}, "Use the usual batches"),
        ("scaling", {"axis": "channels", "channel_counts": "4"}, "Use the usual channels"),
    ],
)  # fmt: skip
def test_what_cannot_run_has_a_mend_at_full_width(page, query, label):
    shown = open_page(page, **query)
    assert shown.button(key="run").disabled
    assert len(shown.error) == 1
    # The one of the full width comes last; fields of irreps have one beside them too.
    [button for button in shown.button if button.label == label][-1].click().run()
    assert not shown.exception
    assert not shown.error
    assert not shown.button(key="run").disabled


def test_every_field_of_irreps_that_cannot_be_read_is_told():
    shown = open_page("compare", setting="Custom", irreps1="1x", irreps2="0e+2", keep="3z")
    said = [error.value for error in shown.error]
    assert [error.partition(":")[0] for error in said] == ["Input 1", "Input 2", "Outputs to keep"]
    assert "Cannot run: input 1 is not valid; input 2 is not valid" in text_of(shown)
    # Each is told beside its field too.
    assert sum("is not an irrep" in m.value for m in shown.markdown) == 3


def test_products_that_a_page_does_not_run_do_not_stop_it():
    jobs.catalog().entries(wait_s=PATIENCE_S)
    shown = open_page("layers", products="foo")
    assert not shown.error
    assert not shown.button(key="run").disabled


def test_a_button_names_two_digits_that_fit():
    assert [rounded_down(n) for n in (7, 45, 2049, 123_456)] == [7, 45, 2000, 120_000]


def test_a_case_that_would_be_stopped_is_refused_before(monkeypatch):
    monkeypatch.setenv("ETP_LIMITS_CASE_SECONDS", "20")
    monkeypatch.setattr(Runner, "warm", lambda self: None)
    small = Settings(lmax=(2, 2))
    assert COMPARE.checked(small)
    large = small.with_(batch=5_000_000, channels=4, direction="backward")
    with pytest.raises(LimitError, match="case_seconds must be at most 20 here") as error:
        effort.check_time(COMPARE.cases(large))
    assert error.value.batch is not None
    effort.check_time(COMPARE.cases(large.with_(batch=error.value.batch)))
    jobs.close()


def test_what_the_time_affords_is_said_before_the_run(monkeypatch):
    monkeypatch.setattr(environment, "available_bytes", lambda: 10**12)
    assert "30 rounds" in text_of(open_page("compare", lmax="1:2", batch="100"))
    slow = open_page("compare", lmax="6", batch="20000", channels="8", direction="backward",
                     products="e3nn,complete,cg-dense")  # fmt: skip
    assert "too few for a verdict" in text_of(slow)
