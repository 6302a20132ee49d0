r"""Symmetric couplings: equivariant polynomials of one set of irreps, over sorted monomials.

A coupling of degree nu is one of degree nu - 1 that is coupled with the irreps once more:
:math:`p'_k(a) = \sqrt{2l'+1} \sum_{ij} w(l, l_a, l')_{ijk}\, p_i(a)\, a_j`. Kept as polynomials
over sorted monomials they are symmetric from the start, and small. Their order and scale are those
of e3nn's ``_wigner_nj`` (component normalisation), and with it of the tables of MACE.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from etp.e3 import o3
from etp.kernels.power_table import Floats
from etp.maths import so3
from etp.maths.layout import slices

VANISHING = 1e-9
"""Coefficients smaller than this, those of couplings being of order one, are rounding."""


class Coupling(NamedTuple):
    """Polynomials that transform as an irrep.

    Attributes:
        ir: The irrep.
        values: Coefficients, (2l + 1, sorted monomials).
    """

    ir: o3.Irrep
    values: Floats


@cache
def raised(dim: int, degree: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Number of each sorted monomial of a degree less one, times each component: read-only.

    Returns:
        Shape (monomials of degree - 1, dim).
    """
    number = {m: n for n, m in enumerate(combinations_with_replacement(range(dim), degree))}
    below = combinations_with_replacement(range(dim), degree - 1)
    rows = [[number[tuple(sorted((*m, i)))] for i in range(dim)] for m in below]
    return np.array(rows, dtype=np.int64)


def couplings(
    irs: Sequence[o3.Irrep], order: int, wanted: Sequence[o3.Irrep]
) -> list[dict[o3.Irrep, Floats]]:
    """All couplings of degrees 1..order that lead to wanted irreps.

    Args:
        irs: Irreps of one channel.
        order: Largest degree.
        wanted: Irreps to keep.

    Returns:
        For each degree and wanted irrep the coefficients, shape (couplings, 2l + 1, sorted
        monomials), zero where their product vanishes by symmetry.
    """
    dim = sum(ir.dim for ir in irs)
    eye = np.eye(dim)
    made = [Coupling(ir, eye[at]) for ir, at in zip(irs, slices(irs), strict=True)]
    out = []
    for degree in range(1, order + 1):
        if degree > 1:
            keep = set(wanted) if degree == order else None
            made = list(_next(made, irs, degree, dim, keep))
        made.sort(key=lambda coupling: coupling.ir)
        size = made[0].values.shape[1] if made else 0
        out.append({
            ir: _without_rounding(np.stack(own)) if (own := [c.values for c in made if c.ir == ir])
            else np.zeros((0, ir.dim, size))
            for ir in wanted
        })  # fmt: skip
    return out


def _without_rounding(values: Floats) -> Floats:
    return np.where(np.abs(values) > VANISHING, values, 0.0)


def _next(
    made: Sequence[Coupling],
    irs: Sequence[o3.Irrep],
    degree: int,
    dim: int,
    keep: set[o3.Irrep] | None,
) -> Iterator[Coupling]:
    target = raised(dim, degree)
    size = int(target.max()) + 1
    for left in made:
        for ir, at in zip(irs, slices(irs), strict=True):
            for ir_out in left.ir * ir:
                if keep is not None and ir_out not in keep:
                    continue
                c = so3.clebsch_gordan(left.ir.l, ir.l, ir_out.l).numpy() * ir_out.dim**0.5
                values = np.zeros((ir_out.dim, size))
                # Times one component, different monomials stay different: no place comes twice.
                for j in range(ir.dim):
                    values[:, target[:, at.start + j]] += c[:, j].T @ left.values
                yield Coupling(ir_out, values)


def independent(values: Floats) -> Floats:
    """The couplings that are not combinations of those before them, in their order.

    Args:
        values: Shape (couplings, components, monomials).
    """
    # By Schur's lemma one component tells: a combination that vanishes there vanishes.
    rows = values[:, 0][:, np.any(values[:, 0], axis=0)]
    basis = np.zeros((min(rows.shape), rows.shape[1]))
    kept: list[int] = []
    for number, row in enumerate(rows):
        rest = row
        for _ in range(2):
            rest = rest - (basis[: len(kept)] @ rest) @ basis[: len(kept)]
        left = float(np.linalg.norm(rest))
        if left > VANISHING * max(float(np.linalg.norm(row)), 1.0):
            basis[len(kept)] = rest / left
            kept.append(number)
    return values[kept]


def symmetric_part(table: Floats, dim: int) -> Floats:
    """Symmetric part of dense tensors: (components, dim, ..., dim, k) as polynomials.

    Returns:
        Shape (k, components, sorted monomials).
    """
    degree = table.ndim - 2
    number = np.arange(dim)
    for nu in range(2, degree + 1):
        number = raised(dim, nu)[number.reshape(-1)].reshape(-1)
    size = int(number.max()) + 1
    flat = table.reshape(table.shape[0], len(number), table.shape[-1])
    out = np.zeros((table.shape[-1], table.shape[0], size))
    np.add.at(out.transpose(2, 1, 0), number, flat.transpose(1, 0, 2))
    return out
