"""Products that run as tile programs on the CPU."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels.modes import real_tensors
from etp.kernels.on_cpu import build, program, tile
from etp.product.base import TensorProduct


class Tiled(TensorProduct):
    """A product whose CPU form is a program on tiles of samples, :mod:`etp.kernels.on_cpu.tile`."""

    @cached_property
    @abstractmethod
    def programs(self) -> program.Bilinear:
        """Tile programs of this product."""

    @abstractmethod
    def multiply_plain(self, x1: Tensor, x2: Tensor) -> Tensor:
        """:meth:`multiply` in plain PyTorch: elsewhere, and where x2 is shared."""

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        if tile.applies(x1) and len(x1) == len(x2):
            return self.run_programs(x1, x2, "programs")
        return self.multiply_plain(x1, x2)

    def run_programs(self, x1: Tensor, x2: Tensor, attribute: str) -> Tensor:
        """Run the programs under this attribute on tensors that tiles apply to."""
        return tile.bilinear(x1, x2, self._packed(attribute, x1.dtype))

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _packed(self, attribute: str, dtype: torch.dtype) -> tile.Packed:
        programs = self.__dict__.get(attribute)
        if programs is None:
            with real_tensors():
                programs = getattr(self, attribute)
        return tile.kept(programs, dtype)

    @override
    def run_macs(self) -> int:
        on_tiles = self.device.type == "cpu" and build.missing() is None
        return int(self.programs.forward.macs) if on_tiles else self.macs()
