"""Programs that each begin alone, as children of one process that has done the slow imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

PARENT = """
import json
import os
import sys
import traceback
from importlib import import_module

imports, programs = json.loads(sys.argv[1])
for name in imports:
    import_module(name)
failed = []
for name, code in programs.items():
    if (child := os.fork()) == 0:
        status = 1
        try:
            exec(compile(code, name, "exec"), {"__name__": "__main__"})
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
sys.exit(", ".join(failed) or 0)
"""


def run(
    programs: Mapping[str, str], imports: Sequence[str], **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run Python programs one after the other; status 1, and names last, where some failed.

    Args:
        programs: Code by name.
        imports: Modules that are there already when a program begins; they may start no threads.
        options: Of :func:`subprocess.run`.
    """
    command = [sys.executable, "-W", "ignore", "-c", PARENT, json.dumps([imports, dict(programs)])]
    return subprocess.run(command, capture_output=True, text=True, **options)
