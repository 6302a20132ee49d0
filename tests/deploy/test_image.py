"""The Dockerfile: its steps, what they protect, and the app that they start."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Image
from tests.network import free_port

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root writes everywhere"
    ),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory, quick_compiler) -> Iterator[Image]:
    made = Image(tmp_path_factory.mktemp("image"), ROOT)
    compiler = shutil.which(quick_compiler["CXX"], path=quick_compiler["PATH"])
    assert compiler is not None
    made.build((ROOT / "Dockerfile").read_text(), Path(compiler))
    made.protect()
    yield made
    for path in made.root.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)


def run(image: Image, code: str, **environment: str) -> str:
    process = image.popen(["python", "-c", code], **environment)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    return out


def test_only_what_needs_a_network_or_root_is_left_out(image):
    words = {command.split()[0] for command in image.left_out}
    assert words == {"apt-get", "rm", "useradd", "install", "pip"}


def test_the_container_is_not_root_and_cannot_change_its_code(image):
    assert image.user == "etp"
    out = run(image, "import os; print(os.access('.', os.W_OK), os.access('etp', os.W_OK))")
    assert out.split() == ["False", "False"]
    if os.geteuid() == 0:
        assert "Permission" in run(image, "try: open('etp/x', 'w')\nexcept OSError as e: print(e)")


def test_kernels_are_those_of_the_image_and_need_no_compiler(image):
    code = (
        "from etp.kernels.on_cpu import build; "
        "print(build.compiler(), build.missing(), build.library().path)"
    )
    compiler, missing, path = run(image, code, PATH=str(Path(sys.executable).parent)).split()
    assert (compiler, missing) == ("None", "None")
    assert Path(path).parent == image.at("/opt/etp")


def test_the_app_starts_is_healthy_and_shows_its_pages(image):
    port = free_port()
    command = [word.replace("8501", str(port)) for word in image.command]
    probe = [word.replace("8501", str(port)) for word in image.health]
    app = image.popen(command)
    try:
        end = time.monotonic() + 120
        while (checked := image.popen(probe)).wait() and time.monotonic() < end:
            time.sleep(0.5)
        assert checked.returncode == 0
        assert b"streamlit" in urllib.request.urlopen(f"http://127.0.0.1:{port}/").read().lower()
    finally:
        app.send_signal(signal.SIGTERM)
        out, _ = app.communicate(timeout=120)
    assert "Traceback" not in out, out
    # Nobody chose who may run measurements: the store holds nothing but itself.
    kept = {path.name.partition("-")[0] for path in image.at("/data").iterdir()}
    assert kept <= {"etp.sqlite", "cookie.secret"}


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "info"], capture_output=True).returncode != 0,
    reason="no Docker daemon",
)
def test_the_compose_file_starts_where_docker_is():
    environment = os.environ | {"ETP_PHRASE": "open sesame", "ETP_SITE": "localhost"}
    compose = ["docker", "compose", "--project-name", "etp-test"]
    try:
        up = [*compose, "up", "--build", "--wait", "--detach"]
        subprocess.run(up, cwd=ROOT, env=environment, check=True, timeout=1800)
        answer = ["curl", "-fsk", "--retry", "5", "https://localhost/_stcore/health"]
        assert subprocess.run(answer, capture_output=True, check=True).stdout == b"ok"
    finally:
        subprocess.run([*compose, "down", "--volumes"], cwd=ROOT, env=environment, timeout=300)
