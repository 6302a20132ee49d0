"""etp: decide which equivariant tensor product to use.

``etp.products`` holds the tensor products behind one interface, ``etp.measure`` what can be asked
of them. Both are imported on first use, because torch and e3nn take seconds to load.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.1.0"
__all__ = ["__version__", "measure", "products"]


def __getattr__(name: str) -> ModuleType:
    if name in ("measure", "products"):
        return importlib.import_module(f"etp.{name}")
    raise AttributeError(f"module 'etp' has no attribute {name!r}")
