"""Run by test_triton.py: the kernel of products on a grid, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import triton.language as tl

from etp import measure, products
from etp.kernels import triton_grid
from etp.kernels.multilinear import PRODUCT
from etp.kernels.triton_grid import GridForm, _places, grid_form, point_matrices
from etp.kernels.triton_source import interpreted
from etp.product import TensorProduct

assert interpreted(), "this file is run by test_triton.py"

CASES = {
    "one channel": ("0e+1o", "0e+1o", None),
    "channels": ("3x0e+3x1o+3x2e", "3x0e+3x1o", None),
    "unequal": ("4x1o", "4x0e+4x1o+4x3o", None),
    "both parities": ("0e+0o+1o+1e", "0e+1e+2o", None),
    "pseudoscalar fields": ("0o+1e", "0o+1e+2o", None),
    "filtered": ("2x0e+2x1o+2x2e", "2x0e+2x1o+2x2e", "0e+2e"),
    "repeated, in pieces": ("1o+0e+1o+0e", "2x0e+2x1o", None),
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}


def build(case: str) -> TensorProduct:
    irreps1, irreps2, keep = CASES[case]
    return products.get("gaunt-grid")(irreps1, irreps2, filter_ir_out=keep)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_the_fused_product_agrees_with_the_oracle(case, dtype):
    tp = build(case)
    assert grid_form(tp) is not None  # type: ignore[arg-type]
    assert measure.agreement(tp, dtype=dtype, batch=7).max < TOLERANCE[dtype]


def test_batches_that_fill_several_tiles_and_part_of_one():
    assert measure.agreement(build("channels"), batch=50).max < 1e-12


def test_first_and_second_derivatives_are_right():
    tp = build("both parities")
    x1, x2 = tp.random_inputs(2, torch.Generator().manual_seed(0))
    inputs = (x1.requires_grad_(), x2.requires_grad_())
    assert torch.autograd.gradcheck(tp, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(tp, inputs, fast_mode=True)


def test_every_derivative_is_that_of_the_sum_over_points():
    generator = torch.Generator().manual_seed(2)
    dims, points, channels = (3, 5, 4), 40, 2
    places = [torch.randperm(channels * d, generator=generator).reshape(2, d) for d in dims]
    matrices = [torch.randn(points, d, generator=generator, dtype=torch.float64) for d in dims]
    form = GridForm(places, matrices)
    second = PRODUCT.derivative([0, 1], [0])
    third = second.derivative([0, 1, 2], [0, 1])
    for evaluation in (PRODUCT, second, third):
        inputs = [
            torch.randn(37, form.widths[s], generator=generator, dtype=torch.float64)
            for s in evaluation.inputs
        ]
        signals = [
            x[:, places[s]] @ matrices[s].T for x, s in zip(inputs, evaluation.inputs, strict=True)
        ]
        found = form.run(evaluation, inputs)
        for out, z in zip(evaluation.outputs, found, strict=True):
            parts = [torch.stack([signals[a] for a in term]).prod(0) for term in out.terms]
            wanted = torch.stack(parts).sum(0) @ matrices[out.side]
            assert (z[:, places[out.side]] - wanted).norm() / wanted.norm() < 1e-13


def test_the_kernel_computes_what_the_plain_form_computes():
    tp = build("both parities")
    x1, x2 = tp.random_inputs(5, torch.Generator().manual_seed(1))
    plain = TensorProduct.multiply_channels(tp, x1, x2)
    torch.testing.assert_close(tp.multiply_channels(x1, x2), plain, rtol=1e-12, atol=1e-12)


def test_nothing_is_written_beyond_the_last_row():
    tp = build("channels")
    form = GridForm(_places(tp), point_matrices(tp))  # type: ignore[arg-type]
    x, y = tp.random_inputs(5, torch.Generator().manual_seed(1))
    (z,) = form.run(PRODUCT, [x, y])
    room = torch.full((8, form.widths[2]), torch.nan, dtype=torch.float64)
    form._kernels[PRODUCT][(1,)](
        *(x, y, x.stride(0), y.stride(0), room, *form._on(x.device, x.dtype)),
        5 * form.channels, BLOCK=64, ACC=tl.float64, POINTS=triton_grid.POINTS, PRECISION="ieee",
    )  # fmt: skip
    torch.testing.assert_close(room[:5], z, rtol=0, atol=0)
    assert room[5:].isnan().all()


def test_a_coarse_grid_stays_as_wrong_as_it_was_asked_to_be():
    tp = products.get("gaunt-grid")("0e+1o+2e", "0e+1o+2e", resolution=(3, 5))  # type: ignore[call-arg]
    x1, x2 = tp.random_inputs(5, torch.Generator().manual_seed(1))
    plain = TensorProduct.multiply_channels(tp, x1, x2)
    torch.testing.assert_close(tp(x1, x2), plain, rtol=1e-12, atol=1e-12)
    assert measure.agreement(tp).max > 1e-3


def test_points_of_each_meeting_pair_of_sectors_are_there_once():
    tp = build("both parities")
    points = tp.resolution[0] * tp.resolution[1]  # type: ignore[index]
    assert all(len(m) == 4 * points for m in point_matrices(tp))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_product_is_the_same():
    tp = build("channels")
    x1, x2 = tp.random_inputs(3, torch.Generator().manual_seed(1))
    compiled = torch.compile(tp, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x1, x2), tp(x1, x2), rtol=0, atol=0)


def test_products_too_wide_for_registers_are_left_to_the_plain_form(monkeypatch):
    monkeypatch.setattr(triton_grid, "MAX_DIM", 3)
    tp = build("channels")
    assert grid_form(tp) is None  # type: ignore[arg-type]
    assert measure.agreement(tp).max < 1e-12
