r"""Products of vector signals on the sphere: the simplest pointwise product that is antisymmetric.

A feature of degree j enters as :math:`\sum_l x_j \cdot Y^{(j,l)}` with the vector spherical
harmonics :math:`Y^{(j,l)}_m = \sqrt{2j+1} \sum w(l,1,j) Y_{l\mu} e_k`, l = j - 1, j, j + 1. A
coefficient (j, l) of a field with value parity :math:`\sigma` (-1 polar, +1 axial) has parity
:math:`\sigma (-1)^l`: an irrep feeds both a polar and an axial field, which are kept apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod, sqrt

import torch
from e3nn import o3
from torch import Tensor
from typing_extensions import override

from etp.kernels.on_cpu import compose
from etp.maths import so3, sphere
from etp.product.registry import register
from etp.product.weighting import Side, Split, met, of_second, scaled
from etp.products import _fields as fields
from etp.products import _vectors as vectors
from etp.products._grid import FieldProduct, FieldSide, GridProduct
from etp.products._transforms import Assembly, sectors
from etp.products._vectors import OUT, SIDES, Potential, Step, Vector

Used = set[tuple[o3.Irrep, int]]
"""Vector harmonics that a path reads: an irrep of degree j, and l - j."""


@register
class VectorSignal(GridProduct):
    r"""Pointwise product of two vector signals, read with vector harmonics; smallest exact grid.

    :math:`c = \kappa \sum \pm \sqrt{(2j_1+1)(2j_2+1)(2j_3+1)}\, g(l_1,l_2,l_3)\,
    \{l_1\,l_2\,l_3;\, s_1\,s_2\,s_3;\, j_1\,j_2\,j_3\}` (9j symbol, Gaunt coefficient g), summed
    over the components l of each j. Without weights component l = j + 1 of input 2 and l = j of
    the output of the cross product enter with -1 (l = j of input 1 for ``dot``, of input 2 for
    ``scalar-vector``), all others with +1. Weights are a factor for each (irrep, l): they
    make a family of dimension min(paths - 1, 12 L - 3) in MIMO where natural and pseudo outputs of
    a degree are one, and a larger one where they are apart.

    Args:
        coupling: ``cross`` (:math:`\kappa^2 = 6`), which reaches odd paths; ``dot`` to a scalar
            signal or ``scalar-vector``, a scalar signal times a vector one (both 3).
    """

    name, title = "vector-signal", "Vector signals (cross product)"
    reference = "Xie et al. 2025, arXiv:2506.13523, sec. 6; Varshalovich et al. 1988, 7.3"

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Sequence[o3.Irrep] | None = None,
        coupling: vectors.Coupling = "cross",
    ) -> None:
        if coupling not in vectors.RULES:
            raise ValueError(
                f"coupling must be one of {', '.join(vectors.RULES)}, got {coupling!r}"
            )
        self._rule = vectors.RULES[coupling]
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        self._irs = (self.irs_in1, self.irs_in2, self.irs_out)
        self._sectors = [sectors(irs) for irs in self._irs]
        used = [self._used(side) for side in SIDES]
        self._numbers = [sorted({number for _, number in each}) for each in used]
        # A triple product of fields is a polynomial of degree j1 + j2 + j3: one derivative too
        # many is paid for by the cross product with n.
        self.resolution = sphere.exact_resolution(*(max(ir.l for ir, _ in each) for each in used))
        self._plan(self._potentials(used))
        for side, kind in sorted({potential[:2] for potential in self._maps}):
            self._register_shares(side, kind, used[side])
        for s, sector in self._sectors[OUT].items():
            self.register_buffer(f"places_{s}", sector.positions, persistent=False)
        self._assembly = Assembly(self, "output_order", self._sectors[OUT])

    def _used(self, side: Side) -> Used:
        """What some path reads of a side, or writes to it."""
        return {
            (factor.target, factor.number)
            for factor in self.weighting.factors
            if factor.side == side and isinstance(factor.target, o3.Irrep)
        }

    def _potentials(self, used: Sequence[Used]) -> list[Potential]:
        """Everything that could be made of what is used, side by side."""
        return [
            potential
            for side, each in enumerate(used)
            for potential in sorted(
                {
                    Potential(side, kind, _sector(ir, 0))
                    for ir, number in each
                    for kind in self._kinds(side, number)
                }
            )
        ]

    def _plan(self, potentials: Sequence[Potential]) -> None:
        """Choose the products that are read, and make the maps between features and fields."""
        made = {(step.parity, step.c3) for step in self._steps_of(potentials)}
        # Of the output only what some product of the inputs' fields has all components of.
        kept = [
            each
            for each in potentials
            if each.side != OUT or made.issuperset((each.parity, c) for c in each.components)
        ]
        self._steps = self._steps_of(kept)
        nodes = sphere.grid(*self.resolution)
        self._maps = {
            each: fields.FieldTransform(
                self,
                each.name,
                self._sectors[each.side][each.sector],
                nodes,
                vectors.potential(each.kind, self._sectors[each.side][each.sector].lmax, nodes),
                back=each.side == OUT,
            )
            for each in kept
        }

    def _steps_of(self, potentials: Sequence[Potential]) -> tuple[Step, ...]:
        """Pointwise products of those fields that meet on some path."""
        present = {(each.side, each.parity, c) for each in potentials for c in each.components}
        return tuple(
            Step(parity1, parity2, c1, c2, c3, sign)
            for parity1, parity2 in self._meetings()
            for c1, c2, c3, sign in self._rule.products
            if {(0, parity1, c1), (1, parity2, c2), (OUT, parity1 * parity2, c3)} <= present
        )

    def _meetings(self) -> list[tuple[int, int]]:
        """Value parities of the fields that meet on some path."""
        parities = [
            _sector(f.target, f.number) if isinstance(f.target, o3.Irrep) else 0
            for f in self.weighting.factors
        ]
        pairs = {term.factors[:2] for term in self.weighting.terms}
        return sorted({(parities[first], parities[second]) for first, second in pairs})

    def _kinds(self, side: int, number: int) -> tuple[str, ...]:
        """Potentials that component l = j + number of a side is made of."""
        if self._rule.spins[side] == 0:
            return ("value",)
        return ("curl",) if number == 0 else ("radial", "gradient")

    def _sign(self, side: int, number: int) -> int:
        return -1 if (side, number) in self._rule.flipped else 1

    def _register_shares(self, side: int, kind: str, used: Used) -> None:
        """How much of each component (j, l) a potential takes; and of all, without weights.

        Nothing of components that no path reads: the grid does not resolve them.
        """
        total = torch.zeros(sum(ir.dim for ir in self._irs[side]), dtype=torch.float64)
        for number in self._numbers[side]:
            if kind not in self._kinds(side, number):
                continue
            sign = self._sign(side, number)
            factors = [
                sign * vectors.share(kind, ir.l, number) if (ir, number) in used else 0.0
                for ir in self._irs[side]
            ]
            shares = [
                torch.full((ir.dim,), factor, dtype=torch.float64)
                for ir, factor in zip(self._irs[side], factors, strict=True)
            ]
            self.register_table(f"share_{side}_{kind}_{number}", torch.cat(shares))
            total += torch.cat(shares)
        self.register_table(f"share_{side}_{kind}", total)

    def _factors(self, side: int, kind: str, weights: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Factors of the components of a side in a potential: (1 or G, dim)."""
        if weights is None:
            return self.table(f"share_{side}_{kind}", dtype)[None]
        parts = [
            self.weighting.spread(weights, SIDES[side], number)
            * self.table(f"share_{side}_{kind}_{number}", dtype)
            for number in self._numbers[side]
            if kind in self._kinds(side, number)
        ]
        return sum(parts[1:], start=parts[0])

    @override
    def split(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> Iterator[Split]:
        irs = (ir_in1, ir_in2, ir_out)
        degrees = tuple(ir.l for ir in irs)
        size = sqrt(self._rule.square * prod(2 * j + 1 for j in degrees))
        choices = [
            vectors.components(j, spin) for j, spin in zip(degrees, self._rule.spins, strict=True)
        ]
        for first, second, third in product(*choices):
            numbers = (first, second, third)
            ls = tuple(j + n for j, n in zip(degrees, numbers, strict=True))
            if sum(ls) % 2 or not abs(ls[0] - ls[1]) <= ls[2] <= ls[0] + ls[1]:
                continue
            sign = prod(self._sign(side, number) for side, number in enumerate(numbers))
            nine = so3.wigner_9j(*ls, *self._rule.spins, *degrees)
            value = sign * size * so3.gaunt_coefficient(*ls) * nine
            if abs(value) > so3.ZERO:
                yield Split(*numbers, value)

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        total = sum(piece.coefficient for piece in self.split(ir_in1, ir_in2, ir_out))
        return total if abs(total) > so3.ZERO else 0.0

    @override
    def field_product(self) -> FieldProduct:
        """Every component of the fields on each side, by value parity."""
        nodes = sphere.grid(*self.resolution)
        places: list[dict[tuple[int, str], int]] = [{}, {}, {}]
        feeds: list[list[fields.Feed]] = [[], [], []]
        for potential in self._maps:
            side, kind, s = potential
            sector, places_here = self._sectors[side][s], places[side]
            share = self._tables[f"share_{side}_{kind}"].cpu()[sector.positions]
            made = vectors.potential(kind, sector.lmax, nodes)
            for c, field in zip(potential.components, made, strict=True):
                place = places_here.setdefault((potential.parity, c), len(places_here))
                feeds[side].append(fields.Feed(sector, field, place, share))
        terms = [
            compose.Term(
                places[0][step.parity1, step.c1],
                places[1][step.parity2, step.c2],
                places[OUT][step.parity, step.c3],
                step.sign,
            )
            for step in self._steps
        ]
        first, second, out = map(FieldSide, self._sectors, feeds)
        return FieldProduct(nodes, (first, second, out), terms)

    @override
    def multiply_plain(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self._multiply(x1, x2, None)

    @override
    def multiply_weighted(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        return self._multiply(x1, x2, weights)

    def _multiply(self, x1: Tensor, x2: Tensor, weights: Tensor | None) -> Tensor:
        first = self._signals(x1, 0, weights)
        second = self._signals(x2, 1, None if weights is None else of_second(weights, x1, x2))
        products = self._products(first, second)
        parts: dict[int, Tensor] = {}
        for potential, transform in self._maps.items():
            side, kind, s = potential
            if side != OUT:
                continue
            field = products[potential.parity]
            read = transform.from_grid([field[c] for c in potential.components])
            factors = self._factors(OUT, kind, weights, x1.dtype)
            own = scaled(read, factors.index_select(-1, self.index(f"places_{s}")))
            parts[s] = parts[s] + own if s in parts else own
        return self._assembly.join([parts[s] for s in self._sectors[OUT]])

    def _signals(self, x: Tensor, side: int, weights: Tensor | None) -> dict[int, Vector]:
        """Fields of one input by value parity."""
        out: dict[int, Vector] = {}
        for potential, transform in self._maps.items():
            if potential.side != side:
                continue
            field = out.setdefault(potential.parity, {})
            factors = self._factors(side, potential.kind, weights, x.dtype)
            made = transform.to_grid(scaled(x, factors))
            for c, values in zip(potential.components, made, strict=True):
                field[c] = field[c] + values if c in field else values
        return out

    def _products(
        self, first: Mapping[int, Vector], second: Mapping[int, Vector]
    ) -> dict[int, Vector]:
        """Pointwise products of the fields that meet, by value parity, only what is read."""
        out: dict[int, Vector] = {}
        for step in self._steps:
            target = out.setdefault(step.parity, {})
            term = met(first[step.parity1][step.c1], second[step.parity2][step.c2])
            term = term if step.sign == 1 else -term
            target[step.c3] = target[step.c3] + term if step.c3 in target else term
        return out

    @override
    def macs(self) -> int:
        products = self.resolution[0] * self.resolution[1] * len(self._steps)
        scales = sum(self._dims[side] for side, kind in {potential[:2] for potential in self._maps})
        return sum(transform.macs for transform in self._maps.values()) + products + scales

    @override
    def second_macs(self) -> int:
        kinds = {potential.kind for potential in self._maps if potential.side == 1}
        maps = sum(map_.macs for potential, map_ in self._maps.items() if potential.side == 1)
        return maps + len(kinds) * self._dims[1]

    @override
    def weight_macs(self) -> int:
        # Making the factors of each potential from those of its components.
        return sum(
            self._dims[side]
            for side, kind in {potential[:2] for potential in self._maps}
            for number in self._numbers[side]
            if kind in self._kinds(side, number)
        )


def _sector(ir: o3.Irrep, number: int) -> int:
    """Value parity of the field that holds component l = j + number of an irrep."""
    return ir.p * (-1) ** (ir.l + number)
