r"""Products of signals on grids in one Triton kernel: values at points never leave the chip.

The form is a sum of stages, each with points of its own,

.. math:: T(x, y, z) = \sum_t \pm \sum_p (A_t x)_p (B_t y)_p (C_t z)_p

and the same in its three sides. A program takes a tile of rows, one row for each channel of each
sample, and walks over blocks of points: a small matrix product for each signal of the inputs, their
pointwise products, and a matrix product back for each signal of the outputs.

Not measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels.multilinear import Evaluation
from etp.kernels.on_gpu.grid_data import GridData, Stage, tile
from etp.kernels.on_gpu.grid_source import held, sources
from etp.kernels.on_gpu.kernel_form import Launch
from etp.kernels.on_gpu.triton_source import Source, accumulator, shared_memory

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


class GridForm(GridData):
    """Sum over stages of sums over points of products of three signals, for each channel."""

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
