r"""Gaunt product and Poisson bracket of two scalar signals on one grid: every path interacts.

.. math::
    z = \int (f h + \{f, h\})\, Y, \qquad
    \{f, h\} = n \cdot (\nabla f \times \nabla h) = \frac{\partial_\beta f\,\partial_\alpha h -
    \partial_\alpha f\,\partial_\beta h}{\sin\beta}

The product of values couples the even paths, the bracket, a pseudoscalar, all odd ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from e3nn import o3
from torch import Tensor
from typing_extensions import override

from etp.kernels.on_cpu import compose
from etp.maths import so3, sphere
from etp.product.registry import register
from etp.product.weighting import Split, met, of_second, scaled
from etp.products import _fields as fields
from etp.products._grid import FieldProduct, FieldSide, GridProduct
from etp.products._transforms import Assembly, sectors

EVEN, ODD = 0, 1
"""The two parts: product of values, bracket."""


@register
class GauntBracket(GridProduct):
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

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Sequence[o3.Irrep] | None = None,
    ) -> None:
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        self._meetings = sorted(
            {(_part(*p[:3]), _sector(p.ir_in1), _sector(p.ir_in2)) for p in self.paths}
        )
        self.parts = tuple(dict.fromkeys(part for part, _, _ in self._meetings))
        top = max(ir.l for ir in self.irs_out)
        self.resolution = sphere.exact_resolution(self.lmax_in1, self.lmax_in2, top)
        nodes = sphere.grid(*self.resolution)
        self._sectors_in = inputs = (sectors(self.irs_in1), sectors(self.irs_in2))
        self._to: dict[tuple[int, int, int], fields.FieldTransform] = {}
        for part, *pair in self._meetings:
            for which, s in enumerate(pair):
                if (part, which, s) in self._to:
                    continue
                sector = inputs[which][s]
                wanted = (
                    (fields.value(sector.lmax, nodes),)
                    if part == EVEN
                    else fields.gradient(sector.lmax, nodes)
                )
                name = f"to{which + 1}_{part}_{'scalar' if s == 1 else 'pseudo'}"
                self._to[part, which, s] = fields.FieldTransform(
                    self, name, sector, nodes, wanted, back=False
                )
        self.sectors_out = sectors(self.irs_out)
        self._from = {
            s: fields.FieldTransform(
                self,
                f"from{'_scalar' if s == 1 else '_pseudo'}",
                part,
                nodes,
                [fields.value(part.lmax, nodes)],
                back=True,
            )
            for s, part in self.sectors_out.items()
        }
        for s, sector in self.sectors_out.items():
            self.register_buffer(_places(s), sector.positions, persistent=False)
        self._assembly = Assembly(self, "output_order", self.sectors_out)

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
    def field_product(self) -> FieldProduct:
        """Value and gradient of each input's sectors, value of the output's."""
        nodes = sphere.grid(*self.resolution)

        def made(lmax: int) -> list[fields.Field]:
            return [fields.value(lmax, nodes), *fields.gradient(lmax, nodes)]

        first, second = self._sectors_in
        out = list(self.sectors_out)
        terms = []
        for part, s1, s2 in self._meetings:
            a, b = 3 * list(first).index(s1), 3 * list(second).index(s2)
            if part == EVEN:
                terms.append(compose.Term(a, b, out.index(s1 * s2)))
            else:
                c = out.index(-s1 * s2)
                terms += [compose.Term(a + 1, b + 2, c), compose.Term(a + 2, b + 1, c, -1)]
        sides = (
            FieldSide.of_sectors(first, made),
            FieldSide.of_sectors(second, made),
            FieldSide.of_sectors(self.sectors_out, lambda lmax: [fields.value(lmax, nodes)]),
        )
        return FieldProduct(nodes, sides, terms)

    @override
    def multiply_plain(self, x1: Tensor, x2: Tensor) -> Tensor:
        total: dict[int, Tensor] = {}
        for part in self.parts:
            for s, signal in self._signals(part, x1, x2).items():
                total[s] = total[s] + signal if s in total else signal
        return self._assembly.join([self._from[s].from_grid([total[s]]) for s in self.sectors_out])

    @override
    def multiply_weighted(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        spread = self.weighting.spread
        total: dict[int, Tensor] = {}
        for part in self.parts:
            first = scaled(x1, spread(weights, "in1", part))
            second = scaled(x2, spread(of_second(weights, x1, x2), "in2", part))
            factors = spread(weights, "out", part)
            for s, signal in self._signals(part, first, second).items():
                own = factors.index_select(-1, self.index(_places(s)))
                z = scaled(self._from[s].from_grid([signal]), own)
                total[s] = total[s] + z if s in total else z
        return self._assembly.join([total[s] for s in self.sectors_out])

    def _signals(self, part: int, x1: Tensor, x2: Tensor) -> dict[int, Tensor]:
        """One part of the product on the grid, by value parity."""
        pairs = [(s1, s2) for kind, s1, s2 in self._meetings if kind == part]
        first = {s: self._to[part, 0, s].to_grid(x1) for s in dict.fromkeys(a for a, _ in pairs)}
        second = {s: self._to[part, 1, s].to_grid(x2) for s in dict.fromkeys(b for _, b in pairs)}
        out: dict[int, Tensor] = {}
        for s1, s2 in pairs:
            f, h = first[s1], second[s2]
            signal = met(f[0], h[0]) if part == EVEN else met(f[0], h[1]) - met(f[1], h[0])
            s = s1 * s2 if part == EVEN else -s1 * s2
            out[s] = out[s] + signal if s in out else signal
        return out

    @override
    def macs(self) -> int:
        maps = sum(t.macs for t in self._to.values()) + sum(t.macs for t in self._from.values())
        products = sum(1 if part == EVEN else 2 for part, _, _ in self._meetings)
        return maps + self.resolution[0] * self.resolution[1] * products

    @override
    def second_macs(self) -> int:
        return sum(t.macs for (_, which, _), t in self._to.items() if which == 1)

    @override
    def weight_macs(self) -> int:
        # Both parts scale the inputs; where both reach a sector it is read twice.
        reached = {(part, a * b * (-1) ** part) for part, a, b in self._meetings}
        reads = [s for _, s in reached]
        again = sum(self._from[s].macs for s in self.sectors_out if reads.count(s) == 2)
        outputs = sum(len(self.sectors_out[s].positions) for s in reads)
        return len(self.parts) * sum(self._dims[:2]) + outputs + again


def _part(ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> int:
    return (ir_in1.l + ir_in2.l + ir_out.l) % 2


def _sector(ir: o3.Irrep) -> int:
    """Parity of the signal's value."""
    return ir.p * (-1) ** ir.l


def _places(sector: int) -> str:
    return f"places_{'scalar' if sector == 1 else 'pseudo'}"
