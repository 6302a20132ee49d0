"""One server and one browser for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ui.browsing import BROWSER, FLAGS, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """Address of the app with a store of its own."""
    with serving(tmp_path_factory.mktemp("store") / "etp.sqlite") as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    """A browser without a window."""
    if BROWSER is None:
        pytest.skip("no chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield chromium
        chromium.close()
