r"""Products of signals on grids in one Triton kernel: values at points never leave the chip.

The form is a sum of stages, each with points of its own,

.. math:: T(x, y, z) = \sum_t \pm \sum_p (A_t x)_p (B_t y)_p (C_t z)_p

and the same in its three sides. A program takes a tile of rows, one row for each channel of each
sample, and walks over blocks of points: a small matrix product for each signal of the inputs, their
pointwise products, and a matrix product back for each signal of the outputs.

Not measured on a GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels.multilinear import Evaluation
from etp.kernels.on_gpu.grid_source import POINTS, held, sources, tile
from etp.kernels.on_gpu.kernel_form import KernelForm, Launch
from etp.kernels.on_gpu.triton_source import Source, accumulator, shared_memory
from etp.product.base import TensorProduct
from etp.product.layout import channel_index, output_index

WARPS = 4
"""Of a program. Not tuned: no GPU was at hand."""
ROWS = (64, 32, 16)
"""Choices for the rows of a program."""
MAX_VALUES = 22000
"""Numbers that a program may hold before compiled code spills registers, about 170 a thread."""
MAX_DIM = 128
"""Most components of one part: beyond it tiles do not fit into registers."""

COLUMN_BYTES = 290
"""Shared memory for a column of a stage's matrices in float64; as compiled, 800 take 212 kB."""
MAX_STAGES = 36
"""Most stages: lmax 5 of the complete product, some 20 seconds of compiling for each direction."""


class Signal(NamedTuple):
    """Values at points, made of some components of one side.

    Attributes:
        part: Number of the part of the side that holds the components.
        matrix: Values of the components at the points, float64, shape (points, dim).
    """

    part: int
    matrix: Tensor


class Term(NamedTuple):
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
    terms: Sequence[Term]


class GridForm(KernelForm):
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

    def rows(self, evaluation: Evaluation) -> int:
        """Rows of a program: as many as it can hold in registers."""
        columns = held(self, evaluation)
        return next((rows for rows in ROWS if rows * columns <= MAX_VALUES), ROWS[-1])

    @override
    def sources(self, evaluation: Evaluation) -> list[Source]:
        return sources(self, evaluation)

    @override
    def launch(self, evaluation: Evaluation, like: Tensor) -> Launch:
        wide, _ = accumulator(like.dtype)
        # TF32 keeps more digits than half precision has; float32 gives digits up only if asked.
        exact = like.dtype == wide and torch.get_float32_matmul_precision() == "highest"
        options = {"PRECISION": "ieee" if exact else "tf32", "num_warps": WARPS}
        return Launch(self.rows(evaluation), options, self.tables(like.device, wide))


def grid_form(
    parts: Sequence[Sequence[Tensor]], stages: Sequence[Stage], device: torch.device
) -> GridForm | None:
    """The form, None if it would not fit the device."""
    widest = max(part.shape[1] for side in parts for part in side)
    columns = max(
        sum(tile(signal.matrix.shape[1]) for side in stage.signals for signal in side)
        for stage in stages
    )
    room = columns * COLUMN_BYTES <= shared_memory(device)
    fits = widest <= MAX_DIM and room and len(stages) <= MAX_STAGES
    return GridForm(parts, stages) if fits else None


def feature_places(product: TensorProduct) -> list[Tensor]:
    """Positions in the features of each side's components: (channels, components of a channel)."""
    ways = ((product.irreps_in1, product.irs_in1), (product.irreps_in2, product.irs_in2))
    found = [channel_index(irreps, irs) for irreps, irs in ways]
    # Its argument sort inverts a permutation.
    found.append(torch.argsort(output_index(product.irs_out, product.channels)))
    return [index.reshape(product.channels, -1) for index in found]


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
