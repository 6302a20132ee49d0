r"""Sums of pointwise products of signals of spin 0 and 1 on one grid, read off as scalars.

A signal of spin 0 is :math:`\sum a_l x_{lm} Y_{lm}`. One of spin 1 is its normalised surface
gradient, :math:`\sum a_l x_{lm} \nabla Y_{lm} / \sqrt{l (l+1)}`: real and imaginary part of the
spin-weighted harmonics in the local frame. Two of spin 0 meet by value; of two of spin 1,
:math:`\nabla f \cdot \nabla h` couples even paths and
:math:`n \cdot (\nabla f \times \nabla h)`, a pseudoscalar, odd ones.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from math import sqrt
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.kernels.on_cpu.compose import Pointwise
from etp.maths import so3, sphere
from etp.product.weighting import Split
from etp.products._described import DescribedFields
from etp.products._fields import Field, gradient, value
from etp.products._grid import Drawing, Fields
from etp.products._transforms import sector_of, sectors

How = Literal["value", "dot", "cross"]
_TERMS: dict[How, tuple[tuple[int, int, int], ...]] = {
    "value": ((0, 0, 1),),
    "dot": ((0, 0, 1), (1, 1, 1)),
    "cross": ((0, 1, 1), (1, 0, -1)),
}
"""Components of both signals, and the sign of their product."""


class SpinSignal(NamedTuple):
    """What is made of an input or read into the output.

    Attributes:
        spin: 0 or 1.
        factors: Of each degree, at least as many as there are degrees.
    """

    spin: int
    factors: tuple[float, ...]


class Meeting(NamedTuple):
    """Two signals that are multiplied: numbers of both and of the output, and how."""

    numbers: tuple[int, int, int]
    how: How


class Plan(NamedTuple):
    """Signals of both inputs and of the output, and which of them meet."""

    signals: tuple[Sequence[SpinSignal], Sequence[SpinSignal], Sequence[SpinSignal]]
    meetings: Sequence[Meeting]


class PointwiseProduct(DescribedFields):
    """A plan on the smallest exact grid, one output copy per irrep and parity.

    Its weights are a factor for each irrep and signal.
    """

    @abstractmethod
    def plan(self) -> Plan:
        """What is multiplied; the largest degrees of the inputs and ``lmax_out`` are known."""

    @cached_property
    def _plan(self) -> Plan:
        return self.plan()

    def _pieces(
        self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep
    ) -> Iterator[tuple[Meeting, float]]:
        """What each meeting gives to a path, where it gives anything."""
        degrees = ir_in1.l, ir_in2.l, ir_out.l
        for meeting in self._plan.meetings:
            factor = coefficient_of(meeting.how, *degrees)
            for side, l in enumerate(degrees):
                factor *= self._plan.signals[side][meeting.numbers[side]].factors[l]
            if factor != 0.0:
                yield meeting, factor

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return float(sum(factor for _, factor in self._pieces(ir_in1, ir_in2, ir_out)))

    @override
    def split(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> Iterator[Split]:
        for meeting, factor in self._pieces(ir_in1, ir_in2, ir_out):
            yield Split(*meeting.numbers, factor)

    @override
    def fields(self, *, apart: bool) -> Fields:
        """Signals that meet on some path, sector by sector; every one of an irrep has a slot."""
        nodes = sphere.grid(*self.resolution)
        meetings = dict.fromkeys(
            (meeting, tuple(map(sector_of, path[:3])))
            for path in self.paths
            for meeting, _ in self._pieces(*path[:3])
        )
        sides = [
            Drawing(
                sectors(irs),
                sorted({meeting.numbers[side] for meeting, _ in meetings}) if apart else [0],
            )
            for side, irs in enumerate((self.irs_in1, self.irs_in2, self.irs_out))
        ]
        terms = []
        for (numbers, how), met in meetings:
            f, h, z = (
                drawing.add(
                    met[side], f"signal{numbers[side]}",
                    _made(self._plan.signals[side][numbers[side]], drawing, met[side], nodes),
                    numbers[side] if apart else 0,
                )
                for side, drawing in enumerate(sides)
            )  # fmt: skip
            terms += [Pointwise(f[a], h[b], z[0], sign) for a, b, sign in _TERMS[how]]
        first, second, out = (drawing.side() for drawing in sides)
        return Fields(nodes, (first, second, out), terms)


def _made(signal: SpinSignal, side: Drawing, sector: int, nodes: sphere.Grid) -> list[Field]:
    """Fields of one signal of a sector."""
    lmax = side.sectors[sector].lmax
    factors = torch.tensor(signal.factors[: lmax + 1], dtype=torch.float64)
    if signal.spin == 0:
        return [value(lmax, nodes).times(factors)]
    return [field.times(factors * _normal(lmax)) for field in gradient(lmax, nodes)]


def coefficient_of(how: How, l1: int, l2: int, l3: int) -> float:
    """Coefficient of a meeting whose factors are one.

    Args:
        how: How the signals meet.
        l1: Degree of input 1.
        l2: Degree of input 2.
        l3: Degree of the output.
    """
    if how == "value":
        return so3.gaunt_coefficient(l1, l2, l3)
    if l1 == 0 or l2 == 0:
        return 0.0
    first, second, third = (l * (l + 1) for l in (l1, l2, l3))
    if how == "cross":
        return so3.bracket_coefficient(l1, l2, l3) / sqrt(first * second)
    # The Laplacian of a product: 2 grad f . grad h = lap(f h) - f lap h - h lap f.
    half = (first + second - third) / 2
    return so3.gaunt_coefficient(l1, l2, l3) * half / sqrt(first * second)


def _normal(lmax: int) -> Tensor:
    """1 / sqrt(l (l + 1)) of each degree, 0 for l = 0."""
    l = torch.arange(1, lmax + 1, dtype=torch.float64)
    return torch.cat([torch.zeros(1, dtype=torch.float64), (l * (l + 1)).rsqrt()])
