"""What the operators of edge products and of powers share: who computes, and a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from etp.kernels import compile_times as compiling
from etp.kernels.modes import plain_only
from etp.kernels.on_cpu import build
from etp.kernels.on_gpu import triton_source

KERNEL_DTYPES = (torch.float32, torch.float64)
Grads = tuple[Tensor | None, ...]


def serves(*tensors: Tensor | None, codable: bool = True) -> bool:
    """Whether a kernel can compute this: on a CPU or a GPU, outside transforms of functions.

    Args:
        *tensors: What it is given.
        codable: Whether a GPU's kernel may have the table in its code.
    """
    on_cpu = on_gpu = True
    for t in tensors:  # sets and generators of devices take as long as a small kernel
        if t is not None:
            on_cpu, on_gpu = on_cpu and t.is_cpu, on_gpu and t.is_cuda
    if not (on_cpu or on_gpu) or plain_only():
        return False
    return codable and _on_gpu() if on_gpu or _interpreted() else _ready()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _interpreted() -> bool:
    """Whether it would be Triton that runs on the CPU."""
    return triton_source.interpreted()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _on_gpu() -> bool:
    """Whether the operators have their Triton kernels in this process."""
    if triton_source.triton_missing() is not None:
        return False
    from etp.kernels.on_gpu import triton_edge, triton_power

    triton_edge.register()
    triton_power.register()
    return True


def _ready() -> bool:
    at_hand = _at_hand()
    if at_hand and not torch.compiler.is_compiling() and compiling.OPEN:
        compiling.used(build.library().artifact)
    return at_hand


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _at_hand() -> bool:
    """Whether the operators have their kernels in this process."""
    return build.at_hand()


def keep(count: int) -> Callable[..., None]:
    """Remember the first ``count`` tensors of an operator, its four tables, and all else."""

    def kept(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[: count + 4])
        ctx.rest = inputs[count + 4 :]

    return kept


def vjp(
    function: Callable[..., tuple[Tensor, ...]], tensors: Sequence[Tensor], grads: Sequence[Tensor]
) -> Grads:
    """Gradients of a function for given ones of its results; differentiable where asked."""
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        own = [t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in tensors]
        made = function(*own)
    pairs = [(z, g) for z, g in zip(made, grads, strict=True) if z.requires_grad]
    return torch.autograd.grad(
        [z for z, _ in pairs], own, [g for _, g in pairs], create_graph=further, allow_unused=True
    )
