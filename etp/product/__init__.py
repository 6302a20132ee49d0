"""The one interface: a tensor product is a set of weighted paths plus an algorithm."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etp.product.base import Cost as Cost
    from etp.product.base import Path as Path
    from etp.product.base import TensorProduct as TensorProduct


def __getattr__(name: str) -> Any:
    """Import the base class on first use: pages read the rules without torch."""
    if name in ("Cost", "Path", "TensorProduct"):
        return getattr(importlib.import_module("etp.product.base"), name)
    raise AttributeError(f"module 'etp.product' has no attribute {name!r}")
