r"""Equivariance error: does multiplying commute with rotating and inverting?

:math:`\max_g \|T(D_1 x, D_2 y) - D_3 T(x, y)\|_F / \|T(x, y)\|_F` over random rotations g, every
second one with the inversion (unless the product is only SO(3)-equivariant), and a batch of random
inputs. Rotations act in float64; inputs are cast to the tested dtype afterwards, so that the error
is that of the product. An exact product stays at the roundoff of its dtype; a grid one column short
is wrong by percents in any dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from etp.e3 import o3
from etp.irreps import Ir, Layout
from etp.maths import so3
from etp.measure import oracle
from etp.measure.drawing import random_inputs
from etp.measure.graph import Measurable, OnGraph

GATES = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class EquivarianceError:
    """Relative equivariance errors.

    Attributes:
        max: Worst group element.
        median: Median group element.
        per_degree: Worst group element for each output degree.
        per_element: One error for each group element.
        inverted: Whether the group element holds the inversion.
        gate: Largest ``max`` of an equivariant product in this dtype.

    Examples:
        >>> from etp import measure, products
        >>> tp = products.get("cg-sparse")("0e+1o", "0e+1o")
        >>> error = measure.equivariance_error(tp, elements=2)
        >>> error.passed, error.inverted
        (True, (False, True))
    """

    max: float
    median: float
    per_degree: dict[int, float]
    per_element: tuple[float, ...]
    inverted: tuple[bool, ...]
    gate: float

    @property
    def passed(self) -> bool:
        """Whether the error is roundoff."""
        return self.max <= self.gate


def equivariance_error(
    tp: Measurable,
    *,
    dtype: torch.dtype = torch.float64,
    elements: int = 8,
    batch: int = 16,
    seed: int = 0,
) -> EquivarianceError:
    """Measure the error of ``tp`` over ``elements`` group elements and ``batch`` inputs.

    Args:
        tp: A product, or a convolution on a graph.
        dtype: What it computes in.
        elements: Random group elements; every second one holds the inversion, under O(3).
        batch: Samples.
        seed: Of inputs and rotations.

    Raises:
        ValueError: If ``elements`` or ``batch`` is below 1.

    Examples:
        >>> from etp import measure, products
        >>> tp = products.get("cg-sparse")("0e+1o", "0e+1o")
        >>> measure.equivariance_error(tp).max < 1e-12
        True
    """
    if elements < 1 or batch < 1:
        raise ValueError(f"elements and batch must be at least 1, got {elements} and {batch}")
    generator = torch.Generator().manual_seed(seed)
    x1, x2 = random_inputs(tp, batch, generator)
    rotations = so3.random_rotations(elements, generator)
    inverted = torch.arange(elements) % 2 == (1 if tp.group == "O(3)" else 2)
    lmax = max(ir.l for irreps in (tp.irreps_in1, tp.irreps_in2, tp.irreps_out) for _, ir in irreps)
    degrees = so3.wigner_d(lmax, rotations)
    straight = _apply(tp, x1, x2, dtype)
    # What the largest path makes of the inputs: products of small coefficients are small, not zero.
    largest = max((abs(path.coefficient) for path in tp.paths), default=1.0)
    possible = largest * (_sizes(tp, x1) * x2.norm(dim=1)).norm()
    if straight.norm() < torch.finfo(dtype).eps * possible:
        # Identically zero: relative to the inputs, so that noise is not divided by noise.
        straight_size = possible.expand(straight.shape)
    else:
        straight_size = straight
    errors, by_degree = [], []
    for k in range(elements):
        element = [d[k] for d in degrees]
        sign = bool(inverted[k])
        rotated = _apply(
            tp,
            _act(element, sign, x1, tp.irreps_in1, tp.layout),
            _act(element, sign, x2, tp.irreps_in2),
            dtype,
        )
        error = rotated - _act(element, sign, straight, tp.irreps_out, tp.layout)
        errors.append(oracle.relative(error, straight_size))
        by_degree.append(oracle.relative_by_degree(error, straight_size, tp.irreps_out))
    return EquivarianceError(
        max(errors),
        median(errors),
        {l: max(errors_of[l] for errors_of in by_degree) for l in by_degree[0]},
        tuple(errors),
        tuple(inverted.tolist()),
        oracle.gate(dtype, tp.device, GATES),
    )


def _sizes(tp: Measurable, x1: Tensor) -> Tensor:
    """Size of what each row of input 2 meets."""
    sizes = x1.norm(dim=1)
    # Of a convolution another number of rows: their mean.
    return sizes.square().mean().sqrt() if isinstance(tp, OnGraph) else sizes


def _apply(tp: Measurable, x1: Tensor, x2: Tensor, dtype: torch.dtype) -> Tensor:
    with torch.no_grad():
        z: Tensor = tp(x1.to(tp.device, dtype), x2.to(tp.device, dtype))
    return z.double().cpu()


def _act(
    degrees: list[Tensor],
    inverted: bool,
    x: Tensor,
    irreps: o3.Irreps,
    layout: Layout = "mul_ir",
) -> Tensor:
    """Apply one group element to features (N, dim)."""
    if not irreps.dim:
        return x
    parts = []
    for (_, ir), block in zip(irreps, oracle.blocks_of(x, irreps, layout), strict=True):
        sign = -1.0 if inverted and Ir(ir.l, ir.p).p == -1 else 1.0
        parts.append(block @ degrees[ir.l].T * sign)
    return oracle.joined(parts, layout)
