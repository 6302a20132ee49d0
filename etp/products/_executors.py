"""Executors: objects that run a description on rows of one channel, each where it can."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels import sparse
from etp.kernels.modes import plain_only, real_tensors
from etp.kernels.multilinear import PRODUCT, Evaluation, Form, evaluate, intern
from etp.kernels.on_cpu import build, program, tile
from etp.kernels.on_gpu.triton_source import serves


class Executor(ABC):
    """Runs the bilinear map that some description says."""

    @abstractmethod
    def serves(self, x1: Tensor, x2: Tensor) -> bool:
        """Whether it can multiply these rows, and give what is asked of their derivatives."""

    @abstractmethod
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Rows (N, dim1) and (N, dim2) to (N, dim_out), differentiable any number of times."""


class Tiles(Executor):
    """Tile programs on the CPU, :mod:`etp.kernels.on_cpu.tile`.

    Args:
        describe: Makes the programs, when they are first needed; None where there are none.
    """

    def __init__(self, describe: Callable[[], program.Bilinear] | None) -> None:
        self._describe = describe
        self._programs: program.Bilinear | None = None

    @property
    def programs(self) -> program.Bilinear:
        """The map and its gradients."""
        if self._programs is None:
            if self._describe is None:
                raise ValueError("this product has no tile program")
            with real_tensors():
                self._programs = self._describe()
        return self._programs

    def able(self) -> bool:
        """Whether there are programs and a compiler for what runs them."""
        return self._describe is not None and build.missing() is None

    @override
    def serves(self, x1: Tensor, x2: Tensor) -> bool:
        return self._describe is not None and x1.shape[0] == x2.shape[0] and tile.applies(x1)

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        return tile.bilinear(x1, x2, self._packed(x1.dtype))

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _packed(self, dtype: torch.dtype) -> tile.Packed:
        return tile.kept(self.programs, dtype)


class NumbaWalk(Executor):
    """A table of coefficients walked by Numba, where there is no C++ compiler.

    Args:
        table: The coefficients.
    """

    def __init__(self, table: sparse.SparseTable) -> None:
        self.table = table

    @override
    def serves(self, x1: Tensor, x2: Tensor) -> bool:
        return sparse.applies(x1)

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        return sparse.sparse_bilinear(x1, x2, self.table.forms(x1.dtype))


Place = tuple[torch.device, torch.dtype]
_KEYS: WeakKeyDictionary[Triton, dict[Place, str | None]] = WeakKeyDictionary()


class Triton(Executor):
    """One kernel on a GPU, and in Triton's interpreter.

    Args:
        describe: Makes the form for a device and a number type; None if its kernel would not fit.
        evaluation: What is evaluated: the product, or that with weights as a fourth side.
    """

    def __init__(
        self,
        describe: Callable[[torch.device, torch.dtype], Form | None],
        evaluation: Evaluation = PRODUCT,
    ) -> None:
        self._describe, self._evaluation = describe, evaluation

    def form(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Form | None:
        """The form that the kernel evaluates."""
        with real_tensors():
            return self._describe(device, dtype)

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def key(self, device: torch.device, dtype: torch.dtype = torch.float32) -> str | None:
        """Key of the form, interned; None if there is none."""
        # Not kept in here: copies and pickles may be used where the form is not known.
        keys = _KEYS.setdefault(self, {})
        if (device, dtype) not in keys:
            form = self.form(device, dtype)
            keys[device, dtype] = None if form is None else intern(form)
        return keys[device, dtype]

    @override
    def serves(self, x1: Tensor, x2: Tensor) -> bool:
        able = serves(x1.device.type) and not plain_only() and x1.shape[0] == x2.shape[0]
        return able and self.key(x1.device, x1.dtype) is not None

    @override
    def multiply(self, x1: Tensor, x2: Tensor, *weights: Tensor) -> Tensor:
        key = str(self.key(x1.device, x1.dtype))
        return evaluate(key, self._evaluation, [x1, x2, *weights])[0]


def pick(executors: Sequence[Executor], x1: Tensor, x2: Tensor) -> Executor:
    """The first that serves; the last one serves always."""
    for executor in executors[:-1]:
        if executor.serves(x1, x2):
            return executor
    return executors[-1]
