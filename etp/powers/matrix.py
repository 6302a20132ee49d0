r"""Powers of a matrix: :math:`z_L = \sum_\nu w_{L\nu} \mathrm{tr}(X^\nu\, w(j, j, L))`.

:math:`X = \sum_l a_l \cdot w(j, j, l)` is an operator on spin j = ceil(lmax / 2) over input and
output, as in the product of two matrices (Unke and Maennel 2024, arXiv:2401.07595).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.kernels.on_cpu.polynomial import Polynomial
from etp.kernels.power_steps import PowerSteps
from etp.maths import so3
from etp.powers._degreewise import DegreewisePower
from etp.powers._steps import of_matrices
from etp.powers.registry import register
from etp.products._transforms import sector_of


@register
class MatrixPower(DegreewisePower):
    r"""One (2j+1) x (2j+1) matrix for each channel, graded by parity.

    With even and odd parts of the input in :math:`X_\pm` the powers of their sum and difference
    give both parities of the output. Where all irreps are natural, p = (-1)^l, the difference is
    the transpose of the sum, as they are equal where all are even: one of them is enough. The first
    power is the input, each degree l over 2l + 1.
    """

    name, title = "matrix", "Matrix (parity graded)"
    reference = "Unke and Maennel 2024, arXiv:2401.07595"
    fused: PowerSteps

    @override
    def represent(self) -> None:
        j = ceil(max(ir.l for ir in (*self.irs_in, *self.irs_out)) / 2)
        self.side = 2 * j + 1
        made, read = (_basis(irs, j) for irs in (self.irs_in, self.irs_out))
        kind = _kept_sign(self.irs_in)
        if kind is None:
            signs = [_spread(irs, _parity) for irs in (self.irs_in, self.irs_out)]
            made = torch.cat([made, signs[0][:, None] * made], dim=1)
            read = torch.cat([read, signs[1][:, None] * read], dim=1) / 2
        else:
            read = read * _spread(self.irs_out, lambda ir: kind(ir) > 0)[:, None]
        self.register_table("made", made)
        self.register_table("read", read.T)

    @override
    def degrees(self, rows: Tensor) -> Iterator[Tensor]:
        shape = (-1, self.side, self.side)
        x = (rows @ self.table("made", rows.dtype)).unflatten(1, shape)
        power = x
        for degree in range(1, self.order + 1):
            if degree > 1:
                power = power @ x
            yield power.flatten(1) @ self.table("read", rows.dtype)

    @override
    def first(self, ir: o3.Irrep) -> float:
        return 1 / ir.dim

    @override
    def coefficient(self, left: o3.Irrep, ir: o3.Irrep, ir_out: o3.Irrep) -> float:
        j = self.side // 2
        # Read off a matrix, components of degree l are 1 / (2l + 1) of those that it is made from.
        return left.dim * (-1) ** ir_out.l * so3.wigner_6j(left.l, ir.l, ir_out.l, j, j, j)

    @override
    def steps(self) -> Polynomial:
        made, read = (self.table(name, torch.float64) for name in ("made", "read"))
        return of_matrices(self, made, read, self.side)

    @property
    @override
    def macs(self) -> int:
        return self.fused.macs


def _kept_sign(irs: Sequence[o3.Irrep]) -> Callable[[o3.Irrep], int] | None:
    """A sign that is positive for all of these irreps, and so for all that their powers hold."""
    return next((sign for sign in (sector_of, _parity) if all(sign(ir) > 0 for ir in irs)), None)


def _parity(ir: o3.Irrep) -> int:
    return int(ir.p)


def _spread(irs: Sequence[o3.Irrep], of: Callable[[o3.Irrep], float]) -> Tensor:
    """A number of each irrep, for each component."""
    return torch.tensor([float(of(ir)) for ir in irs for _ in range(ir.dim)], dtype=torch.float64)


def _basis(irs: Sequence[o3.Irrep], j: int) -> Tensor:
    """Matrices of all components, flattened: shape (components, side^2)."""
    return torch.cat([so3.clebsch_gordan(j, j, ir.l).permute(2, 0, 1).flatten(1) for ir in irs])
