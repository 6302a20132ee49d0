"""The main job in a real browser: run, watch, read the verdict, download; phone; dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from etp.maths.sphere import spherical_harmonics
from etp.ui.navigation import PAGES
from tests.ui.browsing import RESTING, ROOT, opened, seen, watch

BRIGHTNESS = """() => {
  const app = document.querySelector('[data-testid=stApp]');
  return Number(getComputedStyle(app).backgroundColor.match(/\\d+/)[0]);
}"""
SMALL = "lmax=1:2&batch=64&products=cg-sparse,gaunt-grid&baseline=cg-sparse"

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]


def test_a_comparison_is_run_read_and_downloaded(server, browser):
    with opened(browser, f"{server}/?{SMALL}") as page:
        page.get_by_text("reference results").first.wait_for()
        watch(page)
        page.get_by_role("button", name="Run here").click()
        page.get_by_role("button", name="Cancel").wait_for()
        page.wait_for_url(re.compile("job="))
        page.get_by_role("button", name="Run here").wait_for()
        check_run(seen(page))
        page.get_by_text("reference results").first.wait_for(state="detached")
        page.locator("h3", has_text="At lmax 2").wait_for()
        assert page.locator("svg.marks, canvas.marks").count() >= 4
        page.get_by_role("button", name="Download", exact=True).click()
        with page.expect_download() as download:
            page.get_by_text("CSV").first.click()
        table = Path(download.value.path()).read_text()
        assert table.startswith("product")
        assert "gaunt-grid" in table


def check_run(noted) -> None:
    """One of Run and Cancel at a time, seconds left that never grow, a bar that is never full."""
    assert not any(moment["run"] and moment["cancel"] for moment in noted)
    bars = [moment["bar"] for moment in noted if moment["bar"] is not None]
    assert bars == sorted(bars)
    assert bars[-1] < 100
    said = [re.search(r"about ([\d.]+) s left", moment["panel"]) for moment in noted]
    left = [float(match[1]) for match in said if match is not None]
    assert left
    assert left == sorted(left, reverse=True)


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
def test_every_page_opens_by_its_address_and_fits_a_phone_light_and_dark(server, browser, name):
    # The start page has the bare address.
    address = server if name == PAGES[0][0] else f"{server}/{name}"
    first = [page for page, _ in PAGES].index(name) % 2
    schemes = ("light", "dark")[first], ("dark", "light")[first]
    with opened(browser, address, width=390, height=844, color_scheme=schemes[0]) as page:
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(500)
            page.wait_for_selector(RESTING)
            light = page.evaluate(BRIGHTNESS)
            assert (light > 128) == (scheme == "light")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            assert page.get_by_text("could not be shown").count() == 0


INSIDE = """() => [...document.querySelectorAll('[data-testid=stVegaLiteChart]')].flatMap(place => {
  const chart = place.querySelector('svg.marks')?.getBoundingClientRect();
  return chart ? [...place.querySelectorAll('svg.marks text')].filter(text => {
    const box = text.getBoundingClientRect();
    return box.width && (box.left < chart.left - 3 || box.right > chart.right + 3);
  }).map(text => text.textContent) : [];
})"""


@pytest.mark.parametrize(("name", "width"), [("scaling", 1024), ("equivariance", 390)])
def test_no_name_in_a_chart_is_cut_off(server, browser, name, width):
    with opened(browser, f"{server}/{name}", width=width) as page:
        page.locator("svg.marks").nth(2).wait_for()
        page.wait_for_timeout(500)
        assert page.evaluate(INSIDE) == []


def test_the_link_of_a_view_is_copied_and_a_figure_comes_with_its_words(server, browser):
    with opened(
        browser,
        f"{server}/?at=3&pick=gaunt-grid",
        permissions=["clipboard-read", "clipboard-write"],
    ) as page:
        page.get_by_role("button", name="Copy link").click()
        page.get_by_role("button", name="Link copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == page.url
        assert "at=3" in page.url
        opener = page.get_by_role("button", name="Download", exact=True)
        opener.click()
        with page.expect_download() as download:
            page.get_by_role("button", name="PDF").first.click()
        assert Path(download.value.path()).read_bytes().startswith(b"%PDF")
        # A chart above that is drawn only now moves the button, and what it opened with it.
        opener.scroll_into_view_if_needed()
        with page.expect_download() as download:
            page.get_by_role("button", name="Caption and BibTeX").first.click()
        words = Path(download.value.path()).read_text()
        assert "lmax 3" in words
        assert "@inproceedings" in words


def test_a_click_on_a_point_follows_the_product(server, browser):
    with opened(browser, server) as page:
        chart = page.locator("[data-testid=stVegaLiteChart]").first
        point = chart.locator('[aria-roledescription="point"]').last
        point.scroll_into_view_if_needed()
        point.click(force=True)
        page.wait_for_url(re.compile("pick="))


def test_published_results_are_offered_and_open_from_the_list(server, browser):
    with opened(browser, f"{server}/scaling?scaling=published%3A%20NVIDIA%20RTX%20A5500") as page:
        page.get_by_text("published results").first.wait_for()
        page.get_by_text("NVIDIA RTX A5500").first.wait_for()
        page.get_by_text("Nothing was timed in the same rounds").first.wait_for()


def test_spheres_of_a_right_and_a_broken_product_turn_together(server, browser):
    with opened(browser, f"{server}/equivariance") as page:
        spheres = page.locator(".etp-spheres")
        spheres.wait_for()
        assert "one column short the two orders differ" in spheres.inner_text()
        canvases = spheres.locator("canvas")
        assert canvases.count() == 8

        def pictures() -> list[str]:
            return [canvases.nth(n).evaluate("c => c.toDataURL()") for n in range(8)]

        begin = pictures()
        # The two orders of a right product are drawn alike, those of a broken one are not.
        assert begin[1] == begin[2]
        assert begin[5] != begin[6]
        canvases.nth(5).scroll_into_view_if_needed()
        box = canvases.nth(5).bounding_box()
        page.mouse.move(box["x"] + 100, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 160, box["y"] + 120)
        page.mouse.up()
        dragged = pictures()
        assert all(now != then for now, then in zip(dragged, begin, strict=True))
        assert dragged[1] == dragged[2]
        spheres.get_by_label("rotation about the axis").fill("12")
        half = pictures()
        assert half[0] != dragged[0]
        assert half[1] == half[2]
        spheres.get_by_label("as a vector field").check()
        assert all(now != then for now, then in zip(pictures(), half, strict=True))
        step = spheres.get_attribute("data-step")
        spheres.get_by_role("button", name="Play").click()
        page.wait_for_timeout(500)
        assert spheres.get_attribute("data-step") != step
        spheres.get_by_role("button", name="Pause").click()


def test_the_browser_has_the_harmonics_of_the_library(browser):
    points = torch.nn.functional.normalize(
        torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), dim=1
    )
    code = (ROOT / "etp" / "assets" / "sphere.js").read_text()
    page = browser.new_page()
    harmonics = page.evaluate(
        "async ([code, points]) => {"
        " const file = new Blob([code], { type: 'text/javascript' });"
        " const { harmonics } = await import(URL.createObjectURL(file));"
        " return points.map((p) => Array.from(harmonics(8, p))); }",
        [code, points.tolist()],
    )
    page.close()
    right = spherical_harmonics(8, points)
    assert (torch.tensor(harmonics, dtype=torch.float64) - right).abs().max() < 1e-12
