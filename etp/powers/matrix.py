r"""Powers of a matrix: :math:`z_L = \sum_\nu w_{L\nu} \mathrm{tr}(X^\nu\, w(j, j, L))`.

:math:`X = \sum_l a_l \cdot w(j, j, l)` is an operator on spin j = ceil(lmax / 2) over input and
output, as in the product of two matrices (Unke and Maennel 2024, arXiv:2401.07595).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.maths import so3
from etp.powers._degreewise import DegreewisePower
from etp.powers.registry import register


@register
class MatrixPower(DegreewisePower):
    r"""One (2j+1) x (2j+1) matrix for each channel, graded by parity.

    With even and odd parts of the input in :math:`X_\pm` the powers of their sum and difference
    give both parities of the output. The first power is the input, each degree l over 2l + 1.
    """

    name, title = "matrix", "Matrix (parity graded)"
    reference = "Unke and Maennel 2024, arXiv:2401.07595"

    @override
    def build(self) -> None:
        j = ceil(max(ir.l for ir in (*self.irs_in, *self.irs_out)) / 2)
        self.side = 2 * j + 1
        first, out = (_basis(irs, j) for irs in (self.irs_in, self.irs_out))
        signs = [torch.tensor([ir.p for ir in irs for _ in range(ir.dim)], dtype=torch.float64)
                 for irs in (self.irs_in, self.irs_out)]  # fmt: skip
        self.register_table("both", torch.cat([first, signs[0][:, None] * first], dim=1))
        self.register_table("out", torch.cat([out.T, out.T * signs[1]]) / 2)

    @override
    def degrees(self, rows: Tensor) -> Iterator[Tensor]:
        shape = (2, self.side, self.side)
        x = (rows @ self.table("both", rows.dtype)).unflatten(1, shape)
        power = x
        for degree in range(1, self.order + 1):
            if degree > 1:
                power = power @ x
            yield power.flatten(1) @ self.table("out", rows.dtype)

    @override
    def first(self, ir: o3.Irrep) -> float:
        return 1 / ir.dim

    @override
    def coefficient(self, left: o3.Irrep, ir: o3.Irrep, ir_out: o3.Irrep) -> float:
        j = self.side // 2
        # Read off a matrix, components of degree l are 1 / (2l + 1) of those that it is made from.
        return left.dim * (-1) ** ir_out.l * so3.wigner_6j(left.l, ir.l, ir_out.l, j, j, j)

    @property
    @override
    def macs(self) -> int:
        first, last = (self.table(name, torch.float64).numel() for name in ("both", "out"))
        return first + self.order * last + (self.order - 1) * 2 * self.side**3


def _basis(irs: Sequence[o3.Irrep], j: int) -> Tensor:
    """Matrices of all components, flattened: shape (components, side^2)."""
    return torch.cat([so3.clebsch_gordan(j, j, ir.l).permute(2, 0, 1).flatten(1) for ir in irs])
