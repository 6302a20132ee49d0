"""Products of signals on grids as the tables of a kernel: parts, stages, values at points."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from etp.kernels.on_gpu.kernel_form import KernelForm
from etp.kernels.on_gpu.triton_source import padded

MIN_DIM = 16
"""Smallest side of a matrix that Triton multiplies."""
POINTS = 16
"""Points of a step: with more of them, values of signals crowd components out of registers."""


def tile(dim: int) -> int:
    """Columns of the tile that holds ``dim`` components."""
    return max(MIN_DIM, padded(dim))


class Signal(NamedTuple):
    """Values at points, made of some components of one side.

    Attributes:
        part: Number of the part of the side that holds the components.
        matrix: Values of the components at the points, float64, shape (points, dim).
    """

    part: int
    matrix: Tensor


class Triple(NamedTuple):
    """Product of three signals, one of each side by its number in the stage, with a sign."""

    signals: tuple[int, int, int]
    sign: int


class Stage(NamedTuple):
    """Sum of terms over points that its signals share.

    Attributes:
        signals: For each side.
        terms: Products of signals.
    """

    signals: tuple[Sequence[Signal], Sequence[Signal], Sequence[Signal]]
    terms: Sequence[Triple]


class GridData(KernelForm):
    """Sum over stages of sums over points of products of three signals, for each channel.

    Args:
        parts: For each side the positions in the features of the components of its parts, each of
            shape (channels, dim). Parts share no component and leave none out.
        stages: What is summed.
    """

    def __init__(self, parts: Sequence[Sequence[Tensor]], stages: Sequence[Stage]) -> None:
        self.parts, self.stages = parts, stages
        digest = hashlib.sha256()
        for terms in (stage.terms for stage in stages):
            digest.update(repr(terms).encode())
        for side in parts:
            digest.update(repr([part.shape for part in side]).encode())
        places = [part.to(torch.int32).flatten() for side in parts for part in side]
        self._places, starts = _packed(places)
        self.place_starts = _like(parts, starts)
        signals = [[[_filled(s.matrix) for s in side] for side in g.signals] for g in stages]
        flat = [matrix for stage in signals for side in stage for matrix in side]
        self._table, starts = _packed([matrix.flatten() for matrix in flat])
        remaining = iter(starts)
        self.table_starts = [
            [[next(remaining) for _ in side] for side in stage] for stage in signals
        ]
        digest.update(repr([[s.part for s in side] for g in stages for side in g.signals]).encode())
        for tensor in (self._places, self._table):
            digest.update(tensor.numpy().tobytes())
        widths = tuple(sum(part.numel() for part in side) for side in parts)
        super().__init__(digest.hexdigest(), widths, len(parts[0][0]))
        self._tables: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def tables(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Positions in the features, and values of components at points, as the kernel wants."""
        if (device, dtype) not in self._tables:
            table = self._table.to(dtype).to(device)
            self._tables[device, dtype] = self._places.to(device), table
        return self._tables[device, dtype]

    def dim(self, side: int, part: int) -> int:
        """Components of a part."""
        return self.parts[side][part].shape[1]


def _filled(matrix: Tensor) -> Tensor:
    """Zeros up to whole tiles: the kernel needs no masks."""
    columns = tile(matrix.shape[1]) - matrix.shape[1]
    return torch.nn.functional.pad(matrix, (0, columns, 0, -len(matrix) % POINTS))


def _packed(parts: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """All in one vector, and where each begins."""
    sizes = torch.tensor([0, *(part.numel() for part in parts)])
    return torch.cat(list(parts)), sizes.cumsum(0)[:-1].tolist()


def _like(nested: Sequence[Sequence[object]], values: Sequence[int]) -> list[list[int]]:
    remaining = iter(values)
    return [[next(remaining) for _ in row] for row in nested]
