"""``pip install ".[app]"`` brings the dashboard: a wheel is built, put elsewhere and asked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from etp.cli import dashboard
from etp.cli.main import main
from etp.ui.navigation import PAGES
from tests.make import complaint
from tests.network import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = ("etp", "pages", ".streamlit", "app.py", "setup.py", "pyproject.toml", "README.md",
           "LICENSE")  # fmt: skip
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
OPENED = """
import sys
from pathlib import Path
from streamlit.testing.v1 import AppTest
import etp
from etp.cli.dashboard import script
assert Path(etp.__file__).is_relative_to(sys.argv[1]), etp.__file__
page = AppTest.from_file(str(script()), default_timeout=60).run()
assert not page.exception and not page.error, (page.exception, page.error)
print(next(said.value for said in page.markdown if said.value.startswith("###")))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a copy of what the checkout ships."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, tree / name)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD, str(out)],
        cwd=tree, check=True, capture_output=True,
    )  # fmt: skip
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """The wheel installed into a folder of its own; what it needs is here already."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(folder), str(wheel)], check=True)
    return folder


def test_a_wheel_holds_every_page_the_theme_the_sources_of_kernels_and_the_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [n for n in names if n.endswith("dist-info/METADATA")]
        about = archive.read(metadata).decode()
    wanted = {f"etp/dashboard/pages/{name}.py" for name, _ in PAGES}
    wanted |= {"etp/dashboard/app.py", "etp/dashboard/.streamlit/config.toml", "etp/py.typed"}
    packed = ("kernels/on_cpu/*.c", "kernels/on_cpu/*.cpp", "kernels/on_cpu/*.h", "assets/*",
              "results/data/*")  # fmt: skip
    wanted |= {str(p.relative_to(ROOT)) for each in packed for p in (ROOT / "etp").glob(each)}
    assert wanted <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if not name.startswith(("etp/", "etp-"))]
    for line in ("License-Expression: MIT", "Author: the etp authors", "Provides-Extra: app"):
        assert line in about


def test_the_first_page_of_an_installed_package_shows_its_finding(site, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", OPENED, str(site)], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(site)}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("###")


@contextmanager
def started(site: Path, cwd: Path, port: int) -> Iterator[None]:
    env = os.environ | {"PYTHONPATH": str(site), "STREAMLIT_SERVER_HEADLESS": "true"}
    with subprocess.Popen(
        [sys.executable, "-m", "etp", "app", "--port", str(port)],
        cwd=cwd, env=env, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        try:
            yield
        finally:
            # This process alone: what is started by a shell or a service is ended so.
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def _fetched(address: str, seconds: float = 180) -> bytes:
    end = time.monotonic() + seconds
    while True:
        try:
            with urlopen(address, timeout=5) as answer:
                body: bytes = answer.read()
                return body
        except OSError:  # not there yet, or too busy to answer
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def test_etp_app_serves_from_an_installed_package(site, tmp_path):
    port = free_port()
    with started(site, tmp_path, port):
        assert _fetched(f"http://127.0.0.1:{port}/_stcore/health") == b"ok"
        assert b"<html" in _fetched(f"http://127.0.0.1:{port}/scaling")
    with pytest.raises(OSError, match="refused"):
        urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5)


def test_a_checkout_starts_the_file_at_its_top():
    words = dashboard.command(8501, "127.0.0.1")
    assert words[1:5] == ["-m", "streamlit", "run", str(ROOT / "app.py")]


@pytest.mark.parametrize(
    ("words", "part"),
    [(["--port", "0"], "--port: must be a whole number from 1"), (["--port", "x"], "--port")],
)
def test_a_port_that_is_none_is_one_line(capsys, words, part):
    assert part in complaint(["app", *words], capsys)


def test_a_configuration_that_no_server_takes_is_one_line_with_all_that_is_wrong(
    capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ETP_ACCESS", "opn")
    monkeypatch.setenv("ETP_LIMITS_LMAX", "many")
    said = complaint(["app", "--address", "no-such.invalid"], capsys)
    for part in ("access mode must be one of", "ETP_LIMITS_LMAX must be", "got no-such.invalid"):
        assert part in said


def test_what_the_dashboard_lacks_is_named_with_the_mend(capsys, monkeypatch):
    monkeypatch.setattr(dashboard, "NEEDED", ("streamlit", "no_such_library"))
    assert main(["app"]) == 1
    assert "no_such_library: pip install" in capsys.readouterr().err


def test_a_package_without_its_pages_says_where_they_should_be(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither .*dashboard.*app\.py"):
        dashboard.script(tmp_path / "etp")
