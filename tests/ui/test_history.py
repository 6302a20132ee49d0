"""The address in a real browser: it holds what is chosen, and Back undoes it; the keyboard."""

from __future__ import annotations

import re

import pytest

from tests.ui.browsing import opened

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]


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
