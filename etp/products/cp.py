r"""Clebsch-Gordan coefficients of all paths as one tensor of low rank.

After tensor decomposition networks (arXiv:2507.01131). The coefficients of all paths, added up by
output irrep, are a tensor with a canonical (CP) decomposition
:math:`M_{ijk} \approx \sum_{r \le R} A_{ir} B_{jr} C_{kr}`, so that
:math:`z = C\,((A^T x) \cdot (B^T y))`. Truncating R breaks equivariance: the sum over r knows
preferred directions. With as many terms as M has fibres it is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.maths import so3
from etp.maths.layout import slices
from etp.product.base import TensorProduct
from etp.product.registry import register
from etp.product.weighting import met

SWEEPS = 30
"""Of alternating least squares."""
RIDGE = 1e-9
"""Relative; keeps solutions small where terms nearly coincide."""

Block = tuple[int, int, int, int, int, int]
"""A path: starts of both inputs and of the output, and degrees."""


class CanonicalPolyadic(TensorProduct):
    """``z[l3] = sum over l1, l2 of x[l1] . y[l2] . wigner_3j`` by a canonical decomposition.

    Another rank is a class with another ``rank`` under ``@register``.

    Attributes:
        rank: Terms asked for, None for as many as an exact decomposition by fibres has.
        terms: Terms there are; never more than that.
    """

    rank: ClassVar[int | None] = None
    broadcasts = True
    reference = "after Lin et al. 2025, arXiv:2507.01131"

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Sequence[o3.Irrep] | None = None,
    ) -> None:
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        first, second, out = (
            {ir: part.start for ir, part in zip(irs, slices(irs), strict=True)}
            for irs in (self.irs_in1, self.irs_in2, self.irs_out)
        )
        blocks: list[Block] = [
            (first[a], second[b], out[c], a.l, b.l, c.l) for a, b, c, _ in self.paths
        ]
        dims = (self._dims[0], self._dims[1], self._dims[2])
        maps = decomposition(tuple(blocks), dims, self.rank)
        for name, table in zip(("first", "second", "out"), maps, strict=True):
            self.register_table(name, table)
        self.terms = maps[0].shape[1]

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return 1.0

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        f, h = x1 @ self.table("first", x1.dtype), x2 @ self.table("second", x1.dtype)
        return met(f, h) @ self.table("out", x1.dtype).T

    @override
    def second_macs(self) -> int:
        return self._dims[1] * self.terms

    @override
    def macs(self) -> int:
        return (sum(self._dims) + 1) * self.terms


@register
class CanonicalPolyadicFull(CanonicalPolyadic):
    """With as many terms as there are fibres: exact, and hardly cheaper than dense."""

    name, title = "cp-full", "Clebsch-Gordan (CP, full rank)"


@register
class CanonicalPolyadic16(CanonicalPolyadic):
    """At most 16 terms: exact for 0e + 1o, an approximation above."""

    name, title = "cp-16", "Clebsch-Gordan (CP, rank 16)"
    rank = 16
    approximate = True


@register
class CanonicalPolyadic64(CanonicalPolyadic):
    """At most 64 terms."""

    name, title = "cp-64", "Clebsch-Gordan (CP, rank 64)"
    rank = 64
    approximate = True


@cache
def decomposition(
    blocks: tuple[Block, ...], dims: tuple[int, int, int], rank: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices (dim, terms) of both inputs and of the output.

    The terms are fibres of the tensor, along the side where there are fewest: all of them are
    exact. With fewer, the largest start alternating least squares.

    Args:
        blocks: The paths.
        dims: Components of both inputs and of the output.
        rank: Largest number of terms, None for all.
    """
    tensor = torch.zeros(dims, dtype=torch.float64)
    for i, j, k, l1, l2, l3 in blocks:
        part = (slice(i, i + 2 * l1 + 1), slice(j, j + 2 * l2 + 1), slice(k, k + 2 * l3 + 1))
        tensor[part] += so3.clebsch_gordan(l1, l2, l3)
    counts = [int((tensor.abs().amax(side) > so3.ZERO).sum()) for side in range(3)]
    along = counts.index(min(counts))
    sizes = tensor.norm(dim=along)
    kept = min(counts[along], rank or counts[along])
    order = sizes.flatten().argsort(descending=True, stable=True)[:kept]
    places = torch.stack(torch.unravel_index(order, sizes.shape))
    across = [side for side in range(3) if side != along]
    maps: list[Tensor] = [tensor] * 3
    for side, place in zip(across, places, strict=True):
        maps[side] = torch.eye(dims[side], dtype=torch.float64)[:, place]
    maps[along] = tensor.movedim(along, 0).flatten(1)[:, order]
    if kept < counts[along]:
        maps = _fitted(tensor, maps)
    return maps[0], maps[1], maps[2]


def _fitted(tensor: Tensor, maps: list[Tensor]) -> list[Tensor]:
    """Alternating least squares from these maps, which are not changed."""
    maps = list(maps)
    # Equal fibres leave sweeps nothing to tell apart.
    generator = torch.Generator().manual_seed(0)
    maps = [m + 0.1 * torch.randn(m.shape, generator=generator, dtype=m.dtype) for m in maps]
    rank = maps[0].shape[1]
    for _ in range(SWEEPS):
        for side in range(3):
            a, b = (maps[other] for other in range(3) if other != side)
            gram = (a.T @ a) * (b.T @ b)
            gram += RIDGE * gram.diagonal().mean() * torch.eye(rank, dtype=gram.dtype)
            seen = torch.einsum("sab,ar,br->sr", tensor.movedim(side, 0), a, b)
            maps[side] = torch.linalg.solve(gram, seen.T).T
    return maps
