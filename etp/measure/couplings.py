r"""Which polynomials a power can be made to compute, found from its outputs.

What one weight makes of random features is fitted by least squares with a basis of all equivariant
polynomials of the allowed degrees, built from ``e3nn.o3.wigner_3j``. Nothing the power claims about
its couplings is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from etp.e3 import o3
from etp.irreps import Ir, symmetric_powers
from etp.measure import oracle
from etp.measure.graph import OnNodes
from etp.measure.oracle import Way

ZERO = 1e-8
"""What is smaller, relative to the largest of its kind, is rounding (float64)."""
Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Reach:
    """What the weights of one channel reach, over a basis of all that there is.

    Attributes:
        basis: Label, factors and output irrep of each polynomial of the basis.
        responses: What each weight makes, (weights, basis).
    """

    basis: tuple[tuple[str, tuple[o3.Irrep, ...], o3.Irrep], ...]
    responses: Matrix

    @property
    def echelon(self) -> Matrix:
        """Reduced echelon form of what all weights span: the same for the same polynomials."""
        return echelon(self.responses)


def reach(tp: OnNodes, *, seed: int = 0) -> Reach:
    """Measure what each weight of ``tp`` computes.

    Args:
        tp: A power; the number of its channels does not matter.
        seed: Of the features.

    Raises:
        ValueError: If an output is no equivariant polynomial of the input.
    """
    power = tp.power
    samples = _samples(tp)
    x = torch.randn(samples, power.irreps_in.dim, dtype=torch.float64,
                    generator=torch.Generator().manual_seed(seed))  # fmt: skip
    blocks = oracle.by_irrep(x, power.irreps_in, power.layout)
    features = {ir: values[:, :1] for ir, values in blocks.items()}
    every = polynomials(features, power.order, power.irs_out)
    outputs = _responses(tp, features)
    fitted = [
        _fitted([way for way in every if way.ir == ir], [z[ir] for z in outputs], tp)
        for ir in power.irs_out
    ]
    basis = [way for ir in power.irs_out for way in every if way.ir == ir]
    about = tuple((way.label, way.factors, way.ir) for way in basis)
    return Reach(about, np.concatenate(fitted, axis=1))


def polynomials(
    features: Mapping[o3.Irrep, Tensor], order: int, wanted: Sequence[o3.Irrep]
) -> list[Way]:
    """Independent equivariant polynomials of degree 1 to ``order``, evaluated.

    Args:
        features: (N, 1, 2 l + 1) of each irrep, more rows than there are polynomials.
        order: Largest degree.
        wanted: Irreps of the values.
    """
    ways = oracle.first_ways(features)
    kept = [way for way in ways if way.ir in wanted]
    for degree in range(2, order + 1):
        # What is coupled from combinations of ways is a combination of what is coupled from them.
        ways = _independent(
            oracle.one_more(ways, features, wanted=wanted if degree == order else None)
        )
        kept += [way for way in ways if way.ir in wanted]
    return kept


def _samples(tp: OnNodes) -> int:
    """Rows that tell all polynomials of a degree and irrep apart by one component."""
    irs = [Ir(ir.l, ir.p) for ir in tp.power.irs_in]
    counts = symmetric_powers(tuple(irs), tp.power.order)
    return 16 + sum(max(count.values(), default=0) for count in counts)


def _responses(tp: OnNodes, features: Mapping[o3.Irrep, Tensor]) -> list[dict[o3.Irrep, Tensor]]:
    """What each weight makes, (N, 2 l + 1) for each irrep: every channel shows another weight."""
    power, responses = tp.power, []
    copies = (features[ir].expand(-1, power.channels, -1) for ir in power.irs_in)
    x = oracle.joined(copies, power.layout).to(power.device)
    for start in range(0, power.weights_per_channel, power.channels):
        shown = min(power.channels, power.weights_per_channel - start)
        weights = torch.zeros(power.weights_per_channel, power.channels, dtype=torch.float64)
        weights[torch.arange(start, start + shown), torch.arange(shown)] = 1.0
        with torch.no_grad():
            z = power(x, weights.flatten().to(power.device)).cpu()
        blocks = oracle.by_irrep(z, power.irreps_out, power.layout)
        responses += [{ir: block[:, n] for ir, block in blocks.items()} for n in range(shown)]
    return responses


def _fitted(ways: Sequence[Way], outputs: Sequence[Tensor], tp: OnNodes) -> Matrix:
    """Coefficients of each output over the ways, (outputs, ways)."""
    columns = torch.stack([way.values.flatten() for way in ways], dim=1)
    targets = torch.stack([z.flatten() for z in outputs], dim=1)
    sizes = columns.norm(dim=0)
    solved = torch.linalg.lstsq(columns / sizes, targets, driver="gelsd").solution
    off = float((columns / sizes @ solved - targets).norm() / (targets.norm() or 1.0))
    if off > ZERO:
        raise ValueError(
            f"{tp.name} has outputs that no equivariant polynomial of its input explains (relative "
            f"residual {off:.1e})"
        )
    coefficients: Matrix = (solved / sizes[:, None]).T.numpy()
    return np.where(
        np.abs(coefficients) > ZERO * np.abs(coefficients).max(initial=0.0), coefficients, 0.0
    )


def _independent(ways: Sequence[Way]) -> list[Way]:
    """Ways that are not combinations of those before them."""
    kept: list[Way] = []
    bases: dict[o3.Irrep, list[Tensor]] = {}
    largest = max((float(way.values.norm()) for way in ways), default=1.0)
    for way in ways:
        # By Schur's lemma one component tells.
        rest = way.values[..., 0].flatten() / largest
        basis = bases.setdefault(way.ir, [])
        for _ in range(2):
            for other in basis:
                rest = rest - (other @ rest) * other
        if float(rest.norm()) > ZERO:
            basis.append(rest / rest.norm())
            kept.append(way)
    return kept


def echelon(rows: Matrix) -> Matrix:
    """Reduced row echelon form of the space that rows span, each scaled to size one before.

    Args:
        rows: Of any number.

    Returns:
        As many rows as the space has dimensions.
    """
    work = _spanned(rows).copy()
    top = 0
    for column in range(work.shape[1]):
        if top == len(work):
            break
        best = top + int(np.argmax(np.abs(work[top:, column])))
        if abs(work[best, column]) < ZERO:
            continue
        work[[top, best]] = work[[best, top]]
        work[top] /= work[top, column]
        others = np.arange(len(work)) != top
        work[others] -= work[others, column, None] * work[top]
        top += 1
    return np.where(np.abs(work) > ZERO, work, 0.0)


def _spanned(rows: Matrix) -> Matrix:
    """Orthonormal rows of the same space: no pivot among them is small by mere chance of scales."""
    sizes = np.linalg.norm(rows, axis=1)
    scaled = rows[sizes > ZERO] / sizes[sizes > ZERO, None]
    _, values, right = np.linalg.svd(scaled, full_matrices=False)
    kept: Matrix = right[values > ZERO * values.max(initial=0.0)]
    return kept


def ranks(reach: Reach, channels: int = 1, seed: int = 0) -> tuple[int, int]:
    """Dimensions of what can be made with linear layers before and after: free and unit weights.

    The layer before scales each irrep of each of ``channels`` copies of one input, the layer after
    mixes channels. Ranks are those of Jacobians at a random point.

    Args:
        reach: What the weights reach.
        channels: Copies that the power is applied to side by side, then added up.
        seed: Of the point.
    """
    irs = list(dict.fromkeys(ir for _, factors, _ in reach.basis for ir in factors))
    powers = np.array([[factors.count(ir) for ir in irs] for _, factors, _ in reach.basis])
    outs = list(dict.fromkeys(ir for *_, ir in reach.basis))
    of_out = np.array([[float(ir == own) for *_, own in reach.basis] for ir in outs])
    rng = np.random.default_rng(seed)
    unit = of_out * reach.responses.sum(axis=0)
    ranked = []
    for family in (reach.responses, unit):
        parts = []
        for _ in range(channels):
            scales = rng.uniform(0.5, 1.5, len(irs))
            stretched = np.prod(scales**powers, axis=1) * family
            value = rng.standard_normal(len(family)) @ stretched
            parts += [stretched, (powers / scales).T * value]
        ranked.append(len(_spanned(np.concatenate(parts))))
    return ranked[0], ranked[1]
