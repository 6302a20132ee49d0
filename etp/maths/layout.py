"""Where components lie: irreps of one channel, and features of C channels as C rows of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from etp.e3 import o3
from etp.irreps import Ir, Layout, Term


def slices(irs: Iterable[o3.Irrep]) -> list[slice]:
    """Where each irrep of one channel lies along the last axis."""
    ends = [0]
    for ir in irs:
        ends.append(ends[-1] + ir.dim)
    return [slice(a, b) for a, b in pairwise(ends)]


def terms(irreps: o3.Irreps) -> list[Term]:
    """Irreps as plain terms."""
    return [Term(mul, Ir(ir.l, ir.p)) for mul, ir in irreps]


def distinct(irreps: o3.Irreps) -> tuple[o3.Irrep, ...]:
    """Each irrep once, in order of first appearance."""
    return tuple(dict.fromkeys(ir for _, ir in irreps))


def channel_index(irreps: o3.Irreps, irs: tuple[o3.Irrep, ...]) -> Tensor:
    """Positions in the features of channel 0's components in order of ``irs``, channel 1's, ..."""
    places: dict[o3.Irrep, list[Tensor]] = {ir: [] for ir in irs}
    for (mul, ir), part in zip(irreps, irreps.slices(), strict=True):
        places[ir].append(torch.arange(part.start, part.stop).reshape(mul, ir.dim))
    return torch.cat([torch.cat(places[ir]) for ir in irs], dim=1).flatten()


def places(irreps: o3.Irreps, irs: Sequence[o3.Irrep] | None, layout: Layout) -> dict[Any, Tensor]:
    """Where the features hold each irrep, or each block: (copies, components).

    Args:
        irreps: Blocks of the features.
        irs: The irreps; None for one entry for each block, by its number.
        layout: Order within a block.
    """
    blocks: dict[Any, list[Tensor]] = {}
    for number, ((mul, ir), part) in enumerate(zip(irreps, irreps.slices(), strict=True)):
        index = torch.arange(part.start, part.stop)
        block = index.reshape(mul, ir.dim) if layout == "mul_ir" else index.reshape(ir.dim, mul).T
        blocks.setdefault(number if irs is None else ir, []).append(block)
    return {key: torch.cat(parts) for key, parts in blocks.items()}


def output_index(irs: Iterable[o3.Irrep], channels: int) -> Tensor:
    """Positions in C rows of one-channel outputs of the components of ``irreps_out``."""
    parts, start = [], 0
    irs = tuple(irs)
    width = sum(ir.dim for ir in irs)
    for ir in irs:
        step = torch.arange(channels)[:, None] * width
        parts.append((step + torch.arange(start, start + ir.dim)).flatten())
        start += ir.dim
    return torch.cat(parts)
