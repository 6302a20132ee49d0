"""Products of one's own: Python files named in the environment, run when products are looked up.

A file is the user's own, on her own machine; nothing is ever taken from a page or an address.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

VARIABLE = "ETP_PRODUCTS"
"""Paths of files, separated as in ``PATH``; processes started from this one inherit it."""


def load(environment: Mapping[str, str] = os.environ) -> dict[Path, str]:
    """Run each file, which registers its products; return why for those that failed.

    A file that fails leaves all others, and what it registered before it failed, in place.
    """
    failed = {}
    for text in environment.get(VARIABLE, "").split(os.pathsep):
        if not text.strip():
            continue
        path = Path(text.strip()).expanduser().resolve()
        try:
            _run(path)
        except (Exception, SystemExit) as error:  # The file is not ours: it may raise anything.
            failed[path] = _cause(error)
    return failed


def _run(path: Path) -> None:
    # A name of its own: two files may be called the same, and classes are pickled by module name.
    name = f"etp_own_{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("is not a Python file: its name must end in .py")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Standard output belongs to the command that is running, which may print JSON.
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _cause(error: BaseException) -> str:
    """One line."""
    line = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(line.split())}"
