r"""Products of vector signals on the sphere: the simplest pointwise product that is antisymmetric.

A feature of degree j enters as :math:`\sum_l x_j \cdot Y^{(j,l)}` with the vector spherical
harmonics :math:`Y^{(j,l)}_m = \sqrt{2j+1} \sum w(l,1,j) Y_{l\mu} e_k`, l = j - 1, j, j + 1. A
coefficient (j, l) of a field with value parity :math:`\sigma` (-1 polar, +1 axial) has parity
:math:`\sigma (-1)^l`: an irrep feeds both a polar and an axial field, which are kept apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod, sqrt

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.kernels.on_cpu.compose import Pointwise
from etp.maths import so3, sphere
from etp.product.registry import register
from etp.product.weighting import Split
from etp.products import _vectors as vectors
from etp.products._described import SIDES, DescribedFields
from etp.products._grid import OUT, Fields, FieldSide, SectorFields
from etp.products._transforms import sectors
from etp.products._vectors import Harmonic, Potential, Step


@register
class VectorSignal(DescribedFields):
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
        coupling: vectors.Pairing = "cross",
    ) -> None:
        if coupling not in vectors.RULES:
            raise ValueError(
                f"coupling must be one of {', '.join(vectors.RULES)}, got {coupling!r}"
            )
        self._rule = vectors.RULES[coupling]
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)

    @property
    @override
    def resolution(self) -> tuple[int, int]:
        """Rows and columns of the grid.

        A triple product of fields is a polynomial of degree j1 + j2 + j3: one derivative too many
        is paid for by the cross product with n.
        """
        return sphere.exact_resolution(*(max(h.ir.l for h in self._used(n)) for n in range(3)))

    @override
    def fields(self, *, apart: bool) -> Fields:
        """Every field that is read, as the potentials that it is made of.

        Each harmonic (j, l) of an irrep has a slot, numbered l - j.
        """
        nodes = sphere.grid(*self.resolution)
        potentials = self._read_potentials()
        places = [
            {field: number for number, field in enumerate(dict.fromkeys(fields))}
            for fields in (
                [field for potential in own for field in potential.made()] for own in potentials
            )
        ]
        sides = []
        for n, own in enumerate(potentials):
            parts = sectors(self._irs[n])
            sources = [
                SectorFields(
                    potential.sector,
                    potential.kind,
                    vectors.potential(potential.kind, parts[potential.sector].lmax, nodes),
                    [places[n][field] for field in potential.made()],
                    self._shares(n, potential.kind, apart=apart),
                )
                for potential in own
            ]
            slots = sorted({h.offset for h in self._used(n)}) if apart else [0]
            sides.append(FieldSide(parts, sources, slots))
        terms = [
            Pointwise(
                places[0][step.parity1, step.c1],
                places[1][step.parity2, step.c2],
                places[OUT][step.parity, step.c3],
                step.sign,
            )
            for step in self._steps(potentials)
        ]
        return Fields(nodes, (sides[0], sides[1], sides[2]), terms)

    @property
    def _irs(self) -> tuple[tuple[o3.Irrep, ...], ...]:
        return self.irs_in1, self.irs_in2, self.irs_out

    def _used(self, side: int) -> set[Harmonic]:
        """What some path reads of a side, or writes to it."""
        return {
            Harmonic(factor.target, factor.number)
            for factor in self.weighting.factors
            if factor.side == SIDES[side] and isinstance(factor.target, o3.Irrep)
        }

    def _read_potentials(self) -> list[list[Potential]]:
        """Potentials of each side: all of the inputs, of the output those that are reached.

        The grid gives an output potential only where some product of the inputs' fields has all
        of its components.
        """
        first, second, out = (
            sorted(
                {
                    Potential(kind, harmonic.sector)
                    for harmonic in self._used(side)
                    for kind in self._kinds(side, harmonic.offset)
                }
            )
            for side in range(3)
        )
        made = {(step.parity, step.c3) for step in self._steps([first, second, out])}
        return [
            first,
            second,
            [potential for potential in out if made.issuperset(potential.made())],
        ]

    def _steps(self, potentials: Sequence[Sequence[Potential]]) -> list[Step]:
        """Pointwise products of those fields that meet on some path."""
        first, second, out = (
            {field for potential in own for field in potential.made()} for own in potentials
        )
        return [
            Step(parity1, parity2, c1, c2, c3, sign)
            for parity1, parity2 in self._meetings()
            for c1, c2, c3, sign in self._rule.products
            if (parity1, c1) in first and (parity2, c2) in second and (parity1 * parity2, c3) in out
        ]

    def _meetings(self) -> list[tuple[int, int]]:
        """Value parities of the fields that meet on some path."""
        factors = self.weighting.factors
        parities = [
            Harmonic(factor.target, factor.number).parity
            if isinstance(factor.target, o3.Irrep)
            else 0
            for factor in factors
        ]
        pairs = {term.factors[:2] for term in self.weighting.terms}
        return sorted({(parities[first], parities[second]) for first, second in pairs})

    def _kinds(self, side: int, offset: int) -> tuple[str, ...]:
        """Potentials that harmonics l = j + offset of a side are made of."""
        if self._rule.spins[side] == 0:
            return ("value",)
        return ("curl",) if offset == 0 else ("radial", "gradient")

    def _sign(self, side: int, offset: int) -> int:
        return -1 if (side, offset) in self._rule.flipped else 1

    def _shares(self, side: int, kind: str, *, apart: bool) -> dict[int, Tensor | None]:
        """How much of each component a potential takes, by slot.

        Nothing of harmonics that no path reads: the grid does not resolve them.
        """
        used, shares = self._used(side), {}
        for offset in sorted({harmonic.offset for harmonic in used}):
            if kind in self._kinds(side, offset):
                sign = self._sign(side, offset)
                parts = [
                    sign * vectors.share(kind, ir.l, offset) if Harmonic(ir, offset) in used else 0
                    for ir in self._irs[side]
                ]
                dims = torch.tensor([ir.dim for ir in self._irs[side]])
                of_irrep = torch.tensor(parts, dtype=torch.float64)
                shares[offset] = of_irrep.repeat_interleave(dims)
        return dict(shares) if apart else {0: torch.stack(list(shares.values())).sum(0)}

    @override
    def split(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> Iterator[Split]:
        irs = (ir_in1, ir_in2, ir_out)
        degrees = tuple(ir.l for ir in irs)
        size = sqrt(self._rule.square * prod(2 * j + 1 for j in degrees))
        choices = [
            vectors.components(j, spin) for j, spin in zip(degrees, self._rule.spins, strict=True)
        ]
        for first, second, third in product(*choices):
            offsets = (first, second, third)
            ls = tuple(j + n for j, n in zip(degrees, offsets, strict=True))
            if sum(ls) % 2 or not abs(ls[0] - ls[1]) <= ls[2] <= ls[0] + ls[1]:
                continue
            sign = prod(self._sign(side, offset) for side, offset in enumerate(offsets))
            nine = so3.wigner_9j(*ls, *self._rule.spins, *degrees)
            value = sign * size * so3.gaunt_coefficient(*ls) * nine
            if abs(value) > so3.ZERO:
                yield Split(*offsets, value)

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        total = sum(piece.coefficient for piece in self.split(ir_in1, ir_in2, ir_out))
        return total if abs(total) > so3.ZERO else 0.0
