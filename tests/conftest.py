from __future__ import annotations

import os

# Before torch is imported anywhere: small work, and other tests run beside.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "etp",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("etp")


@pytest.fixture(autouse=True)
def _own_store(tmp_path, monkeypatch):
    """No test touches the user's results."""
    monkeypatch.setenv("ETP_STORE", str(tmp_path / "etp.sqlite"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test printed or logged is text that one process can send to another."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
