"""What is folded away costs nothing until it is opened, and is whole then."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from tests.ui.opening import charts_of, open_page, text_of

pytestmark = pytest.mark.usefixtures("fresh_server")

FOLDS = {
    "compare": {"pairs", "download", "reproduce", "badges"},
    "layers": {"pairs", "download", "badges", "turns", "whole_mace-medium"},
    "scaling": {"told", "download", "reproduce"},
    "expressivity": {"paths", "conditions"},
    "applications": {"numbers", "reproduce"},
}


def made(page: AppTest) -> int:
    """How many elements a page has, inside and outside of its folds."""
    kinds = ("markdown", "caption", "code", "dataframe", "download_button")
    return sum(len(page.get(kind)) for kind in kinds) + charts_of(page)


@pytest.mark.parametrize("name", FOLDS)
def test_a_fold_is_empty_until_it_is_opened(name):
    closed = made(open_page(name))
    for key in FOLDS[name]:
        page = open_page(name, unfolded=[key])
        assert not page.exception
        assert not page.error
        assert made(page) > closed, key


def test_every_fold_of_a_page_can_be_open_at_once():
    page = open_page("compare", unfolded=sorted(FOLDS["compare"]))
    assert "python -m etp sweep" in page.code[0].value
    assert "tp = products.get(" in page.code[1].value
    assert any("what" in table.value for table in page.dataframe)
    assert "Some paths that symmetry allows have weight zero" in text_of(page)
    labels = {button.proto.label for button in page.get("download_button")}
    assert {"Table (CSV)", "SVG", "PDF", "PNG", "Caption and BibTeX"} <= labels
