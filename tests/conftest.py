from __future__ import annotations

import os

# Before torch is imported anywhere: small work, and other tests run beside.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "etp",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("etp")


HERE = Path(__file__).parent
LONG = (
    "products/test_contract.py", "kernels/test_interpreted.py", "ui/test_browser.py",
    "kernels/test_build.py", "kernels/test_cpu.py", "kernels/test_compiled.py",
    "life/test_table.py", "run/test_faults.py", "ui/test_others.py", "ui/test_controls.py",
    "products/test_kinds.py", "ui/test_pages.py",
    "kernels/test_standalone.py", "test_docs.py", "experiments/test_potential.py",
    "kernels/test_torch_compile.py", "deploy/test_image.py", "ui/test_reproduce.py",
    "product/test_added.py",
)  # fmt: skip
"""Files that take longest, the longest first."""


def pytest_collection_modifyitems(items):
    """Long files are begun first: at the end no process works on one while others have nothing."""
    place = {HERE / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


@pytest.fixture(autouse=True)
def _own_store(tmp_path, monkeypatch):
    """No test touches the user's results."""
    monkeypatch.setenv("ETP_STORE", str(tmp_path / "etp.sqlite"))


@pytest.fixture(scope="session")
def quick_compiler(tmp_path_factory) -> dict[str, str]:
    """Environment of the compiler found, without optimization: in a third of the time.

    For tests of what is done with libraries, not of what they compute how fast.
    It is called by a name without a folder, so that it is gone where another ``PATH`` is given.
    """
    from etp.kernels.on_cpu import build

    script = tmp_path_factory.mktemp("compiler") / "quick-c++"
    script.write_text(f'#!/bin/sh\nexec "{build.compiler()}" "$@" -O0\n')
    script.chmod(0o755)
    path = os.pathsep.join((str(script.parent), os.environ.get("PATH", os.defpath)))
    return {"CXX": script.name, "PATH": path}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test printed or logged is text that one process can send to another."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
