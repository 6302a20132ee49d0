"""Which products there are, known without importing torch here.

Asking the products themselves takes seconds of imports, so it is done once by another process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class CatalogEntry:
    """One registered product; most fields are those of :class:`etp.product.base.TensorProduct`."""

    name: str
    title: str
    group: str
    keeps_paths: bool
    weights_per: str
    mimo_exponent: int | None
    rule: str | None
    reference: str
    unavailable: str | None


class Catalog:
    """Products as ``python -m etp products`` lists them; asked in the background from the start."""

    def __init__(self) -> None:
        self._entries: tuple[CatalogEntry, ...] = ()
        self._error: str | None = None
        self._thread = threading.Thread(target=self._ask, name="etp-catalog", daemon=True)
        self._thread.start()

    @property
    def error(self) -> str | None:
        """Why nothing could be listed, None if all is well."""
        return self._error

    def entries(self, wait_s: float = 0.0) -> tuple[CatalogEntry, ...]:
        """All products by name; empty while they are not known yet."""
        self._thread.join(wait_s)
        return self._entries

    def _ask(self) -> None:
        command = [sys.executable, "-m", "etp", "products", "--json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
            self._entries = tuple(CatalogEntry(**entry) for entry in json.loads(done.stdout))
        except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
            detail = getattr(error, "stderr", None) or str(error)
            self._error = detail.strip().splitlines()[-1]
