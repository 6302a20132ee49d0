"""Does a product compute what it claims? The claim, evaluated from ``e3nn.o3.wigner_3j``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from math import pi
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etp.e3 import o3
from etp.irreps import Layout
from etp.maths import so3, sphere
from etp.measure.drawing import random_inputs, random_weights
from etp.measure.graph import Measurable, OnGraph, OnNodes
from etp.powers.base import Power
from etp.problem import Weights
from etp.product.base import TensorProduct

_OLD_SIGNS = tuple(map(int, version("e3nn").split(".")[:2])) < (0, 6)
"""Whether e3nn is of the releases whose sign differs on some odd paths, such as (1, 2, 2)."""


@cache
def wigner_3j(l1: int, l2: int, l3: int) -> Tensor:
    """e3nn's coefficients in float64, with the signs of 0.6. Cached: read-only.

    Args:
        l1: Degree of input 1.
        l2: Degree of input 2.
        l3: Degree of the output.
    """
    values: Tensor = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
    if _OLD_SIGNS and float((values * so3.clebsch_gordan(l1, l2, l3)).sum()) < 0:
        return -values
    return values


def by_irrep(x: Tensor, irreps: o3.Irreps, layout: Layout = "mul_ir") -> dict[o3.Irrep, Tensor]:
    """Split features (N, dim) into one tensor (N, copies, 2 l + 1) for each irrep.

    Args:
        x: Features, (N, dim).
        irreps: Their irreps.
        layout: Order within a block: channels or components first.
    """
    copies: dict[o3.Irrep, list[Tensor]] = {}
    for (_, ir), block in zip(irreps, blocks_of(x, irreps, layout), strict=True):
        copies.setdefault(ir, []).append(block)
    return {ir: torch.cat(parts, dim=1) for ir, parts in copies.items()}


def blocks_of(x: Tensor, irreps: o3.Irreps, layout: Layout = "mul_ir") -> list[Tensor]:
    """Split features (N, dim) into their blocks, each (N, copies, 2 l + 1).

    Args:
        x: Features, (N, dim).
        irreps: Their irreps.
        layout: Order within a block: channels or components first.
    """
    return [
        x[:, part].reshape(len(x), mul, ir.dim)
        if layout == "mul_ir"
        else x[:, part].reshape(len(x), ir.dim, mul).mT
        for (mul, ir), part in zip(irreps, irreps.slices(), strict=True)
    ]


def joined(blocks: Iterable[Tensor], layout: Layout = "mul_ir") -> Tensor:
    """Inverse of :func:`blocks_of`."""
    return torch.cat(
        [(block if layout == "mul_ir" else block.mT).flatten(1) for block in blocks], dim=1
    )


def evaluate(tp: Measurable, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
    """What ``tp`` claims to compute, float64 on the CPU.

    Args:
        tp: The product; only its irreps and claimed paths are used, of a convolution also its
            graph.
        x1: First input, shape (N, irreps_in1.dim).
        x2: Second input, shape (N, irreps_in2.dim).
        weights: As the product takes them, shape (weight_numel,) or (N, weight_numel).

    Returns:
        Shape (N, irreps_out.dim): a copy per path where paths are kept, else a copy per irrep.
    """
    if isinstance(tp, OnNodes):
        return _raised(tp.power, x1, _of_nodes(tp, x1, weights))
    if isinstance(tp, OnGraph):
        return _added_by_node(tp, x1, x2, weights)
    first = by_irrep(x1.double().cpu(), tp.irreps_in1, tp.layout)
    second = second_features(tp, x2)
    blocks: dict[object, Tensor] = {}
    strengths = _strengths(tp, weights)
    for number, path in enumerate(tp.paths):
        w = wigner_3j(path.ir_in1.l, path.ir_in2.l, path.ir_out.l)
        x, y = first[path.ir_in1], second[path.ir_in2]
        # One channel of input 2 meets all of input 1, several meet one each.
        z = torch.einsum("nci,ncj,ijk->nck", x, y.expand(-1, x.shape[1], -1), w)
        z = z * strengths[:, : x.shape[1], number, None]
        key = number if tp.keeps_paths else path.ir_out
        blocks[key] = _added(blocks[key], z) if key in blocks else z
    return joined(blocks.values(), tp.layout)


def second_features(tp: TensorProduct, x2: Tensor) -> dict[o3.Irrep, Tensor]:
    """Input 2 by irrep, with the other harmonics of its direction that it can be coupled to.

    Args:
        tp: The product.
        x2: Second input, (N, irreps_in2.dim).

    Returns:
        Float64 on the CPU, (N, copies, 2 l + 1) for each irrep.
    """
    second = by_irrep(x2.double().cpu(), tp.irreps_in2)
    more = [ir for ir in dict.fromkeys(ir for _, ir, _ in tp.candidates()) if ir not in second]
    if more:
        given = second[o3.Irrep(1, -1)]
        length = given.norm(dim=-1, keepdim=True)
        every = sphere.spherical_harmonics(max(ir.l for ir in more), given / length)
        size = length / (3 / (4 * pi)) ** 0.5
        second |= {ir: size * every[..., ir.l**2 : (ir.l + 1) ** 2] for ir in more}
    return second


def _added_by_node(tp: OnGraph, x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
    senders, receivers = (nodes.cpu() for nodes in tp.graph(len(y)))
    messages = evaluate(tp.per_edge, x.cpu()[senders], y, weights)
    sums = messages.new_zeros(len(x), messages.shape[1])
    return sums.index_add(0, receivers, messages)


def _of_nodes(tp: OnNodes, x: Tensor, weights: Tensor | None) -> Tensor:
    """Weights of all nodes, or a row for each node."""
    given, elements = tp.given(x, weights).cpu(), tp.element_of(x, weights)
    return given if elements is None else given[elements.cpu()]


def _raised(power: Power, x: Tensor, weights: Tensor) -> Tensor:
    """Products of more and more factors, each weighted where it leads to an output."""
    if (tables := power.tables()) is not None:
        return _contracted(power, tables, x, weights)
    features = by_irrep(x.double().cpu(), power.irreps_in, power.layout)
    shape = (-1, power.weights_per_channel, power.channels, 1)
    strengths = weights.double().cpu().reshape(shape)
    zeros = (x.new_zeros(len(x), power.channels, ir.dim, dtype=torch.float64)
             for ir in power.irs_out)  # fmt: skip
    sums = dict(zip(power.irs_out, zeros, strict=True))
    ways = first_ways(features, power.first)
    for degree in range(1, power.order + 1):
        if degree > 1:
            wanted = set(power.irs_out) if degree == power.order else None
            ways = one_more(ways, features, power.coefficient, wanted)
            ways = ways if power.keeps_couplings else _merged(ways)
        for block in (b for b in power.blocks if b.degree == degree and b.size):
            own = [way.values for way in ways if way.ir == block.ir]
            for number, values in enumerate(own, block.start):
                sums[block.ir] = sums[block.ir] + strengths[:, number] * values
    return joined((sums[ir] for ir in power.irs_out), power.layout)


def _contracted(
    power: Power, tables: Sequence[Sequence[Tensor]], x: Tensor, weights: Tensor
) -> Tensor:
    """Tables contracted with products of components, then with weights."""
    parts = by_irrep(x.double().cpu(), power.irreps_in, power.layout)
    features = torch.cat([parts[ir] for ir in power.irs_in], dim=2)
    strengths = weights.double().cpu().reshape(-1, power.weights_per_channel, power.channels)
    nodes = [
        _contracted_node(power, tables, a, w)
        for a, w in zip(features, strengths.expand(len(features), -1, -1), strict=True)
    ]
    return joined((torch.stack(own) for own in zip(*nodes, strict=True)), power.layout)


def _contracted_node(
    power: Power, tables: Sequence[Sequence[Tensor]], a: Tensor, weights: Tensor
) -> list[Tensor]:
    """Outputs (channels, 2 l + 1) of features (channels, dim), for each irrep."""
    monomials = [a]
    for _ in range(1, power.order):
        monomials.append(torch.einsum("ci,cj->cij", monomials[-1], a).flatten(1))
    blocks, sums = iter(power.blocks), []
    for ir, own in zip(power.irs_out, tables, strict=True):
        z = a.new_zeros(len(a), ir.dim)
        for table, monomial in zip(own, monomials, strict=True):
            block = next(blocks)
            flat = table.reshape(ir.dim, monomial.shape[1], block.size)
            w = weights[block.start : block.start + block.size]
            z = z + torch.einsum("miw,ci,wc->cm", flat, monomial, w)
        sums.append(z)
    return sums


class Way(NamedTuple):
    """One way to couple factors.

    Attributes:
        ir: What they are coupled to.
        values: Of shape (N, channels, 2 l + 1).
        label: How they are coupled, from the left: ``((1o 1o)2e 1o)3o``.
        factors: Irreps of the factors.
    """

    ir: o3.Irrep
    values: Tensor
    label: str
    factors: tuple[o3.Irrep, ...]


def first_ways(
    features: Mapping[o3.Irrep, Tensor], scale: Callable[[o3.Irrep], float] = lambda ir: 1.0
) -> list[Way]:
    """One factor, by irrep.

    Args:
        features: (N, channels, 2 l + 1) of each irrep.
        scale: What each irrep is scaled by.
    """
    ways = [Way(ir, scale(ir) * values, str(ir), (ir,)) for ir, values in features.items()]
    return sorted(ways, key=lambda way: way.ir)


def one_more(
    ways: Iterable[Way],
    features: Mapping[o3.Irrep, Tensor],
    scale: Callable[[o3.Irrep, o3.Irrep, o3.Irrep], float] = lambda left, ir, ir_out: 1.0,
    wanted: Collection[o3.Irrep] | None = None,
) -> list[Way]:
    """Couple products of factors with one factor more.

    Args:
        ways: Products.
        features: The factor, (N, channels, 2 l + 1) of each irrep.
        scale: What ``wigner_3j`` of three irreps is scaled by; 0 where they do not meet.
        wanted: Irreps to keep, None for all.

    Returns:
        The longer products, sorted by irrep, else in the order of e3nn's sums.
    """
    longer = []
    for left in ways:
        for ir, factor in features.items():
            for ir_out in left.ir * ir:
                strength = scale(left.ir, ir, ir_out)
                if (wanted is not None and ir_out not in wanted) or not strength:
                    continue
                w = wigner_3j(left.ir.l, ir.l, ir_out.l) * strength
                values = torch.einsum("nci,ncj,ijk->nck", left.values, factor, w)
                label = f"({left.label} {ir}){ir_out}"
                longer.append(Way(ir_out, values, label, (*left.factors, ir)))
    return sorted(longer, key=lambda way: way.ir)


def _merged(ways: Iterable[Way]) -> list[Way]:
    """Ways that lead to the same irrep, added up."""
    sums: dict[o3.Irrep, Way] = {}
    for way in ways:
        known = sums.get(way.ir)
        sums[way.ir] = way if known is None else known._replace(values=known.values + way.values)
    return list(sums.values())


def _added(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two blocks (N, copies, components); copies that one lacks are zero there."""
    wide = max(a.shape[1], b.shape[1])
    a, b = (torch.nn.functional.pad(z, (0, 0, 0, wide - z.shape[1])) for z in (a, b))
    return a + b


