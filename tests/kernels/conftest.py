"""A compiler for tests of what is done with libraries, not of what they compute how fast."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def quick_compiler(tmp_path_factory) -> dict[str, str]:
    """Environment of the compiler found, without optimization: in a third of the time.

    It is called by a name without a folder, so that it is gone where another ``PATH`` is given.
    """
    from etp.kernels.on_cpu import build

    script = tmp_path_factory.mktemp("compiler") / "quick-c++"
    script.write_text(f'#!/bin/sh\nexec "{build.compiler()}" "$@" -O0\n')
    script.chmod(0o755)
    path = os.pathsep.join((str(script.parent), os.environ.get("PATH", os.defpath)))
    return {"CXX": script.name, "PATH": path}
