"""Operators with a derivative in Python, called without PyTorch's detour through Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels.modes import traced

CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
_BARE = (Tensor, torch.nn.Parameter)
_legacy = torch._C._functorch.is_legacy_batchedtensor


def strange(*tensors: Tensor) -> bool:
    """Whether one is not simply numbers: of another class, or batched by autograd itself."""
    for x in tensors:  # any() of a generator takes as long as a small kernel
        if type(x) in _BARE and not _legacy(x):
            continue
        return True
    return False


def derived(
    name: str, count: int, setup: Callable[..., None], backward: Callable[..., Any]
) -> Callable[..., Any]:
    """Give an operator its derivative.

    Args:
        name: Of an operator of this library.
        count: How many of its inputs can have gradients; they are the first, and tensors.
        setup: Keeps for the derivative what it needs: (ctx, inputs, output).
        backward: The derivative: (ctx, *gradients of the outputs).

    Returns:
        What calls the operator. Where nothing traces and numbers are on a CPU it goes straight to
        what is compiled; where they are not, the way of any operator.
    """
    torch.library.register_autograd(f"etp::{name}", backward, setup_context=setup)
    operator = getattr(torch.ops.etp, name).default
    run = operator._handle.redispatch_boxed

    class Straight(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = run(CPU, *inputs)
            setup(ctx, inputs, output)
            return output

        @staticmethod
        @override
        def backward(ctx: Any, *grads: Any) -> Any:
            return backward(ctx, *grads)

    def call(*inputs: Any) -> Any:
        own = inputs[:count]
        if traced() or not own[0].is_cpu or strange(*own):
            return operator(*inputs)
        if torch.is_grad_enabled() and any(x.requires_grad for x in own):
            return Straight.apply(*inputs)  # type: ignore[no-untyped-call]
        return run(CPU, *inputs)

    return call
