"""Powers of a signal or a matrix: one weight for each output irrep and degree, no more."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels.on_cpu.polynomial import Polynomial
from etp.kernels.operators import serves
from etp.kernels.power import power as run
from etp.kernels.power_steps import PowerSteps
from etp.maths.layout import slices
from etp.powers.base import Power
from etp.product.inputs import nothing

_ZERO = 1e-9
"""What is smaller than this for random input vanishes for every input."""


class DegreewisePower(Power):
    """Sums over degrees of the nu-th power of one object, each scaled irrep by irrep.

    Attributes:
        fused: The same for a compiled kernel; None where there are no steps of it.
    """

    @override
    def build(self) -> None:
        # Numbers of its own: compilers cannot look into irreps.
        self._dims_in, self._dims_out = (
            [ir.dim for ir in irs] for irs in (self.irs_in, self.irs_out)
        )
        self.represent()
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
        spread = torch.zeros(
            self.order, self.weights_per_channel, len(sizes[0]), dtype=torch.float64
        )
        for block in self.blocks:
            if block.size:
                at = parts[self.irs_out.index(block.ir)][1]
                spread[block.degree - 1, block.start, at] = 1.0
        self.register_table("spread", spread)
        steps = self.steps()
        self.fused = None if steps is None else PowerSteps.of(steps)

    def steps(self) -> Polynomial | None:
        """What is computed as steps on rows; None if that is PyTorch's alone."""
        return None

    @abstractmethod
    def represent(self) -> None:
        """Register the tables."""

    @abstractmethod
    def degrees(self, rows: Tensor) -> Iterator[Tensor]:
        """Yield for each degree the outputs (R, components) of rows (R, components)."""

    # Blocks are taken apart by views and put together by ``cat``, no components picked by an index:
    # the gradient of picking is a scatter, and those of fused ones Inductor wrote beside their
    # memory on a CPU (PyTorch up to 2.13, github.com/pytorch/pytorch/issues/191837).

    def _apart(self, a: Tensor) -> Tensor:
        """Features as :meth:`forward` takes them to (N, channels, components)."""
        if a.ndim == 3:
            return a
        parts = a.split([self.channels * dim for dim in self._dims_in], dim=1)
        if self.layout == "mul_ir":
            return torch.cat([p.unflatten(1, (self.channels, -1)) for p in parts], dim=2)
        return torch.cat([p.unflatten(1, (-1, self.channels)) for p in parts], dim=1).mT

    def _together(self, z: Tensor) -> Tensor:
        """Results (N, channels, components) to features."""
        if self.layout == "ir_mul":
            return z.mT.flatten(1)
        return torch.cat([part.flatten(1) for part in z.split(self._dims_out, dim=2)], dim=1)

    @override
    def evaluate(self, a: Tensor, weights: Tensor, elements: Tensor | None) -> Tensor:
        if self.fused is None or not serves(a, weights, codable=self.fused.codable):
            return self.plain(a, weights, elements)
        return run(self.fused, a.flatten(1), weights, elements, self.lies(a), self.channels)

    def plain(self, a: Tensor, weights: Tensor, elements: Tensor | None) -> Tensor:
        """The same by PyTorch's operators alone, for any device and transform."""
        spread = self.table("spread", a.dtype)
        out = spread.shape[2]
        if not a.shape[0]:
            # Transforms refuse empty batches.
            return a.new_zeros(0, out * self.channels) + nothing(a, weights)
        rows = self._apart(a)
        w = weights.reshape(-1, self.weights_per_channel, self.channels).transpose(1, 2)
        z = rows.new_zeros(())
        for degree, own in enumerate(self.degrees(rows.flatten(0, 1))):
            factor = w @ spread[degree]
            if elements is not None:
                factor = factor.index_select(0, elements)
            z = z + own.unflatten(0, (-1, self.channels)) * factor
        return self._together(z)
