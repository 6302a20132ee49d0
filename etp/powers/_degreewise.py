"""Powers of a signal or a matrix: one weight for each output irrep and degree, no more."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.irreps import Layout
from etp.kernels.power_table import apart, together
from etp.maths.layout import slices
from etp.powers.base import Power

_ZERO = 1e-9
"""What is smaller than this for random input vanishes for every input."""


class DegreewisePower(Power):
    """Sums over degrees of the nu-th power of one object, each scaled irrep by irrep."""

    def __init__(
        self,
        irreps_in: str | o3.Irreps,
        *,
        order: int,
        irreps_out: str | o3.Irreps,
        layout: Layout = "mul_ir",
    ) -> None:
        super().__init__(irreps_in, order=order, irreps_out=irreps_out, layout=layout)
        self.build()
        rows = torch.randn(8, sum(ir.dim for ir in self.irs_in), dtype=torch.float64,
                           generator=torch.Generator().manual_seed(0))  # fmt: skip
        sizes = [z.abs().amax(0) for z in self.degrees(rows)]
        parts = list(zip(self.irs_out, slices(self.irs_out), strict=True))
        self._count([
            (ir, nu, int(size[at].max() > _ZERO))
            for ir, at in parts for nu, size in enumerate(sizes, start=1)
        ])  # fmt: skip
        self._refuse_unreached(block.ir for block in self.blocks if block.size)
        # Which weight scales each component of each degree.
        spread = torch.zeros(order, self.weights_per_channel, len(sizes[0]), dtype=torch.float64)
        for block in self.blocks:
            if block.size:
                at = parts[self.irs_out.index(block.ir)][1]
                spread[block.degree - 1, block.start, at] = 1.0
        self.register_table("spread", spread)

    @abstractmethod
    def build(self) -> None:
        """Register the tables."""

    @abstractmethod
    def degrees(self, rows: Tensor) -> Iterator[Tensor]:
        """Yield for each degree the outputs (R, components) of rows (R, components)."""

    @override
    def evaluate(self, a: Tensor, weights: Tensor, elements: Tensor | None, lie: Tensor) -> Tensor:
        spread = self.table("spread", a.dtype)
        out = spread.shape[2]
        if not a.shape[0]:
            # Transforms refuse empty batches; the sums keep the result differentiable.
            return a.new_zeros(0, out * self.channels) + a.sum() + weights.sum()
        rows = apart(a, lie[: len(lie) - out], self.channels).transpose(1, 2)
        w = weights.reshape(-1, self.weights_per_channel, self.channels).transpose(1, 2)
        z = rows.new_zeros(())
        for degree, own in enumerate(self.degrees(rows.flatten(0, 1))):
            factor = w @ spread[degree]
            if elements is not None:
                factor = factor.index_select(0, elements)
            z = z + own.unflatten(0, (-1, self.channels)) * factor
        return together(z.transpose(1, 2), lie)
