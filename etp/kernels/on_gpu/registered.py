"""Python functions as the kernels of operators, and what these need of their tensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from etp.kernels.on_cpu import build
from etp.kernels.on_gpu.triton_source import interpreted

_LIBRARIES: list[torch.library.Library] = []
"""Kept: what a library registers goes when it does."""

Form = TypeVar("Form")


def of_table(make: Callable[[Tensor, Tensor], Form]) -> Callable[[Tensor, Tensor], Form]:
    """Keep what is made of tables, a program and its numbers.

    A module's own tensor is looked up by itself, without a copy to the host.

    Args:
        make: Of both on the CPU, int32 and float64, what kernels evaluate.
    """
    known = WeakTensorKeyDictionary()

    @cache
    def of_bytes(ints: bytes, numbers: bytes) -> Form:
        program = torch.from_numpy(np.frombuffer(ints, dtype=np.int32).copy())
        return make(program, torch.from_numpy(np.frombuffer(numbers).copy()))

    def form(program: Tensor, values: Tensor) -> Form:
        if program not in known:
            numbers = values.cpu().double().numpy().tobytes()
            known[program] = of_bytes(program.cpu().numpy().tobytes(), numbers)
        made: Form = known[program]
        return made

    return form


def inside(name: str, index: Tensor, count: int) -> None:
    """Stop where an index is of nothing: at once, on a GPU when it comes to it."""
    if index.is_cuda:
        within = ((index >= 0) & (index < count)).all()
        torch._assert_async(within, f"{name} must be from 0 to {count - 1}")
    elif index.numel() and not 0 <= int(index.min()) <= int(index.max()) < count:
        raise RuntimeError(f"{name} must be from 0 to {count - 1}, got {index.tolist()}")


def by_row(index: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Places sorted by the row that they name, in a fixed order, and where each row's begin."""
    row, order = index.sort(stable=True)
    ends = torch.arange(rows + 1, device=index.device, dtype=index.dtype)
    return order, torch.searchsorted(row, ends)


def register_all(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Let functions run operators on CUDA tensors, and on the CPU's where Triton interprets."""
    library = torch.library.Library("etp", "IMPL")
    _LIBRARIES.append(library)
    if interpreted():
        # The compiled ones would come later and take over: they come first, if at all.
        build.at_hand()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*verrid")
        for name, function in functions.items():
            library.impl(name, function, "CPU" if interpreted() else "CUDA")
