"""Which irreps interact: the paths a product really has, found from its outputs.

Outputs are fitted by least squares with every coupling ``x[l1] . y[l2] . wigner_3j(l1, l2, l3)``
that the triangle rule allows. Nothing the product claims is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from etp.e3 import o3
from etp.measure import oracle
from etp.measure.drawing import random_inputs
from etp.product.base import TensorProduct

Triple = tuple[o3.Irrep, o3.Irrep, o3.Irrep]

RELATIVE_ZERO = 1e-9
"""Fitted coefficients below this fraction of the largest are roundoff (float64)."""


@dataclass(frozen=True)
class Measured:
    """Coefficients fitted to the outputs.

    Attributes:
        copies: For each output copy its irrep and the fitted coefficient of every pair of inputs.
        residual: Largest part of an output that no coupling explains, relative.
    """

    copies: tuple[tuple[o3.Irrep, dict[tuple[o3.Irrep, o3.Irrep], float]], ...]
    residual: float


def interactions(tp: TensorProduct, *, seed: int = 0) -> set[Triple]:
    """Measured set of (ir_in1, ir_in2, ir_out) that interact.

    Examples:
        >>> from etp import measure, products
        >>> tp = products.get("gaunt-grid")("1o", "1o")
        >>> sorted(str(ir_out) for _, _, ir_out in measure.interactions(tp))
        ['0e', '2e']
    """
    return {
        (ir1, ir2, ir_out)
        for ir_out, pairs in measured_coefficients(tp, seed=seed).copies
        for ir1, ir2 in pairs
    }


def allowed_paths(tp: TensorProduct) -> set[Triple]:
    """Triples that the selection rules allow for the inputs and that the filter keeps.

    Of a product of directions that reads their harmonics of every degree, with all of these.

    Examples:
        >>> from etp import measure, products
        >>> len(measure.allowed_paths(products.get("gaunt-grid")("1o", "1o")))
        3
    """
    return set(tp.candidates())


def measured_coefficients(tp: TensorProduct, *, seed: int = 0) -> Measured:
    """Fit the coefficients of every output copy in float64.

    Raises:
        ValueError: If an output is no combination of couplings, so not rotation equivariant.

    Examples:
        >>> from etp import measure, products
        >>> fitted = measure.measured_coefficients(products.get("cg-sparse")("1o", "1o"))
        >>> [str(ir_out) for ir_out, pairs in fitted.copies], fitted.residual < 1e-12
        (['0e', '1e', '2e'], True)
    """
    irs2 = dict.fromkeys([*(ir for _, ir in tp.irreps_in2), *(b for _, b, _ in tp.candidates())])
    pairs = [(ir1, ir2) for ir1 in dict.fromkeys(ir for _, ir in tp.irreps_in1) for ir2 in irs2]
    samples = 8 + len(pairs)
    x1, x2 = random_inputs(tp, samples, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        z = tp(x1.to(tp.device), x2.to(tp.device)).double().cpu()
    first = {ir: x[:, 0] for ir, x in oracle.by_irrep(x1, tp.irreps_in1, tp.layout).items()}
    second = {ir: x[:, 0] for ir, x in oracle.second_features(tp, x2).items()}
    outputs = _first_channel(z, tp)
    largest = max(float(block.norm()) for _, block in outputs) or 1.0
    copies: list[tuple[o3.Irrep, dict[tuple[o3.Irrep, o3.Irrep], float]]] = []
    residual = 0.0
    for l in sorted({ir.l for ir, _ in outputs}):
        couples = [(a, b) for a, b in pairs if abs(a.l - b.l) <= l <= a.l + b.l]
        columns = torch.stack(
            [
                torch.einsum("ni,nj,ijk->nk", first[a], second[b], oracle.wigner_3j(a.l, b.l, l))
                for a, b in couples
            ],
            dim=-1,
        ).flatten(0, 1)
        here = [(ir, block) for ir, block in outputs if ir.l == l]
        targets = torch.stack([block.flatten() for _, block in here], dim=-1)
        fitted = torch.linalg.lstsq(columns, targets, driver="gelsd").solution
        residual = max(residual, float((columns @ fitted - targets).norm(dim=0).max()) / largest)
        for (ir, _), column in zip(here, fitted.T, strict=True):
            copies.append((ir, dict(zip(couples, column.tolist(), strict=True))))
    if residual > 1e-8:
        raise ValueError(
            f"{tp.name} has outputs that no coupling of its inputs explains (relative residual "
            f"{residual:.1e}): it is not a rotation equivariant bilinear map"
        )
    floor = RELATIVE_ZERO * max(abs(c) for _, coefficients in copies for c in coefficients.values())
    kept = tuple(
        (ir, {p: c for p, c in coefficients.items() if abs(c) > floor})
        for ir, coefficients in copies
    )
    return Measured(kept, residual)


def _first_channel(z: Tensor, tp: TensorProduct) -> list[tuple[o3.Irrep, Tensor]]:
    """Output copies of channel 0, in order."""
    blocks = []
    for (_, ir), block in zip(
        tp.irreps_out, oracle.blocks_of(z, tp.irreps_out, tp.layout), strict=True
    ):
        # Equal irreps of a pair product are one block: copy by copy, each of all channels.
        step = tp.channels if tp.kind == "pair" else block.shape[1]
        blocks += [(ir, copy) for copy in block[:, ::step].unbind(1)]
    return blocks
