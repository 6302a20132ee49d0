"""Run by test_interpreted.py: every product with one fused kernel, in Triton's interpreter."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from etp import measure, products
from etp.kernels.on_gpu.triton_source import interpreted
from etp.measure import oracle
from etp.measure.drawing import random_inputs, random_weights
from etp.product.base import TensorProduct
from etp.products._described import Described

assert interpreted(), "this file is run by test_interpreted.py"

NAMES = ("gaunt-grid", "gaunt-bracket", "complete", "vector-signal", "matrix", "matrix-block")
CASES = {
    "one channel": ("0e+1o", "0e+1o", None),
    "channels": ("3x0e+3x1o+3x2e", "3x0e+3x1o", None),
    "whole tiles": ("32x0e+32x1o", "32x1o", None),
    "unequal": ("4x1o", "4x0e+4x1o+4x3o", None),
    "both parities": ("0e+0o+1o+1e", "0e+1e+2o", None),
    "pseudoscalar fields": ("0o+1e", "0o+1e+2o", None),
    "filtered": ("2x0e+2x1o+2x2e", "2x0e+2x1o+2x2e", "0e+2e"),
    "irreps that no path reaches": ("2x0e+2x1o+2x4e", "2x0e+2x1o", "0e"),
    "repeated, in pieces": ("1o+0e+1o+0e", "2x0e+2x1o", None),
}
PAIRS = [
    (name, case)
    for name in NAMES
    for case in CASES
    # A row of a matrix kernel reads the channels of an irrep from one piece.
    if not (name.startswith("matrix") and case == "repeated, in pieces")
    # Its form differs from that of matrix in numbers only, and 9 x 9 matrices take their time.
    and not (name == "matrix-block" and case not in ("one channel", "whole tiles", "filtered"))
]
ALTERNATELY = [
    (name, case)
    for name, case in PAIRS
    if (NAMES.index(name) + list(CASES).index(case)) % 2 == 0 or name == "matrix-block"
]
"""Every product with half of the cases, every case with half of the products."""
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}


def build(name: str, case: str) -> Described:
    """The product, its plain form out of reach: what it computes, the kernel computes."""
    irreps1, irreps2, keep = CASES[case]
    tp = products.get(name)(irreps1, irreps2, filter_ir_out=keep)
    assert isinstance(tp, Described)

    def refuse(*_: object) -> None:
        raise AssertionError("the plain form was called")

    tp.multiply = refuse  # type: ignore[method-assign, assignment]
    return tp


@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_the_fused_product_agrees_with_the_oracle(name, case):
    assert measure.agreement(build(name, case), batch=7).max < TOLERANCE[torch.float64]


@pytest.mark.parametrize("name", ["gaunt-grid", "complete", "matrix"])
def test_half_precision_is_read_and_written_as_such(name):
    found = measure.agreement(build(name, "channels"), dtype=torch.bfloat16, batch=7)
    assert 1e-5 < found.max < TOLERANCE[torch.bfloat16]


@pytest.mark.parametrize("name", NAMES)
def test_batches_that_fill_several_tiles_and_part_of_one(name):
    assert measure.agreement(build(name, "filtered"), batch=100).max < 1e-12


def all_orders(call, x1, x2, dtype):
    """Product, its gradients, and the gradients of a combination of these by all inputs."""
    generator = torch.Generator().manual_seed(3)

    def draw(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(dtype)

    inputs = [x.detach().to(dtype).requires_grad_() for x in (x1, x2)]
    z = call(*inputs)
    given = draw(z).requires_grad_()
    first = torch.autograd.grad(z, inputs, given, create_graph=True)
    second = torch.autograd.grad(first, (*inputs, given), [draw(g) for g in first])
    return z, *first, *second


@pytest.mark.parametrize(
    ("name", "case", "dtype"),
    [
        *((name, case, torch.float64) for name, case in ALTERNATELY),
        *((name, "filtered", torch.float32) for name in NAMES),
    ],
    ids=str,
)
def test_every_order_of_derivatives_is_that_of_the_plain_form(name, case, dtype):
    tp = build(name, case)
    x1, x2 = random_inputs(tp, 3, torch.Generator().manual_seed(1))
    found = all_orders(tp, x1, x2, dtype)
    del tp.multiply
    wanted = all_orders(lambda *x: TensorProduct.multiply_channels(tp, *x), x1, x2, torch.float64)
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).norm() < TOLERANCE[dtype] * b.norm()


def test_first_and_second_derivatives_are_right():
    tp = build("gaunt-bracket", "one channel")
    x1, x2 = random_inputs(tp, 2, torch.Generator().manual_seed(0))
    inputs = (x1.requires_grad_(), x2.requires_grad_())
    assert torch.autograd.gradcheck(tp, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(tp, inputs, fast_mode=True)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_product_is_the_same(name):
    tp = products.get(name)("3x0e+3x1o", "3x0e+3x1o")
    x1, x2 = random_inputs(tp, 3, torch.Generator().manual_seed(1))
    compiled = torch.compile(tp, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x1, x2), tp(x1, x2), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_weighted_products_have_kernels_too(name):
    """Weights scale what goes in and comes out; several of one component are slots of the form."""
    tp = products.get(name)("3x0e+3x1o", "3x0e+3x1o")
    assert isinstance(tp, Described)
    x1, x2 = random_inputs(tp, 3, torch.Generator().manual_seed(1))
    weights = random_weights(tp, "per-sample", 3, torch.Generator().manual_seed(2))
    wanted = oracle.evaluate(tp, x1, x2, weights)

    def refuse(*_: object) -> None:
        raise AssertionError("the plain form was called")

    for plain in {tp.executors[-1], *tp.slotted[-1:]}:
        plain.multiply = refuse  # type: ignore[method-assign, assignment]
    torch.testing.assert_close(tp(x1, x2, weights), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_copies_and_pickles_compute_the_same(name):
    tp = products.get(name)("3x0e+3x1o", "3x0e+3x1o")
    x1, x2 = random_inputs(tp, 3, torch.Generator().manual_seed(1))
    for twin in (copy.deepcopy(tp), pickle.loads(pickle.dumps(tp))):
        torch.testing.assert_close(twin(x1, x2), tp(x1, x2), rtol=0, atol=0)


@pytest.mark.parametrize("coupling", ["dot", "scalar-vector"])
def test_other_couplings_of_vector_signals_agree_with_the_oracle(coupling):
    tp = products.get("vector-signal")("0e+1o+1e", "0e+1e+2o", coupling=coupling)  # type: ignore[call-arg]
    assert isinstance(tp, Described)
    assert tp.fused.key(tp.device) is not None
    assert measure.agreement(tp, batch=7).max < TOLERANCE[torch.float64]
