"""Our products, as users call them, and the limits of the machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch_calls import Work, call_torch, forget, set_threads
from worker import times

from etp import products
from etp.measure.roofs import roofline

__all__ = ["OFFERS", "forget", "limits", "set_threads"]


def make(name: str, work: Work, x: Any, y: Any) -> Callable[[], tuple[Any, ...]]:
    product = products.get(name)(work["irreps1"], work["irreps2"], filter_ir_out=work["keep"])
    return call_torch(product, work, x, y)


_NAMES = {"cg": ("cg-sparse", "cg-dense"), "gaunt": ("gaunt-grid",), "matrix": ("matrix",)}
OFFERS = {
    operation: {name: partial(make, name) for name in names} for operation, names in _NAMES.items()
}


def limits(work: Work) -> dict[str, float]:
    """Bandwidth of a copy in bytes/s, best matrix-product rate in flop/s, least times of a call."""
    del work
    roofs = roofline("cpu", ("float32",))
    return {
        "copy": roofs.copy_bytes_per_s,
        "matmul": max(roofs.matmul_flops_per_s["float32"], _onednn_rate()),
        "forward": _least_call("forward"),
        "backward": _least_call("backward"),
    }


def _least_call(direction: str, tries: int = 2000) -> float:
    """Seconds of PyTorch's own product of two numbers, called as the products are."""
    x = np.ones((1, 1), dtype=np.float32)
    call = call_torch(torch.mul, {"direction": direction}, x, x.copy())
    return float(np.quantile(times(call, tries)[tries // 2 :], 0.25))


def _onednn_rate(side: int = 1024, tries: int = 15) -> float:
    """On some processors torch's other library multiplies twice as fast as the one it chooses."""
    a = torch.randn(side, side)
    multiply = partial(torch.ops.mkldnn._linear_pointwise, a, a, None, "none", [], "")
    return 2 * side**3 / min(times(multiply, tries))