def _strengths(tp: TensorProduct, weights: Tensor | None) -> Tensor:
    """Claimed coefficients times weights, (N or 1, channels, paths)."""
    if weights is None:
        claimed = torch.tensor([path.coefficient for path in tp.paths], dtype=torch.float64)
        return claimed.expand(1, tp.channels, -1)
    factors = weights.double().cpu().reshape(-1, tp.weight_numel)[:, tp.weight_places()]
    terms = tp.weighting.terms
    each = torch.stack([t.coefficient * factors[..., list(t.factors)].prod(-1) for t in terms], -1)
    into = torch.tensor([term.path for term in terms])
    return each.new_zeros(*each.shape[:-1], len(tp.paths)).index_add(-1, into, each)


def degrees_of(irreps: o3.Irreps) -> Tensor:
    """Degree l of each component of the features, in any layout."""
    return torch.cat([torch.full((mul * ir.dim,), ir.l) for mul, ir in irreps])


def relative_by_degree(error: Tensor, size: Tensor, irreps: o3.Irreps) -> dict[int, float]:
    """Frobenius norm of ``error`` over that of ``size``, for each degree of the last axis.

    Args:
        error: (..., irreps.dim).
        size: What it is relative to, same shape.
        irreps: Of the last axis.
    """
    degrees = degrees_of(irreps)
    return {
        l: relative(error[..., degrees == l], size[..., degrees == l])
        for l in sorted(set(degrees.tolist()))
    }


