r"""Gaunt product and Poisson bracket of two scalar signals on one grid: every path interacts.

.. math::
    z = \int (f h + \{f, h\})\, Y, \qquad
    \{f, h\} = n \cdot (\nabla f \times \nabla h) = \frac{\partial_\beta f\,\partial_\alpha h -
    \partial_\alpha f\,\partial_\beta h}{\sin\beta}

The product of values couples the even paths, the bracket, a pseudoscalar, all odd ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from typing_extensions import override

from etp.e3 import o3
from etp.kernels.on_cpu.compose import Pointwise
from etp.maths import so3, sphere
from etp.product.registry import register
from etp.product.weighting import Split
from etp.products._described import DescribedFields
from etp.products._fields import gradient, value
from etp.products._grid import Drawing, Fields
from etp.products._transforms import sector_of, sectors

EVEN, ODD = 0, 1
"""The two parts: product of values, bracket."""


@register
class GauntBracket(DescribedFields):
    r"""Both parts added up, one output copy per irrep and parity; smallest exact grid.

    c = :func:`etp.maths.so3.gaunt_coefficient` for even l1 + l2 + l3 and
    :func:`etp.maths.so3.bracket_coefficient` for odd ones. Without weights both parts enter with
    factor
    one, and the family under linear layers has dimension n1 + n2 + n3 - 2 (6 L in MIMO). Its
    weights are factors of each irrep for the two parts apart, which no linear layer can do with one
    copy of each input: then the dimension is 8 L - 2.
    """

    name, title = "gaunt-bracket", "Gaunt + bracket (S2 grid)"
    reference = "arXiv:2602.21466; Elsasser integrals (James 1973)"

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        form = so3.gaunt_coefficient if _part(ir_in1, ir_in2, ir_out) == EVEN else (
            so3.bracket_coefficient
        )  # fmt: skip
        return form(ir_in1.l, ir_in2.l, ir_out.l)

    @override
    def split(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> Iterator[Split]:
        part = _part(ir_in1, ir_in2, ir_out)
        yield Split(part, part, part, self.coefficient(ir_in1, ir_in2, ir_out))

    @override
    def fields(self, *, apart: bool) -> Fields:
        """Values of each signal for the even part, gradients for the odd one, a slot for each."""
        nodes = sphere.grid(*self.resolution)
        meetings = sorted(
            {(_part(*p[:3]), sector_of(p.ir_in1), sector_of(p.ir_in2)) for p in self.paths}
        )
        slots = sorted({part for part, _, _ in meetings}) if apart else [0]
        first, second, out = (
            Drawing(sectors(irs), slots) for irs in (self.irs_in1, self.irs_in2, self.irs_out)
        )

        def made(side: Drawing, part: int, sector: int) -> Sequence[int]:
            slot, lmax = part if apart else 0, side.sectors[sector].lmax
            if part == EVEN or side is out:
                return side.add(sector, "value", [value(lmax, nodes)], slot)
            return side.add(sector, "gradient", gradient(lmax, nodes), slot)

        terms = []
        for part, s1, s2 in meetings:
            f, h = made(first, part, s1), made(second, part, s2)
            (z,) = made(out, part, s1 * s2 if part == EVEN else -s1 * s2)
            if part == EVEN:
                terms.append(Pointwise(f[0], h[0], z))
            else:
                terms += [Pointwise(f[0], h[1], z), Pointwise(f[1], h[0], z, -1)]
        return Fields(nodes, (first.side(), second.side(), out.side()), terms)


def _part(ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> int:
    return (ir_in1.l + ir_in2.l + ir_out.l) % 2
