"""Where components lie: irreps of one channel, and features of C channels as C rows of one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from e3nn import o3
from torch import Tensor

from etp import irreps as irreps_module
from etp.irreps import Ir, Term


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


def as_filter(filter_ir_out: str | o3.Irreps | Iterable[o3.Irrep]) -> set[o3.Irrep]:
    """Irreps to keep, checked."""
    if isinstance(filter_ir_out, (str, o3.Irreps)):
        return {ir for _, ir in irreps_module.parse(filter_ir_out, "filter_ir_out")}
    return {o3.Irrep(ir) for ir in filter_ir_out}


def channel_index(irreps: o3.Irreps, irs: tuple[o3.Irrep, ...]) -> Tensor:
    """Positions in the features of channel 0's components in order of ``irs``, channel 1's, ..."""
    places: dict[o3.Irrep, list[Tensor]] = {ir: [] for ir in irs}
    for (mul, ir), part in zip(irreps, irreps.slices(), strict=True):
        places[ir].append(torch.arange(part.start, part.stop).reshape(mul, ir.dim))
    return torch.cat([torch.cat(places[ir]) for ir in irs], dim=1).flatten()


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