def relative(error: Tensor, size: Tensor) -> float:
    """Frobenius norm of ``error`` over that of ``size``."""
    return float(error.norm() / size.norm())


GATES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}
"""Largest relative error accepted, by dtype."""
TF32_GATE = 5e-3
"""That of float32 where matrix products may round their factors to TF32."""


def gate(dtype: torch.dtype, device: torch.device, gates: Mapping[torch.dtype, float]) -> float:
    """Largest error accepted in ``dtype`` under the present TF32 setting.

    Args:
        dtype: What is computed in.
        device: Where.
        gates: Largest error of each dtype without TF32.
    """
    tf32 = device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"
    return TF32_GATE if tf32 and dtype == torch.float32 else gates[dtype]


@dataclass(frozen=True)
class Agreement:
    """Relative error against the float64 oracle.

    Attributes:
        max: Worst sample, Frobenius norm over the output.
        median: Median sample.
        per_degree: Error of each output degree over the whole batch.
        gate: Largest ``max`` that counts as agreement in this dtype.

    Examples:
        >>> from etp import measure, products
        >>> tp = products.get("cg-sparse")("0e+1o", "0e+1o")
        >>> measure.agreement(tp).passed
        True
    """

    max: float
    median: float
    per_degree: dict[int, float]
    gate: float

    @property
    def passed(self) -> bool:
        """Whether the product computes what it claims."""
        return self.max <= self.gate


