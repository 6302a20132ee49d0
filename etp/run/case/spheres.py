"""Rotate, then multiply, or multiply, then rotate: both as signals on the sphere.

Harmonic coefficients for a full turn about one axis; drawing them is left to the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import pi, sqrt
from typing import TYPE_CHECKING, Any

from etp.problem import Problem
from etp.results.rows import Row
from etp.run.case.case import build
from etp.run.case.grids import BROKEN, broken
from etp.run.case.questions import make_row

if TYPE_CHECKING:
    from torch import Tensor

    from etp.e3 import o3

STEPS = 24
AXIS = (1 / sqrt(3), 1 / sqrt(3), 1 / sqrt(3))


def run_spheres(
    case: dict[str, Any], cancelled: Callable[[], bool]
) -> Iterator[Row | dict[str, Any]]:
    """One row of measure ``sphere`` for each product.

    Args:
        case: ``problem`` and ``products``; among them may be the broken grid.
        cancelled: Asked between products.
    """
    problem = Problem.from_dict(case["problem"])
    for product in case["products"]:
        if cancelled():
            return
        try:
            tp = broken(problem) if product == BROKEN else build(problem, product)
        except ValueError as error:
            yield make_row(
                problem, product, "sphere", None,
                status="invalid", reason=str(error), badges=["does not apply"],
            )  # fmt: skip
            continue
        yield make_row(problem, product, "sphere", _turn(tp, problem))


def _turn(tp: Any, problem: Problem) -> dict[str, Any]:
    """Coefficients for each angle: the first input, and the product in both orders."""
    import torch

    from etp.maths import so3
    from etp.measure.drawing import random_inputs

    dtype = getattr(torch, problem.dtype)
    x1, x2 = random_inputs(tp, 1, torch.Generator().manual_seed(problem.seed))
    angles = [2 * pi * step / STEPS for step in range(STEPS + 1)]
    turns = torch.stack([so3.axis_rotation(AXIS, angle) for angle in angles])
    lmax = max(ir.l for irreps in (tp.irreps_in1, tp.irreps_in2, tp.irreps_out) for _, ir in irreps)
    degrees = so3.wigner_d(lmax, turns)
    first, second = (
        _rotated(x, irreps, degrees) for x, irreps in ((x1, tp.irreps_in1), (x2, tp.irreps_in2))
    )
    with torch.no_grad():
        late = tp(x1.to(dtype), x2.to(dtype)).double()
        early = tp(first.to(dtype), second.to(dtype)).double()
    return {
        "axis": list(AXIS),
        "angles": angles,
        "first": _signal(first, tp.irreps_in1).tolist(),
        "multiplied_last": _signal(early, tp.irreps_out).tolist(),
        "multiplied_first": _signal(_rotated(late, tp.irreps_out, degrees), tp.irreps_out).tolist(),
    }


def _rotated(x: Tensor, irreps: o3.Irreps, degrees: list[Tensor]) -> Tensor:
    """Features (1, dim) under every rotation: (k, dim)."""
    import torch

    parts = []
    for (mul, ir), part in zip(irreps, irreps.slices(), strict=True):
        block = x[:, part].reshape(mul, ir.dim)
        parts.append((block @ degrees[ir.l].transpose(1, 2)).flatten(1))
    return torch.cat(parts, dim=1)


def _signal(x: Tensor, irreps: o3.Irreps) -> Tensor:
    """Coefficients (k, (lmax + 1)^2) of one signal: copies of a degree are added up."""
    import torch

    lmax = max(ir.l for _, ir in irreps)
    out = torch.zeros(len(x), (lmax + 1) ** 2, dtype=x.dtype)
    for (mul, ir), part in zip(irreps, irreps.slices(), strict=True):
        place = slice(ir.l**2, (ir.l + 1) ** 2)
        out[:, place] += x[:, part].reshape(len(x), mul, ir.dim).sum(1)
    return out
