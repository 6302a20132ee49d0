"""The files in deploy/: what they say agrees with the project, and what can run here does."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from etp.results.store import Store
from etp.run import cluster
from etp.run.certificates import make
from etp.run.config import limits
from etp.run.runner import Runner
from etp.ui import visitors
from tests.deploy.dockerfile import instructions
from tests.make import MIMO
from tests.network import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PORT = dict(instructions((ROOT / "Dockerfile").read_text()))["EXPOSE"]
pytestmark = pytest.mark.filterwarnings("ignore")


# What the files say


def test_the_demo_limits_are_a_configuration():
    environment = {"ETP_CONFIG": str(DEPLOY / "demo.toml")}
    assert limits(environment).lmax == 6
    assert visitors.access(environment).mode == "open"


def test_compose_sets_only_what_is_known_and_needs_a_phrase():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    given = services["app"]["environment"]
    values = {name: re.sub(r"\$\{\w+:[-?](.*)\}", r"\1", text) for name, text in given.items()}
    asked = limits(values)
    assert None not in vars(asked).values(), "every limit has a value"
    assert visitors.access(values).mode == "phrase"
    assert services["app"]["read_only"]
    assert "ports" not in services["app"], "only Caddy is open to others"
    assert services["caddy"]["environment"]["ETP_APP"] == f"app:{PORT}"
    gpu = yaml.safe_load((ROOT / "compose.gpu.yaml").read_text())["services"]
    assert set(gpu) <= set(services)


def test_settings_of_workers_are_those_of_the_dashboard():
    def flat(tree: dict[str, Any], head: str = "") -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        for name, value in tree.items():
            deeper = isinstance(value, dict) and name != "logging"
            pairs |= flat(value, f"{head}{name}.") if deeper else {f"{head}{name}": value}
        return pairs

    assert flat(yaml.safe_load((DEPLOY / "workers/dask.yaml").read_text())) == cluster._CONFIG


def test_a_space_holds_the_app_and_says_its_port(tmp_path):
    subprocess.run([DEPLOY / "huggingface/prepare.sh", tmp_path / "space"], check=True)
    text = (tmp_path / "space" / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert (front["sdk"], str(front["app_port"])) == ("docker", PORT)
    kept = {path.name for path in (tmp_path / "space").iterdir()}
    assert kept >= {"Dockerfile", ".streamlit", "app.py", "pages", "etp", "etp.toml"}


def test_a_branch_for_streamlit_cloud_takes_torch_for_the_cpu(tmp_path):
    for name in ("deploy", ".streamlit"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    subprocess.run([tmp_path / "deploy/streamlit-cloud/prepare.sh"], check=True)
    lines = (tmp_path / "requirements.txt").read_text().splitlines()
    assert lines[0].startswith("--extra-index-url")
    assert [line for line in lines if re.fullmatch(r"torch==[\d.]+\+cpu", line)]
    assert 'address = "0.0.0.0"' in (tmp_path / ".streamlit/config.toml").read_text()
    assert (tmp_path / "packages.txt").read_text().split() == ["g++"]


# What they start


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, command: list[str], **environment: str) -> None:
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    stack.callback(process.wait)
    stack.callback(process.terminate)


def test_the_recipes_for_slurm_and_kubernetes_bring_devices(processes, tmp_path, monkeypatch):
    certificates, port = tmp_path / "certificates", free_port()
    make(certificates, days=1)
    here = {
        "/certificates/": f"{certificates}/", "/config/": f"{DEPLOY / 'workers'}/",
        "=8786": f"={port}", "tls://etp-scheduler:8786": f"tls://127.0.0.1:{port}",
        "directory=/tmp": f"directory={tmp_path}", "python": sys.executable,
    }  # fmt: skip

    def mapped(words: list[str]) -> list[str]:
        for name, place in here.items():
            words = [word.replace(name, place) for word in words]
        return words

    documents = list(yaml.safe_load_all((DEPLOY / "workers/kubernetes.yaml").read_text()))
    for document in documents[1:]:
        (container,) = document["spec"]["template"]["spec"]["containers"]
        env = {e["name"]: mapped([e["value"]])[0] for e in container["env"]}
        start(processes, mapped([*container["command"], *container["args"]]), **env)
        if "scheduler" in container["name"]:
            wait_for(port)
    start(
        processes, ["bash", str(DEPLOY / "workers/slurm.sh")],
        ETP_SCHEDULER=f"tls://127.0.0.1:{port}", ETP_CERTIFICATES=str(certificates),
        ETP_DEVICE="cpu", PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    )  # fmt: skip
    monkeypatch.setenv("ETP_CERTIFICATES", str(certificates))
    store = Store(tmp_path / "etp.sqlite")
    runner = Runner(store, scheduler=f"tls://127.0.0.1:{port}", task="tests.run.fake_tasks:run")
    processes.callback(runner.close)
    problem = MIMO.as_dict()
    cases = [{"problem": problem | {"device": d}, "products": ["quick"]} for d in ("cpu", "cuda:0")]
    job = runner.submit("t", cases)
    end = time.monotonic() + 120
    while runner.status(job).active and time.monotonic() < end:  # type: ignore[union-attr]
        time.sleep(0.1)
    assert [row["status"] for row in store.rows(job=job)] == ["ok", "ok"]
    assert set(runner.devices()) == {"cpu", "cuda:0"}


@pytest.mark.skipif(shutil.which("caddy") is None, reason="no caddy")
def test_caddy_passes_pages_and_websockets_on_with_tls_under_a_base_path(processes, tmp_path):
    from websockets.sync.client import connect
    from websockets.typing import Origin

    app, front = free_port(), free_port()
    start(
        processes,
        [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={app}",
         "--server.headless=true"],
        STREAMLIT_SERVER_BASE_URL_PATH="/tools/etp", ETP_STORE=str(tmp_path / "etp.sqlite"),
        ETP_ACCESS="open",
    )  # fmt: skip
    # One of its own ports, and no other certificate than its own authority's.
    text = (DEPLOY / "Caddyfile").read_text().replace("\tadmin off\n", "\tadmin off\n"
        f"\thttp_port {free_port()}\n\thttps_port {front}\n\tskip_install_trust\n")  # fmt: skip
    (tmp_path / "Caddyfile").write_text(text)
    start(
        processes, ["caddy", "run", "--config", str(tmp_path / "Caddyfile")],
        ETP_SITE="localhost", ETP_APP=f"127.0.0.1:{app}", ETP_BASE_PATH="/tools/etp",
        XDG_DATA_HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path), HOME=str(tmp_path),
    )  # fmt: skip
    wait_for(app)
    wait_for(front)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

    def get(path: str) -> tuple[int, bytes, str]:
        request = urllib.request.Request(
            f"https://localhost:{front}{path}", headers={"accept": "text/html"}
        )
        try:
            with urllib.request.urlopen(request, context=trusting, timeout=10) as answer:
                return answer.status, answer.read(), str(answer.headers["set-cookie"])
        except urllib.error.HTTPError as error:
            return error.code, b"", ""

    status, body, cookie = get("/tools/etp/")
    assert (status, b"streamlit" in body.lower()) == (200, True)
    assert visitors.VISITOR in cookie
    assert "Secure" in cookie
    assert get("/tools/etp/_stcore/health")[1] == b"ok"
    assert get("/tools/etp/enter")[0] == 200
    for private in ("/health", "/metrics", "/tools/etp/_stcore/metrics"):
        assert get(private)[0] == 404
    with urllib.request.urlopen(f"http://127.0.0.1:{app}/health", timeout=10) as answer:
        assert answer.status == 200
    stream = f"wss://localhost:{front}/tools/etp/_stcore/stream"
    with connect(stream, ssl=trusting, origin=Origin(f"https://localhost:{front}")):
        pass
