"""Logging in with OpenID Connect, in a browser, against a provider on the loopback interface."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from etp.ui import visitors
from tests.network import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
ANN, BOB = "ann@example.org", "bob@example.org"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def authlib(tmp_path_factory) -> str:
    """Where Authlib is: "" if it is installed, else a folder of its own."""
    if find_spec("authlib") is not None:
        return ""
    folder = str(tmp_path_factory.mktemp("authlib"))
    words = [
        "install",
        "-q",
        "--no-deps",
        "--target",
        folder,
        "Authlib",
        "joserfc",
        "httpx",
        "httpcore",
        "h11",
    ]
    tried = subprocess.run(
        [sys.executable, "-m", "pip", *words], capture_output=True, timeout=120, check=False
    )
    if tried.returncode:
        pytest.skip("Authlib is neither installed nor to be had")
    return folder


@pytest.fixture
def site(authlib, tmp_path) -> Iterator[str]:
    """The address of a dashboard whose provider takes everyone for Ann, an administrator."""
    app, provider = free_port(), free_port()
    for name in ("app.py", "pages", "etp"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".streamlit").mkdir()
    shutil.copy(ROOT / ".streamlit/config.toml", tmp_path / ".streamlit")
    (tmp_path / ".streamlit/secrets.toml").write_text(
        f'[auth]\nredirect_uri = "http://127.0.0.1:{app}/oauth2callback"\n'
        'cookie_secret = "of this test"\nclient_id = "etp"\nclient_secret = "a secret"\n'
        f'server_metadata_url = "http://127.0.0.1:{provider}/.well-known/openid-configuration"\n'
    )
    (tmp_path / "etp.toml").write_text(
        f'[access]\nmode = "oidc"\nadministrators = ["{ANN}"]\nrunners = ["{BOB}"]\n'
    )
    path = os.pathsep.join(part for part in (str(tmp_path), authlib) if part)
    environment = os.environ | {"PYTHONPATH": path, "ETP_STORE": str(tmp_path / "etp.sqlite")}
    environment.pop("ETP_ACCESS", None)
    with ExitStack() as stack:
        for command in (
            [sys.executable, str(ROOT / "tests/deploy/provider.py"), str(provider), ANN],
            [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={app}",
             "--server.headless=true"],
        ):  # fmt: skip
            process = subprocess.Popen(
                command, cwd=tmp_path, env=environment,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.terminate)
        wait_for(provider)
        wait_for(app)
        yield f"http://127.0.0.1:{app}"


def test_a_visitor_looks_logs_in_and_may_run_and_logs_out_again(site):
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{site}/applications")
        enter = page.get_by_role("button", name="Log in")
        enter.wait_for(timeout=90_000)
        assert page.get_by_role("button", name="Log out").count() == 0
        enter.click()
        leave = page.get_by_role("button", name="Log out")
        leave.wait_for(timeout=90_000)
        # What parts an address, so that it is no link, has no width.
        assert ANN in leave.inner_text().replace("\u2060", "")
        leave.click()
        expect(page.get_by_role("button", name="Log in")).to_be_visible(timeout=90_000)
        browser.close()


def test_roles_follow_the_address_that_the_provider_names():
    access = visitors.Access("oidc", administrators=(ANN,), runners=(BOB,))
    roles = [
        visitors.role_of(access, loopback=True, cookie=None, email=email)
        for email in (ANN, BOB, "eve@example.org", None)
    ]
    assert roles == ["administrator", "runner", "reader", "reader"]
