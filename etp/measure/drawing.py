"""Random inputs and weights to measure with; what they are follows from what the product says."""

from __future__ import annotations

import torch
from torch import Tensor

from etp.maths import sphere
from etp.maths.layout import channel_index
from etp.measure.graph import Measurable, OnGraph, OnNodes
from etp.problem import Weights
from etp.product.base import TensorProduct


def random_inputs(
    tp: Measurable,
    batch: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Draw typical inputs on the CPU: independent standard normal components.

    Where input 2 is not free it is the harmonics of random directions, one for each channel. Of a
    convolution input 1 has a row for each node.

    Args:
        tp: What they are for.
        batch: Samples, or edges.
        generator: Of what is drawn.
        dtype: What it is cast to; drawn in float64.
    """
    product = tp.per_edge
    rows = tp.nodes(batch) if isinstance(tp, OnGraph) else batch
    x1 = torch.randn(rows, product.irreps_in1.dim, dtype=torch.float64, generator=generator)
    if isinstance(product, OnNodes) or product.bilinear:
        x2 = torch.randn(batch, product.irreps_in2.dim, dtype=torch.float64, generator=generator)
    else:
        x2 = _harmonics(product, batch, generator)
    return x1.to(dtype), x2.to(dtype)


def random_weights(
    tp: Measurable,
    weights: Weights,
    batch: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
) -> Tensor | None:
    """Draw standard normal weights on the CPU: one set, or one for each element or sample.

    ``balanced`` draws nothing: :meth:`etp.product.weighting.Weighting.balanced` for every channel.

    Args:
        tp: What they are for.
        weights: Whether there are any, and whether each sample has its own.
        batch: Samples, or edges.
        generator: Of what is drawn.
        dtype: What they are cast to; drawn in float64.
    """
    if weights == "none":
        return None
    product = tp.per_edge
    if weights == "balanced":
        counts = torch.tensor(product.weight_counts)
        return product.weighting.balanced().repeat_interleave(counts).to(dtype)
    rows: tuple[int, ...] = () if weights == "shared" else (batch,)
    if isinstance(product, OnNodes) and product.elements > 1:
        rows = (product.elements,)
    shape = (*rows, product.weight_numel)
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)


def _harmonics(product: TensorProduct, batch: int, generator: torch.Generator) -> Tensor:
    """Features of input 2 made from directions."""
    copies = product.irreps_in2.dim // sum(ir.dim for ir in product.irs_in2)
    direction = torch.randn(batch, copies, 3, dtype=torch.float64, generator=generator)
    unit = direction / direction.norm(dim=-1, keepdim=True)
    harmonics = sphere.spherical_harmonics(product.lmax_in2, unit)
    rows = [harmonics[..., ir.l**2 : (ir.l + 1) ** 2] for ir in product.irs_in2]
    x2 = torch.empty(batch, product.irreps_in2.dim, dtype=torch.float64)
    x2[:, channel_index(product.irreps_in2, product.irs_in2)] = torch.cat(rows, dim=-1).flatten(1)
    return x2
