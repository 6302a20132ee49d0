"""Tile programs as operators of PyTorch, differentiable any number of times, in every program.

A program is an argument of the operator, as two tensors: a graph that holds them needs nothing of
the process that made it. The operators have a derivative, a shape and a batching rule of their
own, so that compilers, tracers and transforms meet nothing special.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels import compile_times as compiling
from etp.kernels.modes import plain_only, real_tensors, seen, traced
from etp.kernels.on_cpu import build
from etp.kernels.on_cpu.program import Bilinear, packed
from etp.kernels.straight import CPU, strange

_NUMPY: dict[torch.dtype, np.dtype[np.floating]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}


_TILE = 32
"""Samples, or channels of one sample, that are worked on at once in float32."""


def fills(channels: int) -> bool:
    """Whether tiles of the channels of one sample are half full at least."""
    return channels > 1 and 2 * channels >= _TILE * -(-channels // _TILE)


class Packed(NamedTuple):
    """A bilinear map and its derivative, cast to one precision, as the operators read them.

    Attributes:
        code: int32, steps and indices of both programs.
        table: float32 or float64, their coefficients.
        dim: Numbers of a row of the output.
    """

    code: Tensor
    table: Tensor
    dim: int


def kept(both: Bilinear, dtype: torch.dtype) -> Packed:
    """The map in the precision that inputs of ``dtype`` are computed in, made once."""
    known: Packed | None = both.kept.get(dtype)
    if compiling.OPEN:
        compiling.used(build.library().artifact)
    if known is None:
        wide = dtype if dtype in _NUMPY else torch.float32
        with real_tensors():
            code, table = map(torch.from_numpy, packed(both, _NUMPY[wide]))
            known = Packed(code, table, both.forward.outputs[0] * both.lie.channels)
        both.kept[dtype] = known
    return known


def bilinear(x: Tensor, y: Tensor, of: Packed) -> Tensor:
    """Apply a bilinear map to rows of features; differentiable any number of times.

    Half precision is computed in float32.
    """
    if x.dtype not in _NUMPY:
        return bilinear(x.float(), y.float(), of).to(x.dtype)
    if traced() or strange(x, y):
        return _tile(x, y, *(seen(of.code), seen(of.table), of.dim))
    if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
        z: Tensor = _Product.apply(x, y, of)  # type: ignore[no-untyped-call]
        return z
    code, table, dim = of
    return _run_tile(CPU, x, y, code, table, dim)


def _gradients(grad: Tensor, x: Tensor, y: Tensor, of: Packed) -> tuple[Tensor, Tensor]:
    code, table, dim = of
    if traced() or strange(grad, x, y):
        return _tile_gradients(grad, x, y, seen(code), seen(table), dim)
    if torch.is_grad_enabled():
        made: tuple[Tensor, Tensor] = _Gradients.apply(grad, x, y, of)  # type: ignore[no-untyped-call]
        return made
    return _run_gradients(CPU, grad, x, y, code, table, dim)


def _gradients_back(
    to_gx: Tensor, to_gy: Tensor, inputs: Sequence[Tensor], of: Packed, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Derivatives of both gradients are the same two maps once more."""
    grad, x, y = inputs
    to_grad = bilinear(to_gx, y, of) + bilinear(x, to_gy, of) if needed[0] else None
    if not (needed[1] or needed[2]):
        return to_grad, None, None
    return to_grad, *_gradients(grad, to_gx, to_gy, of)


class _Product(torch.autograd.Function):
    """The operator's derivative without its detour through Python, where nothing traces."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, of: Packed) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.of = of
        code, table, dim = of
        return _run_tile(CPU, x, y, code, table, dim)

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        return *_gradients(grad, x, y, ctx.of), None


class _Gradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, y: Tensor, of: Packed) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(grad, x, y)
        ctx.of = of
        code, table, dim = of
        return _run_gradients(CPU, grad, x, y, code, table, dim)

    @staticmethod
    @override
    def backward(ctx: Any, to_gx: Tensor, to_gy: Tensor) -> tuple[Tensor | None, ...]:
        back = _gradients_back(to_gx, to_gy, ctx.saved_tensors, ctx.of, ctx.needs_input_grad)
        return *back, None


_define = torch.library.define
_define("etp::tile", "(Tensor x, Tensor y, Tensor code, Tensor table, int dim) -> Tensor")
_define(
    "etp::tile_gradients",
    "(Tensor grad, Tensor x, Tensor y, Tensor code, Tensor table, int dim) -> (Tensor, Tensor)",
)
_tile = torch.ops.etp.tile.default
_tile_gradients = torch.ops.etp.tile_gradients.default
# Straight to what is compiled: where nothing traces, the way through Python costs as much again.
_run_tile = _tile._handle.redispatch_boxed
_run_gradients = _tile_gradients._handle.redispatch_boxed


@torch.library.register_fake("etp::tile")  # type: ignore[untyped-decorator]
def _(x: Tensor, y: Tensor, code: Tensor, table: Tensor, dim: int) -> Tensor:
    return x.new_empty(x.shape[0], dim)


@torch.library.register_fake("etp::tile_gradients")  # type: ignore[untyped-decorator]
def _(
    grad: Tensor, x: Tensor, y: Tensor, code: Tensor, table: Tensor, dim: int
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), y.new_empty(y.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.dim = inputs
    ctx.save_for_backward(*tensors)


def _derive(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, y, code, table = ctx.saved_tensors
    return *_gradients(grad, x, y, Packed(code, table, ctx.dim)), None, None, None


def _derive_gradients(ctx: Any, to_gx: Tensor, to_gy: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, code, table = ctx.saved_tensors
    of = Packed(code, table, ctx.dim)
    back = _gradients_back(to_gx, to_gy, inputs, of, ctx.needs_input_grad)
    return *back, None, None, None


torch.library.register_autograd("etp::tile", _derive, setup_context=_keep)
torch.library.register_autograd("etp::tile_gradients", _derive_gradients, setup_context=_keep)


def _batched(operator: Callable[..., Any], info: Any, in_dims: Any, *inputs: Any) -> Any:
    """More batches are more rows: all of them in one call."""
    *tensors, code, table, dim = inputs
    if any(place is not None for place in in_dims[len(tensors) :]):
        raise ValueError("a tile program must be the same for the whole batch of torch.func.vmap")
    moved = [
        x.expand(info.batch_size, *x.shape) if place is None else x.movedim(place, 0)
        for x, place in zip(tensors, in_dims, strict=False)
    ]
    result = operator(*(x.flatten(0, 1) for x in moved), code, table, dim)
    outputs = result if isinstance(result, tuple) else (result,)
    shaped = tuple(z.unflatten(0, (info.batch_size, -1)) for z in outputs)
    return (shaped, (0,) * len(shaped)) if isinstance(result, tuple) else (shaped[0], 0)


torch.library.register_vmap("etp::tile", partial(_batched, _tile))
torch.library.register_vmap("etp::tile_gradients", partial(_batched, _tile_gradients))


def applies(x: Tensor) -> bool:
    """Whether ``x`` is on the CPU, and nothing is asked that the operators cannot give."""
    return x.is_cpu and _at_hand() and not plain_only()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _at_hand() -> bool:
    return build.at_hand()
