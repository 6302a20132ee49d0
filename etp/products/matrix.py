r"""Matrix tensor products: irreps become matrices, matrices are multiplied, irreps are read off.

:math:`X = \sum_l x_l \cdot w(j, j, l)` is an operator on spin j; products of operators couple every
degree (Unke and Maennel 2024, arXiv:2401.07595, sec. "fused tensor product").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from math import ceil, sqrt

import torch
from e3nn import o3
from torch import Tensor
from typing_extensions import override

from etp.kernels.multilinear import Form
from etp.kernels.on_cpu import compose, program
from etp.kernels.on_gpu.triton_matrix import grade_of, matrix_form
from etp.maths import so3
from etp.product.registry import register
from etp.products._fused import Fused
from etp.products._tiled import Tiled


@register
class Matrix(Tiled, Fused):
    r"""One (2j+1) x (2j+1) matrix per input, graded by parity.

    :math:`c = (-1)^{l_3} \{l_1\,l_2\,l_3;\,j\,j\,j\}` (6j symbol), j = ceil(lmax / 2) over inputs
    and output. Even and odd inputs make separate matrices :math:`X_\pm`; products of their sums and
    differences give both parities of the output by two matrix products instead of four.
    """

    name, title = "matrix", "Matrix (parity graded)"
    reference = "Unke and Maennel 2024, arXiv:2401.07595; graded as in e3x"

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Sequence[o3.Irrep] | None = None,
    ) -> None:
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        self.side = 2 * self._spin() + 1
        parities = [{ir.p for ir in irs} for irs in (self.irs_in1, self.irs_in2)]
        self._graded = any(len(found) == 2 for found in parities)
        self.register_table("in1", self._basis(self.irs_in1))
        self.register_table("in2", self._basis(self.irs_in2))
        out = self._basis(self.irs_out).T
        if self._graded:
            signs = {name: _signs(irs) for name, irs in self._irs().items()}
            self.register_table("in1_minus", signs["in1"][:, None] * self._basis(self.irs_in1))
            self.register_table("in2_minus", signs["in2"][:, None] * self._basis(self.irs_in2))
            out = torch.cat([out, out * signs["out"]]) / 2
        self.register_table("out", out)

    def _irs(self) -> dict[str, tuple[o3.Irrep, ...]]:
        return {"in1": self.irs_in1, "in2": self.irs_in2, "out": self.irs_out}

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

    @override
    def multiply_plain(self, x1: Tensor, x2: Tensor) -> Tensor:
        product = self._product(x1, x2, "")
        if self._graded:
            product = torch.cat([product, self._product(x1, x2, "_minus")], dim=1)
        return product @ self.table("out", x1.dtype)

    @override
    @cached_property
    def programs(self) -> program.Bilinear:
        """Tile programs of this product on the CPU."""
        tables = {name: table.cpu().numpy() for name, table in self._tables.items()}
        points = self.side**2
        grades = [compose.Graded(tables["in1"], tables["in2"], tables["out"][:points])]
        if self._graded:
            minus = tables["in1_minus"], tables["in2_minus"], tables["out"][points:]
            grades.append(compose.Graded(*minus))
        return compose.of_matrices(grades, self.side)

    @override
    def fused_form(self) -> Form | None:
        tables, points = self._tables, self.side**2
        grades = [(tables["in1"], tables["in2"], tables["out"][:points])]
        if self._graded:
            grades.append((tables["in1_minus"], tables["in2_minus"], tables["out"][points:]))
        return matrix_form(self, [grade_of(grade, self.side) for grade in grades])

    def _product(self, x1: Tensor, x2: Tensor, grade: str) -> Tensor:
        shape = (self.side, self.side)
        second = (x2 @ self.table(f"in2{grade}", x2.dtype)).unflatten(1, shape)
        return _multiplied(x1 @ self.table(f"in1{grade}", x1.dtype), second)

    @override
    def macs(self) -> int:
        dims = [sum(ir.dim for ir in irs) for irs in self._irs().values()]
        return (1 + self._graded) * (sum(dims) * self.side**2 + self.side**3)


@register
class MatrixBlock(Tiled, Fused):
    r"""The variant of the paper's code: all spins 0..t at once, t = ceil((l1 + l2) / 2).

    Matrices are (t+1)^2 x (t+1)^2 with blocks weighted by :math:`\sqrt{(2a+1)(2b+1)}`; parity is
    ignored: it commutes with rotations but not with inversion. Kept to reproduce published timings.
    """

    name, title = "matrix-block", "Matrix (block, as published)"
    broadcasts = True
    reference = "Xie et al. 2025, arXiv:2506.13523, code"
    group = "SO(3)"

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Sequence[o3.Irrep] | None = None,
    ) -> None:
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        self.side = (self._top() + 1) ** 2
        self.register_table("in1", self._basis(self.irs_in1))
        self.register_table("in2", self._basis(self.irs_in2))
        self.register_table("out", self._basis(self.irs_out).T)

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

    @override
    def multiply_plain(self, x1: Tensor, x2: Tensor) -> Tensor:
        shape = (self.side, self.side)
        second = (x2 @ self.table("in2", x2.dtype)).unflatten(1, shape)
        product = _multiplied(x1 @ self.table("in1", x1.dtype), second)
        return product @ self.table("out", x1.dtype)

    @override
    def second_macs(self) -> int:
        return self._dims[1] * self.side**2

    @override
    @cached_property
    def programs(self) -> program.Bilinear:
        """Tile programs of this product on the CPU."""
        tables = (self._tables[name].cpu().numpy() for name in ("in1", "in2", "out"))
        return compose.of_matrices([compose.Graded(*tables)], self.side)

    @override
    def fused_form(self) -> Form | None:
        tables = [self._tables[name] for name in ("in1", "in2", "out")]
        return matrix_form(self, [grade_of(tables, self.side)])

    @override
    def macs(self) -> int:
        dims = sum(ir.dim for irs in (self.irs_in1, self.irs_in2, self.irs_out) for ir in irs)
        return dims * self.side**2 + self.side**3


def _multiplied(first: Tensor, second: Tensor) -> Tensor:
    """Matrices (E * U, side^2) times (E, side, side): rows of U matrices under each other."""
    runs = first.reshape(len(second), -1, second.shape[1])
    return torch.bmm(runs, second).reshape(first.shape)


def _signs(irs: Sequence[o3.Irrep]) -> Tensor:
    """Parity of each component."""
    return torch.cat([torch.full((ir.dim,), float(ir.p), dtype=torch.float64) for ir in irs])


def _weight(a: int, b: int) -> float:
    return sqrt((2 * a + 1) * (2 * b + 1))
