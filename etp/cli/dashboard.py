"""The command that starts the dashboard, from a checkout or from an installed package."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from etp.cli import values
from etp.options import Faults
from etp.run.access import check_configuration

NEEDED = ("streamlit", "altair", "pandas", "plotly", "vl_convert", "distributed", "cryptography")
PACKAGE = Path(__file__).resolve().parent.parent


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command of this file."""
    started = commands.add_parser("app", help="start the dashboard")
    started.add_argument("--port", type=values.whole(1, 65535), default=8501)
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
        port: Where it listens.
        address: Addresses that it answers.
        package: Folder of the package ``etp``.

    Raises:
        FileNotFoundError: As :func:`script`.
    """
    options = [f"--server.port={port}", f"--server.address={address}"]
    return [sys.executable, "-m", "streamlit", "run", str(script(package)), *options]


def check_free(address: str, port: int) -> None:
    """Refuse where no server could listen.

    Raises:
        ValueError: If the address is not of this machine, or another program listens there.
    """
    try:
        (family, *_, where), *_ = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(where)
    except PermissionError as error:
        raise ValueError(f"--port must be above 1023 for this user, got {port}") from error
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"--address and --port must be free and of this machine, got {address} and {port}: "
            f"{getattr(error, 'strerror', None) or error}"
        ) from error


def _app(options: argparse.Namespace) -> None:
    if absent := [name for name in NEEDED if find_spec(name) is None]:
        raise RuntimeError(
            f"the dashboard needs {', '.join(absent)}: pip install '.[app]' in a checkout of etp"
        )
    faults = Faults()
    for check in (check_configuration, partial(check_free, options.address, options.port)):
        faults.tried(check)
    faults.tell()
    words = command(options.port, options.address)
    if sys.platform == "win32":  # where exec returns to the shell at once
        raise SystemExit(subprocess.run(words).returncode)
    # The server takes the place of this process: who ends it ends the server.
    os.execv(words[0], words)
