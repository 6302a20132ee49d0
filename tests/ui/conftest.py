"""One server and one browser for the tests of a file; a server begun anew for each page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import streamlit as st

from etp.run.runner import Runner
from etp.ui import asking, jobs
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


@pytest.fixture
def fresh_server(monkeypatch):
    """No store or runner of another test, and no worker process until a job needs one."""
    monkeypatch.setattr(Runner, "warm", lambda self: None)
    monkeypatch.setattr(asking, "BY_ITSELF_S", 0.0)
    jobs.close()
    jobs.store.cache_clear()
    # Rows are cached by the number of changes of the one store that a server has.
    st.cache_data.clear()
    yield
    jobs.close()
    jobs.store.cache_clear()
