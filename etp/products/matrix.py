r"""Matrix tensor products: irreps become matrices, matrices are multiplied, irreps are read off.

:math:`X = \sum_l x_l \cdot w(j, j, l)` is an operator on spin j; products of operators couple every
degree (Unke and Maennel 2024, arXiv:2401.07595, sec. "fused tensor product").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, sqrt

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.maths import so3
from etp.product.registry import register
from etp.products._described import Described
from etp.products._square import Grade, Matrices


@register
class Matrix(Described):
    r"""One (2j+1) x (2j+1) matrix per input, graded by parity.

    :math:`c = (-1)^{l_3} \{l_1\,l_2\,l_3;\,j\,j\,j\}` (6j symbol), j = ceil(lmax / 2) over inputs
    and output. Even and odd inputs make separate matrices :math:`X_\pm`; products of their sums and
    differences give both parities of the output by two matrix products instead of four.
    """

    name, title = "matrix", "Matrix (parity graded)"
    reference = "Unke and Maennel 2024, arXiv:2401.07595; graded as in e3x"

    @property
    def side(self) -> int:
        """Rows of a matrix."""
        return 2 * self._spin() + 1

    @override
    def describe(self) -> Matrices:
        """Sums and differences of both parities, where an input has both."""
        sides = self.irs_in1, self.irs_in2, self.irs_out
        first, second, out = (self._basis(irs) for irs in sides)
        plus = Grade(first, second, out.T)
        if all(len({ir.p for ir in irs}) == 1 for irs in sides[:2]):
            return Matrices(self.side, [plus])
        signs1, signs2, signs3 = (_signs(irs) for irs in sides)
        minus = Grade(signs1[:, None] * first, signs2[:, None] * second, out.T * signs3 / 2)
        return Matrices(self.side, [plus._replace(out=out.T / 2), minus])

    def _spin(self) -> int:
        return ceil(max(self.lmax_in1, self.lmax_in2, self.lmax_out) / 2)

    def _basis(self, irs: Sequence[o3.Irrep]) -> Tensor:
        """Matrices of all components, flattened: shape (dim, side^2)."""
        j = self._spin()
        blocks = [so3.clebsch_gordan(j, j, ir.l).permute(2, 0, 1).flatten(1) for ir in irs]
        return torch.cat(blocks)

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        j = self._spin()
        return (-1) ** ir_out.l * so3.wigner_6j(ir_in1.l, ir_in2.l, ir_out.l, j, j, j)


@register
class MatrixBlock(Described):
    r"""The variant of the paper's code: all spins 0..t at once, t = ceil((l1 + l2) / 2).

    Matrices are (t+1)^2 x (t+1)^2 with blocks weighted by :math:`\sqrt{(2a+1)(2b+1)}`; parity is
    ignored: it commutes with rotations but not with inversion. Kept to reproduce published timings.
    """

    name, title = "matrix-block", "Matrix (block, as published)"
    broadcasts = True
    reference = "Xie et al. 2025, arXiv:2506.13523, code"
    group = "SO(3)"

    @property
    def side(self) -> int:
        """Rows of a matrix."""
        return (self._top() + 1) ** 2

    @override
    def describe(self) -> Matrices:
        first, second, out = (
            self._basis(irs) for irs in (self.irs_in1, self.irs_in2, self.irs_out)
        )
        return Matrices(self.side, [Grade(first, second, out.T)])

    def _top(self) -> int:
        return ceil((self.lmax_in1 + self.lmax_in2) / 2)

    def _basis(self, irs: Sequence[o3.Irrep]) -> Tensor:
        top = self._top()
        rows = []
        for ir in irs:
            matrix = torch.zeros(ir.dim, self.side, self.side, dtype=torch.float64)
            for a in range(top + 1):
                for b in range(abs(a - ir.l), min(a + ir.l, top) + 1):
                    block = so3.clebsch_gordan(a, b, ir.l).permute(2, 0, 1)
                    here = matrix[:, a * a : (a + 1) ** 2, b * b : (b + 1) ** 2]
                    here.copy_(_weight(a, b) * block)
            rows.append(matrix.flatten(1))
        return torch.cat(rows)

    @override
    def couple(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep) -> Iterator[o3.Irrep]:
        for ir in ir_in1 * ir_in2:
            yield o3.Irrep(ir.l, (-1) ** ir.l)

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        l1, l2, l3 = ir_in1.l, ir_in2.l, ir_out.l
        degrees = range(self._top() + 1)
        total = sum(
            _weight(a, b)
            * _weight(b, c)
            * _weight(a, c)
            * (-1) ** (a + c + l3)
            * so3.wigner_6j(l1, l2, l3, c, a, b)
            for a in degrees
            for b in degrees
            for c in degrees
        )
        return total if abs(total) > so3.ZERO else 0.0


def _signs(irs: Sequence[o3.Irrep]) -> Tensor:
    """Parity of each component."""
    return torch.cat([torch.full((ir.dim,), float(ir.p), dtype=torch.float64) for ir in irs])


def _weight(a: int, b: int) -> float:
    return sqrt((2 * a + 1) * (2 * b + 1))
