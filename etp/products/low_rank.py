r"""Products and brackets of R pairs of signals: between ``gaunt-bracket`` and Clebsch-Gordan.

Gaunt products and brackets of signals have fixed coefficients g and k. Dividing them out for every
path takes a grid for each pair of degrees (``complete``). A sum of R pointwise products with
factors of each degree before and after does it as far as rank R reaches,

.. math::
    c(l_1, l_2, l_3) = g(l_1, l_2, l_3) \sum_{r \le R} a_r(l_1)\, b_r(l_2)\, d_r(l_3)

on even paths, likewise k on odd ones: low-rank normalisations (after arXiv:2603.08630) and
contractions of fixed canonical rank (after arXiv:2605.15073). The factors act on coefficients, so
channels are mixed before and after, apart from the transforms.
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from etp.product.registry import register
from etp.products._pointwise import How, Meeting, Plan, PointwiseProduct, SpinSignal, coefficient_of

SWEEPS = 80
"""Of alternating least squares."""
RIDGE = 1e-10
"""Relative; keeps solutions of the normal equations small where factors are redundant."""

Factors = tuple[tuple[float, ...], ...]
"""For each r the factors of the degrees of one side."""


class LowRank(PointwiseProduct):
    """A sum of R products of values (even paths) and R brackets (odd paths).

    Without weights the factors bring every c as near to 1 as rank R can, so that more rank is
    nearer to ``cg-summed``. Weights are a factor for each irrep and r. Rank 1 is the family of
    ``gaunt-bracket``; with growing rank it becomes that of all paths. Another rank is a class with
    another ``rank`` under ``@register``.
    """

    rank: ClassVar[int]
    reference = "after arXiv:2603.08630 and arXiv:2605.15073"

    @override
    def plan(self) -> Plan:
        tops = (self.lmax_in1, self.lmax_in2, self.lmax_out)
        signals: tuple[list[SpinSignal], list[SpinSignal], list[SpinSignal]] = ([], [], [])
        meetings = []
        hows: tuple[How, How] = ("value", "cross")
        for spin, how in enumerate(hows):
            matrices = factors(tops, how, self.rank)
            for r in range(self.rank):
                for side, made in enumerate(signals):
                    made.append(SpinSignal(spin if side < 2 else 0, matrices[side][r]))
                number = len(signals[0]) - 1
                meetings.append(Meeting((number,) * 3, how))
        return Plan(signals, meetings)


@register
class LowRank2(LowRank):
    """Rank 2."""

    name, title, rank = "low-rank-2", "Products and brackets (rank 2)", 2


@register
class LowRank4(LowRank):
    """Rank 4."""

    name, title, rank = "low-rank-4", "Products and brackets (rank 4)", 4


@cache
def factors(tops: tuple[int, int, int], how: How, rank: int) -> tuple[Factors, Factors, Factors]:
    """Factors of each degree that bring all coefficients of one parity as near to 1 as rank allows.

    Args:
        tops: Largest degrees of both inputs and of the output.
        how: ``value`` for even paths, ``cross`` for odd ones.
        rank: Number of products.
    """
    sizes = _sizes(tops, how)
    generator = torch.Generator().manual_seed(rank)
    sides = [
        1 + 0.3 * torch.randn(top + 1, rank, generator=generator, dtype=torch.float64)
        for top in tops
    ]
    for _ in range(SWEEPS):
        for side in range(3):
            others = [sides[i] for i in range(3) if i != side]
            # Rows: degrees of this side; columns: pairs of degrees of the two others.
            design = torch.einsum("ar,br->abr", *others).flatten(0, 1)
            here = sizes.movedim(side, 0).flatten(1)[:, :, None] * design
            normal = here.mT @ here
            scale = normal.diagonal(dim1=1, dim2=2).mean(1)
            # A degree without paths of this parity has factors of zero.
            scale = torch.where(scale > 0, scale, 1.0)
            normal = normal + RIDGE * scale[:, None, None] * torch.eye(rank, dtype=torch.float64)
            sides[side] = torch.linalg.solve(normal, here.sum(1))
    first, second, third = (tuple(map(tuple, side.T.tolist())) for side in sides)
    return first, second, third


def _sizes(tops: tuple[int, int, int], how: How) -> Tensor:
    """Coefficients of one product of each kind, 0 where there is no path of its parity."""
    sizes = torch.zeros([top + 1 for top in tops], dtype=torch.float64)
    odd = how == "cross"
    for l1 in range(tops[0] + 1):
        for l2 in range(tops[1] + 1):
            for l3 in range(abs(l1 - l2), min(l1 + l2, tops[2]) + 1):
                if (l1 + l2 + l3) % 2 == odd:
                    sizes[l1, l2, l3] = coefficient_of(how, l1, l2, l3)
    return sizes