def agreement(
    tp: Measurable,
    reference: Callable[[Any, Tensor, Tensor, Tensor | None], Tensor] = evaluate,
    *,
    dtype: torch.dtype = torch.float64,
    weights: Weights = "none",
    batch: int = 16,
    seed: int = 0,
) -> Agreement:
    """Compare ``tp`` with an oracle built from ``e3nn.o3.wigner_3j``, with or without weights.

    Inputs are cast to ``dtype`` first: the error is that of the product, not of its inputs.

    Args:
        tp: A product, or a convolution on a graph.
        reference: The oracle: (tp, x1, x2, weights) to the output in float64.
        dtype: What the product computes in.
        weights: Whether it has weights, and whether each sample has its own.
        batch: Samples.
        seed: Of inputs and weights.

    Examples:
        >>> from etp import measure, products
        >>> tp = products.get("cg-sparse")("0e+1o", "0e+1o")
        >>> measure.agreement(tp).max < 1e-12
        True
    """
    generator = torch.Generator().manual_seed(seed)
    x1, x2 = random_inputs(tp, batch, generator, dtype)
    free = random_weights(tp, weights, batch, generator, dtype)
    with torch.no_grad():
        moved = None if free is None else free.to(tp.device)
        z = tp(x1.to(tp.device), x2.to(tp.device), moved).double().cpu()
    wanted = reference(tp, x1, x2, free)
    error = z - wanted
    by_sample = error.norm(dim=1) / wanted.norm(dim=1)
    return Agreement(
        float(by_sample.max()),
        float(by_sample.median()),
        relative_by_degree(error, wanted, tp.irreps_out),
        gate(dtype, tp.device, GATES),
    )
