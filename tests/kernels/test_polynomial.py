"""Programs of polynomial maps for every question, against PyTorch's derivatives of the same map."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from etp.kernels.on_cpu import build
from etp.kernels.on_cpu.polynomial import GX, QUESTIONS, Polynomial, Z
from etp.kernels.on_cpu.program import Coefficients, DensePart, LinearMap, MatrixView
from etp.kernels.power import power
from etp.kernels.power_steps import PowerSteps
from etp.kernels.power_table import places

pytestmark = pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
needs_kernel = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))
RNG = np.random.default_rng(0)
DENSE = RNG.standard_normal((5, 6))
SPARSE = np.where(RNG.random((6, 4)) < 0.3, RNG.standard_normal((6, 4)), 0.0)
SPARSE[0, 0] = 1.0


def drawn() -> Polynomial:
    """A map that squares, turns matrices, adds to rows, and leaves rows unread and unwritten."""
    steps = Polynomial((5, 3, 7))
    a, b, c, d = (steps.take(size) for size in (6, 6, 6, 9))
    rows = [np.arange(size, dtype=np.int32) for size in (5, 6, 4)]
    steps.linear(steps.x, a, LinearMap((5, 6), ((DensePart(rows[0], rows[1], DENSE),),)))
    steps.pointwise(b, a, a, 6)  # squares
    # Rows of c from 3 on stay unwritten: they are read as zeros.
    steps.pointwise(c, b, a, 3)
    # (3, 2) @ (2, 3), the second factor turned.
    steps.product(MatrixView(d, 3, 1), MatrixView(a, 2, 1), MatrixView(b, 1, 2), (3, 2, 3))
    # Weights by rows of d into the middle of the result, and of c in front and over it.
    steps.product(
        MatrixView(steps.z + 2, 3, 1), MatrixView(steps.w, 3, 1), MatrixView(d, 3, 1), (1, 3, 3)
    )
    sparse = DensePart(rows[1], rows[2], SPARSE)
    steps.linear(c, steps.z, LinearMap((6, 4), ((sparse,),)))
    steps.pointwise(steps.z + 5, steps.w, steps.x, 1)
    return steps


def written_out(x: Tensor, w: Tensor) -> Tensor:
    """The same of (N, 5, C) and (N or 1, 3, C)."""
    dense, sparse = (torch.from_numpy(m).to(x) for m in (DENSE, SPARSE))
    a = torch.einsum("ij,nic->njc", dense, x)
    b = a * a
    c = torch.cat([b[:, :3] * a[:, :3], torch.zeros_like(a[:, :3])], dim=1)
    d = torch.einsum("nikc,njkc->nijc", a.unflatten(1, (3, 2)), b.unflatten(1, (3, 2)))
    middle = torch.einsum("nkc,nkjc->njc", w.expand(len(x), -1, -1), d)
    front = torch.einsum("ij,nic->njc", sparse, c)
    first = (w[:, :1] * x[:, :1]).expand(len(x), -1, -1)
    zero = torch.zeros_like(first)
    whole = torch.cat([zero, zero, middle, first, zero], dim=1)
    return whole + torch.nn.functional.pad(front, (0, 0, 0, 3))


@needs_kernel
@pytest.mark.parametrize("own_weights", [True, False], ids=["each", "shared"])
def test_derivatives_up_to_the_third_are_those_of_the_map(own_weights):
    torch.manual_seed(0)
    table = PowerSteps.of(drawn())
    channels, nodes = 3, 5
    lie = torch.tensor(places([5], channels, True) + places([7], channels, True)).int()
    x = torch.randn(nodes, 5 * channels, dtype=torch.float64, requires_grad=True)
    shape = (nodes, 3 * channels) if own_weights else (3 * channels,)
    w = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def ours(x: Tensor, w: Tensor) -> Tensor:
        return power(table, x, w, None, lie, channels)

    def theirs(x: Tensor, w: Tensor) -> Tensor:
        rows = (x.unflatten(1, (5, channels)), w.reshape(-1, 3, channels))
        return written_out(*rows).flatten(1)

    results = [[f(x, w)] for f in (ours, theirs)]
    inputs = [x, w]
    for _ in range(4):
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, atol=1e-11, rtol=1e-11)
        along = [torch.randn_like(z).requires_grad_() for z in results[0]]
        results = [list(torch.autograd.grad(z, inputs, along, create_graph=True)) for z in results]
        inputs = [*inputs, *along]


@needs_kernel
def test_programs_of_another_version_are_refused():
    table = PowerSteps.of(drawn())
    table.get_buffer("code")[5] += 1
    lie = torch.tensor(places([5], 1, True) + places([7], 1, True)).int()
    with pytest.raises(RuntimeError, match="not of this version of the library; make the graph"):
        power(table, torch.randn(2, 5), torch.randn(3), None, lie, 1)


def test_a_question_takes_no_steps_that_its_answer_does_not_need():
    steps = drawn()
    coefficients = Coefficients()
    macs = {asked: steps.answer(asked, coefficients).program.macs for asked in QUESTIONS}
    for asked, own in macs.items():
        for part in (flag for flag in (1, 2, 4) if asked & flag and asked != flag):
            rest = asked & ~part
            if rest in macs:
                assert own > macs[rest], (asked, part)
    assert macs[GX] > macs[Z]


def test_rows_that_are_done_with_make_room_for_others():
    """A long chain of squares holds two of its links at a time."""
    steps = Polynomial((4, 1, 4))
    links = [steps.x, *(steps.take(4) for _ in range(20)), steps.z]
    for before, after in pairwise(links):
        steps.pointwise(after, before, before, 4)
    assert steps.answer(Z, Coefficients()).program.rows == 8
