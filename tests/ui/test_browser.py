"""The main job in a real browser: run, watch, read the verdict, download; phone; dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from etp.ui.navigation import PAGES
from tests.ui.browsing import opened

SMALL = "lmax=1:2&batch=64&products=cg-sparse,gaunt-grid&baseline=cg-sparse"

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]


def test_a_comparison_is_run_read_and_downloaded(server, browser):
    with opened(browser, f"{server}/?{SMALL}") as page:
        page.get_by_text("reference results").first.wait_for()
        page.get_by_role("button", name="Run here").click()
        page.get_by_role("button", name="Cancel").wait_for()
        page.wait_for_url(re.compile("job="))
        page.get_by_role("button", name="Run here").wait_for()
        page.get_by_text("reference results").first.wait_for(state="detached")
        page.locator("h3", has_text="At lmax 2").wait_for()
        assert page.locator("svg.marks, canvas.marks").count() >= 4
        page.get_by_role("button", name="Download", exact=True).click()
        with page.expect_download() as download:
            page.get_by_text("CSV").first.click()
        table = Path(download.value.path()).read_text()
        assert table.startswith("product")
        assert "gaunt-grid" in table


def test_a_run_goes_on_when_the_page_is_closed_and_can_be_cancelled(server, browser):
    longer = "lmax=1:6&batch=1000&products=cg-sparse,gaunt-grid,matrix"
    with opened(browser, f"{server}/?{longer}") as page:
        page.get_by_role("button", name="Run here").click()
        page.wait_for_url(re.compile("job="))
        address = page.url
    with opened(browser, address) as page:
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text(re.compile("Cancelled after")).wait_for()
        page.get_by_role("button", name="Run here").wait_for()


@pytest.mark.parametrize("name", [name for name, _ in PAGES])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_opens_by_its_address_and_fits_a_phone(server, browser, name, scheme):
    # The start page has the bare address.
    address = server if name == PAGES[0][0] else f"{server}/{name}"
    with opened(browser, address, width=390, height=844, color_scheme=scheme) as page:
        page.wait_for_timeout(500)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        assert page.get_by_text("could not be shown").count() == 0


def test_the_rotating_sphere_is_drawn(server, browser):
    with opened(browser, f"{server}/equivariance") as page:
        page.locator(".js-plotly-plot .gl-container canvas").first.wait_for()
        assert page.locator(".slider-container").count() == 1
