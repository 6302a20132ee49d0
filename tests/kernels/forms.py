"""What the tests of every form share; imported by files that run in Triton's interpreter."""

from __future__ import annotations

import torch
import triton.language as tl

from etp.kernels.multilinear import PRODUCT, Evaluation, Form
from etp.kernels.on_gpu.row_form import RowForm

SECOND = PRODUCT.derivative([0, 1], [0])
THIRD = SECOND.derivative([0, 1, 2], [0, 1])


def draw(form: Form, evaluation: Evaluation, samples: int) -> list[torch.Tensor]:
    """Random inputs of an evaluation, float64."""
    generator = torch.Generator().manual_seed(4)
    return [
        torch.randn(samples, form.widths[side], generator=generator, dtype=torch.float64)
        for side in evaluation.inputs
    ]


def assert_rows_end(form: RowForm) -> None:
    """Nothing is written beyond the last of five samples."""
    x, y = draw(form, PRODUCT, 5)
    (z,) = form.run(PRODUCT, [x, y])
    (kernel,) = form._kernels[PRODUCT]
    room = torch.full((8, form.widths[2]), torch.nan, dtype=torch.float64)
    strides = x.stride(0), y.stride(0)
    kernel[(1,)](x, y, *strides, room, 5 * form.channels, BLOCK=form.rows, ACC=tl.float64)
    torch.testing.assert_close(room[:5], z, rtol=0, atol=0)
    assert room[5:].isnan().all()
