"""Run by test_interpreted.py: the kernels of products of matrices, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from etp import measure, products
from etp.kernels.multilinear import PRODUCT, Evaluation
from etp.kernels.on_gpu import triton_matrix
from etp.kernels.on_gpu.row_form import ChannelBlock
from etp.kernels.on_gpu.triton_matrix import GradeMatrices, MatrixForm
from etp.kernels.on_gpu.triton_source import interpreted
from etp.products._described import Described
from tests.kernels.forms import SECOND, THIRD, assert_rows_end, draw

assert interpreted(), "this file is run by test_interpreted.py"

DIMS = ((1, 3), (5,), (3, 1, 2))


def made_up_form(channels: int = 2) -> MatrixForm:
    """Two grades of matrices of no symmetry with zeros, a component of each side in neither."""
    generator = torch.Generator().manual_seed(5)
    sides = []
    for side in DIMS:
        starts = [channels * sum(side[:n]) for n in range(len(side))]
        sides.append([ChannelBlock(start, dim) for start, dim in zip(starts, side, strict=True)])

    def matrices(dim: int) -> torch.Tensor:
        found = torch.randn(dim, 4, 4, generator=generator, dtype=torch.float64)
        found[torch.rand(found.shape, generator=generator) < 0.4] = 0.0
        found[-1] = 0.0
        return found

    grades = [GradeMatrices(*(matrices(sum(side)) for side in DIMS)) for _ in range(2)]
    return MatrixForm(channels, sides, grades)


def rows(form: MatrixForm, x: torch.Tensor, side: int) -> torch.Tensor:
    """Features as (N, channels, components)."""
    blocks = form.sides[side]
    parts = [x[:, b.start : b.start + form.channels * b.dim] for b in blocks]
    return torch.cat([p.unflatten(1, (form.channels, -1)) for p in parts], dim=2)


def reference(form: MatrixForm, evaluation: Evaluation, inputs: list[torch.Tensor]):
    """Any evaluation as the derivative of traces, (N, channels, components) each."""
    sides = "ij", "jk", "ki"
    found = []
    for out in evaluation.outputs:
        total = torch.zeros(())
        for term in out.terms:
            for grade in form._grades:
                factors, codes = [], []
                for n in term:
                    side = evaluation.inputs[n]
                    factors.append(
                        torch.einsum("nca,auv->ncuv", rows(form, inputs[n], side), grade[side])
                    )
                    codes.append("nc" + sides[side])
                equation = f"{','.join(codes)},a{sides[out.side]}->nca"
                total = total + torch.einsum(equation, *factors, grade[out.side])
        found.append(total)
    return found


@pytest.mark.parametrize("most", [0, 1000], ids=["a kernel for each grade", "one kernel"])
@pytest.mark.parametrize("evaluation", [PRODUCT, SECOND, THIRD], ids=str)
def test_every_derivative_is_that_of_the_traces(evaluation, most, monkeypatch):
    monkeypatch.setattr(triton_matrix, "MAX_HELD", most)
    form = made_up_form()
    assert len(form.sources(evaluation)) == (1 if most else 2)
    inputs = draw(form, evaluation, 70)
    found = form.run(evaluation, inputs)
    wanted = reference(form, evaluation, inputs)
    for out, z, expected in zip(evaluation.outputs, found, wanted, strict=True):
        assert (rows(form, z, out.side) - expected).norm() < 1e-13 * expected.norm()


def test_nothing_is_written_beyond_the_last_row():
    assert_rows_end(made_up_form())


@pytest.mark.parametrize(
    ("irreps1", "limit"),
    [("2x0e+2x1o+2x2e", "MAX_SIDE"), ("2x0e+2x1o+2x2e", "MAX_NUMBERS"), ("1o+0e+1o+0e", "")],
    ids=["too large", "too many components", "in pieces"],
)
def test_what_a_kernel_does_not_serve_is_left_to_the_plain_form(irreps1, limit, monkeypatch):
    if limit:
        monkeypatch.setattr(triton_matrix, limit, 4)
    tp = products.get("matrix")(irreps1, "2x0e+2x1o")
    assert isinstance(tp, Described)
    assert tp.fused.key(tp.device) is None
    assert measure.agreement(tp).max < 1e-12
