"""Controls show what is in force, whatever happened before; Back and keys: in a real browser.

Streamlit's own test of pages runs no browser, and what stands in a popover is made there.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlparse

import pytest

from tests.ui.browsing import RESTING, opened

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]

SELECTED = "button[aria-checked=true], button[aria-pressed=true], button[kind$=Active]"
ASKED = (
    "lmax=1:2&batch=64&products=cg-sparse,gaunt-grid,so2&baseline=so2&dtype=float64"
    "&direction=backward&weights=shared&threads=1&cache=warm"
)
IN_FORCE = {
    "problem": ({"MIMO", "all"}, {"1", "2"}),
    "products": ({"cg-sparse", "gaunt-grid", "so2"}, {"so2"}),
    "sizes": (set(), {"64", "1"}),
    "numbers": ({"float64", "forward + backward", "shared weights", "warm", "no"}, set()),
    "devices": ({"cpu"}, {"1"}),
}
"""What each popover must show for ``ASKED``: what is selected, and what fields hold."""


def rest(page) -> None:
    """Wait until a rerun that was just asked for has begun and ended."""
    page.wait_for_timeout(300)
    page.wait_for_selector(RESTING)
    page.wait_for_timeout(100)


def popover(page, key):
    page.locator(f".st-key-bar_{key} button").first.click()
    body = page.locator("[data-testid=stPopoverBody]")
    body.locator("button, input, [role=slider]").first.wait_for()
    page.wait_for_timeout(100)
    return body


def close(page) -> None:
    page.keyboard.press("Escape")
    page.locator("[data-testid=stPopoverBody]").wait_for(state="detached")


def shown(page) -> dict[str, tuple[set[str], set[str]]]:
    """What every popover shows: what is selected, and what fields hold."""
    seen = {}
    for key in IN_FORCE:
        body = popover(page, key)
        pressed = body.locator(SELECTED).all_inner_texts()
        fields = [field.input_value() for field in body.locator("input").all()]
        names = {text.strip().partition(":")[0] for text in pressed}
        seen[key] = names, {text for text in fields if text}
        close(page)
    return seen


def check(page, expected, when: str) -> None:
    """Compare what is shown, a few times: the browser may still be drawing a list."""
    for _ in range(3):
        seen = shown(page)
        if seen == expected:
            return
    assert seen == expected, when


def address(page) -> dict[str, list[str]]:
    return parse_qs(urlparse(page.url).query)


def wait_chosen(page, name: str) -> None:
    page.get_by_role("radio", name=name, exact=True, checked=True).wait_for()


def test_back_undoes_the_last_change_and_the_controls_follow(server, browser):
    with opened(browser, f"{server}/?batch=100") as page:
        page.get_by_role("radio", name="lmax 2", exact=True).click()
        page.wait_for_url(re.compile("at=2"))
        page.get_by_role("radio", name="4", exact=True).click()
        page.wait_for_url(re.compile("at=4"))
        wait_chosen(page, "4")
        page.go_back()
        page.wait_for_url(re.compile("at=2"))
        wait_chosen(page, "lmax 2")
        page.go_back()
        page.wait_for_url(re.compile(r"\?batch=100$"))
        wait_chosen(page, "4")


@pytest.mark.parametrize("name", ["problem", "products"])
def test_a_popover_opened_by_a_key_has_the_focus_on_its_first_control(server, browser, name):
    with opened(browser, f"{server}/expressivity") as page:
        page.locator(f".st-key-bar_{name} button").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_function(
            "document.activeElement.closest('[data-testid=stPopoverBody]') !== null"
        )
        label = page.evaluate("document.activeElement.getAttribute('aria-label') || ''")
        assert not label.startswith("Help")
        stops = "[data-testid=stHeaderActionElements] a"
        assert page.locator(stops).evaluate_all("all => all.every(a => a.offsetParent === null)")


def test_controls_show_what_is_in_force_after_anything(server, browser):
    with opened(browser, f"{server}/?{ASKED}") as page:
        rest(page)
        check(page, IN_FORCE, "by the address")
        asked = address(page)
        page.get_by_role("link", name="Scaling").first.click()
        page.wait_for_url(re.compile("/scaling"))
        rest(page)
        page.get_by_role("link", name="Compare").first.click()
        page.wait_for_url(re.compile(r":\d+/\?"))
        rest(page)
        check(page, IN_FORCE, "after another page and back")
        page.reload()
        page.wait_for_selector("h3")
        rest(page)
        check(page, IN_FORCE, "after a reload")
        assert address(page) == asked


def test_changing_one_control_changes_only_it(server, browser):
    with opened(browser, f"{server}/?{ASKED}") as page:
        rest(page)
        asked = address(page)
        batch = popover(page, "sizes").locator("input").first
        batch.fill("128")
        batch.press("Enter")
        rest(page)
        close(page)
        expected = asked | {"batch": ["128"]}
        assert address(page) == expected
        check(page, IN_FORCE | {"sizes": (set(), {"128", "1"})}, "after another batch")
        # A popover that is opened for the first time after other reruns.
        popover(page, "products").get_by_text("matrix", exact=True).click()
        rest(page)
        close(page)
        (products,) = address(page)["products"]
        assert set(products.split(",")) == {"cg-sparse", "gaunt-grid", "so2", "matrix"}
        popover(page, "problem").locator("[role=slider], input[type=range]").last.press(
            "ArrowRight"
        )
        rest(page)
        close(page)
        assert address(page)["lmax"] == ["1:3"]
        assert {k: v for k, v in address(page).items() if k not in ("products", "lmax")} == {
            k: v for k, v in expected.items() if k not in ("products", "lmax")
        }


def test_controls_stay_when_a_run_has_ended(server, browser):
    with opened(browser, f"{server}/?{ASKED}") as page:
        rest(page)
        page.get_by_role("button", name="Run here").click()
        page.wait_for_url(re.compile("job="))
        page.get_by_role("button", name="Run here").wait_for()
        rest(page)
        check(page, IN_FORCE, "after a run")
