"""Run by test_interpreted.py: the kernels of forms given by paths, in Triton's interpreter."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from e3nn import o3
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from etp import measure, products
from etp.kernels.multilinear import PRODUCT, WEIGHTED, Evaluation, evaluate, intern
from etp.kernels.on_gpu import path_source, triton_paths
from etp.kernels.on_gpu.path_data import BlockPath
from etp.kernels.on_gpu.path_source import sources
from etp.kernels.on_gpu.row_form import ChannelBlock
from etp.kernels.on_gpu.triton_paths import PathForm
from etp.kernels.on_gpu.triton_source import interpreted
from etp.measure import oracle
from etp.measure.drawing import random_inputs
from etp.product.base import TensorProduct
from etp.products._described import Described
from tests.kernels.forms import assert_rows_end

assert interpreted(), "this file is run by test_interpreted.py"

CASES = {
    "one channel": ("0e+1o", "0e+1o", None),
    "ragged tiles": ("3x0e+3x1o+3x2e", "3x0e+3x1o", None),
    "whole tiles": ("32x0e+32x1o", "32x1o", None),
    "unequal": ("4x1o", "4x0e+4x1o+4x3o", None),
    "mixed parities": ("0e+0o+1o+1e", "0e+1e+2o", None),
    "one odd path": ("1o", "1o", "1e"),
    "irreps that no path reaches": ("2x0e+2x1o+2x2e", "2x0e+2x1o+2x2e", "0e"),
    "repeated, in one piece": ("1o+1o+0e+0e", "2x0e+2x1o", None),
    "repeated, in pieces": ("1o+0e+1o+0e", "2x0e+2x1o", None),
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}


def build(case: str) -> Described:
    irreps1, irreps2, keep = CASES[case]
    tp = products.get("cg-sparse")(irreps1, irreps2, filter_ir_out=keep)
    assert isinstance(tp, Described)
    return tp


def draw(*shapes: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


def reference(form: PathForm, evaluation: Evaluation, inputs: list[torch.Tensor]):
    """Any evaluation of a form, path by path with einsum."""
    letters = "ijkc"

    def block(x: torch.Tensor, side: int, coupling: BlockPath) -> torch.Tensor:
        start, dim = form.sides[side][coupling.blocks[side]]
        part = x[:, start : start + form.channels * dim].unflatten(1, (form.channels, dim))
        return part if side < 3 else part[..., 0]

    found = []
    for out in evaluation.outputs:
        total = inputs[0].new_zeros(len(inputs[0]), form.widths[out.side])
        for coupling in form.couplings:
            for term in out.terms:
                sides = [evaluation.inputs[a] for a in term]
                factors = [block(inputs[a], s, coupling) for a, s in zip(term, sides, strict=True)]
                codes = ["nc" + letters[s] if s < 3 else "nc" for s in sides]
                result = "nc" + letters[out.side] if out.side < 3 else "nc"
                equation = f"{','.join(codes)},ijk->{result}"
                target = block(total, out.side, coupling)
                target += torch.einsum(equation, *factors, coupling.coefficients)
        found.append(total)
    return found


def form_of(*, weighted: bool, channels: int = 2) -> PathForm:
    """A form with an irrep that no path reaches, made up coefficients, and odd dimensions."""
    generator = torch.Generator().manual_seed(5)
    dims = ((1, 3, 5), (1, 3), (3, 5, 1))
    sides = []
    for side in dims:
        starts = [channels * sum(side[:n]) for n in range(len(side))]
        sides.append([ChannelBlock(start, dim) for start, dim in zip(starts, side, strict=True)])
    blocks = [(0, 0, 2), (0, 1, 0), (1, 1, 0), (1, 1, 2), (1, 0, 0)]
    couplings = []
    for number, (a, b, c) in enumerate(blocks):
        shape = dims[0][a], dims[1][b], dims[2][c]
        matrix = torch.randn(shape, generator=generator, dtype=torch.float64)
        matrix[torch.rand(shape, generator=generator) < 0.3] = 0.0
        couplings.append(BlockPath((a, b, c, *[number] * weighted), matrix))
    if weighted:
        sides.append([ChannelBlock(number * channels, 1) for number in range(len(blocks))])
    form = PathForm(channels, sides, couplings)
    intern(form)
    return form


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_the_fused_product_agrees_with_the_oracle(case, dtype):
    tp = build(case)
    assert (tp.fused.key(tp.device) is None) == (case == "repeated, in pieces")
    assert measure.agreement(tp, dtype=dtype, batch=7).max < TOLERANCE[dtype]


@given(
    first=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("eo")), min_size=1, max_size=3),
    second=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("eo")), min_size=1, max_size=2),
    channels=st.integers(1, 4),
)
@hypothesis_settings(max_examples=12)
def test_random_irreps_agree_with_the_oracle(first, second, channels):
    irreps = ("+".join(f"{channels}x{l}{p}" for l, p in irs) for irs in (first, second))
    try:
        tp = products.get("cg-sparse")(*irreps)
    except ValueError:
        return
    assert measure.agreement(tp, batch=3).max < 1e-12


def test_batches_that_fill_several_tiles_and_part_of_one():
    tp = build("ragged tiles")
    assert measure.agreement(tp, batch=150).max < 1e-12


def test_first_and_second_derivatives_are_right():
    tp = build("irreps that no path reaches")
    x1, x2 = (x.requires_grad_() for x in draw((2, 18), (2, 18)))
    assert torch.autograd.gradcheck(tp, (x1, x2), fast_mode=True)
    assert torch.autograd.gradgradcheck(tp, (x1, x2), fast_mode=True)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("terms", [2000, 30], ids=["one kernel", "several kernels"])
def test_every_derivative_is_that_of_the_sum_over_paths(weighted, terms, monkeypatch):
    monkeypatch.setattr(path_source, "MAX_TERMS", terms)
    form = form_of(weighted=weighted)
    first = WEIGHTED if weighted else PRODUCT
    second = first.derivative(range(len(first.inputs)), [0])
    third = second.derivative(range(len(second.inputs)), range(len(second.outputs)))
    form._kernels.clear()
    for evaluation in (first, second, third):
        assert (len(sources(form, evaluation)) > 1) == (terms == 30)
        inputs = draw(*((40, form.widths[side]) for side in evaluation.inputs))
        wanted = reference(form, evaluation, inputs)
        for found, value in zip(form.run(evaluation, inputs), wanted, strict=True):
            assert (found - value).norm() / value.norm() < 1e-14


def test_a_sum_cut_into_kernels_is_rounded_once(monkeypatch):
    monkeypatch.setattr(path_source, "MAX_TERMS", 30)
    form = form_of(weighted=False)
    assert len(sources(form, PRODUCT)) > 1
    inputs = draw((70, form.widths[0]), (70, form.widths[1]), dtype=torch.bfloat16)
    found = form.run(PRODUCT, inputs)[0]
    wanted = reference(form, PRODUCT, [x.double() for x in inputs])[0].bfloat16()
    assert (found == wanted).double().mean() > 0.99


@pytest.mark.parametrize("shared", [False, True], ids=["per sample", "shared"])
def test_weighted_sums_of_paths_and_all_their_gradients(shared):
    form = form_of(weighted=True, channels=3)
    rows = 1 if shared else 4
    shapes = (4, form.widths[0]), (4, form.widths[1]), (rows, form.widths[3])
    inputs = [x.requires_grad_() for x in draw(*shapes)]
    seeds = draw((4, form.widths[2]), *shapes, seed=1)

    def derivatives(product) -> list[torch.Tensor]:
        x, y, w = inputs
        z = product([x, y, w.expand(4, -1)])[0]
        gradient = seeds[0].requires_grad_()
        firsts = torch.autograd.grad(z, inputs, gradient, create_graph=True)
        seconds = torch.autograd.grad(firsts, [*inputs, gradient], seeds[1:])
        return [z, *firsts, *seconds]

    found = derivatives(lambda at: evaluate(form.key, WEIGHTED, at))
    wanted = derivatives(lambda at: reference(form, WEIGHTED, at))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shared", [False, True], ids=["per sample", "shared"])
def test_a_product_that_sums_weighted_paths_has_a_kernel(shared):
    tp = products.get("cg-summed")("2x0e+2x1o", "2x0e+2x1o")
    assert isinstance(tp, Described)
    form = tp.fused_weighted.key(tp.device)
    assert form is not None
    assert form != tp.fused.key(tp.device)
    (weights,) = draw((1 if shared else 6, 2 * len(tp.paths)), seed=4)
    x1, x2 = draw((6, 8), (6, 8))
    (found,) = evaluate(form, WEIGHTED, [x1, x2, weights.expand(6, -1)])
    first, second = oracle.by_irrep(x1, tp.irreps_in1), oracle.by_irrep(x2, tp.irreps_in2)
    blocks = {ir: torch.zeros(6, 2, ir.dim, dtype=torch.float64) for ir in tp.irs_out}
    for path, w in zip(tp.paths, weights.expand(6, -1).split(2, dim=1), strict=True):
        w3j = oracle.wigner_3j(path.ir_in1.l, path.ir_in2.l, path.ir_out.l)
        factors = first[path.ir_in1], second[path.ir_in2], w3j
        blocks[path.ir_out] += torch.einsum("nc,nci,ncj,ijk->nck", w, *factors)
    wanted = torch.cat([block.flatten(1) for block in blocks.values()], dim=1)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    (unweighted,) = evaluate(str(tp.fused.key(tp.device)), PRODUCT, [x1, x2])
    torch.testing.assert_close(unweighted, oracle.evaluate(tp, x1, x2), rtol=1e-12, atol=1e-12)


def test_third_derivatives_are_right():
    form = form_of(weighted=False)
    x, y = draw((2, form.widths[0]), (2, form.widths[1]))

    def thirds(product) -> torch.Tensor:
        def twice(x: torch.Tensor) -> torch.Tensor:
            z = product(x, y).pow(3).sum()
            (slope,) = torch.autograd.grad(z, x, create_graph=True)
            (second,) = torch.autograd.grad(slope.pow(2).sum(), x, create_graph=True)
            return second.sum()

        at = x.clone().requires_grad_()
        return torch.autograd.grad(twice(at), at)[0]

    found = thirds(lambda x, y: evaluate(form.key, PRODUCT, [x, y])[0])
    wanted = thirds(lambda x, y: reference(form, PRODUCT, [x, y])[0])
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_one_sample_for_all_and_strided_inputs_are_read_where_they_lie():
    tp = build("ragged tiles").double()
    x1, x2 = draw((6, 27), (6, 12))
    wanted = tp(x1[:1].repeat(6, 1), x2)
    torch.testing.assert_close(tp(x1[0], x2), wanted, rtol=0, atol=0)
    torch.testing.assert_close(tp(x1[:1].expand(6, -1), x2.T.contiguous().T), wanted)
    wide = torch.cat([x2, x2], dim=1)
    torch.testing.assert_close(tp(x1[0], wide[:, :12]), wanted, rtol=0, atol=0)


def test_nothing_is_written_beyond_the_last_row():
    assert_rows_end(form_of(weighted=False))


def test_copies_and_pickles_compute_the_same():
    tp = build("ragged tiles")
    x1, x2 = draw((3, 27), (3, 12))
    for twin in (copy.deepcopy(tp), pickle.loads(pickle.dumps(tp))):
        torch.testing.assert_close(twin(x1, x2), tp(x1, x2), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_product_and_its_gradient_are_the_same():
    tp = build("ragged tiles")
    compiled = torch.compile(tp, backend="aot_eager", fullgraph=True)
    x1, x2 = (x.requires_grad_() for x in draw((3, 27), (3, 12)))
    torch.testing.assert_close(compiled(x1, x2), tp(x1, x2), rtol=0, atol=0)
    slopes = (torch.autograd.grad(f(x1, x2).square().sum(), (x1, x2)) for f in (compiled, tp))
    torch.testing.assert_close(*slopes, rtol=0, atol=0)


def test_the_kernel_computes_what_the_plain_form_computes():
    tp = build("unequal")
    x1, x2 = random_inputs(tp, 5, torch.Generator().manual_seed(1))
    plain = TensorProduct.multiply_channels(tp, x1, x2)
    torch.testing.assert_close(tp.multiply_channels(x1, x2), plain, rtol=1e-13, atol=1e-13)


def test_forms_too_large_to_compile_are_left_to_the_plain_form(monkeypatch):
    monkeypatch.setattr(triton_paths, "MAX_ENTRIES", 10)
    tp = products.get("cg-sparse")(o3.Irreps("0e+1o"), o3.Irreps("0e+1o"))
    assert isinstance(tp, Described)
    assert tp.fused.key(tp.device) is None
    assert measure.agreement(tp).max < 1e-12
