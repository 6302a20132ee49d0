"""The app on a port of its own, and a page of it in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.network import free_port

ROOT = Path(__file__).resolve().parents[2]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--use-gl=angle",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip
PATIENCE_MS = 90_000
EXPECTED_404 = re.compile(r"_stcore/(health|host-config)")
RESTING = "[data-testid=stApp][data-test-script-state=notRunning]"


@contextmanager
def serving(store: Path) -> Iterator[str]:
    """The app on a free port; yields its address."""
    port = free_port()
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
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2) as answer:
                if answer.read() == b"ok":
                    return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the app did not start")


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
    page.wait_for_selector(RESTING)
    yield page
    context.close()
    assert [error for error in errors if not EXPECTED_404.search(error)] == []


def watch(page) -> None:
    """Note in the page whatever is seen of a run, ten times a second; read by :func:`seen`."""
    page.evaluate(
        """() => {
          window.seen = [];
          setInterval(() => {
            const shown = [...document.querySelectorAll('button')].filter(b => b.offsetParent);
            const names = shown.map(b => b.innerText);
            const bar = document.querySelector('[role=progressbar]');
            const strong = [...document.querySelectorAll('strong')].map(e => e.innerText);
            window.seen.push({
              run: names.some(n => /Run here/.test(n)),
              cancel: names.some(n => /Cancel/.test(n)),
              bar: bar ? Number(bar.getAttribute('aria-valuenow')) : null,
              panel: strong.find(t => /^(Measuring|Waiting)/.test(t)) || '',
            });
          }, 100);
        }"""
    )


def seen(page) -> list[dict[str, Any]]:
    """What :func:`watch` has noted."""
    return page.evaluate("window.seen")
