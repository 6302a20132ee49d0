"""What can be asked of a tensor product; one file per question.

Names are imported on first use, so that verdicts can be computed where torch is not loaded. No
module here shares its name with a function: the package could not export both.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etp.measure.equivariance import EquivarianceError, equivariance_error
    from etp.measure.gamma import Expressivity, expressivity
    from etp.measure.interactability import allowed_paths, interactions, measured_coefficients
    from etp.measure.memory import Memory, peak_memory
    from etp.measure.oracle import Agreement, agreement
    from etp.measure.roofs import Roofline, roofline
    from etp.measure.runtime import Runtime, measure_runtime
    from etp.product.base import Cost

__all__ = [
    "Agreement",
    "Cost",
    "EquivarianceError",
    "Expressivity",
    "Memory",
    "Roofline",
    "Runtime",
    "agreement",
    "allowed_paths",
    "equivariance_error",
    "expressivity",
    "interactions",
    "measure_runtime",
    "measured_coefficients",
    "peak_memory",
    "roofline",
]

_HOME = {
    "Agreement": "oracle",
    "Cost": "etp.product.base",
    "EquivarianceError": "equivariance",
    "Expressivity": "gamma",
    "Memory": "memory",
    "Roofline": "roofs",
    "Runtime": "runtime",
    "agreement": "oracle",
    "allowed_paths": "interactability",
    "equivariance_error": "equivariance",
    "expressivity": "gamma",
    "interactions": "interactability",
    "measure_runtime": "runtime",
    "measured_coefficients": "interactability",
    "peak_memory": "memory",
    "roofline": "roofs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'etp.measure' has no attribute {name!r}")
    home = _HOME[name]
    module = importlib.import_module(home if "." in home else f"etp.measure.{home}")
    globals()[name] = getattr(module, name)
    return globals()[name]
