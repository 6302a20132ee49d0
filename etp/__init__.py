"""etp: decide which equivariant tensor product to use.

``etp.products`` holds the tensor products behind one interface, ``etp.Convolution`` runs them on
the edges of a graph, ``etp.powers`` raises features to powers of themselves, ``etp.measure`` holds
what can be asked of products, ``etp.from_e3nn`` makes what takes the place of a product of e3nn.
All are imported on first use, because torch and e3nn take seconds to load.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etp.interop import from_e3nn as from_e3nn
    from etp.interop import replace_in as replace_in
    from etp.kernels.on_cpu.memory import release_memory as release_memory
    from etp.product.convolution import Convolution as Convolution
    from etp.products.so2_convolution import SO2Convolution as SO2Convolution

__version__ = "0.1.0"
__all__ = [
    "Convolution",
    "SO2Convolution",
    "__version__",
    "from_e3nn",
    "measure",
    "powers",
    "products",
    "release_memory",
    "replace_in",
]

_HOME = {
    "Convolution": "etp.product.convolution",
    "SO2Convolution": "etp.products.so2_convolution",
    "release_memory": "etp.kernels.on_cpu.memory",
}


def __getattr__(name: str) -> Any:
    if name == "measure":
        return importlib.import_module("etp.measure")
    if name not in __all__:
        raise AttributeError(f"module 'etp' has no attribute {name!r}")
    if name in ("powers", "products"):
        return importlib.import_module(f"etp.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    return getattr(importlib.import_module("etp.interop"), name)
