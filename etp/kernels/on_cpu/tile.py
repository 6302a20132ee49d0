"""Run tile programs: bilinear maps as operators of PyTorch, on the CPU.

The operators are those of ``operator.cpp``, which :mod:`etp.kernels.on_cpu.build` compiles at first
use. Where it cannot, :func:`applies` says so and products use their plain form.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any
from weakref import WeakValueDictionary, finalize

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from typing_extensions import override

from etp.kernels import compile_times as compiling
from etp.kernels.on_cpu import build
from etp.kernels.on_cpu.program import Bilinear, Program

_NUMPY: dict[torch.dtype, np.dtype[np.floating]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}
Arrays = Sequence[np.ndarray[Any, Any]]
"""Steps, indices and coefficients of a program."""


class _Struct(ctypes.Structure):
    """``Program`` of ``tile.h``."""

    _fields_ = (
        ("steps", ctypes.c_void_p),
        ("index", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("n_steps", "rows", "n_in", "n_out")),
        ("in_row", ctypes.c_int32 * 3),
        ("in_dim", ctypes.c_int32 * 3),
        ("out_row", ctypes.c_int32 * 2),
        ("out_dim", ctypes.c_int32 * 2),
        ("macs", ctypes.c_int64),
    )

    def __init__(self, program: Program, arrays: Arrays) -> None:
        super().__init__(
            *(array.ctypes.data for array in arrays),
            len(program.steps), program.rows, len(program.inputs), len(program.outputs),
            program.in_rows, program.inputs, program.out_rows, program.outputs, program.macs,
        )  # fmt: skip


class Kept:
    """A bilinear map cast to one precision, which the operators know by its number.

    The number is a hash of the content: a graph that ``torch.compile`` has kept on disk finds the
    same map in a later process, or none.
    """

    def __init__(
        self, both: Bilinear, arrays: Sequence[Arrays], number: int, *, single: bool
    ) -> None:
        self.number = number
        (self.dim_out,) = both.forward.outputs
        self._arrays = arrays
        self._structs = [_Struct(*laid) for laid in zip(both, arrays, strict=True)]
        library = _handle()
        library.etp_tile_keep(number, *map(ctypes.byref, self._structs), single)
        finalize(self, library.etp_tile_drop, number).atexit = False


_KEPT: WeakValueDictionary[int, Kept] = WeakValueDictionary()
_OF_GRAPHS: set[Kept] = set()
"""What compiled graphs use, which may outlive the products that they were traced from."""


@cache
def _handle() -> ctypes.CDLL:
    handle = build.library().handle
    handle.etp_tile_keep.argtypes = (ctypes.c_int64, *(ctypes.c_void_p,) * 2, ctypes.c_int)
    handle.etp_tile_drop.argtypes = (ctypes.c_int64,)
    handle.etp_tile_keep.restype = handle.etp_tile_drop.restype = None
    return handle


def kept(both: Bilinear, dtype: torch.dtype) -> Kept:
    """The map in the precision that inputs of ``dtype`` are computed in, made once."""
    if compiling.OPEN:
        compiling.used(build.library().artifact)
    found: Kept | None = both.kept.get(dtype)
    if found is None:
        wide = dtype if dtype in _NUMPY else torch.float32
        arrays = [program.arrays(_NUMPY[wide]) for program in both]
        number = _number(both, arrays)
        single = wide == torch.float32
        found = both.kept[dtype] = _KEPT.get(number) or Kept(both, arrays, number, single=single)
        _KEPT[number] = found
    return found


def kept_for_graph(both: Bilinear, dtype: torch.dtype) -> int:
    """Number of a map that stays as long as the process."""
    found = kept(both, dtype)
    _OF_GRAPHS.add(found)
    return found.number


def _number(both: Bilinear, arrays: Sequence[Arrays]) -> int:
    digest = hashlib.blake2b(digest_size=7)
    for program, laid in zip(both, arrays, strict=True):
        digest.update(repr((program.inputs, program.outputs, program.rows)).encode())
        for array in laid:
            digest.update(array.dtype.str.encode())
            digest.update(array.tobytes())
    return int.from_bytes(digest.digest(), "little")


def bilinear(x: Tensor, y: Tensor, number: int) -> Tensor:
    """Apply a bilinear map to (N, dim1) and (N, dim2); differentiable any number of times.

    Half precision is computed in float32.
    """
    if x.dtype not in _NUMPY:
        return bilinear(x.float(), y.float(), number).to(x.dtype)
    if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
        z: Tensor = _Product.apply(x, y, number)  # type: ignore[no-untyped-call]
        return z
    z = torch.ops.etp.tile.default(x, y, number)
    return z


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, number: int) -> Tensor:
        _remember(ctx, number, x, y)
        z: Tensor = torch.ops.etp.tile.default(x, y, number)
        return z

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        return *_gradients(grad, x, y, ctx.number), None


def _gradients(grad: Tensor, x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
    if torch.is_grad_enabled():
        found: tuple[Tensor, Tensor] = _Gradients.apply(grad, x, y, number)  # type: ignore[no-untyped-call]
        return found
    gx, gy = torch.ops.etp.tile_gradients.default(grad, x, y, number)
    return gx, gy


class _Gradients(torch.autograd.Function):
    """Both gradients in one pass; their own derivatives are the same two maps once more."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
        _remember(ctx, number, grad, x, y)
        gx, gy = torch.ops.etp.tile_gradients.default(grad, x, y, number)
        return gx, gy

    @staticmethod
    @override
    def backward(
        ctx: Any, to_gx: Tensor, to_gy: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        grad, x, y = ctx.saved_tensors
        to_grad = None
        if ctx.needs_input_grad[0]:
            to_grad = bilinear(to_gx, y, ctx.number) + bilinear(x, to_gy, ctx.number)
        if not any(ctx.needs_input_grad[1:3]):
            return to_grad, None, None, None
        return to_grad, *_gradients(grad, to_gx, to_gy, ctx.number), None


def _remember(ctx: Any, number: int, *tensors: Tensor) -> None:
    ctx.save_for_backward(*tensors)
    ctx.number = number
    if not torch.compiler.is_compiling():
        ctx.kept = _KEPT[number]  # alive as long as a gradient may be asked for


torch.library.define("etp::tile", "(Tensor x, Tensor y, int number) -> Tensor")
torch.library.define(
    "etp::tile_gradients", "(Tensor grad, Tensor x, Tensor y, int number) -> (Tensor, Tensor)"
)


@torch.library.register_fake("etp::tile")  # type: ignore[untyped-decorator]
def _(x: Tensor, y: Tensor, number: int) -> Tensor:
    return x.new_empty(x.shape[0], _KEPT[number].dim_out)


@torch.library.register_fake("etp::tile_gradients")  # type: ignore[untyped-decorator]
def _(grad: Tensor, x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), y.new_empty(y.shape)


def applies(x: Tensor) -> bool:
    """Whether ``x`` is on the CPU, and nothing is asked that the operators cannot give."""
    return (
        x.is_cpu
        and _at_hand()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        # An exported graph runs where this package is not.
        and not torch.compiler.is_exporting()
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _at_hand() -> bool:
    return build.at_hand()
