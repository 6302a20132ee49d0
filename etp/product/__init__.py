"""The one interface: a tensor product is a set of weighted paths plus an algorithm."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etp.product.base import Cost as Cost
    from etp.product.base import Path as Path
    from etp.product.base import TensorProduct as TensorProduct
    from etp.product.registry import register as register

_HOME = {"Cost": "base", "Path": "base", "TensorProduct": "base", "register": "registry"}


def __getattr__(name: str) -> Any:
    """Import the base class, and edges, on first use: pages read the rules without torch."""
    if name in _HOME:
        importlib.import_module("etp.product.edge_table")
        return getattr(importlib.import_module(f"etp.product.{_HOME[name]}"), name)
    raise AttributeError(f"module 'etp.product' has no attribute {name!r}")
