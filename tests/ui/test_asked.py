"""The line that says where what is shown is not what is asked."""

from __future__ import annotations

import pytest

from etp.problem import Problem
from etp.text import count_text
from etp.ui.asked import difference, note
from tests.ui.opening import dimmed, open_page, text_of

pytestmark = pytest.mark.usefixtures("fresh_server")

SHOWN = [Problem.of_setting("MIMO", lmax) for lmax in (1, 2, 3)]


def test_what_is_asked_and_shown_needs_no_line():
    assert difference(SHOWN, SHOWN, "run") is None
    assert difference(SHOWN, SHOWN[:2], "reference") is None


@pytest.mark.parametrize(
    ("changes", "shown", "asked"),
    [
        ({"direction": "backward"}, "forward", "forward + backward"),
        ({"weights": "shared"}, "no weights", "shared weights"),
        ({"batch": 20000}, f"batch {count_text(1000)}", f"batch {count_text(20000)}"),
        ({"dtype": "float64"}, "float32", "float64"),
        ({"device": "cuda:0"}, "cpu", "cuda:0"),
    ],
)
def test_only_what_differs_is_said(changes, shown, asked):
    line = difference(SHOWN, [p.at(**changes) for p in SHOWN], "run")
    assert line == f"Shown: {shown}. You ask: {asked}; press Run here."


def test_devices_shown_beside_are_not_asked_for_again():
    there = [p.at(device="cuda:0") for p in SHOWN]
    asked = [*SHOWN, *there]
    assert difference(SHOWN, asked, "run", devices=["cpu", "cuda:0"]) is None
    assert difference(there, asked, "run", devices=["cpu", "cuda:0"]) is None
    line = difference(SHOWN, asked, "run", devices=["cpu"])
    assert line == "Shown: cpu. You ask: also cuda:0; press Run here."


def test_other_irreps_are_named_with_the_source():
    asked = [Problem.of_irreps("0e+1o", "0e+1o", "0e")]
    line = difference(SHOWN, asked, "reference")
    assert line == (
        "Shown: MIMO (reference results). You ask: 0e+1o with 0e+1o to 0e; press Run here."
    )


def test_a_larger_lmax_is_asked_for():
    asked = [Problem.of_setting("MIMO", lmax) for lmax in (2, 3, 4, 5)]
    line = difference(SHOWN, asked, "run")
    assert line == "Shown: lmax 1 to 3. You ask: also lmax 4, 5; press Run here."


def test_degrees_that_are_missing_between_are_not_said_to_be_shown():
    line = difference([SHOWN[0], SHOWN[2]], SHOWN, "run")
    assert line == "Shown: lmax 1, 3. You ask: also lmax 2; press Run here."


def test_the_page_says_so_before_anything_is_run():
    page = open_page("compare", setting="Custom", irreps1="0e+1o", irreps2="0e+1o",
                     direction="backward")  # fmt: skip
    assert any("Shown: MIMO, forward" in info.value for info in page.info)
    assert not open_page("compare").info


@pytest.mark.parametrize("name", ["scaling", "expressivity", "equivariance"])
def test_the_products_chosen_are_the_products_shown_on_every_page(name):
    page = open_page(name, products="cg-sparse,matrix")
    shown = " ".join([*(m.value for m in page.markdown), *(str(d.value) for d in page.dataframe)])
    assert "matrix" in shown
    assert "vector-signal" not in shown
    assert not page.info


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("compare", {"batch": "20000"}),
        ("scaling", {"direction": "backward"}),
        ("scaling", {"axis": "batch", "batches": "10,100,100000"}),
        ("equivariance", {"setting": "Custom", "irreps1": "0e+1o", "irreps2": "0e+1o"}),
        ("expressivity", {"lmax": "8:9"}),
        ("layers", {"direction": "backward"}),
    ],
)
def test_results_of_another_question_are_dimmed(name, query):
    page = open_page(name, **query)
    assert any("You ask: " in info.value for info in page.info)
    assert dimmed(page)
    assert not dimmed(open_page(name))


def test_typed_irreps_have_no_counts_of_others():
    page = open_page("expressivity", setting="Custom", irreps1="0e+1o", irreps2="0e+1o")
    assert "### Nothing was counted yet." in text_of(page)
    assert not dimmed(page)
    assert not any("closed form" in table.value for table in page.dataframe)


def test_the_products_chosen_are_the_products_shown():
    page = open_page("compare", products="cg-sparse,matrix")
    assert "gaunt-bracket" not in text_of(page)
    heading = next(m.value for m in page.markdown if m.value.startswith("### "))
    assert "as e3nn" in heading


def test_what_answers_no_valid_question_is_dimmed():
    def asks() -> list[Problem]:
        raise ValueError("irreps1: '1x' is not an irrep")

    assert note(SHOWN, "reference", asks)


@pytest.mark.parametrize("page", ["compare", "scaling", "equivariance"])
def test_products_without_a_result_are_named(page):
    shown = open_page(page, products="cg-sparse,matrix,spin,cp-16")
    (said,) = [info.value for info in shown.info if "Shown:" in info.value]
    assert "Shown: cg-sparse and matrix (reference results). You ask: also spin and cp-16" in said
    assert dimmed(shown)
    assert not [i for i in open_page(page, products="cg-sparse,matrix").info if "Shown" in i.value]
