r"""Expressivity: how many independent bilinear maps a product can be made to compute.

:math:`\gamma(T)` is the generic dimension of :math:`\{W_3 \circ T \circ (W_1 \times W_2)\}`, W
equivariant linear maps (Xie et al. 2025, arXiv:2506.13523, sec. 3). It equals the rank of the
Jacobian of (W1, W2, W3) -> bilinear map, computed here from *measured* path coefficients. Where a
product has weights that the W cannot stand in for, they are part of the family, as it claims them
(:func:`etp.measure.agreement` with weights holds it to that).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from etp.e3 import o3
from etp.irreps import Ir, allowed_polynomials
from etp.measure.couplings import ranks, reach
from etp.measure.graph import OnNodes
from etp.measure.interactability import Measured, Triple, allowed_paths, measured_coefficients
from etp.product.base import TensorProduct

THRESHOLD = 1e-9
"""Singular values below this fraction of the largest count as zero."""

Group = Literal["O(3)", "SO(3)"]


@dataclass(frozen=True)
class Expressivity:
    """Number of independent bilinear maps.

    Attributes:
        closed_form: Value of the formula where one is proved, else None.
        rank: Numerical rank of the Jacobian at a random point, the product's own weights free.
        paths: Number of triples (ir1, ir2, ir3) reached.
        allowed: Number of triples the selection rules allow for these inputs.
        condition: When the closed form holds, or why there is none.
        fixed_rank: Rank where the product's own weights are all one; below ``rank`` only where
            they do what no linear layer before or after can do.

    Examples:
        >>> from etp import measure, products
        >>> tp = products.get("cg-sparse")("0e+1o", "0e+1o")
        >>> found = measure.expressivity(tp)
        >>> found.paths, found.allowed
        (6, 6)
    """

    closed_form: int | None
    rank: int
    paths: int
    allowed: int
    condition: str
    fixed_rank: int

    @property
    def agree(self) -> bool | None:
        """Whether formula and rank agree; None without a formula."""
        return None if self.closed_form is None else self.closed_form == self.rank


class _Piece(NamedTuple):
    """A number times weights: part of the coefficient of a triple in one output copy."""

    triple: Triple
    copy: Hashable
    factors: tuple[Hashable, ...]
    value: float


def expressivity(
    tp: TensorProduct | OnNodes,
    *,
    copies: tuple[int, int, int] = (1, 1, 1),
    channels: int = 1,
    group: Group = "O(3)",
    seed: int = 0,
) -> Expressivity:
    """Expressivity of ``tp`` used channel by channel, its free weights part of the family.

    Args:
        tp: The product, or a power; its own multiplicity does not matter.
        copies: Copies (n, m, k) of each irrep in the spaces of input 1, input 2 and output.
        channels: Channels C in which the product is applied, mixed by the W.
        group: Labels of the outputs: natural and pseudo copies of a degree count apart under
            O(3); under SO(3) they are one output, as in most published counts.
        seed: Of the point at which the Jacobian is taken.

    Examples:
        >>> from etp import measure, products
        >>> mimo = "0e+1o+2e"
        >>> [measure.expressivity(products.get(name)(mimo, mimo)).rank for name in
        ...  ("cg-sparse", "gaunt-grid", "matrix")]
        [19, 9, 12]
    """
    if isinstance(tp, OnNodes):
        return _of_power(tp, channels, seed)
    measured = measured_coefficients(tp, seed=seed)
    fixed = _fixed(tp, measured, group)
    family = fixed if _absorbed(tp) else _weighted(tp, {piece.triple for piece in fixed}, group)
    closed, condition = _closed_form(tp, family, copies, channels)
    # Harmonics that it makes of the direction itself are out of reach of a layer before it.
    scalable = tp.weights_per != "order"
    fixed_rank = _numerical_rank(fixed, copies, channels, seed, scalable=scalable)
    return Expressivity(
        closed,
        fixed_rank
        if family is fixed
        else _numerical_rank(family, copies, channels, seed, scalable=scalable),
        len({piece.triple for piece in fixed}),
        len(allowed_paths(tp)),
        condition,
        fixed_rank,
    )


def _of_power(tp: OnNodes, channels: int, seed: int) -> Expressivity:
    """Independent equivariant polynomials, of those that there are."""
    reached = reach(tp, seed=seed)
    rank, fixed_rank = ranks(reached, channels, seed)
    every = len(reached.basis)
    whole = tp.keeps_paths
    irs_in, irs_out = ([Ir(ir.l, ir.p) for ir in irs] for irs in (tp.irs_in, tp.irs_out))
    condition = (
        "a weight for every coupling: all equivariant polynomials, counted by characters"
        if whole
        else "no closed form is proved for powers that add couplings up"
    )
    closed = allowed_polynomials(irs_in, tp.order, irs_out) if whole else None
    return Expressivity(closed, rank, len(reached.echelon), every, condition, fixed_rank)


def _absorbed(tp: TensorProduct) -> bool:
    """Whether linear layers before and after do all that the product's weights do."""
    per_degree = tp.weights_per == "degree"
    return tp.keeps_paths or (per_degree and all(f.number == 0 for f in tp.weighting.factors))


