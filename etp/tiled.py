"""Products that run as tile programs on the CPU."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

from typing_extensions import override

from etp.kernels import program, tile
from etp.product import TensorProduct


class Tiled(TensorProduct):
    """A product whose CPU form is a program on tiles of samples (:mod:`etp.kernels.tile`)."""

    @cached_property
    @abstractmethod
    def programs(self) -> program.Bilinear:
        """Tile programs of this product."""

    @override
    def run_macs(self) -> int:
        on_tiles = self.device.type == "cpu" and tile.missing() is None
        return int(self.programs.forward.macs) if on_tiles else self.macs()
