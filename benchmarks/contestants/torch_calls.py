"""How a module of PyTorch is called, ours and the peers' alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Work = dict[str, Any]
set_threads = torch.set_num_threads


def forget() -> None:
    """Nothing is kept between cases."""


def call_torch(module: Any, work: Work, x: Any, y: Any) -> Callable[[], tuple[Any, ...]]:
    """Forward, or forward and both gradients with the output as cotangent.

    Switches gradients off or on for the whole process, as users do around a loop.
    """
    x1, x2 = torch.from_numpy(x), torch.from_numpy(y)
    torch.set_grad_enabled(work["direction"] != "forward")
    if work["direction"] == "forward":
        return lambda: (module(x1, x2),)
    x1.requires_grad_()
    x2.requires_grad_()

    def both() -> tuple[Any, ...]:
        z = module(x1, x2)
        return z.detach(), *torch.autograd.grad(z, (x1, x2), z.detach())

    return both
