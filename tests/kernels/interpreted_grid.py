"""Run by test_interpreted.py: the kernel of products on grids, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import triton.language as tl

from etp import measure, products
from etp.kernels.multilinear import PRODUCT, Evaluation, evaluate, intern
from etp.kernels.on_gpu import grid_source, triton_grid
from etp.kernels.on_gpu.grid_data import Signal, Stage, Triple
from etp.kernels.on_gpu.grid_source import sources
from etp.kernels.on_gpu.triton_grid import ROWS, TERMS, GridForm
from etp.kernels.on_gpu.triton_source import interpreted
from etp.measure.drawing import random_inputs
from etp.product.base import TensorProduct
from etp.products._described import Described
from tests.kernels.forms import SECOND, THIRD, draw

assert interpreted(), "this file is run by test_interpreted.py"
FOURTH = THIRD.derivative(range(len(THIRD.inputs)), range(len(THIRD.outputs)))
TOLERANCE = {torch.float64: 1e-13, torch.bfloat16: 1e-2}


def form_of(name: str, *irreps: str) -> GridForm:
    tp = products.get(name)(*irreps)
    assert isinstance(tp, Described)
    form = tp.fused.form(tp.device)
    assert isinstance(form, GridForm)
    return form


def made_up_form() -> GridForm:
    """Two stages of unlike grids, parts that both use, that one uses, and that none uses."""
    generator = torch.Generator().manual_seed(2)
    channels, dims = 2, ((3, 2, 1), (5, 1), (4, 17))
    parts = []
    for side in dims:
        places = torch.randperm(channels * sum(side), generator=generator).reshape(channels, -1)
        parts.append(list(places.split(list(side), dim=1)))

    def stage(points: int, used: tuple[tuple[int, ...], ...], terms: list[Triple]) -> Stage:
        first, second, third = (
            [Signal(part, torch.randn(points, side[part], generator=generator, dtype=torch.float64))
             for part in numbers]
            for side, numbers in zip(dims, used, strict=True)
        )  # fmt: skip
        return Stage((first, second, third), terms)

    stages = [
        stage(40, ((0, 0, 1), (0, 0), (0, 0)), [
            Triple((0, 0, 0), 1), Triple((1, 1, 0), -1),
            Triple((2, 1, 1), -1), Triple((0, 1, 1), 1),
        ]),
        stage(7, ((0,), (0, 1), (0, 1)), [Triple((0, 0, 1), -1), Triple((0, 1, 0), 1)]),
    ]  # fmt: skip
    return GridForm(parts, stages)


def reference(form: GridForm, evaluation: Evaluation, inputs: list[torch.Tensor]):
    """Any evaluation of a form, term by term on whole grids."""

    def values(n: int, stage: Stage, number: int) -> torch.Tensor:
        side = evaluation.inputs[n]
        signal = stage.signals[side][number]
        return inputs[n][:, form.parts[side][signal.part]] @ signal.matrix.T

    found = []
    for out in evaluation.outputs:
        total = inputs[0].new_zeros(len(inputs[0]), form.widths[out.side])
        for stage in form.stages:
            for signals, sign in stage.terms:
                read = stage.signals[out.side][signals[out.side]]
                for a, b in out.terms:
                    product = values(a, stage, signals[evaluation.inputs[a]])
                    product = product * values(b, stage, signals[evaluation.inputs[b]])
                    total[:, form.parts[out.side][read.part]] += sign * (product @ read.matrix)
        found.append(total)
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("evaluation", [SECOND, THIRD, FOURTH], ids=str)
def test_what_does_not_fit_the_card_is_summed_term_by_term(evaluation, dtype, monkeypatch):
    form = made_up_form()
    inputs = [x.to(dtype) for x in draw(form, evaluation, 5)]
    itemsize = torch.promote_types(dtype, torch.float32).itemsize
    room = max(form.needs(term, ROWS[-1], itemsize) for term in TERMS)
    monkeypatch.setattr(triton_grid, "shared_memory", lambda _: room)
    found = form.run(evaluation, inputs)
    # Three kernels serve all derivatives, however many terms they have.
    assert form._kernels.keys() <= set(TERMS)
    wanted = reference(form, evaluation, [x.double() for x in inputs])
    for z, expected in zip(found, wanted, strict=True):
        assert z.dtype == dtype
        assert (z - expected).norm() < TOLERANCE[dtype] * expected.norm()


def test_third_derivatives_are_summed_of_terms_on_every_card():
    form = made_up_form()
    assert form.at_once(THIRD, 8, 1 << 30)
    assert not form.at_once(FOURTH, 8, 1 << 30)


@pytest.mark.parametrize("most", [1, 1000], ids=["a kernel for each stage", "one kernel"])
@pytest.mark.parametrize("evaluation", [PRODUCT, SECOND, THIRD], ids=str)
def test_every_derivative_is_that_of_the_sums_over_points(evaluation, most, monkeypatch):
    monkeypatch.setattr(grid_source, "MAX_PRODUCTS", most)
    form = made_up_form()
    assert len(sources(form, evaluation)) == (2 if most == 1 else 1)
    inputs = draw(form, evaluation, 37)
    found = form.run(evaluation, inputs)
    for z, wanted in zip(found, reference(form, evaluation, inputs), strict=True):
        assert (z - wanted).norm() < 1e-13 * wanted.norm()


def test_partial_sums_of_half_precision_are_kept_in_float32(monkeypatch):
    monkeypatch.setattr(grid_source, "MAX_PRODUCTS", 1)
    form = made_up_form()
    x, y = (torch.randn(5, width).bfloat16() for width in form.widths[:2])
    (z,) = evaluate(intern(form), PRODUCT, [x, y])
    (wanted,) = reference(form, PRODUCT, [x.double(), y.double()])
    assert z.dtype == torch.bfloat16
    torch.testing.assert_close(z, wanted.bfloat16(), rtol=1e-2, atol=1e-2)


def test_nothing_is_written_beyond_the_last_row():
    form = made_up_form()
    x, y = (torch.randn(5, width, dtype=torch.float64) for width in form.widths[:2])
    (z,) = form.run(PRODUCT, [x, y])
    room = torch.full((8, form.widths[2]), torch.nan, dtype=torch.float64)
    (kernel,) = form._kernels[PRODUCT]
    kernel[(1,)](
        *(x, y, x.stride(0), y.stride(0), room, *form.tables(x.device, x.dtype)),
        5 * form.channels, BLOCK=64, ACC=tl.float64, PRECISION="ieee",
    )  # fmt: skip
    torch.testing.assert_close(room[:5], z, rtol=0, atol=0)
    assert room[5:].isnan().all()


def test_a_coarse_grid_stays_as_wrong_as_it_was_asked_to_be():
    tp = products.get("gaunt-grid")("0e+1o+2e", "0e+1o+2e", resolution=(3, 5))  # type: ignore[call-arg]
    x1, x2 = random_inputs(tp, 5, torch.Generator().manual_seed(1))
    plain = TensorProduct.multiply_channels(tp, x1, x2)
    torch.testing.assert_close(tp(x1, x2), plain, rtol=1e-12, atol=1e-12)
    assert measure.agreement(tp).max > 1e-3


@pytest.mark.parametrize(("name", "pairs"), [("gaunt-grid", 4), ("gaunt-bracket", 8)])
def test_each_meeting_pair_of_sectors_is_multiplied_once(name, pairs):
    (stage,) = form_of(name, "0e+0o+1o+1e", "0e+1e+2o").stages
    assert len(stage.terms) == len({term.signals for term in stage.terms}) == pairs


def test_the_complete_product_has_a_tight_grid_for_each_pair():
    stages = form_of("complete", "0e+1o", "0e+1o").stages
    assert [len(stage.signals[0][0].matrix) for stage in stages] == [1, 6, 6, 15]


@pytest.mark.parametrize(
    ("limit", "value"),
    [("MAX_DIM", 2), ("MAX_STAGES", 2), ("shared_memory", lambda _: 15 << 10)],
)
def test_products_too_large_for_a_kernel_are_left_to_the_plain_form(limit, value, monkeypatch):
    monkeypatch.setattr(triton_grid, limit, value)
    tp = products.get("complete")("3x0e+3x1o", "3x0e+3x1o")
    assert isinstance(tp, Described)
    assert tp.fused.key(tp.device) is None
    assert measure.agreement(tp).max < 1e-12