def _label(ir: o3.Irrep, group: Group) -> Hashable:
    return ir if group == "O(3)" else ir.l


def _fixed(tp: TensorProduct, measured: Measured, group: Group) -> list[_Piece]:
    """Measured coefficients, no weights."""
    return [
        _Piece((a, b, ir), number if tp.keeps_paths else _label(ir, group), (), c)
        for number, (ir, pairs) in enumerate(measured.copies)
        for (a, b), c in pairs.items()
    ]


def _weighted(tp: TensorProduct, reached: set[Triple], group: Group) -> list[_Piece]:
    """Claimed terms of the triples that are reached; each weight is one factor."""
    names: list[Hashable] = [
        (f.side, _label(f.target, group), f.number)
        if f.side == "out" and isinstance(f.target, o3.Irrep)
        else f
        for f in tp.weighting.factors
    ]
    return [
        _Piece(triple, _label(triple[2], group), tuple(names[f] for f in term.factors),
               term.coefficient)
        for term in tp.weighting.terms
        if (triple := tuple(tp.paths[term.path][:3])) in reached
    ]  # fmt: skip


def _closed_form(
    tp: TensorProduct, family: Sequence[_Piece], copies: tuple[int, int, int], channels: int
) -> tuple[int | None, str]:
    n, m, k = copies
    triples = {piece.triple for piece in family}
    everything = len(triples) * n * m * k
    single = channels == 1 and max(copies) == 1
    if (tp.keeps_paths or tp.weights_per == "path") and single:
        return everything, "one free weight per path"
    if tp.weights_per == "order" and single:
        return len(tp.weighting.factors), "one free weight per pair of degrees and order"
    if tp.keeps_paths and channels >= n * m:
        return everything, "every path of every pair of copies: dim Hom(X x Y, Z)"
    if len(family) > len(triples):
        return None, "no closed form is proved where weights add up inside a path"
    n1, n2, n3 = (len({_key(piece)[axis] for piece in family}) for axis in range(3))
    if single:
        rank = _incidence_rank(family)
        if not _absorbed(tp):
            return rank, "each path has one product of weights: rank of their incidence"
        if rank == n1 + n2 + n3 - 2:
            return rank, f"reachable irreps {n1} + {n2} + {n3} - 2"
        extra = n1 + n2 + n3 - 2 - rank
        return rank, (
            f"reachable irreps {n1} + {n2} + {n3} - 2, less {extra}: paths that share too few "
            "irreps leave further weights redundant (rank of the path-irrep incidence)"
        )
    feeding: dict[Hashable, int] = {}
    for piece in family:
        feeding[piece.copy] = feeding.get(piece.copy, 0) + 1
    fed = sum(min(channels * k, count * n * m * k) for count in feeding.values())
    bound = min(everything, channels * (n * n1 + m * n2 - 2) + fed)
    return None, f"no closed form is proved for these channels; at most {bound}"


