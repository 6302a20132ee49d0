"""The main job in a real browser: run, watch, read the verdict, download; phone; dark."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from etp.ui.navigation import PAGES

ROOT = Path(__file__).resolve().parents[2]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--use-gl=angle",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip
PATIENCE_MS = 90_000
SMALL = "lmax=1:2&batch=64&products=cg-sparse,gaunt-grid&baseline=cg-sparse"
EXPECTED_404 = re.compile(r"_stcore/(health|host-config)")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """The app on a free port with a store of its own; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = tmp_path_factory.mktemp("store") / "etp.sqlite"
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true"]
    command += [f"--server.port={port}", "--server.address=127.0.0.1"]
    environment = os.environ | {"ETP_STORE": str(store)}
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_until_healthy(address)
            yield address
        finally:
            process.terminate()


def _wait_until_healthy(address: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2) as answer:
                if answer.read() == b"ok":
                    return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the app did not start")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield chromium
        chromium.close()


@contextmanager
def opened(browser, address: str, *, width: int = 1440, height: int = 900, **options):
    """A page with its charts drawn; fails on any error in the console."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on(
        "console",
        lambda message: (
            errors.append(f"{message.text} {message.location.get('url', '')}")
            if message.type == "error"
            else None
        ),
    )
    page.goto(address)
    page.wait_for_selector("h3")
    # A click while the script still runs could be lost.
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    yield page
    context.close()
    assert [error for error in errors if not EXPECTED_404.search(error)] == []


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
