r"""Expressivity: how many independent bilinear maps a product can be made to compute.

:math:`\gamma(T)` is the generic dimension of :math:`\{W_3 \circ T \circ (W_1 \times W_2)\}`, W
equivariant linear maps (Xie et al. 2025, arXiv:2506.13523, sec. 3). It equals the rank of the
Jacobian of (W1, W2, W3) -> bilinear map, computed here from *measured* path coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from e3nn import o3
from torch import Tensor

from etp.measure.interactability import Measured, Triple, allowed_paths, measured_coefficients
from etp.product import TensorProduct

THRESHOLD = 1e-9
"""Singular values below this fraction of the largest count as zero."""


@dataclass(frozen=True)
class Expressivity:
    """Number of independent bilinear maps.

    Attributes:
        closed_form: Value of the formula where one is proved, else None.
        rank: Numerical rank of the Jacobian at a random point.
        paths: Number of triples (ir1, ir2, ir3) reached.
        allowed: Number of triples the selection rules allow for these inputs.
        condition: When the closed form holds, or why there is none.
    """

    closed_form: int | None
    rank: int
    paths: int
    allowed: int
    condition: str

    @property
    def agree(self) -> bool | None:
        """Whether formula and rank agree; None without a formula."""
        return None if self.closed_form is None else self.closed_form == self.rank


def expressivity(
    tp: TensorProduct,
    *,
    copies: tuple[int, int, int] = (1, 1, 1),
    channels: int = 1,
    seed: int = 0,
) -> Expressivity:
    """Expressivity of ``tp`` used channel by channel.

    Natural and pseudo copies of an output degree count apart. Free path weights, where the product
    has them, are part of the family.

    Args:
        tp: The product; its own multiplicity does not matter.
        copies: Copies (n, m, k) of each irrep in the spaces of input 1, input 2 and output.
        channels: Channels C in which the product is applied, mixed by the W.
        seed: Of the point at which the Jacobian is taken.
    """
    measured = measured_coefficients(tp, seed=seed)
    if tp.weighted:
        measured = _split_paths(measured)
    triples = _triples(measured)
    closed, condition = _closed_form(tp, triples, copies, channels)
    return Expressivity(
        closed,
        _numerical_rank(measured, copies, channels, seed),
        len(triples),
        len(allowed_paths(tp)),
        condition,
    )


def _triples(measured: Measured) -> list[Triple]:
    found = {(a, b, ir): None for ir, pairs in measured.copies for a, b in pairs}
    return list(found)


def _split_paths(measured: Measured) -> Measured:
    """One copy per path: a free weight on each path is a weight on its own copy."""
    apart = tuple((ir, {pair: c}) for ir, pairs in measured.copies for pair, c in pairs.items())
    return Measured(apart, measured.residual)


def _closed_form(
    tp: TensorProduct,
    triples: list[Triple],
    copies: tuple[int, int, int],
    channels: int,
) -> tuple[int | None, str]:
    n, m, k = copies
    everything = len(triples) * n * m * k
    if (tp.keeps_paths or tp.weighted) and channels == 1 and max(copies) == 1:
        return everything, "one free weight per path"
    if tp.keeps_paths and channels >= n * m:
        return everything, "every path of every pair of copies: dim Hom(X x Y, Z)"
    n1, n2, n3 = (len({triple[axis] for triple in triples}) for axis in range(3))
    if channels == 1 and max(copies) == 1:
        rank = _incidence_rank(triples)
        if rank == n1 + n2 + n3 - 2:
            return rank, f"reachable irreps {n1} + {n2} + {n3} - 2"
        extra = n1 + n2 + n3 - 2 - rank
        return rank, (
            f"reachable irreps {n1} + {n2} + {n3} - 2, less {extra}: paths that share too few "
            "irreps leave further weights redundant (rank of the path-irrep incidence)"
        )
    feeding: dict[o3.Irrep, int] = {}
    for _, _, ir in triples:
        feeding[ir] = feeding.get(ir, 0) + 1
    fed = sum(min(channels * k, count * n * m * k) for count in feeding.values())
    bound = min(everything, channels * (n * n1 + m * n2 - 2) + fed)
    return None, f"no closed form is proved for these channels; at most {bound}"


def _incidence_rank(triples: list[Triple]) -> int:
    """Rank of the 0/1 matrix with a row per path and a column per irrep of each space."""
    columns = {(axis, ir): None for triple in triples for axis, ir in enumerate(triple)}
    index = {key: number for number, key in enumerate(columns)}
    matrix = np.zeros((len(triples), len(index)))
    for row, triple in enumerate(triples):
        for axis, ir in enumerate(triple):
            matrix[row, index[axis, ir]] = 1.0
    return int(np.linalg.matrix_rank(matrix))


def _numerical_rank(
    measured: Measured, copies: tuple[int, int, int], channels: int, seed: int
) -> int:
    """Rank of the Jacobian of the bilinear map by the entries of W1, W2 and W3."""
    n, m, k = copies
    triples = _triples(measured)
    entries = [
        (triples.index((a, b, ir)), a, b, number, c)
        for number, (ir, pairs) in enumerate(measured.copies)
        for (a, b), c in pairs.items()
    ]
    index1 = {ir: i for i, ir in enumerate(dict.fromkeys(a for _, a, _, _, _ in entries))}
    index2 = {ir: i for i, ir in enumerate(dict.fromkeys(b for _, _, b, _, _ in entries))}
    rows = torch.tensor([row for row, *_ in entries])
    first = torch.tensor([index1[a] for _, a, _, _, _ in entries])
    second = torch.tensor([index2[b] for _, _, b, _, _ in entries])
    third = torch.tensor([number for _, _, _, number, _ in entries])
    strength = torch.tensor([c for *_, c in entries], dtype=torch.float64)

    def bilinear_map(w1: Tensor, w2: Tensor, w3: Tensor) -> Tensor:
        terms = torch.einsum("eca,ecb,edc,e->eabd", w1[first], w2[second], w3[third], strength)
        return torch.zeros(len(triples), n, m, k, dtype=torch.float64).index_add(0, rows, terms)

    generator = torch.Generator().manual_seed(seed)
    point = tuple(
        torch.randn(shape, dtype=torch.float64, generator=generator)
        for shape in (
            (len(index1), channels, n),
            (len(index2), channels, m),
            (len(measured.copies), k, channels),
        )
    )
    parts = torch.autograd.functional.jacobian(bilinear_map, point, vectorize=True)
    jacobian = torch.cat([part.flatten(0, 3).flatten(1) for part in parts], dim=1)
    # Scaling rows leaves the rank alone and keeps paths with small coefficients visible.
    row_norms = jacobian.norm(dim=1, keepdim=True)
    values = torch.linalg.svdvals(jacobian / row_norms)
    return int((values > THRESHOLD * values[0]).sum())
