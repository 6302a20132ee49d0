"""The command that starts the dashboard, from a checkout or from an installed package."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NEEDED = ("streamlit", "altair", "pandas", "plotly", "vl_convert", "distributed", "cryptography")
PACKAGE = Path(__file__).resolve().parent.parent


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command of this file."""
    started = commands.add_parser("app", help="start the dashboard")
    started.add_argument("--port", type=int, default=8501)
    started.add_argument(
        "--address", default="127.0.0.1", help="0.0.0.0 lets other machines open it"
    )
    started.set_defaults(run=_app)


def script(package: Path = PACKAGE) -> Path:
    """The dashboard's start file: packed into the package, or beside it in a checkout.

    Args:
        package: Folder of the package ``etp``.

    Raises:
        FileNotFoundError: If it is in neither place.
    """
    places = (package / "dashboard" / "app.py", package.parent / "app.py")
    for path in places:
        if path.is_file() and (path.parent / "pages").is_dir():
            return path
    raise FileNotFoundError(
        f"the dashboard is neither {places[0]} nor {places[1]}: install etp again from its "
        'checkout, pip install ".[app]"'
    )


def command(port: int, address: str, package: Path = PACKAGE) -> list[str]:
    """Command line of the dashboard's server.

    Args:
        port: Where it listens, 1 to 65535.
        address: Addresses that it answers.
        package: Folder of the package ``etp``.

    Raises:
        ValueError: If the port is none.
        FileNotFoundError: As :func:`script`.
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"--port must be from 1 to 65535, got {port}")
    options = [f"--server.port={port}", f"--server.address={address}"]
    return [sys.executable, "-m", "streamlit", "run", str(script(package)), *options]


def _app(options: argparse.Namespace) -> None:
    if absent := [name for name in NEEDED if find_spec(name) is None]:
        raise RuntimeError(
            f"the dashboard needs {', '.join(absent)}: pip install '.[app]' in a checkout of etp"
        )
    if status := subprocess.run(command(options.port, options.address)).returncode:
        raise SystemExit(status)
