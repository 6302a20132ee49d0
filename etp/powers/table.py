"""Powers that are given by tables of polynomials, each with a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.irreps import Layout
from etp.kernels.power import power
from etp.kernels.power_table import Floats, PowerTable, Segment
from etp.powers._couplings import symmetric_part
from etp.powers.base import Power

_ROUNDING = 64
"""What is below this many units in the last place of a table's largest number is rounding."""


class TablePower(Power):
    """A power whose polynomials are known one by one; a class of its own says which.

    Attributes:
        polynomials: What it computes of one channel.
    """

    polynomials: PowerTable

    def _tabulate(self, degrees: Sequence[Mapping[o3.Irrep, Floats]]) -> None:
        """Take for each degree and irrep polynomials, (count, components, sorted monomials)."""
        rows = list(accumulate((ir.dim for ir in self.irs_out), initial=0))
        dims = sum(ir.dim for ir in self.irs_in), rows[-1]
        segments = [
            Segment(row, degree, values[ir])
            for ir, row in zip(self.irs_out, rows, strict=False)
            for degree, values in enumerate(degrees, start=1)
        ]
        irs = [ir for ir in self.irs_out for _ in degrees]
        self._count([(ir, s.degree, len(s.values)) for ir, s in zip(irs, segments, strict=True)])
        if not self.weights_per_channel:
            raise ValueError("tables must hold at least one weight, got none")
        self.polynomials = PowerTable.of_segments(dims, segments)

    @property
    @override
    def macs(self) -> int:
        return self.polynomials.macs

    @override
    def evaluate(self, a: Tensor, weights: Tensor, elements: Tensor | None) -> Tensor:
        lie = self.lies(a)
        return power(self.polynomials, a.flatten(1), weights, elements, lie, self.channels)


class _Given(TablePower):
    """A power of tables from elsewhere."""

    name, title = "table", "Tables"
    reference = "given"

    def __init__(
        self,
        irreps_in: str | o3.Irreps,
        irreps_out: str | o3.Irreps,
        tables: Sequence[Sequence[Tensor]],
        layout: Layout,
    ) -> None:
        order = max((len(own) for own in tables), default=0)
        self._given = tables  # until they are polynomials
        super().__init__(irreps_in, order=order, irreps_out=irreps_out, layout=layout)

    @override
    def build(self) -> None:
        tables, order = self._given, self.order
        del self._given
        if [len(own) for own in tables] != [order] * len(self.irs_out):
            raise ValueError(
                f"tables must hold a list for each of {len(self.irs_out)} irreps of irreps_out, "
                f"each with a table for every degree, got {[len(own) for own in tables]} tables"
            )
        dim = sum(ir.dim for ir in self.irs_in)
        self._tabulate([
            {
                ir: _polynomials(own[degree - 1], ir, dim, degree)
                for ir, own in zip(self.irs_out, tables, strict=True)
            }
            for degree in range(1, order + 1)
        ])  # fmt: skip

    @override
    def coefficient(self, left: o3.Irrep, ir: o3.Irrep, ir_out: o3.Irrep) -> float:
        raise ValueError("a power of given tables claims no couplings: its tables say what it does")


def _polynomials(table: Tensor, ir: o3.Irrep, dim: int, degree: int) -> Floats:
    shape = (ir.dim, *[dim] * degree, table.shape[-1] if table.ndim else 0)
    if table.numel() != np.prod(shape):
        raise ValueError(
            f"tables: that of {ir} and degree {degree} must have shape {shape[:-1]} and then its "
            f"number of weights, got {tuple(table.shape)}"
        )
    values = symmetric_part(table.detach().to("cpu", torch.float64).numpy().reshape(shape), dim)
    rounding = _ROUNDING * torch.finfo(table.dtype).eps * np.abs(values).max(initial=0.0)
    return np.where(np.abs(values) > rounding, values, 0.0)


def table_power(
    irreps_in: str | o3.Irreps,
    irreps_out: str | o3.Irreps,
    tables: Sequence[Sequence[Tensor]],
    layout: Layout = "mul_ir",
) -> TablePower:
    """Make a power of dense tables, such as the ``U_matrix_nu`` of MACE.

    Weight p of degree nu adds ``U[m, i1, ..., i_nu, p] a[i1] ... a[i_nu]`` to component m. Weights
    are those of :attr:`Power.blocks`: for each output irrep, for each degree from 1 on, the last
    axis of its table, channels fastest.

    Args:
        irreps_in: C channels of every irrep; the axes i run over the irreps in their order.
        irreps_out: Likewise; one list of tables for each irrep.
        tables: For each output irrep its tables of degree 1, 2, ..., each of shape
            (2l + 1, dim, ..., dim, weights); axes of length one may be left out.
        layout: Order within the blocks of features.

    Raises:
        ValueError: If irreps are not valid, or a table is missing or of another shape.
    """
    return _Given(irreps_in, irreps_out, tables, layout)
