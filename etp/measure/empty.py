"""A call that computes nothing: what is left of a call when the work is taken out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from etp.measure.clock import Call, group_size, time_block, warm_up
from etp.measure.runtime import DIRECTIONS
from etp.problem import Direction


class _Unfilled(torch.autograd.Function):
    """Tensors of given shapes that nobody fills; so are all their derivatives."""

    @staticmethod
    def forward(ctx: Any, shapes: Sequence[torch.Size], *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*inputs)
        return tuple(inputs[0].new_empty(shape) for shape in shapes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        gradients = _Unfilled.apply([x.shape for x in inputs], *inputs, *grads)  # type: ignore[no-untyped-call]
        return None, *gradients


class _Empty(nn.Module):
    """A module with the interface of a product and no work."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self._shapes = [shape]

    @override
    def forward(self, *inputs: Tensor) -> Tensor:
        (z,) = _Unfilled.apply(self._shapes, *inputs)  # type: ignore[no-untyped-call]
        return z


def empty_call_s(inputs: Sequence[Tensor], shape: torch.Size, direction: Direction) -> float:
    """Seconds of a call that takes tensors, gives back a new one and computes nothing.

    Args:
        inputs: What the product is called with, on a CPU.
        shape: Of its output.
        direction: With derivatives or without, as the product is called.
    """
    call = Call(DIRECTIONS[direction](_Empty(shape), tuple(inputs)))
    warm = warm_up(call, seconds=1e-3)
    return time_block(call, group_size(warm.call_s)).value
