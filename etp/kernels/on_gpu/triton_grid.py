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

from etp.kernels.multilinear import PRODUCT, Evaluation, Output
from etp.kernels.on_gpu.grid_data import GridData, Stage
from etp.kernels.on_gpu.grid_source import held, shared_bytes, sources
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
SECOND = PRODUCT.derivative([0, 1], [0])
THIRD = SECOND.derivative([0, 1, 2], [0, 1])
"""Gradients, and their gradients."""
TERMS = tuple(
    Evaluation((a, b), (Output(c, ((0, 1),)),)) for a, b, c in ((0, 1, 2), (1, 2, 0), (0, 2, 1))
)
"""One term by each side: what any derivative can be summed from, and a form must have room for."""
MARGINS = {1: 1.42, 2: 1.25}
"""How much more than counted the compiler was seen to take, by number of outputs; else no more."""
MOST_TERMS = 6
"""Terms of the gradients of gradients. A kernel of more takes minutes to compile."""
MAX_STAGES = 36
"""Most stages: lmax 5 of the complete product, some 20 seconds of compiling for each direction."""


class GridForm(GridData):
    """Sum over stages of sums over points of products of three signals, for each channel."""

    def __init__(self, parts: Sequence[Sequence[Tensor]], stages: Sequence[Stage]) -> None:
        super().__init__(parts, stages)
        self._rows: dict[tuple[Evaluation, int, int | None], int] = {}

    def rows(self, evaluation: Evaluation, itemsize: int = 4, room: int | None = None) -> int:
        """Rows of a program: as many as there are registers and shared memory for.

        Args:
            evaluation: Which derivatives of the form.
            itemsize: Bytes of a number.
            room: Bytes of shared memory; None for those of a Hopper card.
        """
        key = evaluation, itemsize, room
        if key not in self._rows:
            columns = held(self, evaluation)
            most = shared_memory(torch.device("cpu")) if room is None else room
            fitting = (
                rows for rows in ROWS
                if rows * columns <= MAX_VALUES and self.needs(evaluation, rows, itemsize) <= most
            )  # fmt: skip
            self._rows[key] = next(fitting, ROWS[-1])
        return self._rows[key]

    def needs(self, evaluation: Evaluation, rows: int, itemsize: int) -> float:
        """Bytes of shared memory that a program of so many rows may take."""
        margin = MARGINS.get(len(evaluation.outputs), 1.0)
        return margin * shared_bytes(self, evaluation, rows, itemsize)

    def at_once(self, evaluation: Evaluation, itemsize: int, room: int) -> bool:
        """Whether all outputs are made together, else term by term in smaller kernels.

        Args:
            evaluation: Which derivatives of the form.
            itemsize: Bytes of a number.
            room: Bytes of shared memory.
        """
        terms = sum(len(out.terms) for out in evaluation.outputs)
        fits = self.needs(evaluation, ROWS[-1], itemsize) <= room
        return terms == 1 or (terms <= MOST_TERMS and fits)

    @override
    def run(self, evaluation: Evaluation, inputs: Sequence[Tensor]) -> list[Tensor]:
        like = inputs[0]
        wide, _ = accumulator(like.dtype)
        if self.at_once(evaluation, wide.itemsize, shared_memory(like.device)):
            return super().run(evaluation, inputs)
        given = [x.to(wide) for x in inputs]
        sums = (self._summed(out, evaluation.inputs, given) for out in evaluation.outputs)
        return [total.to(like.dtype) for total in sums]

    def _summed(self, out: Output, sides: Sequence[int], inputs: Sequence[Tensor]) -> Tensor:
        """An output, each of its terms by a kernel that only adds its own up."""
        terms = (
            super(GridForm, self).run(
                Evaluation(tuple(sides[n] for n in term), (Output(out.side, ((0, 1),)),)),
                [inputs[n] for n in term],
            )[0]
            for term in out.terms
        )
        return sum(terms, start=next(terms))

    @override
    def sources(self, evaluation: Evaluation) -> list[Source]:
        return sources(self, evaluation)

    @override
    def launch(self, evaluation: Evaluation, like: Tensor) -> Launch:
        wide, _ = accumulator(like.dtype)
        # TF32 keeps more digits than half precision has; float32 gives digits up only if asked.
        exact = like.dtype == wide and torch.get_float32_matmul_precision() == "highest"
        options = {"PRECISION": "ieee" if exact else "tf32", "num_warps": WARPS}
        rows = self.rows(evaluation, wide.itemsize, shared_memory(like.device))
        return Launch(rows, options, self.tables(like.device, wide))


def grid_form(
    parts: Sequence[Sequence[Tensor]],
    stages: Sequence[Stage],
    device: torch.device,
    dtype: torch.dtype,
) -> GridForm | None:
    """The form, None if its smallest programs would not fit the device in this number type."""
    widest = max(part.shape[1] for side in parts for part in side)
    if widest > MAX_DIM or len(stages) > MAX_STAGES:
        return None
    form, room = GridForm(parts, stages), shared_memory(device)
    itemsize = torch.promote_types(dtype, torch.float32).itemsize
    fits = all(form.needs(term, ROWS[-1], itemsize) <= room for term in TERMS)
    return form if fits else None