def _key(piece: _Piece) -> tuple[Hashable, Hashable, Hashable]:
    """What W1, W2 and W3 scale."""
    return piece.triple[0], piece.triple[1], piece.copy


def _places(pieces: Sequence[_Piece]) -> tuple[dict[Hashable, int], ...]:
    """Number of each irrep of input 1 and 2, of each output copy, and of each weight."""
    keys: list[dict[Hashable, int]] = [{}, {}, {}, {}]
    for piece in pieces:
        for axis, key in enumerate(_key(piece)):
            keys[axis].setdefault(key, len(keys[axis]))
        for factor in piece.factors:
            keys[3].setdefault(factor, len(keys[3]))
    return tuple(keys)


def _incidence_rank(family: Sequence[_Piece]) -> int:
    """Rank of the 0/1 matrix with a row per path and a column for each factor it carries."""
    places = _places(family)
    starts = np.cumsum([0, *map(len, places)])
    matrix = np.zeros((len(family), starts[-1]))
    for row, piece in enumerate(family):
        for axis, key in enumerate(_key(piece)):
            matrix[row, starts[axis] + places[axis][key]] = 1.0
        for factor in piece.factors:
            matrix[row, starts[3] + places[3][factor]] = 1.0
    return int(np.linalg.matrix_rank(matrix))


def _numerical_rank(
    pieces: Sequence[_Piece],
    copies: tuple[int, int, int],
    channels: int,
    seed: int,
    *,
    scalable: bool,
) -> int:
    """Rank of the Jacobian of the bilinear map by the entries of W1, W2, W3 and the weights.

    Where input 2 is not ``scalable`` by irrep, W2 is the same for all of its irreps.
    """
    n, m, k = copies
    places = _places(pieces)
    triples = {triple: i for i, triple in enumerate(dict.fromkeys(p.triple for p in pieces))}
    rows = torch.tensor([triples[piece.triple] for piece in pieces])
    first, second, third = (
        torch.tensor([places[axis][_key(piece)[axis]] for piece in pieces]) for axis in range(3)
    )
    second = second if scalable else torch.zeros_like(second)
    used = [
        torch.tensor([places[3][f] for f in column])
        for column in zip(*(piece.factors for piece in pieces), strict=True)
    ]
    values = torch.tensor([piece.value for piece in pieces], dtype=torch.float64)

    def bilinear_map(w1: Tensor, w2: Tensor, w3: Tensor, weights: Tensor) -> Tensor:
        strength = values.expand(channels, -1)
        for column in used:
            strength = strength * weights[:, column]
        terms = torch.einsum("eca,ecb,edc,ce->eabd", w1[first], w2[second], w3[third], strength)
        return torch.zeros(len(triples), n, m, k, dtype=torch.float64).index_add(0, rows, terms)

    generator = torch.Generator().manual_seed(seed)
    point = tuple(
        torch.randn(shape, dtype=torch.float64, generator=generator)
        for shape in (
            (len(places[0]), channels, n),
            (len(places[1]), channels, m),
            (len(places[2]), k, channels),
            (channels, len(places[3])),
        )
    )
    parts = torch.autograd.functional.jacobian(bilinear_map, point, vectorize=True)
    jacobian = torch.cat([part.flatten(0, 3).flatten(1) for part in parts], dim=1)
    # Scaling rows leaves the rank alone and keeps paths with small coefficients visible.
    row_norms = jacobian.norm(dim=1, keepdim=True)
    values_found = torch.linalg.svdvals(jacobian / row_norms)
    return int((values_found > THRESHOLD * values_found[0]).sum())
