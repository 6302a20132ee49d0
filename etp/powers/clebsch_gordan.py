"""The symmetric contraction: every coupling of up to ``order`` copies of the input."""

from __future__ import annotations

from math import sqrt
from typing import Literal, get_args

import numpy as np
from typing_extensions import override

from etp.e3 import o3
from etp.irreps import Layout
from etp.powers._couplings import couplings, independent
from etp.powers.registry import register
from etp.powers.table import TablePower

Basis = Literal["paths", "independent"]


@register
class ClebschGordan(TablePower):
    """Every coupling, over sorted monomials, where next to nothing of the tables is left.

    Args:
        irreps_in: C channels of every irrep, each irrep once.
        order: Largest number of factors.
        irreps_out: Irreps wanted.
        layout: Order within the blocks of features.
        basis: ``paths`` has a weight for each way to couple step by step, in the order and scale of
            e3nn's sums; many are zero or combinations of others once factors are equal.
            ``independent`` keeps of these the first that span all: the same functions, fewer
            weights, as fast.

    Raises:
        IrrepsError: If no coupling leads to an irrep of ``irreps_out``, or irreps are not valid.
        ValueError: If another argument is not.
    """

    name, title = "cg", "Clebsch-Gordan"
    reference = "Batatia et al. 2022, arXiv:2206.07697, eq. 10"
    keeps_couplings = True

    def __init__(
        self,
        irreps_in: str | o3.Irreps,
        *,
        order: int,
        irreps_out: str | o3.Irreps,
        layout: Layout = "mul_ir",
        basis: Basis = "paths",
    ) -> None:
        if basis not in get_args(Basis):
            raise ValueError(f"basis must be one of {', '.join(get_args(Basis))}, got {basis!r}")
        self.basis = basis
        super().__init__(irreps_in, order=order, irreps_out=irreps_out, layout=layout)

    @override
    def build(self) -> None:
        degrees = couplings(self.irs_in, self.order, self.irs_out)
        self._refuse_unreached(ir for own in degrees for ir, v in own.items() if np.any(v))
        if self.basis == "independent":
            degrees = [{ir: independent(v) for ir, v in own.items()} for own in degrees]
        self._tabulate(degrees)

    @override
    def coefficient(self, left: o3.Irrep, ir: o3.Irrep, ir_out: o3.Irrep) -> float:
        return sqrt(ir_out.dim)
